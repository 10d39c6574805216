//! What subscribers have received, on one clock with whoever submitted it.

pub use batoff_benches::now_ns;
use serde_json::{Value, json};

/// When bytes came: into the kernel of this machine, and to whoever reads them. What lies between is the subscribers' own
/// lateness, on the cores that they share with the server.
#[derive(Clone, Copy)]
pub struct Came {
    /// When the last of them was there to be read.
    pub arrived_ns: u64,
    /// When they were read.
    pub read_ns: u64,
}

/// Whose fault it is that a lease was over before the next one was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It came too late, counted from when the heartbeat that it answers was due.
    Server,
    /// The node was told that it gets none, because it is behind.
    Refused,
    /// It would have come in time, but the heartbeat was sent, or the answer read, too late.
    Subscriber,
}

/// One event at all subscribers.
struct Arrival {
    /// What the submitter knows it by.
    name: String,
    subscribers: u32,
    last: Came,
}

/// What subscribers have received since the last [`Tally::begin`].
#[derive(Default)]
pub struct Tally {
    /// Before the first begin nothing counts: subscribers that are still coming have begun at different places.
    begun: bool,
    /// The number of the first event in `arrivals`.
    first: Option<u64>,
    arrivals: Vec<Arrival>,
    /// Messages that held events.
    messages: u64,
    /// Leases that ended before the next one was there, by [`Late`].
    leases_lost: [u64; 3],
    /// From when bytes could be read until they were, in nanoseconds: the longest, and all together.
    late_most_ns: u64,
    late_all_ns: u64,
    reads: u64,
    /// Acks written.
    acks: u64,
}

impl Tally {
    /// Forgets everything.
    pub fn begin(&mut self) {
        *self = Self { begun: true, ..Self::default() };
    }

    /// One subscriber has event `number`; `name` is asked for once an event.
    pub fn arrived(
        &mut self,
        number: u64,
        came: Came,
        name: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        if !self.begun {
            return Ok(());
        }
        let first = *self.first.get_or_insert(number);
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let Some(place) = place else { anyhow::bail!("event {number} comes after {first}") };
        match self.arrivals.get_mut(place) {
            Some(arrival) => {
                arrival.subscribers += 1;
                arrival.last.arrived_ns = arrival.last.arrived_ns.max(came.arrived_ns);
                arrival.last.read_ns = came.read_ns;
            }
            None => {
                anyhow::ensure!(place == self.arrivals.len(), "a gap before event {number}");
                self.arrivals.push(Arrival { name: name()?, subscribers: 1, last: came });
            }
        }
        Ok(())
    }

    pub fn message(&mut self) {
        self.messages += 1;
    }

    pub fn ack(&mut self) {
        self.acks += 1;
    }

    pub fn lease_lost(&mut self, late: Late) {
        self.leases_lost[late as usize] += 1;
    }

    /// Bytes were read.
    pub fn read(&mut self, came: Came) {
        let late = came.read_ns.saturating_sub(came.arrived_ns);
        self.late_most_ns = self.late_most_ns.max(late);
        self.late_all_ns += late;
        self.reads += 1;
    }

    /// For the other process.
    pub fn report(&self) -> Value {
        let arrivals = self
            .arrivals
            .iter()
            .map(|one| json!([one.name, one.subscribers, one.last.read_ns, one.last.arrived_ns]));
        let arrivals: Vec<_> = arrivals.collect();
        json!({
            "messages": self.messages, "acks": self.acks, "leases_lost": self.leases_lost, "arrivals": arrivals,
            "late_most_ns": self.late_most_ns, "late_mean_ns": self.late_all_ns / self.reads.max(1),
        })
    }
}
