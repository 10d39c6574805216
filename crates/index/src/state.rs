use std::sync::Arc;

use batoff_types::{Cursor, FillToken, Generation, SiteTable, TaskId};

use crate::rules::{Rules, Target};
use crate::store::Held;
use crate::{Refused, Verdict};

/// All that decides a verdict, published as one: a reader sees each record wholly or not at all. Copies share what did
/// not change.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) generation: Generation,
    pub(crate) applied: Cursor,
    pub(crate) task: Option<TaskId>,
    pub(crate) sites: Arc<SiteTable>,
    pub(crate) forgotten_through: Cursor,
    pub(crate) rules: Rules,
    pub(crate) folded: u64,
}

impl State {
    pub(crate) fn token(&self) -> FillToken {
        FillToken { generation: self.generation, applied: self.applied }
    }

    /// The verdict on an object that just arrives: also what rules say that are forgotten.
    pub(crate) fn verdict_on_arrival(&self, object: &Target<'_>, token: FillToken) -> Verdict {
        if token.applied < self.forgotten_through {
            return Verdict::Gone;
        }
        self.verdict(object, token)
    }

    /// Whether an object that just arrives may be kept, and as what.
    pub(crate) fn admit(&self, object: &Target<'_>, token: FillToken) -> Result<Verdict, Refused> {
        if token.generation > self.generation
            || token.generation == self.generation && token.applied > self.applied
        {
            return Err(Refused::Future);
        }
        if self.sites.owner(object.host).is_none() {
            return Err(Refused::Unowned);
        }
        match self.verdict_on_arrival(object, token) {
            Verdict::Gone => Err(Refused::Gone),
            verdict => Ok(verdict),
        }
    }

    /// The verdict on an object that was here when the forgotten rules were swept. A token that this index has not given
    /// out says nothing about when the fetch began. Whose the hostname is, is not asked: when that changes, a hard rule
    /// says so.
    pub(crate) fn verdict(&self, object: &Target<'_>, token: FillToken) -> Verdict {
        if token.generation != self.generation || token.applied > self.applied {
            return Verdict::Gone;
        }
        self.rules.verdict(&self.sites, object, token.applied.get())
    }

    /// The verdict on an object that the index holds.
    pub(crate) fn verdict_on<L>(&self, held: &Held<'_, L>) -> Verdict {
        let verdict = self.verdict(&held.target(), held.token);
        if held.stale { verdict.max(Verdict::Stale) } else { verdict }
    }
}
