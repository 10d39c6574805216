use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::Inner;
use crate::walk::Walk;
use crate::{Listed, Place};

/// URLs looked up at once.
const STEP: usize = 256;

/// The objects in a place, fetched as they are asked for; see [`Index::list`](crate::Index::list).
///
/// What comes or goes meanwhile may be in it or not; everything else is in it once. No lock is held between two of
/// them.
pub struct Listing<L: Clone> {
    inner: Arc<Inner<L>>,
    walk: Walk,
    ready: VecDeque<Listed<L>>,
}

impl<L: Clone> Listing<L> {
    pub(crate) fn new(inner: Arc<Inner<L>>, place: Place) -> Self {
        Self { inner, walk: Walk::new(place), ready: VecDeque::new() }
    }
}

impl<L: Clone> Iterator for Listing<L> {
    type Item = Listed<L>;

    fn next(&mut self) -> Option<Listed<L>> {
        while self.ready.is_empty() && !self.walk.is_over() {
            let sites = self.inner.state.load().sites.clone();
            for candidate in self.walk.step(&self.inner.store, &sites, STEP) {
                self.inner.store.look_at_all(candidate.key.text(), |key, stored| {
                    if candidate.id.is_none_or(|id| id == stored.id) {
                        self.ready.push_back(Listed {
                            url: key.0.clone(),
                            variant: stored.variant,
                            tags: stored.tags.clone(),
                            token: stored.token,
                            verdict: self.inner.state.load().verdict_on(key, stored),
                            locator: stored.locator.clone(),
                        });
                    }
                });
            }
        }
        self.ready.pop_front()
    }
}

impl<L: Clone> std::fmt::Debug for Listing<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("walk", &self.walk).finish_non_exhaustive()
    }
}
