//! How long did a purge take, among several control planes?
//!
//! The one that accepted it knows when it became durable, the one that recorded it as done when that was, and the one that
//! tells it may be a third, which stood still meanwhile. No two clocks are subtracted that nobody compared: everything is
//! brought to the monotonic clock of this process first (`replicas::clocks`). What is not known makes it longer.

use std::time::Duration;

use batoff_types::{Moment, UnixMillis};

use crate::tracker::replicas::quorum::Rise;

/// How soon after it became durable a record was seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tracker) enum SeenWhen {
    /// As soon as it was sent, or it was accepted here.
    Soon,
    /// Perhaps as late as this process stood still, which had taken its last step before at `since`.
    AfterStandstill { since: Moment },
    /// It was there when this process started.
    AtStart,
}

/// What is known of its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskBegan {
    /// When it was seen here.
    pub seen_at: Moment,
    /// When it was accepted, by the clock of the replica that did.
    pub wall: UnixMillis,
    /// What that is here, as far as anything was heard of that clock.
    pub accepted: Option<Moment>,
}

/// What is known of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskEnded {
    /// When it was heard of here …
    pub heard: Moment,
    /// … and what the clock here showed then.
    pub wall: UnixMillis,
    /// How it was recorded, if this process stood still since and heard of it late.
    pub raised: Option<Rise>,
}

/// How long it took, rather too long than too short.
pub(super) fn took(seen: SeenWhen, began: TaskBegan, end: &TaskEnded) -> Duration {
    let until = end.raised.map_or(end.heard, |rise| rise.until.min(end.heard));
    match seen {
        SeenWhen::Soon => until.since(began.seen_at),
        // Before the standstill it was not there.
        SeenWhen::AfterStandstill { since } => {
            until.since(began.accepted.unwrap_or(since).clamp(since, began.seen_at.max(since)))
        }
        // Of its beginning nothing else is known than what a clock showed, which may be set otherwise than the one here.
        SeenWhen::AtStart => {
            let by_clocks = Duration::from_millis(end.wall.0.saturating_sub(began.wall.0));
            end.heard.since(began.seen_at).max(by_clocks)
        }
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Cursor, Replica};

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    fn ms(took: Duration) -> u128 {
        took.as_millis()
    }

    /// Recorded at this moment, by a clock that is ten minutes behind.
    fn recorded(until: u64) -> Option<Rise> {
        let (through, at_wall) = (Cursor::new(1), UnixMillis(1_000));
        Some(Rise { through, by: Replica(2), at: at_wall, until: at(until) })
    }

    /// Accepted at 10 s, when the clock of who did showed ten minutes more than that of who recorded it.
    fn began(seen_at: u64, accepted: Option<u64>) -> TaskBegan {
        TaskBegan { seen_at: at(seen_at), wall: UnixMillis(600_000), accepted: accepted.map(at) }
    }

    #[test]
    fn who_stood_still_tells_when_it_was_recorded_whatever_the_clocks_of_others_show() {
        let end = TaskEnded { heard: at(15_000), wall: UnixMillis(601_000), raised: recorded(10_400) };
        assert_eq!(ms(took(SeenWhen::Soon, began(10_000, None), &end)), 400);
        // Nothing was heard of that clock: until it was heard here.
        let unknown = TaskEnded { raised: recorded(15_000), ..end };
        assert_eq!(ms(took(SeenWhen::Soon, began(10_000, None), &unknown)), 5_000);
        let in_time = TaskEnded { raised: None, ..end };
        assert_eq!(ms(took(SeenWhen::Soon, began(10_000, None), &in_time)), 5_000);
    }

    #[test]
    fn what_came_in_a_standstill_began_when_its_own_clock_says_and_not_before_the_standstill() {
        let seen = SeenWhen::AfterStandstill { since: at(9_000) };
        let end = TaskEnded { heard: at(12_010), wall: UnixMillis(0), raised: recorded(10_400) };
        let told = |accepted| ms(took(seen, began(12_000, accepted), &end));
        assert_eq!(told(Some(10_000)), 400);
        assert_eq!(told(None), 1_400, "the longest that it can have taken");
        assert_eq!(told(Some(3_000)), 1_400);
        let open = TaskEnded { raised: None, ..end };
        assert_eq!(ms(took(seen, began(12_000, Some(10_000)), &open)), 2_010);
        assert_eq!(ms(took(seen, began(12_000, Some(99_000)), &open)), 10, "it was seen before");
    }

    #[test]
    fn what_was_there_at_the_start_is_told_by_the_clocks_on_the_wall() {
        let end = TaskEnded { heard: at(5_000), wall: UnixMillis(603_000), raised: None };
        assert_eq!(ms(took(SeenWhen::AtStart, began(4_000, None), &end)), 3_000);
        assert_eq!(ms(took(SeenWhen::AtStart, began(1_000, None), &end)), 4_000);
    }
}
