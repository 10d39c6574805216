//! A node's lease by its own clock, and whose fault it is when it was over before the next one came.

use std::collections::VecDeque;
use std::time::Duration;

use super::tally::{Came, Late, Tally};

/// Heartbeats remembered that were not answered; a server that answers one in so many has failed anyway.
const UNANSWERED_MAX: usize = 256;

/// See the module.
#[derive(Default)]
pub struct HeldLease {
    unanswered: VecDeque<Beat>,
    held: Option<Held>,
    /// Whether an answer since the last lease was that there is none.
    refused: bool,
}

/// A heartbeat.
struct Beat {
    /// As the answer repeats it.
    sent_micros: u64,
    /// When it should have been sent.
    due_ns: u64,
}

/// When a lease ends, counted from when its heartbeat was sent, and had it been sent when it was due.
struct Held {
    until_ns: u64,
    due_until_ns: u64,
}

impl HeldLease {
    /// Whether there was one.
    pub fn was_held(&self) -> bool {
        self.held.is_some()
    }

    pub fn sent(&mut self, sent_micros: u64, due_ns: u64) {
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Beat { sent_micros, due_ns });
    }

    /// The answer to the heartbeat that was sent then; a lease of no duration is a refusal.
    pub fn answered(&mut self, sent_micros: u64, lease: Duration, came: Came, tally: &mut Tally) {
        let sent_ns = sent_micros * 1_000;
        let older = self.unanswered.iter().take_while(|beat| beat.sent_micros < sent_micros).count();
        self.unanswered.drain(..older);
        let due_ns = self.unanswered.pop_front().map_or(sent_ns, |beat| beat.due_ns);
        if lease.is_zero() {
            self.refused = true;
            return;
        }
        if let Some(held) = &self.held
            && held.until_ns < came.read_ns
        {
            let answered_after = came.arrived_ns.saturating_sub(sent_ns);
            tally.lease_lost(match () {
                () if self.refused => Late::Refused,
                () if due_ns + answered_after > held.due_until_ns => Late::Server,
                () => Late::Subscriber,
            });
        }
        let lease_ns = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX / 2);
        self.refused = false;
        self.held = Some(Held { until_ns: sent_ns + lease_ns, due_until_ns: due_ns + lease_ns });
    }

    /// Counts the lease if it is over now, with nothing in its place.
    pub fn count_if_over(&self, now_ns: u64, tally: &mut Tally) {
        let Some(held) = self.held.as_ref().filter(|held| held.until_ns < now_ns) else { return };
        let was_asked = self.unanswered.front().is_some_and(|beat| beat.due_ns < held.due_until_ns);
        tally.lease_lost(match () {
            () if self.refused => Late::Refused,
            () if was_asked => Late::Server,
            () => Late::Subscriber,
        });
    }
}
