//! The stream to the control plane: kept open, resumed where it was, and never waited for by anything that serves.
//!
//! One task owns the [`Inbox`] and everything about the stream. It chooses an event, then applies it synchronously; slow
//! work (rules, caches, disk) runs elsewhere and comes back as an event.

use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::Inbox;
use batoff_index::Index;
use batoff_types::Term;
use batoff_types::message::{LeasePolicy, Trouble};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
pub use self::connect::{Dial, Dialing};
use self::counter::Counter;
use self::session::Ended;
use crate::apply::{ApplyHandle, Outcome};
use crate::cache::Cache;
use crate::config::{ControlSection, Endpoint};
use crate::fence::Fence;
use crate::metrics;
use crate::path::Path;
use crate::saver::Wanted;
use crate::standing::Standing;
use crate::state_dir::StateDir;
use crate::status::Status;

mod backoff;
mod connect;
mod counter;
mod session;
#[cfg(test)]
mod tests;

/// What the stream's task works with.
pub(crate) struct Follower<L: Clone> {
    pub(crate) control: ControlSection,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) dial: Option<Dial>,
    pub(crate) inbox: Inbox,
    pub(crate) index: Arc<Index<L>>,
    pub(crate) caches: Vec<Arc<dyn Cache<L>>>,
    pub(crate) apply: ApplyHandle,
    pub(crate) fence: Arc<Fence>,
    pub(crate) state: Arc<StateDir>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) path: Arc<Path>,
    pub(crate) status: Arc<Status>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) durable_term: watch::Receiver<Term>,
    pub(crate) reload: Arc<Notify>,
}

/// The state of the stream's task.
struct Following<L: Clone> {
    with: Follower<L>,
    backoff: Backoff,
    counter: Counter,
    /// Caches in trouble, told again to each control plane that welcomes this node.
    troubles: Vec<Trouble>,
    /// Whose each hostname is where the stream resumed; `None` once a record was applied since.
    sites: Option<batoff_types::SiteTable>,
    /// Why nothing is known of the parents, as it was logged last.
    parents_unknown: String,
}

