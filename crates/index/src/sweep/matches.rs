use std::sync::Arc;

use super::Sweep;
use crate::Match;
use crate::index::Inner;

/// What a record hit, to be asked for in batches.
///
/// The record is in force already: nothing in here can be served, whether or not anybody asks. Between batches no lock
/// is held and nothing but a place in the walk is kept. What is not asked for until this is dropped is left to
/// [`Index::sweep`](crate::Index::sweep).
///
/// An object belongs to the record that made it Gone (or Stale) first, so it is in one record's batches only, however
/// many records and selectors hit it and in whatever order they are swept. A hard match has left the index when it is
/// handed out; a soft one stays in it, marked.
#[must_use = "a cache that is told what to remove needs the matches; to leave them to Index::sweep, drop them"]
pub struct Matches<L: Clone> {
    inner: Arc<Inner<L>>,
    sweep: Option<Sweep>,
    found: u64,
}

impl<L: Clone> Matches<L> {
    pub(crate) fn new(inner: Arc<Inner<L>>, sweep: Option<Sweep>) -> Self {
        Self { inner, sweep, found: 0 }
    }

    /// Up to `max` (at least 1) further matches; `None` when there are no more.
    ///
    /// An empty batch only says that a stretch of the index was looked at in vain: a call is bounded in time, too.
    pub fn next_batch(&mut self, max: usize) -> Option<Vec<Match<L>>> {
        let sweep = self.sweep.as_mut()?;
        if let Some(batch) = sweep.run(&self.inner, max) {
            self.found += batch.len() as u64;
            return Some(batch);
        }
        if let Some(sweep) = self.sweep.take() {
            self.inner.pending.lock().finish(&sweep);
        }
        None
    }

    /// How many matches were handed out; exact for the record when [`Matches::is_finished`].
    pub const fn found(&self) -> u64 {
        self.found
    }

    /// Whether [`Matches::next_batch`] has said that there are no more, or there was nothing to look for.
    pub const fn is_finished(&self) -> bool {
        self.sweep.is_none()
    }
}

impl<L: Clone> Drop for Matches<L> {
    fn drop(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            self.inner.pending.lock().leave(sweep);
        }
    }
}

impl<L: Clone> std::fmt::Debug for Matches<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, finished) = (self.found, self.is_finished());
        f.debug_struct("Matches").field("found", &found).field("finished", &finished).finish_non_exhaustive()
    }
}
