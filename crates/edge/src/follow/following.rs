//! What the stream's task knows, and what follows when the position or the lease has moved.

use std::sync::Arc;

use batoff_delivery::Inbox;
use batoff_index::Index;
use batoff_types::Term;
use batoff_types::message::{LeasePolicy, Trouble};
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::connect::Dial;
use super::counter::Counter;
use super::index_size::ToldSize;
use crate::apply::{ApplyHandle, Outcome};
use crate::cache::Cache;
use crate::config::{ControlSection, Endpoint};
use crate::credentials::NodeCredentials;
use crate::fence::Fence;
use crate::metrics;
use crate::overflow::Overflow;
use crate::path::Path;
use crate::saver::Wanted;
use crate::standing::Standing;
use crate::state_dir::StateDir;
use crate::status::Status;

/// What the stream's task works with.
pub(crate) struct Follower<L: Clone> {
    pub(crate) control: ControlSection,
    /// `None` in plain text.
    pub(crate) credentials: Option<Arc<NodeCredentials>>,
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
    pub(crate) overflow: Arc<Overflow>,
    pub(crate) status: Arc<Status>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) durable_term: watch::Receiver<Term>,
    pub(crate) reload: Arc<Notify>,
}

/// The state of the stream's task.
pub(super) struct Following<L: Clone> {
    pub(super) with: Follower<L>,
    pub(super) backoff: Backoff,
    pub(super) counter: Counter,
    /// Caches in trouble, told again to each control plane that welcomes this node.
    pub(super) troubles: Vec<Trouble>,
    /// Whose each hostname is where the stream resumed; `None` once a record was applied since.
    pub(super) sites: Option<batoff_types::SiteTable>,
    /// What the stream has been told of the index's size.
    pub(super) told_size: ToldSize,
    /// Why nothing is known of the parents, as it was logged last.
    pub(super) parents_unknown: String,
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    /// Takes over what the applier did. Gives a trouble to be told to the control plane, if that is what it was.
    pub(super) fn handle_outcome(&mut self, outcome: Outcome) -> Option<Trouble> {
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
    pub(super) fn moved(&mut self) {
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
    pub(super) fn tell_path(&mut self) {
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
    pub(super) fn store(&self) {
        let wanted = Wanted { position: self.with.inbox.position(), term: self.with.inbox.max_term() };
        self.with.wanted.send_if_modified(|current| {
            let changed = *current != wanted;
            *current = wanted;
            changed
        });
    }

    /// Brings the fence in line with the lease.
    pub(super) fn renew(&mut self) {
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
}
