//! Lets rules go that are swept and older than any fill can be, so that their number does not grow to its limit, where
//! they would be widened.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_index::Index;
use batoff_types::{Cursor, Generation, Moment};
use tokio::sync::watch;

use crate::boottime;
use crate::cache::{Cache, Needs};
use crate::path::Path;
use crate::saver::Wanted;

/// The longest fill. A response that takes longer to come than this is not stored.
const FILL_MAX: Duration = Duration::from_secs(3_600);

/// The same while the index is crowded, so that no rule is forgotten before it is this old. A longer fill is lost then, which
/// costs one more fetch; a rule that is widened for want of room costs a whole host its objects.
pub const FILL_MAX_CROWDED: Duration = Duration::from_secs(600);

/// Between two notes of where the node stands.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Where the node stood, for as long as a fill from then may be open.
#[derive(Debug, Default)]
struct Past {
    generation: Generation,
    notes: VecDeque<(Moment, Cursor)>,
}

impl Past {
    /// Notes where the node stands now; gives the place that everything which may still arrive is newer than, if no fill
    /// takes longer than `fill_max`.
    fn note(
        &mut self,
        now: Moment,
        generation: Generation,
        cursor: Cursor,
        fill_max: Duration,
    ) -> Option<Cursor> {
        if generation != self.generation {
            *self = Self { generation, notes: VecDeque::new() };
        }
        self.notes.push_back((now, cursor));
        let mut old_enough = None;
        while let Some((_, cursor)) = self.notes.pop_front_if(|(at, _)| now.since(*at) > fill_max) {
            old_enough = Some(cursor);
        }
        old_enough
    }
}

/// Whether rules may be forgotten: every cache is told which objects were hit, and has registered all it holds.
pub(crate) fn is_allowed<L>(caches: &[Arc<dyn Cache<L>>]) -> bool {
    caches.iter().all(|cache| cache.needs() == Needs::Objects)
}

/// Runs until cancelled. Counts from what left every cache, not from what is merely in force; and from where the parents
/// are, or nothing at all could be stored while one of them is away.
pub(crate) async fn run<L: Clone + Send + Sync + 'static>(
    index: Arc<Index<L>>,
    path: Arc<Path>,
    acked: watch::Receiver<Wanted>,
) {
    let mut past = Past::default();
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        let Some(position) = acked.borrow().position else { continue };
        let parents = path.through(index.generation());
        let cursor = parents.map_or(position.cursor, |parents| parents.min(position.cursor));
        let fill_max = if index.is_crowded() { FILL_MAX_CROWDED } else { FILL_MAX };
        if let Some(through) = past.note(boottime(), index.generation(), cursor, fill_max) {
            let index = Arc::clone(&index);
            // Many rules take a while. An error would be a panic in the index, which its own log line tells.
            let _ = tokio::task::spawn_blocking(move || index.forget(through)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn at(minute: u64) -> Moment {
        Moment::from_micros(minute * MINUTE)
    }

    #[test]
    fn only_what_was_done_before_the_longest_fill_is_forgotten() {
        let mut past = Past::default();
        for minute in 0..=60 {
            assert_eq!(past.note(at(minute), Generation(1), Cursor::new(minute), FILL_MAX), None);
        }
        assert_eq!(past.note(at(61), Generation(1), Cursor::new(61), FILL_MAX), Some(Cursor::new(0)));
        assert_eq!(past.note(at(62), Generation(1), Cursor::new(62), FILL_MAX), Some(Cursor::new(1)));
        assert_eq!(
            past.note(at(100), Generation(1), Cursor::new(63), FILL_MAX),
            Some(Cursor::new(39)),
            "after a suspend"
        );
    }

    #[test]
    fn a_crowded_index_forgets_sooner() {
        let mut past = Past::default();
        for minute in 0..=30 {
            assert_eq!(past.note(at(minute), Generation(1), Cursor::new(minute), FILL_MAX), None);
        }
        let crowded = past.note(at(31), Generation(1), Cursor::new(31), FILL_MAX_CROWDED);
        assert_eq!(crowded, Some(Cursor::new(20)));
        assert_eq!(past.note(at(32), Generation(1), Cursor::new(32), FILL_MAX), None, "there is room again");
    }

    #[test]
    fn a_reset_forgets_what_was_noted_of_the_log_before() {
        let mut past = Past::default();
        past.note(at(0), Generation(1), Cursor::new(500), FILL_MAX);
        assert_eq!(past.note(at(90), Generation(2), Cursor::new(3), FILL_MAX), None);
        assert_eq!(past.note(at(151), Generation(2), Cursor::new(9), FILL_MAX), Some(Cursor::new(3)));
    }
}
