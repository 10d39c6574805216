//! What subscribers have received, on one clock with whoever submitted it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)).as_nanos(),
    )
    .unwrap_or(u64::MAX)
}

/// One event at all subscribers.
struct Arrival {
    /// What the submitter knows it by.
    name: String,
    subscribers: u32,
    last_ns: u64,
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
    /// Leases that ended before the next one was there.
    leases_lost: u64,
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
        at_ns: u64,
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
                arrival.last_ns = at_ns;
            }
            None => {
                anyhow::ensure!(place == self.arrivals.len(), "a gap before event {number}");
                self.arrivals.push(Arrival { name: name()?, subscribers: 1, last_ns: at_ns });
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

    pub fn lease_lost(&mut self) {
        self.leases_lost += 1;
    }

    /// For the other process.
    pub fn report(&self) -> Value {
        let arrivals: Vec<_> =
            self.arrivals.iter().map(|one| json!([one.name, one.subscribers, one.last_ns])).collect();
        json!({
            "messages": self.messages, "acks": self.acks, "leases_lost": self.leases_lost, "arrivals": arrivals
        })
    }
}
