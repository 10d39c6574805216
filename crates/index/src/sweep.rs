//! Cleaning up after rules: finding what they hit, batch by batch.

mod matches;
mod pending;

use std::collections::VecDeque;
use std::sync::Arc;

use batoff_types::{Generation, SiteTable};

pub use self::matches::Matches;
pub(crate) use self::pending::Pending;
use crate::index::Inner;
use crate::state::State;
use crate::store::{Key, Stored};
use crate::walk::{Candidate, Walk};
use crate::{Effect, Match, Place, Verdict};

/// Candidates fetched from the store at once, under one short lock.
const CANDIDATES_PER_STEP: usize = 256;

/// Steps of one call that meet nothing, after which it returns an empty batch.
/// So a call ends soon even when ten million objects are looked at in vain.
const IDLE_STEPS_MAX: usize = 16;

/// The clean-up after one record, or what is left of it.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The record, and a number of its own: it is open under both.
    pub(crate) seq: u64,
    pub(crate) id: u64,
    what: What,
    walks: Vec<Walk>,
    candidates: VecDeque<Candidate>,
}

#[derive(Debug)]
enum What {
    /// What the record hit and no other had hit before.
    Record {
        soft: bool,
        /// A reset makes everything older Gone, and its own sweep finds that.
        generation: Generation,
        /// Whose each hostname was when the record came.
        sites: Arc<SiteTable>,
    },
    /// What is Gone or Stale, whatever did it.
    Anything,
}

impl Sweep {
    pub(crate) fn of_record(
        (seq, id): (u64, u64),
        soft: bool,
        generation: Generation,
        sites: Arc<SiteTable>,
        places: Vec<Place>,
    ) -> Self {
        let walks = places.into_iter().map(Walk::new).collect();
        Self { seq, id, what: What::Record { soft, generation, sites }, walks, candidates: VecDeque::new() }
    }

    pub(crate) fn of_anything((seq, id): (u64, u64)) -> Self {
        let walks = vec![Walk::new(Place::Whole)];
        Self { seq, id, what: What::Anything, walks, candidates: VecDeque::new() }
    }

    /// Up to `max` more, at least one; an empty batch says nothing, `None` that there are no more.
    pub(crate) fn run<L: Clone>(&mut self, inner: &Inner<L>, max: usize) -> Option<Vec<Match<L>>> {
        let max = max.max(1);
        let mut found = Vec::new();
        for _ in 0..IDLE_STEPS_MAX {
            while let Some(candidate) = self.candidates.pop_front() {
                if !self.examine(inner, &candidate, max, &mut found)? {
                    self.candidates.push_front(candidate);
                    return Some(found);
                }
            }
            let Some(walk) = self.walks.last_mut() else {
                return (!found.is_empty()).then_some(found);
            };
            if found.len() >= max {
                break;
            }
            let step = match &self.what {
                What::Record { sites, .. } => walk.step(&inner.store, sites, CANDIDATES_PER_STEP),
                What::Anything => walk.step(&inner.store, &SiteTable::default(), CANDIDATES_PER_STEP),
            };
            if walk.is_over() {
                self.walks.pop();
            }
            self.candidates.extend(step);
        }
        Some(found)
    }

    /// Takes what is hit under one URL; false when `max` did not allow for all of it, `None` when a reset has made the
    /// whole sweep void.
    ///
    /// The state is loaded while the page is held, so it is no older than any token there. A record that comes after can
    /// only make more of it Gone, and finds what is left. An object that was filled after the record is known by its
    /// token, whenever it came and whatever it replaced.
    fn examine<L: Clone>(
        &self,
        inner: &Inner<L>,
        candidate: &Candidate,
        max: usize,
        found: &mut Vec<Match<L>>,
    ) -> Option<bool> {
        let now = inner.state.load().generation;
        if matches!(&self.what, What::Record { generation, .. } if *generation != now) {
            return None;
        }
        let mut complete = true;
        inner.store.revise(candidate.key.text(), |key, stored| {
            let meant = candidate.id.is_none_or(|id| id == stored.id);
            let Some(effect) = self.effect(&inner.state.load(), key, stored).filter(|_| meant) else {
                return false;
            };
            if found.len() == max {
                complete = false;
                return false;
            }
            let (url, locator) = (key.0.clone(), stored.locator.clone());
            found.push(Match { url, variant: stored.variant, locator, effect });
            stored.stale = true;
            effect == Effect::Evicted
        });
        Some(complete)
    }

    fn effect<L>(&self, state: &State, key: &Key, stored: &Stored<L>) -> Option<Effect> {
        let target = stored.target(key);
        match &self.what {
            What::Record { soft, generation, sites } => {
                let applied = stored.token.applied.get();
                if stored.token.generation != *generation || applied >= self.seq {
                    return None;
                }
                match (state.rules.verdict_before(sites, &target, applied, self.seq), soft) {
                    (Verdict::Gone, _) => None,
                    (_, false) => Some(Effect::Evicted),
                    (Verdict::Fresh, true) if !stored.stale => Some(Effect::Stale),
                    (_, true) => None,
                }
            }
            What::Anything => match state.verdict(&target, stored.token) {
                Verdict::Gone => Some(Effect::Evicted),
                Verdict::Stale if !stored.stale => Some(Effect::Stale),
                _ => None,
            },
        }
    }
}
