use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::Inner;
use crate::store::Act;
use crate::walk::Walk;
use crate::{Listed, Place};

/// Objects looked at in one step.
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
            let (inner, ready) = (&self.inner, &mut self.ready);
            self.walk.step(&inner.store, &sites, STEP, &mut |held| {
                ready.push_back(Listed {
                    url: held.url(),
                    variant: held.variant,
                    tags: held.tags(),
                    token: held.token,
                    verdict: inner.state.load().verdict_on(held),
                    locator: held.locator.clone(),
                });
                Act::Keep
            });
        }
        self.ready.pop_front()
    }
}

impl<L: Clone> std::fmt::Debug for Listing<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("walk", &self.walk).finish_non_exhaustive()
    }
}
