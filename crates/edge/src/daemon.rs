//! The daemon of one node, from its configuration to its end.
//!
//! ```text
//!  DaemonConfig ──open──▶ Opened ──start(caches)──▶ DaemonHandle ──shutdown──▶ position stored
//!                 state read,      follower, applier,       fenced first
//!                 index restored   saver, forgetter
//! ```
//! What it does is done by those tasks; here they are made, given what they share, and ended in order.

use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{Feeds, InboxConfig};
use batoff_index::{Index, IndexConfig};
use batoff_program::certificates::LOOK_EVERY;
use batoff_program::monitored::Monitored;
use batoff_program::traces::Traces;
use batoff_program::vital::Vital;
use batoff_types::message::{LeasePolicy, Position};
use batoff_types::{Cursor, FillToken, Generation, InstanceId, NodeName, Parent, ReplicaSet};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::apply::Applier;
use crate::cache::Cache;
use crate::config::{ConfigError, ControlSection, Endpoint};
use crate::credentials::NodeCredentials;
use crate::fence::Fence;
use crate::follow::{Dial, Follower};
use crate::overflow::Overflow;
use crate::path::Path;
use crate::provenance::Provenance;
use crate::saver::{self, Wanted};
use crate::standing::Standing;
use crate::state_dir::{KnownReplicas, StateDir, StateError};
use crate::status::Status;
use crate::{boottime, forget, metrics};

/// For the last write of the state when the daemon is drained.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// What a daemon needs to know.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// The node's name, which must be its certificate's.
    pub node: NodeName,
    /// What it does when its lease ends.
    pub policy: LeasePolicy,
    /// How the control plane is reached.
    pub control: ControlSection,
    /// The directory that outlives the process.
    pub state_dir: std::path::PathBuf,
    /// The caches between this node's and the origins; none: it fetches from the origins themselves.
    pub parents: Vec<Parent>,
}

/// The daemon cannot start; the text names what is in the way and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
}

impl StartError {
    /// Whether the operator has to change something (64), as opposed to waiting (75).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::State(error) => error.is_usage(),
        }
    }
}

/// A daemon whose state is read and whose index stands; not connected yet.
pub struct Opened<L: Clone> {
    config: DaemonConfig,
    endpoints: Vec<Endpoint>,
    dial: Option<Dial>,
    traces: Traces,
    index: Arc<Index<L>>,
    state: Arc<StateDir>,
    position: Option<Position>,
    known: Arc<KnownReplicas>,
    first_number: u64,
    fence: Arc<Fence>,
    provenance: Provenance,
    standing: Arc<Standing>,
    path: Arc<Path>,
    overflow: Arc<Overflow>,
}

/// A running daemon.
pub struct DaemonHandle<L: Clone> {
    index: Arc<Index<L>>,
    fence: Arc<Fence>,
    path: Arc<Path>,
    status: Arc<Status>,
    reload: Arc<Notify>,
    stop_following: CancellationToken,
    stop_applying: CancellationToken,
    vital: Vital,
    following: JoinHandle<()>,
    saving: JoinHandle<()>,
}

impl DaemonConfig {
    /// Opens the state directory and restores the index: rules that were in force before are in force again before
    /// anything can be cached.
    pub fn open<L: Clone + Send + Sync + 'static>(self, index: IndexConfig) -> Result<Opened<L>, StartError> {
        let endpoints = self.control.endpoints()?;
        let opened = StateDir::open(&self.state_dir, &self.node)?;
        let (position, known) = opened
            .stored
            .as_ref()
            .map_or((None, KnownReplicas::default()), |stored| (stored.position, stored.known.clone()));
        let index = match opened.stored {
            Some(stored) => {
                let mut snapshot = stored.snapshot;
                snapshot.generation = opened.generation;
                Index::restore(index, snapshot)
            }
            None => {
                let fresh = Index::new(index);
                fresh.reset(opened.generation, Cursor::START, batoff_types::SiteTable::default());
                fresh
            }
        };
        tracing::info!(
            node = %self.node,
            generation = opened.generation.0,
            cursor = %position.map_or(Cursor::START, |position| position.cursor),
            resumes = position.is_some(),
            "state read"
        );
        let set = known.set.clone().unwrap_or_else(ReplicaSet::only);
        let fence = Arc::new(fence(self.policy, &opened.state, &set).map_err(|source| {
            StartError::State(StateError::Access { path: opened.state.path().to_owned(), source })
        })?);
        let provenance = Provenance::new(opened.identity, Arc::clone(&fence));
        let standing = Standing::nowhere();
        if let Some(position) = position {
            standing.set(position.log_id, index.generation(), false);
        }
        let path = Arc::new(Path::new(!self.parents.is_empty()));
        Ok(Opened {
            config: self,
            endpoints,
            dial: None,
            traces: Traces::default(),
            index: Arc::new(index),
            state: Arc::new(opened.state),
            position,
            known: Arc::new(known),
            first_number: opened.first_number,
            fence,
            provenance,
            standing: Arc::new(standing),
            path,
            overflow: Arc::default(),
        })
    }
}

