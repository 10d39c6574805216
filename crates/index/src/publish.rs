//! How the state changes: only one writer at a time gets here, and nobody waits for it who asks for a verdict.

use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};

use batoff_types::{Cursor, Generation, SiteTable, TaskId};

use crate::admission;
use crate::index::Inner;
use crate::rules::Ledger;
use crate::state::State;
use crate::sweep::Sweep;

/// The rules from before a reset. To free hundreds of thousands of them takes a while, and is the sweeper's work: a
/// reset is in force before.
pub(crate) struct Discarded {
    _rules: Arc<State>,
    _ledger: Ledger,
}

impl<L> Inner<L> {
    /// From now on this is what readers see. What was published before is freed here, or by its last reader.
    pub(crate) fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    /// As [`Inner::publish`]; says whether nothing is held that a walk could find. What comes from here on meets the state.
    pub(crate) fn put_in_force(&self, state: State) -> bool {
        admission::enforce(|| self.publish(state), || fence(SeqCst), || self.store.is_empty())
    }

    /// Keeps the rules few and their filter sharp. After a change is in force, for it may take longer.
    pub(crate) fn keep_bounded(&self, ledger: &mut Ledger) {
        let state = self.state.load();
        let over = state.rules.len() > self.config.rules_max;
        let worn = ledger.is_filter_worn(&state.rules);
        if !over && !worn {
            return;
        }
        let mut next = State::clone(&state);
        drop(state);
        let mut sweeps = Vec::new();
        while next.rules.len() > self.config.rules_max {
            // The wider rule stands before the narrower goes: both are in what is published. What it hits besides is
            // swept like what any rule hits.
            let Some(folded) = ledger.fold_oldest(&mut next.rules, &next.sites) else { break };
            next.folded += 1;
            for (seq, soft) in [(folded.hard, false), (folded.soft, true)] {
                if seq > 0 {
                    let id = self.pending.lock().open(seq);
                    let (places, sites) = (vec![folded.into.clone()], next.sites.clone());
                    sweeps.push(Sweep::of_record(id, soft, next.generation, sites, places));
                }
            }
        }
        if worn {
            ledger.renew_filter(&mut next.rules);
        }
        let nothing_held = self.put_in_force(next);
        let mut pending = self.pending.lock();
        for sweep in sweeps {
            if nothing_held { pending.finish(&sweep) } else { pending.leave(sweep) }
        }
    }

    pub(crate) fn restart(
        &self,
        ledger: &mut Ledger,
        generation: Generation,
        cursor: Cursor,
        task: Option<TaskId>,
        sites: Arc<SiteTable>,
    ) {
        let state = self.state.load_full();
        let nothing_held = self.put_in_force(State {
            generation,
            applied: cursor,
            task,
            sites,
            forgotten_through: cursor,
            rules: state.rules.emptied(),
            folded: state.folded,
        });
        self.pending.lock().restart(!nothing_held);
        let ledger = std::mem::take(ledger);
        *self.discarded.lock() = Some(Discarded { _rules: state, _ledger: ledger });
    }
}
