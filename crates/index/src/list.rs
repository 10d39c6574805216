use std::collections::VecDeque;
use std::sync::Arc;

use batoff_types::Tag;

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
    /// What comes behind the first walk: the objects whose tags overflow, but those that carry this tag.
    then: Option<(Walk, Tag)>,
    /// That of the walk behind the first.
    but: Option<Tag>,
    ready: VecDeque<Listed<L>>,
}

impl<L: Clone> Listing<L> {
    pub(crate) fn new(inner: Arc<Inner<L>>, place: Place) -> Self {
        let then = match &place {
            Place::Tag(site, tag) => Some((Walk::new(Place::Overflow(site.clone())), tag.clone())),
            _ => None,
        };
        Self { inner, walk: Walk::new(place), then, but: None, ready: VecDeque::new() }
    }
}

impl<L: Clone> Iterator for Listing<L> {
    type Item = Listed<L>;

    fn next(&mut self) -> Option<Listed<L>> {
        while self.ready.is_empty() {
            if self.walk.is_over() {
                let (walk, tag) = self.then.take()?;
                (self.walk, self.but) = (walk, Some(tag));
            }
            let sites = self.inner.state.load().sites.clone();
            let (inner, ready, but) = (&self.inner, &mut self.ready, &self.but);
            self.walk.step(&inner.store, &sites, STEP, &mut |held| {
                let tags = held.tags();
                if but.as_ref().is_some_and(|tag| tags.tags.contains(tag)) {
                    return Act::Keep;
                }
                ready.push_back(Listed {
                    url: held.url(),
                    variant: held.variant,
                    tags,
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
