//! What was applied when, for files that do not say when their fetch began.

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::{Cursor, FillToken, Generation, Moment};
use parking_lot::Mutex;

/// Notes closer together than this say nothing new.
const APART: Duration = Duration::from_millis(500);

/// What had been applied at certain moments, as far back as a fetch may have begun.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    notes: VecDeque<(Moment, FillToken)>,
    window: Duration,
    /// What is further back counts for nothing.
    cut: bool,
}

/// The token of what counts for nothing: no generation is 0.
pub(super) const VOID: FillToken = FillToken { generation: Generation(0), applied: Cursor::START };

impl History {
    /// `token` was applied at `now`; a fetch takes at most `window`.
    pub(super) fn note(&self, now: Moment, token: FillToken, window: Duration) {
        let mut past = self.0.lock();
        past.window = window;
        if past.notes.back().is_some_and(|(at, _)| now.since(*at) < APART) {
            return;
        }
        past.notes.push_back((now, token));
        // One note before the window stays: it is what held when the window begins.
        while past.notes.get(1).is_some_and(|(at, _)| now.since(*at) >= window) {
            past.notes.pop_front();
        }
    }

    /// Everything was dropped: what began before now is void.
    pub(super) fn cut(&self) {
        let mut past = self.0.lock();
        past.notes.clear();
        past.cut = true;
    }

    /// The token of a fetch that has ended now and took at most the window; `None` when that is further back than
    /// anything noted.
    pub(super) fn before(&self, now: Moment) -> Option<FillToken> {
        let past = self.0.lock();
        let old_enough = past.notes.iter().take_while(|(at, _)| now.since(*at) >= past.window);
        old_enough.last().map(|(_, token)| *token).or(past.cut.then_some(VOID))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_stamp_is_as_old_as_it_can_be() {
        let past = History::default();
        let second = |n: u64| Moment::from_micros(n * 1_000_000);
        let token = |n: u64| FillToken { generation: Generation(1), applied: Cursor::new(n) };
        for n in 100..=200 {
            past.note(second(n), token(n), Duration::from_secs(60));
        }
        assert_eq!(past.before(second(200)), Some(token(140)));
        assert_eq!(past.before(second(210)), Some(token(150)));
        assert_eq!(past.before(second(199)), None, "not noted any more");
        let young = History::default();
        young.note(second(1), token(1), Duration::from_secs(60));
        assert_eq!(young.before(second(60)), None);
        assert_eq!(young.before(second(61)), Some(token(1)));
        young.cut();
        young.note(second(70), token(2), Duration::from_secs(60));
        assert_eq!((young.before(second(100)), young.before(second(130))), (Some(VOID), Some(token(2))));
    }
}
