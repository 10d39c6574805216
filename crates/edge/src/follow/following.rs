//! What the task of the streams knows, and what follows when the position or the lease has moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batoff_delivery::{Feeds, Received};
use batoff_index::Index;
use batoff_program::traces::Traces;
use batoff_types::Replica;
use batoff_types::message::{LeasePolicy, Trouble};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::StreamMap;

use super::book::AddressBook;
use super::connect::{ConnectError, Dial, FromControl, Stream};
use super::counter::Counter;
use super::link::{Aim, FeedLink, Way};
use super::told::TracedPurges;
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
use crate::state_dir::{KnownReplicas, StateDir};
use crate::status::Status;

/// What the task of the streams works with.
pub(crate) struct Follower<L: Clone> {
    pub(crate) control: ControlSection,
    /// `None` in plain text.
    pub(crate) credentials: Option<Arc<NodeCredentials>>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) dial: Option<Dial>,
    pub(crate) feeds: Feeds,
    /// What was stored of the control planes.
    pub(crate) known: Arc<KnownReplicas>,
    /// Streams have this number and higher ones: no run of the daemon before had such.
    pub(crate) first_number: u64,
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
    pub(crate) durable: watch::Receiver<Arc<KnownReplicas>>,
    pub(crate) reload: Arc<Notify>,
    pub(crate) traces: Traces,
}

/// The state of the task of the streams.
pub(super) struct Following<L: Clone> {
    pub(super) with: Follower<L>,
    pub(super) ways: BTreeMap<Aim, Way>,
    /// By number: rising in the order in which they were begun.
    pub(super) links: BTreeMap<u64, FeedLink>,
    pub(super) last_number: u64,
    /// What comes on those that are open.
    pub(super) incoming: StreamMap<u64, FromControl>,
    pub(super) attempts: JoinSet<(u64, Result<Stream, ConnectError>)>,
    pub(super) book: AddressBook,
    /// A change of the set of replicas that waits for the disk; what comes after it waits in its queue.
    pub(super) held: Option<Received>,
    /// Whose turn it is among the configured endpoints.
    pub(super) turn: usize,
    /// Since when nobody has welcomed this node; `None` while somebody has.
    pub(super) lost_since: Option<Instant>,
    /// Why a stream ended last.
    pub(super) last_ended: String,
    pub(super) counter: Counter,
    /// Caches in trouble, told again to each control plane that welcomes this node.
    pub(super) troubles: Vec<Trouble>,
    pub(super) told: TracedPurges,
    /// Why nothing is known of the parents, as it was logged last.
    pub(super) parents_unknown: String,
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    /// Takes over what the applier did. Gives a trouble to be told to the control plane, if that is what it was.
    pub(super) fn handle_outcome(&mut self, outcome: Outcome) -> Option<Trouble> {
        match outcome {
            Outcome::Applied { seq, task, report } => {
                self.told.applied(seq, &report);
                if let Err(error) = self.with.feeds.handle_applied(seq, task, report) {
                    // Ours alone; the cursor stays, so nothing is claimed that is not so.
                    tracing::error!(%error, "defect: records were applied out of order");
                    debug_assert!(false, "{error}");
                }
                self.moved();
                None
            }
            Outcome::Report(report) => {
                self.with.feeds.handle_report(report);
                None
            }
            Outcome::Reset(reset) => {
                self.told.reset();
                self.with.feeds.handle_reset_applied(&reset);
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
        let cursor = self.with.feeds.cursor();
        ::metrics::gauge!("batoff_edge_acked_seq").set(cursor.get() as f64);
        let caught_up = self.with.feeds.has_caught_up();
        self.with.status.set_caught_up(caught_up);
        if self.with.feeds.wants_to_agree() {
            self.agree();
        }
        if let Some(position) = self.with.feeds.position() {
            let vouches = self.with.feeds.vouches_for().is_some();
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
        let parents = self.with.feeds.parents();
        if self.with.feeds.has_caught_up() {
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
    pub(super) fn store(&mut self) {
        if !self.knows_the_same() {
            self.with.known = Arc::new(self.known());
            self.tell_status();
        }
        let position = self.with.feeds.position();
        let known = &self.with.known;
        self.with.wanted.send_if_modified(|current| {
            let changed = current.position != position || current.known != *known;
            if changed {
                *current = Wanted { position, known: Arc::clone(known) };
            }
            changed
        });
    }

    /// Everybody of whom something is to be remembered.
    fn acquaintances(&self) -> impl Iterator<Item = Replica> {
        self.with.known.terms.keys().copied().chain(self.linked())
    }

    /// Whether what is known of the control planes is what was to be stored last. Asked at each step, so it makes nothing.
    fn knows_the_same(&self) -> bool {
        let (feeds, known) = (&self.with.feeds, &self.with.known);
        let term_is_known =
            |replica| known.terms.get(&replica).copied().unwrap_or_default() == feeds.max_term(replica);
        known.set.as_ref() == feeds.knows_set().then(|| feeds.set())
            && self.acquaintances().all(term_is_known)
            && self.book.is(&known.endpoints)
    }

    fn known(&self) -> KnownReplicas {
        let feeds = &self.with.feeds;
        KnownReplicas {
            terms: self.acquaintances().map(|replica| (replica, feeds.max_term(replica))).collect(),
            set: feeds.knows_set().then(|| feeds.set().clone()),
            endpoints: self.book.texts(),
        }
    }

    /// Says for `/readyz` which streams there are, and why others are not.
    pub(super) fn tell_status(&self) {
        let linked: BTreeSet<Replica> = self.linked().collect();
        if linked.is_empty() {
            if !self.last_ended.is_empty() {
                self.with.status.disconnected(&self.last_ended);
            }
        } else {
            self.with.status.connected();
        }
        let set = self.with.feeds.set();
        let missing: Vec<_> = set.members().iter().filter(|replica| !linked.contains(replica)).collect();
        let there = set.members().len() - missing.len();
        let lacks = there < set.majority() && set.members().len() > 1;
        self.with.status.set_lacking(lacks.then(|| {
            let why = |replica: &&Replica| match self.ways.get(&Aim::Replica(**replica)) {
                Some(way) if !way.ended.is_empty() => format!("{replica}: {}", way.ended),
                Some(_) => format!("{replica}: not yet connected"),
                None => format!("{replica}: nobody says where it is"),
            };
            format!(
                "streams to {there} of the control planes {set}, and {} are needed ({})",
                set.majority(),
                missing.iter().map(why).collect::<Vec<_>>().join("; ")
            )
        }));
    }

    /// Brings the fence in line with the lease.
    pub(super) fn renew(&mut self) {
        let durable = Arc::clone(&self.with.durable.borrow());
        for (replica, term) in &durable.terms {
            self.with.feeds.handle_term_durable(*replica, *term);
        }
        let until = self.with.feeds.lease().valid_until();
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
