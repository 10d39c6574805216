//! Cleaning up after rules: finding what they hit, batch by batch.

mod matches;
mod pending;

use std::sync::Arc;

use batoff_types::{Generation, SiteTable};

pub use self::matches::Matches;
pub(crate) use self::pending::Pending;
use crate::index::Inner;
use crate::state::State;
use crate::store::{Act, Held};
use crate::walk::Walk;
use crate::{Effect, Match, Place, Verdict};

/// Objects looked at in one step.
const OBJECTS_PER_STEP: usize = 256;

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
        Self { seq, id, what: What::Record { soft, generation, sites }, walks }
    }

    pub(crate) fn of_anything((seq, id): (u64, u64)) -> Self {
        let walks = vec![Walk::new(Place::Whole)];
        Self { seq, id, what: What::Anything, walks }
    }

    /// Up to `max` more, at least one; an empty batch says nothing, `None` that there are no more, or that a reset has
    /// made the whole sweep void.
    pub(crate) fn run<L: Clone>(&mut self, inner: &Inner<L>, max: usize) -> Option<Vec<Match<L>>> {
        let max = max.max(1);
        let mut found = Vec::new();
        for _ in 0..IDLE_STEPS_MAX {
            let Some(mut walk) = self.walks.pop() else {
                return (!found.is_empty()).then_some(found);
            };
            let is_void = !self.step(inner, &mut walk, max, &mut found);
            if is_void {
                self.walks.clear();
                return (!found.is_empty()).then_some(found);
            }
            if !walk.is_over() {
                self.walks.push(walk);
            }
            if found.len() >= max {
                break;
            }
        }
        Some(found)
    }

    /// Takes what is hit in one step of a walk; false when a reset has made it void.
    ///
    /// The state is loaded while the object's shard is held, so it is no older than the object's token. A record that
    /// comes after can only make more of it Gone, and finds what is left. An object that was filled after the record is
    /// known by its token, whenever it came and whatever it replaced.
    fn step<L: Clone>(
        &self,
        inner: &Inner<L>,
        walk: &mut Walk,
        max: usize,
        found: &mut Vec<Match<L>>,
    ) -> bool {
        let nobody = SiteTable::default();
        let sites = match &self.what {
            What::Record { generation, .. } if *generation != inner.state.load().generation => return false,
            What::Record { sites, .. } => sites,
            What::Anything => &nobody,
        };
        walk.step(&inner.store, sites, OBJECTS_PER_STEP, &mut |held| {
            let Some(effect) = self.effect(&inner.state.load(), held) else { return Act::Keep };
            if found.len() == max {
                return Act::Stop;
            }
            found.push(Match {
                url: held.url(),
                variant: held.variant,
                locator: held.locator.clone(),
                effect,
            });
            if effect == Effect::Evicted { Act::Leave } else { Act::Mark }
        });
        true
    }

    fn effect<L>(&self, state: &State, held: &Held<'_, L>) -> Option<Effect> {
        let target = held.target();
        match &self.what {
            What::Record { soft, generation, sites } => {
                let applied = held.token.applied.get();
                if held.token.generation != *generation || applied >= self.seq {
                    return None;
                }
                match (state.rules.verdict_before(sites, &target, applied, self.seq), soft) {
                    (Verdict::Gone, _) => None,
                    (_, false) => Some(Effect::Evicted),
                    (Verdict::Fresh, true) if !held.stale => Some(Effect::Stale),
                    (_, true) => None,
                }
            }
            What::Anything => match state.verdict(&target, held.token) {
                Verdict::Gone => Some(Effect::Evicted),
                Verdict::Stale if !held.stale => Some(Effect::Stale),
                _ => None,
            },
        }
    }
}