/// A node that turns from strict to available stays strict until a control plane has been told: until then it may be
/// counted as one that has stopped serving. A node that was available before it was restarted need not wait.
/// Those that knew are not the ones that count where it stands if the set has changed since.
fn fence(policy: LeasePolicy, state: &StateDir, set: &ReplicaSet) -> std::io::Result<Fence> {
    match policy {
        LeasePolicy::Serve if state.serves_without_lease()?.as_ref() == Some(set) => Ok(Fence::new(policy)),
        LeasePolicy::Serve => Ok(Fence::not_agreed(policy)),
        LeasePolicy::Revalidate => {
            state.set_serves_without_lease(None)?;
            Ok(Fence::new(policy))
        }
    }
}

impl<L: Clone + Send + Sync + 'static> Opened<L> {
    /// The index to register objects in and to ask at each hit.
    pub fn index(&self) -> Arc<Index<L>> {
        Arc::clone(&self.index)
    }

    /// The right to serve, for hit paths that are built before the daemon runs.
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Whose what the caches hold has to be.
    pub fn provenance(&self) -> Provenance {
        self.provenance.clone()
    }

    /// Whether the node knows where it stood. If not, its first connection begins with a reset.
    pub fn resumes(&self) -> bool {
        self.position.is_some()
    }

    /// Where the node stands, for caches that ask another node's cache.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// How far the nodes between this one and the origins are, for whatever begins fills.
    pub fn path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// Counts objects whose tags overflow, for whatever stores them.
    pub fn overflow(&self) -> Arc<Overflow> {
        Arc::clone(&self.overflow)
    }

    /// Connects by `dial` instead of TCP.
    #[must_use]
    pub fn dial_with(mut self, dial: Dial) -> Self {
        self.dial = Some(dial);
        self
    }

    /// Tells of traced purges there; nowhere without it.
    #[must_use]
    pub fn tell(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    /// Connects, and applies what comes to `caches`. Needs a tokio runtime. Returns at once; the control plane may be
    /// away for as long as it likes.
    pub fn start(self, caches: Vec<Box<dyn Cache<L>>>) -> DaemonHandle<L> {
        metrics::declare();
        metrics::applied(self.index.applied());
        let caches: Vec<Arc<dyn Cache<L>>> = caches.into_iter().map(Arc::from).collect();
        let (stop_following, stop_applying) = (CancellationToken::new(), CancellationToken::new());
        let (status, reload) = (Arc::new(Status::default()), Arc::new(Notify::new()));

        let position = self.position.filter(|_| !self.provenance.starts_over());
        if position.is_none() {
            self.standing.clear();
        }
        let (wanted, wanted_by_saver) = watch::channel(Wanted { position, known: Arc::clone(&self.known) });
        let (durable, durable_seen) = watch::channel(Arc::clone(&self.known));
        let saving = saver::run(Arc::clone(&self.index), Arc::clone(&self.state), wanted_by_saver, durable);
        let vital = Vital::new();
        let saving = tokio::spawn(vital.watch("saver", &stop_following, saving));

        if forget::is_allowed(&caches) {
            let forgetting = forget::run(Arc::clone(&self.index), Arc::clone(&self.path), wanted.subscribe());
            let stop = stop_applying.clone();
            let forgetting = async move { stop.run_until_cancelled(forgetting).await };
            tokio::spawn(vital.watch("forgetter", &stop_applying, forgetting));
        }

        let mut inbox = InboxConfig::new(self.config.node, self.config.policy);
        inbox.parents = self.config.parents;
        inbox.prompt_feeds = self.config.control.feeds.0;
        inbox.agreed = self.fence.is_agreed();
        inbox.version = env!("CARGO_PKG_VERSION").to_owned();
        inbox.caches = caches.iter().map(|cache| cache.name().to_owned()).collect();
        let credentials = (!self.config.control.plaintext)
            .then(|| Arc::new(NodeCredentials::new(self.config.control.clone())));
        if let Some(credentials) = &credentials {
            let watching = watch_files(Arc::clone(credentials), Arc::clone(&reload));
            let stop = stop_following.clone();
            let watching = async move { stop.run_until_cancelled(watching).await };
            tokio::spawn(vital.watch("certificates", &stop_following, watching));
        }
        let instance = InstanceId::from_ulid(Ulid::from_parts(boottime().as_micros(), rand::random()));
        let terms: Vec<_> = self.known.terms.iter().map(|(replica, term)| (*replica, *term)).collect();
        // A node that stored nothing of it is told by whoever accepts its place; one that stands nowhere with its reset.
        inbox.set_is_known = self.known.set.is_some();
        inbox.set = self.known.set.clone().unwrap_or_else(ReplicaSet::only);
        let follower = Follower {
            control: self.config.control,
            credentials,
            endpoints: self.endpoints,
            dial: self.dial,
            feeds: Feeds::new(inbox, instance, position, terms),
            known: self.known,
            first_number: self.first_number,
            index: Arc::clone(&self.index),
            apply: Applier::spawn(
                Arc::clone(&self.index),
                caches.clone(),
                Arc::clone(&self.state),
                &stop_applying,
                &vital,
            ),
            caches,
            fence: Arc::clone(&self.fence),
            state: Arc::clone(&self.state),
            standing: self.standing,
            path: Arc::clone(&self.path),
            overflow: self.overflow,
            status: Arc::clone(&status),
            wanted,
            durable: durable_seen,
            reload: Arc::clone(&reload),
            traces: self.traces,
        };
        let following = follower.run(stop_following.clone());
        let following = tokio::spawn(vital.watch("follower", &stop_following, following));
        DaemonHandle {
            index: self.index,
            fence: self.fence,
            path: self.path,
            status,
            reload,
            stop_following,
            stop_applying,
            vital,
            following,
            saving,
        }
    }
}

