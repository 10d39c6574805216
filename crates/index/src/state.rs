use std::sync::Arc;

use batoff_types::{Cursor, FillToken, Generation, SiteTable, TaskId};

use crate::Verdict;
use crate::rules::{Rules, Target};
use crate::store::Held;

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

    /// The verdict on an object that was here when the forgotten rules were swept.
    pub(crate) fn verdict(&self, object: &Target<'_>, token: FillToken) -> Verdict {
        if token.generation != self.generation {
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