impl<L: Clone + Send + Sync + 'static> Follower<L> {
    /// Follows until `stop`. The lease is given up before it returns.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let fence = Arc::clone(&self.fence);
        let caches = self.caches.clone();
        let counter =
            Counter::spawn(Arc::clone(&self.index), self.caches.iter().all(|cache| cache.is_counted()));
        let mut following = Following {
            with: self,
            counter,
            backoff: Backoff::new(),
            troubles: Vec::new(),
            sites: None,
            parents_unknown: String::new(),
        };
        stop.run_until_cancelled(following.run()).await;
        fence.close();
        if fence.policy() == LeasePolicy::Revalidate {
            for cache in &caches {
                cache.serve_until(batoff_types::Moment::ZERO);
            }
        }
        following.store();
    }
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    async fn run(&mut self) {
        // Nodes that start together should not all ask the same replica first.
        let mut turn = rand::random_range(0..self.with.endpoints.len().max(1));
        let mut elsewhere = Vec::new();
        loop {
            let choices = if elsewhere.is_empty() { &self.with.endpoints } else { &elsewhere };
            let Some(endpoint) = choices.get(turn % choices.len().max(1)).cloned() else { return };
            turn = turn.wrapping_add(1);
            elsewhere.clear();

            let ended = self.stream(&endpoint).await;
            self.with.status.disconnected(&ended.to_string());
            let wait = match &ended {
                Ended::Reload => Duration::ZERO,
                Ended::GoAway(go_away) => {
                    elsewhere = go_away.endpoints.iter().filter_map(|text| self.allowed(text)).collect();
                    go_away.reconnect_after.max(self.backoff.next())
                }
                Ended::Failed(_) | Ended::Connect(_) | Ended::Inbox(_) | Ended::SitesUnknown => {
                    self.backoff.next()
                }
            };
            tracing::warn!(endpoint = %endpoint.uri(), reason = %ended, again_in = ?wait, "no stream to the control plane");
            ::metrics::counter!("batoff_edge_reconnects_total").increment(1);
            self.while_applying(tokio::time::sleep(wait)).await;
        }
    }

    /// Opens one stream and follows it to its end.
    async fn stream(&mut self, endpoint: &Endpoint) -> Ended {
        let hello = self.with.inbox.hello();
        let (control, dial) = (self.with.control.clone(), self.with.dial.clone());
        match self.while_applying(connect::open(&control, endpoint, dial.as_ref(), hello)).await {
            Ok(stream) => self.session(stream).await,
            Err(error) => Ended::Connect(error),
        }
    }

    /// Waits for something without leaving the applier waiting.
    async fn while_applying<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        let mut waited_for = std::pin::pin!(waited_for);
        loop {
            tokio::select! {
                value = &mut waited_for => return value,
                Some(outcome) = self.with.apply.outcomes.recv() => {
                    // Told again at the next welcome.
                    let _ = self.handle_outcome(outcome);
                }
            }
        }
    }

    /// Takes over what the applier did. Gives a trouble to be told to the control plane, if that is what it was.
    fn handle_outcome(&mut self, outcome: Outcome) -> Option<Trouble> {
        match outcome {
            Outcome::Applied { seq, task, report } => {
                if let Err(error) = self.with.inbox.handle_applied(seq, task, report) {
                    // Ours alone; the cursor stays, so nothing is claimed that is not so.
                    tracing::error!(%error, "defect: records were applied out of order");
                    debug_assert!(false, "{error}");
                }
                self.moved();
                None
            }
            Outcome::Report(report) => {
                self.with.inbox.handle_report(report);
                None
            }
            Outcome::Reset(reset) => {
                self.with.inbox.handle_reset_applied(&reset);
                self.moved();
                None
            }
            Outcome::Trouble(trouble) => {
                self.troubles.retain(|known| known.cache != trouble.cache);
                if !trouble.message.is_empty() {
                    self.troubles.push(trouble.clone());
                }
                Some(trouble)
            }
        }
    }

    /// The position may be another one than before.
    fn moved(&mut self) {
        let cursor = self.with.inbox.cursor();
        ::metrics::gauge!("batoff_edge_acked_seq").set(cursor.get() as f64);
        let caught_up = self.with.inbox.has_caught_up();
        self.with.status.set_caught_up(caught_up);
        if self.with.inbox.wants_to_agree() {
            self.agree();
        }
        if let Some(position) = self.with.inbox.position() {
            let vouches = self.with.inbox.vouches_for().is_some();
            self.with.standing.set(position.log_id, self.with.index.generation(), vouches);
        }
        self.store();
    }

    /// Passes on what was said of the parents. The place belongs to the order that the index follows by now: while it is
    /// being changed, the inbox says nothing.
    fn tell_path(&mut self) {
        if !self.with.path.has_parents() {
            return;
        }
        let parents = self.with.inbox.parents();
        if self.with.inbox.has_caught_up() {
            self.with.path.tell(self.with.index.generation(), parents.through);
        } else {
            self.with.path.forget();
        }
        metrics::parents(parents.through);
        if parents.why != self.parents_unknown {
            self.parents_unknown.clone_from(&parents.why);
            if !self.parents_unknown.is_empty() {
                tracing::warn!(
                    why = self.parents_unknown,
                    "it is not known how far the parents are; nothing that was ever purged is stored here until it is"
                );
            }
        }
    }

    /// Asks for what must outlive the process to be stored.
    fn store(&self) {
        let wanted = Wanted { position: self.with.inbox.position(), term: self.with.inbox.max_term() };
        self.with.wanted.send_if_modified(|current| {
            let changed = *current != wanted;
            *current = wanted;
            changed
        });
    }

    /// Brings the fence in line with the lease.
    fn renew(&mut self) {
        let durable = *self.with.durable_term.borrow();
        self.with.inbox.handle_term_durable(durable);
        let until = self.with.inbox.lease().valid_until();
        if until == self.with.fence.until() {
            return;
        }
        self.with.fence.set_until(until);
        if until > crate::boottime() {
            self.with.status.leased();
        }
        if self.with.fence.policy() == LeasePolicy::Revalidate {
            for cache in &self.with.caches {
                cache.serve_until(until);
            }
        }
    }

    /// An endpoint that the control plane named, if the configuration's own rules allow it.
    fn allowed(&self, text: &str) -> Option<Endpoint> {
        match self.with.control.endpoint(text) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::warn!(%error, "the control plane named an endpoint that this node may not use");
                None
            }
        }
    }
}