impl<L: Clone + Send + Sync + 'static> DaemonHandle<L> {
    /// Whether a cached object may be served now. **The last step of a hit**, after the rules: reads the clock itself.
    pub fn may_serve(&self) -> bool {
        self.fence.may_serve()
    }

    /// What happens to hits without a lease.
    pub fn policy(&self) -> LeasePolicy {
        self.fence.policy()
    }

    /// Everything before this place is in force here.
    pub fn applied(&self) -> Cursor {
        self.index.applied()
    }

    /// The token of a fill that begins now: the least position on its path.
    pub fn begin_fill(&self) -> FillToken {
        self.path.token(self.index.begin_fill())
    }

    /// How far the nodes between this one and the origins are.
    pub fn path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// The node's generation.
    pub fn generation(&self) -> Generation {
        self.index.generation()
    }

    /// The index.
    pub fn index(&self) -> Arc<Index<L>> {
        Arc::clone(&self.index)
    }

    /// The right to serve.
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Whether the node can do its job; the reason when it cannot.
    pub fn ready(&self) -> Result<(), String> {
        self.status.ready(&self.fence)
    }

    /// Says when a task of this daemon has ended, though nobody asked it to. The process must then end as well (70): what
    /// that task did is done by nobody any more, and an available node would serve on for ever what was purged.
    pub fn vital(&self) -> Vital {
        self.vital.clone()
    }

    /// Reads the certificates again and reconnects with them. Files that cannot be used leave the stream as it is.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Fences (a strict node stops serving from its cache here), then stops and stores where it stands.
    pub async fn shutdown(self) {
        self.status.stopping();
        self.stop_following.cancel();
        // Ends by itself when cancelled; an error would be a panic in it, which its own log line tells.
        let _ = self.following.await;
        self.stop_applying.cancel();
        if tokio::time::timeout(LAST_WRITE_MAX, self.saving).await.is_err() {
            tracing::warn!(
                "the last write of the state did not finish; a restart replays from the one before"
            );
        }
    }
}

/// Has the stream opened anew when the files of the certificates are others than before.
async fn watch_files(credentials: Arc<NodeCredentials>, reload: Arc<Notify>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = Arc::clone(&credentials);
        // A disk may take its time.
        match tokio::task::spawn_blocking(move || looked.look()).await {
            Ok(true) => {
                tracing::info!("certificates reloaded");
                reload.notify_one();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "defect: the certificates' files are not looked at any more");
                return;
            }
        }
    }
}

/// What `/metrics` and `/readyz` ask, apart from the handle that [`DaemonHandle::shutdown`] consumes.
#[derive(Debug)]
pub struct DaemonMonitor<L: Clone> {
    index: Arc<Index<L>>,
    fence: Arc<Fence>,
    status: Arc<Status>,
}

impl<L: Clone + Send + Sync + 'static> DaemonHandle<L> {
    /// For the monitoring listener.
    pub fn monitor(&self) -> DaemonMonitor<L> {
        let (index, fence, status) =
            (Arc::clone(&self.index), Arc::clone(&self.fence), Arc::clone(&self.status));
        DaemonMonitor { index, fence, status }
    }
}

impl<L: Clone + Send + Sync + 'static> Monitored for DaemonMonitor<L> {
    fn ready(&self) -> Result<(), String> {
        self.status.ready(&self.fence)
    }

    fn refresh(&self) {
        metrics::index(&self.index.stats());
        metrics::lease_remaining(self.fence.until().since(boottime()));
    }
}
