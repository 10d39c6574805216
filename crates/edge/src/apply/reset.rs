//! A reset: everything that is under way is void, and every cache is flushed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use batoff_types::message::{Reset, Trouble};
use batoff_types::{Generation, SiteTable};

use super::Applier;
use super::news::Outcome;
use crate::metrics;

/// The name under which the state directory is in trouble.
const STATE: &str = "state";

/// Between two attempts to make the new generation durable.
const RETRY: Duration = Duration::from_millis(500);

impl<L: Clone + Send + Sync + 'static> Applier<L> {
    /// Drops everything. The generation is durable before anything else happens: a fill that began before can then never
    /// pass as newer, whatever crashes in between.
    pub(super) async fn handle_reset(&mut self, reset: Reset, sites: SiteTable) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let generation = self.raise_generation(&mut outcomes).await;
        tracing::warn!(
            reason = reset.reason.as_str(),
            log_id = %reset.log_id,
            cursor = %reset.cursor,
            generation = generation.0,
            "reset: everything cached is dropped"
        );
        ::metrics::counter!("batoff_edge_resets_total").increment(1);
        let ticket = self.ticket();
        self.void_below.store(ticket.0, Ordering::Release);
        self.pending.clear();
        self.early.clear();
        self.held = None;
        self.done = BTreeMap::new();
        self.index.reset(generation, reset.cursor, sites);
        metrics::applied(reset.cursor);
        for lane in self.lanes.iter() {
            lane.push_flush(ticket);
        }
        if self.waits {
            self.resetting = Some((ticket, reset));
        } else {
            outcomes.push(Outcome::Reset(reset));
        }
        outcomes
    }

    /// Tries for ever: without a durable generation the node must not go on.
    async fn raise_generation(&self, outcomes: &mut Vec<Outcome>) -> Generation {
        let mut failed = false;
        loop {
            let state = Arc::clone(&self.state);
            let raised = tokio::task::spawn_blocking(move || state.raise_generation()).await;
            let message = match raised {
                Ok(Ok(generation)) => {
                    if failed {
                        metrics::trouble(STATE, false);
                        let over = Trouble { cache: STATE.to_owned(), message: String::new(), stuck: None };
                        outcomes.push(Outcome::Trouble(over));
                    }
                    return generation;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if !failed {
                failed = true;
                tracing::error!(%message, "the new generation cannot be stored; the reset waits");
                metrics::trouble(STATE, true);
                let trouble = Trouble { cache: STATE.to_owned(), message, stuck: None };
                // Fails only when the daemon is stopping.
                let _ = self.outcomes.send(Outcome::Trouble(trouble)).await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
