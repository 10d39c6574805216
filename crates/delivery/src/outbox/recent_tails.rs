//! How long each of the newest records has been known, for streams that only fill in.

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::{Cursor, Moment};

#[cfg(any(test, feature = "mutations"))]
use crate::Rule;
use crate::rules::RuleSet;

/// No stream waits longer than this before it fills in, whatever its node asks for: well below the time after which a node
/// that does not get on loses its lease ([`crate::LeaseTimes::grace`]).
pub const FILL_IN_MAX: Duration = Duration::from_millis(500);

/// Records that become known within this time of one another count as known since the first of them, so that what is kept
/// here stays small (I5). A stream may fill in so much earlier than it was asked to.
const GRAIN: Duration = Duration::from_millis(5);

/// Where the log ended, and since when, for the last [`FILL_IN_MAX`]. One for all streams of a control plane.
#[derive(Clone, Debug)]
pub struct RecentTails {
    /// Known for longer than any stream waits.
    old: Cursor,
    /// When the log reached to each place; rising.
    recent: VecDeque<(Moment, Cursor)>,
    rules: RuleSet,
}

impl RecentTails {
    /// Everything before `tail` is old.
    pub fn new(tail: Cursor) -> Self {
        Self { old: tail, recent: VecDeque::new(), rules: RuleSet::default() }
    }

    /// Leaves out one rule, so that a simulation can show that it notices. For tests only.
    #[cfg(any(test, feature = "mutations"))]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.rules = RuleSet { off: Some(rule) };
        self
    }

    /// The log reaches to `tail` now. A lower place than before changes nothing.
    pub fn handle_tail(&mut self, now: Moment, tail: Cursor) {
        while let Some((_, cursor)) = self.recent.pop_front_if(|(at, _)| *at + FILL_IN_MAX <= now) {
            self.old = cursor;
        }
        match self.recent.back_mut() {
            Some((_, newest)) if tail <= *newest => {}
            Some((at, newest)) if now.since(*at) < GRAIN => *newest = tail,
            None if tail <= self.old => {}
            _ => self.recent.push_back((now, tail)),
        }
    }

    /// Through where everything has been known for at least so long.
    pub(super) fn known_for(&self, now: Moment, long: Duration) -> Cursor {
        if !self.rules.in_force(crate::rules::Rule::FillsIn) {
            return Cursor::START;
        }
        let known = self.recent.iter().take_while(|(at, _)| *at + long <= now).last();
        known.map_or(self.old, |(_, cursor)| *cursor)
    }

    /// When something after `place` will have been known for so long; `None`: there is nothing after it.
    pub(super) fn known_for_at(&self, place: Cursor, long: Duration) -> Option<Moment> {
        self.recent.iter().find(|(_, cursor)| *cursor > place).map(|(at, _)| *at + long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1_000)
    }

    #[test]
    fn it_is_known_since_when_each_record_has_been_there() {
        let mut tails = RecentTails::new(Cursor::new(4));
        assert_eq!(tails.known_for(at(0), 150 * MS), Cursor::new(4), "what was there at the start is old");
        assert_eq!(tails.known_for_at(Cursor::new(4), 150 * MS), None);
        tails.handle_tail(at(100), Cursor::new(5));
        tails.handle_tail(at(200), Cursor::new(7));
        for (now, known) in [(249, 4), (250, 5), (349, 5), (350, 7)] {
            assert_eq!(tails.known_for(at(now), 150 * MS), Cursor::new(known), "at {now} ms");
        }
        assert_eq!(tails.known_for_at(Cursor::new(4), 150 * MS), Some(at(250)));
        assert_eq!(tails.known_for_at(Cursor::new(5), 150 * MS), Some(at(350)));
        assert_eq!(tails.known_for_at(Cursor::new(7), 150 * MS), None);
        tails.handle_tail(at(900), Cursor::new(6));
        assert_eq!(tails.known_for(at(900), FILL_IN_MAX), Cursor::new(7), "a place is never taken back");
    }

    #[test]
    fn a_flood_is_kept_in_a_few_places_and_nothing_in_it_waits_longer_than_asked() {
        let mut tails = RecentTails::new(Cursor::START);
        for millis in 0..5_000 {
            tails.handle_tail(at(millis), Cursor::new(millis + 1));
            let known = tails.known_for(at(millis), 150 * MS).get();
            assert!(
                known + 150 > millis && known <= (millis + 6).saturating_sub(150),
                "{known} at {millis} ms"
            );
        }
        assert!(tails.recent.len() <= 102, "{}", tails.recent.len());
    }
}
