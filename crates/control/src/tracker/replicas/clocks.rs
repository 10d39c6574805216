//! What the clocks of other replicas show, by the monotonic clock of this process.
//!
//! ```text
//!  another's clock    says 12:00:00.000 ───┐ on its way, for nobody knows how long
//!  this process       ─────────────────────┴─▶ heard at 7.200 s
//! ```
//!
//! What is heard was written before. So what that clock shows when it shows 12:00:00.000 is no later than 7.200 s here, and
//! the least such difference that was seen is the closest bound. It holds as long as nobody sets that clock, and is too late
//! by as long as the fastest message took. One that is heard long after it was written, as after a standstill, does no harm:
//! its difference is a large one.

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_types::{Moment, Replica, UnixMillis};

/// For how long what was seen counts, at least: clocks run at slightly different rates, and are corrected by as little as
/// half a millisecond a second.
const SEEN_FOR: Duration = Duration::from_secs(60);

/// What the clocks of replicas show.
#[derive(Debug, Default)]
pub(in crate::tracker) struct HeardClocks(BTreeMap<Replica, HeardClock>);

/// The clock of one process.
#[derive(Clone, Copy, Debug)]
struct HeardClock {
    /// Which start of the replica: the next one may be on another machine.
    term: u64,
    /// The latest that it has shown.
    last: UnixMillis,
    /// Since when differences are collected …
    since: Moment,
    /// … the least of them, in microseconds from its time to that of this process …
    least: i128,
    /// … and of those before.
    least_before: Option<i128>,
}

fn difference(now: Moment, at: UnixMillis) -> i128 {
    i128::from(now.as_micros()) - i128::from(at.0) * 1_000
}

impl HeardClocks {
    /// A replica, started as `term` says, has said what its clock showed when it spoke; heard now.
    pub(in crate::tracker) fn handle_said(&mut self, now: Moment, of: Replica, term: u64, at: UnixMillis) {
        let seen = difference(now, at);
        let anew = HeardClock { term, last: at, since: now, least: seen, least_before: None };
        let clock = self.0.entry(of).or_insert(anew);
        // Another process, or one whose clock was set back: what was seen says nothing of it.
        if clock.term != term || at < clock.last {
            *clock = anew;
        } else if now.since(clock.since) > SEEN_FOR {
            let least_before = Some(clock.least);
            *clock = HeardClock { least_before, ..anew };
        }
        clock.last = at;
        clock.least = clock.least.min(seen);
    }

    /// When that replica's clock showed `at`: not later than this, and about then. `None` when nothing was heard of it.
    pub(in crate::tracker) fn moment(&self, of: Replica, at: UnixMillis) -> Option<Moment> {
        let clock = self.0.get(&of)?;
        let least = clock.least_before.map_or(clock.least, |before| before.min(clock.least));
        let micros = i128::from(at.0) * 1_000 + least;
        Some(Moment::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_745_145_600_000;
    const B: Replica = Replica(2);

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    /// The clock of replica 2 shows noon when this process is 5 s old.
    fn heard(said: impl IntoIterator<Item = (u64, u64)>) -> HeardClocks {
        let mut clocks = HeardClocks::default();
        for (written, heard) in said {
            clocks.handle_said(at(heard), B, 1, UnixMillis(NOON + written - 5_000));
        }
        clocks
    }

    #[test]
    fn the_fastest_message_tells_best_and_none_tells_too_early() {
        let clocks = heard([(6_000, 6_300), (7_000, 7_004), (8_000, 8_020)]);
        assert_eq!(clocks.moment(B, UnixMillis(NOON)), Some(at(5_004)));
        assert_eq!(clocks.moment(Replica(3), UnixMillis(NOON)), None);
        // Heard after a standstill of five minutes, all at once.
        let mut clocks = heard([(6_000, 6_004)]);
        for written in 7..300 {
            clocks.handle_said(at(306_000), B, 1, UnixMillis(NOON + written * 1_000 - 5_000));
        }
        assert_eq!(clocks.moment(B, UnixMillis(NOON + 60_000)), Some(at(65_004)));
    }

    #[test]
    fn what_a_clock_showed_before_it_was_set_back_or_started_anew_says_nothing() {
        let mut clocks = heard([(6_000, 6_004)]);
        clocks.handle_said(at(7_100), B, 1, UnixMillis(NOON - 60_000));
        assert_eq!(clocks.moment(B, UnixMillis(NOON - 60_000)), Some(at(7_100)));
        clocks.handle_said(at(8_000), B, 2, UnixMillis(NOON));
        assert_eq!(clocks.moment(B, UnixMillis(NOON)), Some(at(8_000)));
    }
}
