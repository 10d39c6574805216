//! Puts the parts together, and takes them apart again in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Health, Key, Kv, LogState, Store, StoreError};
use batoff_program::descriptors;
use batoff_program::figures::PrometheusHandle;
use batoff_program::gate::{Gate, Limits};
use batoff_program::listen::{ListenError, bind};
use batoff_program::monitor;
use batoff_program::supervisor::Supervisor;
use batoff_program::vital::Vital;
use batoff_types::{Cursor, ReplicaSet};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use crate::accounts::{Accounts, Grant, Role, SessionTimes};
use crate::api::Api;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::commit::Commit;
use crate::config::{
    AdminConfig, ApiConfig, Config, ConsoleConfig, ConsoleGroup, Engine, GroupRole, GrpcConfig, ReplicaConfig,
};
use crate::console::{ConsoleDoor, SignOnProxy};
use crate::engine::{self, EngineError, OpenedStore};
use crate::feed::Feed;
use crate::housekeeping::{Housekeeping, LogSize};
use crate::http_server::Listening;
use crate::hub::Hub;
use crate::ids::TaskIds;
use crate::init::{self, InitError, Secrets};
use crate::overview::Overviews;
use crate::own_threads::OwnThreads;
use crate::revoked::{Revoked, RevokedError};
use crate::seat::{FolderLock, ReplicaPlaces, SeatKeeper, SeatLost, SeatWanted, Tenure};
use crate::service::Services;
use crate::store::rows;
use crate::stream;
use crate::tls::{ClientCertificates, OwnCertificates, Tls, TlsError, TlsFiles};
use crate::tracker::{Several, Tracker, TrackerOptions, least_term};
use crate::{admin, api, backup, console, http_server, ops, rounds};

/// How long everything may take to end, from the signal on.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(8);

/// Of it, for requests and streams; the rest is for the store.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(7);

/// Connections of operators at one time.
const ADMIN_CONNECTIONS: usize = 128;

/// Connections of browsers to the console at one time.
const CONSOLE_CONNECTIONS: usize = 1_024;

/// How often the metrics' recorder sorts what it has collected.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder has no usable secrets.
    #[error(transparent)]
    Secrets(#[from] InitError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] EngineError),
    /// Another process has taken the seat while this one waited for it.
    #[error(transparent)]
    Seat(#[from] SeatLost),
    /// The log ends before what a predecessor has seen of it.
    #[error(
        "the store says that the purge log ends at {tail}, and has said {floor} before: it answers with old data; nothing was \
         started"
    )]
    Behind {
        /// Where it ends now.
        tail: Cursor,
        /// Where it ended before.
        floor: Cursor,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates cannot be used.
    #[error("{key}: {error}")]
    Tls {
        /// The section that names them.
        key: &'static str,
        /// What is wrong.
        error: TlsError,
    },
    /// The list of revoked certificates cannot be used.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No threads for the nodes' streams, or for those who look on.
    #[error("threads cannot be started: {0}; raise the limit of tasks (TasksMax=, ulimit -u)")]
    Threads(io::Error),
}

/// Where the listeners are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The customers' API.
    pub api: SocketAddr,
    /// The operator's API.
    pub admin: SocketAddr,
    /// The console.
    pub console: SocketAddr,
    /// The nodes' stream.
    pub grpc: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

impl Addresses {
    /// The line for whoever started the program.
    pub fn announcement(&self) -> serde_json::Value {
        let Self { api, admin, console, grpc, metrics } = self;
        serde_json::json!({
            "api": api, "admin": admin, "console": console, "grpc": grpc, "metrics": metrics, "pid": std::process::id()
        })
    }
}

/// A control plane that runs.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// What its APIs answer from.
    pub services: Arc<Services>,
    ops: Arc<ops::Ops>,
    tasks: TaskTracker,
    background: TaskTracker,
    streams: OwnThreads,
    observers: OwnThreads,
    _followers: OwnThreads,
    stopping: CancellationToken,
    /// Says when the process must not go on.
    vital: Vital,
}

struct Listeners {
    api: TcpListener,
    admin: TcpListener,
    console: TcpListener,
    grpc: TcpListener,
}

/// How the parts of a control plane learn that they are to end.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    /// Cancelled first: nothing more is accepted, and nodes are sent away.
    pub draining: CancellationToken,
    /// Cancelled after it: what is left ends.
    pub stopping: CancellationToken,
    /// Says when the process must not go on.
    pub vital: Vital,
}

struct Certificates {
    api: Option<Arc<Tls>>,
    admin: Option<Arc<Tls>>,
    console: Option<Arc<Tls>>,
    grpc: Option<Arc<Tls>>,
}

/// Starts everything. Nothing is left behind when it fails, and no address is bound before the data is known to be good;
/// but where another process may have to be waited for, that of metrics and health is, so that whoever started this one
/// can see why it is not ready.
pub async fn start(
    config: Config,
    clock: Clock,
    recorder: Option<PrometheusHandle>,
) -> Result<Running, StartError> {
    let secrets = init::load(&config.data.dir)?;
    let certificates = certificates(&config)?;
    Revoked::check(config.grpc.revoked.as_deref())?;
    let opened = engine::open(&config, clock.wall_fn()).await?;
    let store = opened.store();
    init::recognise(&config.data.dir, &secrets.master, store.kv()).await??;
    let streams = OwnThreads::each_core("streams").map_err(StartError::Threads)?;
    let observers = OwnThreads::start("observers", 1).map_err(StartError::Threads)?;
    let followers = OwnThreads::start("followers", 1).map_err(StartError::Threads)?;
    let endings = Endings::default();
    // What was begun for the sake of a start that fails ends with it.
    let failing = endings.stopping.clone().drop_guard();
    let background = TaskTracker::new();
    let [api_gate, admin_gate, console_gate, grpc_gate, metrics_gate] = gates(&config);
    let (listen, dir) = (config.metrics.listen, config.data.dir.clone());
    let thread = observers.first().clone();
    let monitor = async |tenure: Tenure| {
        let ops = Arc::new(ops::Ops::starting(clock.clone(), tenure));
        let listener = bind("metrics.listen", listen).await?;
        let address = listener.local_addr().unwrap_or(listen);
        let router = monitor::router("batoff-control", recorder.clone(), Arc::clone(&ops) as _);
        // Health is told until the very end.
        let serving = monitor::serve(listener, metrics_gate, router, endings.stopping.clone());
        background.spawn_on(endings.vital.watch("metrics", &endings.stopping, serving), &thread);
        Ok::<_, ListenError>((address, ops))
    };
    let (parts, metrics, ops, embedded) = match opened {
        OpenedStore::Embedded(embedded) => {
            let tenure = Tenure::alone();
            let (tenure, endings) = (tenure, endings.clone());
            let followers = followers.first().clone();
            let parts =
                Parts::assemble_as(tenure.clone(), endings, config, clock.clone(), store, secrets, followers);
            let parts = parts.await?;
            let (address, ops) = monitor(tenure).await?;
            (parts, address, ops, Some(embedded))
        }
        OpenedStore::Etcd(_, lock) => {
            let (keeper, tenure) = seat_in(&store, &config, &clock, lock).await?;
            let (address, ops) = monitor(tenure.clone()).await?;
            let keeping = keeper.run(endings.stopping.clone());
            background.spawn(endings.vital.watch("seat", &endings.stopping, keeping));
            tenure.seated().await?;
            let (endings, followers) = (endings.clone(), followers.first().clone());
            let parts = Parts::assemble_as(tenure, endings, config, clock.clone(), store, secrets, followers);
            (parts.await?, address, ops, None)
        }
    };
    parts.services.revoked.open(parts.services.config.grpc.revoked.clone())?;
    init::first_operator(&dir, &parts.services.accounts).await??;
    let listeners = Listeners::bind(&parts.services.config).await?;
    let own = [&certificates.api, &certificates.admin, &certificates.console, &certificates.grpc];
    own.into_iter().flatten().for_each(|tls| parts.services.certificates.add(Arc::clone(tls)));
    let addresses = listeners.addresses(&parts.services.config, metrics);
    parts.run_background(&background, recorder, streams.handles());
    background.close();
    ops.begun(Arc::clone(&parts.services));
    let Endings { stopping, vital, .. } = endings.clone();
    let mut running = Running {
        addresses,
        tasks: TaskTracker::new(),
        background,
        services: parts.services,
        ops,
        streams,
        observers,
        _followers: followers,
        stopping,
        vital,
    };
    running.run_listeners(listeners, certificates, [api_gate, admin_gate, console_gate, grpc_gate]);
    running.tasks.reopen();
    if let Some(embedded) = embedded {
        let backups = backup::serve(embedded, dir, running.services.draining.clone());
        let draining = &running.services.draining;
        running.tasks.spawn_on(running.vital.watch("backups", draining, backups), running.observers.first());
    }
    running.tasks.close();
    failing.disarm();
    Ok(running)
}

/// Where the first set of a log stands, which counts until a record of the log says otherwise.
const FIRST_SET: &str = "replicas/first";

/// Says which replicas count in a log that begins now. In one that has begun without saying so there was one that was
/// alone, and the others come by a record of the log: nodes go by its leases until they have read that.
async fn found_set(kv: &dyn Kv, config: &ReplicaConfig, tail: Cursor) -> Result<(), StoreError> {
    let set = if tail == Cursor::START { config.first_set() } else { ReplicaSet::only() };
    let ids: Vec<u8> = set.members().iter().map(|replica| replica.0).collect();
    rows::put_first(kv, &Key::from(FIRST_SET), rows::json(&ids)).await.map(drop)
}

/// The seat of the replica that is configured, for a process that starts now.
pub(crate) async fn seat_in(
    store: &Arc<dyn Store>,
    config: &Config,
    clock: &Clock,
    lock: FolderLock,
) -> Result<(SeatKeeper, Tenure), StoreError> {
    let (replica, seat) = (config.replica.replica(), config.replica.seat);
    let log = store.log().state().await?;
    let term_least = least_term(store.kv(), replica, &log, clock.wall()).await?;
    let wanted = SeatWanted { replica, seat, term_least, times: config.lease.times() };
    Ok(SeatKeeper::new(Arc::clone(store), clock.clone(), wanted, lock))
}

/// A control plane without its listeners, over any store.
pub struct Parts {
    /// What its APIs answer from.
    pub services: Arc<Services>,
    log: LogState,
    stopping: CancellationToken,
    vital: Vital,
}

impl Parts {
    /// Of a control plane that is alone: raises the term, and reads what is durable. `followers` is where customers wait
    /// and listen.
    pub async fn assemble(
        config: Config,
        clock: Clock,
        store: Arc<dyn Store>,
        secrets: Secrets,
        followers: Handle,
    ) -> Result<Self, StartError> {
        let (tenure, endings) = (Tenure::alone(), Endings::default());
        Self::assemble_as(tenure, endings, config, clock, store, secrets, followers).await
    }

    /// The same, of the replica that this process is. It has its seat already, if there is one.
    pub async fn assemble_as(
        tenure: Tenure,
        endings: Endings,
        config: Config,
        clock: Clock,
        store: Arc<dyn Store>,
        secrets: Secrets,
        followers: Handle,
    ) -> Result<Self, StartError> {
        // After the seat's own look at it: what was completed on a predecessor's word lies before its end.
        let log = store.log().state().await?;
        if let Some(floor) = tenure.floor().filter(|floor| log.tail < *floor) {
            return Err(StartError::Behind { tail: log.tail, floor });
        }
        let places = if tenure.has_seat() {
            found_set(store.kv(), &config.replica, log.tail).await?;
            if let Some(endpoint) = &config.replica.advertise {
                ReplicaPlaces::announce(store.kv(), &tenure, endpoint).await?;
            }
            ReplicaPlaces::read(store.kv()).await?
        } else {
            ReplicaPlaces::default()
        };
        let Endings { draining, stopping, vital } = endings;
        let several =
            tenure.has_seat().then(|| Several { own: tenure.replica(), first: config.replica.first_set() });
        let ids = Arc::new(match &several {
            Some(several) => TaskIds::of(clock.clone(), several.own),
            None => TaskIds::new(clock.clone()),
        });
        let totp_key = secrets.master.clone();
        let catalog =
            Catalog::load(Arc::clone(&store), clock.clone(), Arc::clone(&ids), secrets.master).await?;
        let catalog = Arc::new(catalog);
        // Before anybody can be let in: what comes from here on has its entry.
        let audit = Arc::new(
            Audit::open(Arc::clone(&store), clock.clone(), log.log_id, config.replica.replica()).await?,
        );
        let accounts = Accounts::new(
            Arc::clone(&store),
            clock.clone(),
            Arc::clone(&audit),
            totp_key,
            config.console.times(),
        );
        let tracker = Tracker::recover(
            Arc::clone(&store),
            Arc::clone(&catalog),
            &log,
            clock.clone(),
            TrackerOptions {
                times: config.lease.times(),
                several,
                live_max: config.limits.live_tasks,
                draining: draining.clone(),
                stopping: stopping.clone(),
                vital: vital.clone(),
                tenure: tenure.clone(),
            },
        )
        .await?;
        let hub = Hub::new(log.tail, config.limits.tail_records, config.limits.tail_bytes);
        let commit = Arc::new(Commit::new(
            Arc::clone(&store),
            Arc::clone(&catalog),
            Arc::clone(&ids),
            clock.clone(),
            config.limits.submissions_in_flight,
            draining.clone(),
        ));
        let certificates = Arc::new(OwnCertificates::default());
        let overview = Arc::new(Overviews::new(
            clock.clone(),
            Arc::clone(&store),
            Arc::clone(&tracker),
            Arc::clone(&certificates),
            (config.store.engine == Engine::Embedded).then(|| config.data.dir.clone()),
        ));
        let services = Arc::new(Services {
            config: Arc::new(config),
            clock,
            ids,
            tenure,
            places: Arc::new(places),
            log_id: log.log_id,
            store,
            catalog,
            accounts: Arc::new(accounts),
            commit,
            audit,
            tracker,
            overview,
            certificates,
            revoked: Arc::default(),
            hub,
            admin_token: secrets.admin_token,
            followers,
            draining,
        });
        Ok(Self { services, log, stopping, vital })
    }

    /// Runs all that needs no listener, and serves nodes on connections that were accepted elsewhere; until it drains.
    /// For a network that is simulated.
    pub async fn serve_nodes<S, IO>(self, incoming: S) -> Result<(), tonic::transport::Error>
    where
        S: Stream<Item = io::Result<IO>>,
        IO: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    {
        let background = TaskTracker::new();
        self.run_background(&background, None, &[]);
        background.close();
        let served = stream::serve_incoming(Arc::clone(&self.services), incoming).await;
        self.stopping.cancel();
        background.wait().await;
        served
    }

    /// Ends all that runs in the background.
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Runs all that needs no listener, on `background`.
    pub(crate) fn run_background(
        &self,
        background: &TaskTracker,
        recorder: Option<PrometheusHandle>,
        threads: &[Handle],
    ) {
        let (services, tail) = (&self.services, self.log.tail);
        let feed = Feed {
            store: Arc::clone(&services.store),
            catalog: Arc::clone(&services.catalog),
            tracker: Arc::clone(&services.tracker),
            hub: Arc::clone(&services.hub),
        };
        let (stopping, vital) = (&self.stopping, &self.vital);
        let feed = feed.run(tail, stopping.clone());
        background.spawn(vital.watch("feed", stopping, async move {
            if let Err(error) = feed.await {
                tracing::error!(%error, "the purge log cannot be followed");
            }
        }));
        if services.tenure.has_seat() {
            let (places, store) = (Arc::clone(&services.places), Arc::clone(&services.store));
            let until = stopping.clone();
            background.spawn(vital.watch("places", stopping, async move {
                until.run_until_cancelled(places.follow(store.kv())).await;
            }));
        }
        let (draining, tenure) = (services.draining.clone(), services.tenure.clone());
        let until = stopping.clone();
        background.spawn(async move {
            if until.run_until_cancelled(tenure.lost()).await.is_some() {
                draining.cancel();
            }
        });
        let rounds = rounds::run(Arc::clone(&services.hub), threads.to_vec(), stopping.clone());
        background.spawn(vital.watch("rounds", stopping, rounds));
        background.spawn(vital.watch(
            "log",
            stopping,
            log_writes(Arc::clone(&services.store), stopping.clone()),
        ));
        let keeping = Housekeeping {
            store: Arc::clone(&services.store),
            catalog: Arc::clone(&services.catalog),
            tracker: Arc::clone(&services.tracker),
            audit: Arc::clone(&services.audit),
            clock: services.clock.clone(),
            retention: services.config.retention.clone(),
            size: LogSize::default(),
            turn: None,
        };
        background.spawn(vital.watch("housekeeping", stopping, keeping.run(stopping.clone())));
        let tokens = Arc::clone(&services.catalog).follow_tokens(stopping.clone());
        background.spawn(vital.watch("tokens", stopping, tokens));
        let audit = Arc::clone(&services.audit).run(stopping.clone());
        background.spawn(vital.watch("audit", stopping, audit));
        background.spawn(vital.watch("resolver", stopping, Arc::clone(&services.tracker).run_resolver()));
        background.spawn(vital.watch("clock", stopping, Arc::clone(&services.tracker).run_clock()));
        if !services.tracker.is_alone() {
            let tracker = &services.tracker;
            background.spawn(vital.watch("done", stopping, Arc::clone(tracker).run_done()));
            background.spawn(vital.watch("statements", stopping, Arc::clone(tracker).run_statements()));
            background.spawn(vital.watch("replicas", stopping, Arc::clone(tracker).run_listener()));
        }
        let certificates = Arc::clone(&services.certificates).follow_files();
        let until = stopping.clone();
        background.spawn(vital.watch("certificates", stopping, async move {
            until.run_until_cancelled(certificates).await;
        }));
        let (revoked, until) = (Arc::clone(&services.revoked).follow_file(), stopping.clone());
        background.spawn(vital.watch("revocations", stopping, async move {
            until.run_until_cancelled(revoked).await;
        }));
        if let Some(recorder) = recorder {
            let until = stopping.clone();
            background.spawn(vital.watch("metrics", stopping, async move {
                let mut every = tokio::time::interval(UPKEEP_EVERY);
                while until.run_until_cancelled(every.tick()).await.is_some() {
                    recorder.run_upkeep();
                }
            }));
        }
    }
}

/// Endings early when the log's writer has stopped.
async fn log_writes(store: Arc<dyn Store>, stopping: CancellationToken) {
    let mut health = store.health();
    let stopped = health.wait_for(|health| matches!(health, Health::Stopped { .. }));
    let _ = stopping.run_until_cancelled(stopped).await;
}

/// Takes the master key in the data folder for the store's, whichever it was before: every token must be issued anew.
pub async fn adopt_master_key(config: &Config, clock: Clock) -> Result<(), StartError> {
    let store = engine::open(config, clock.wall_fn()).await?.store();
    let forgotten = init::forget_master_key(store.kv()).await;
    store.close().await;
    Ok(forgotten?)
}

impl Running {
    fn run_listeners(
        &mut self,
        listeners: Listeners,
        certificates: Certificates,
        [api_gate, admin_gate, console_gate, grpc_gate]: [Arc<Gate<IpAddr>>; 4],
    ) {
        let services = &self.services;
        let draining = services.draining.clone();
        let nodes = Arc::clone(services);
        let vital = self.vital.clone();
        let threads = self.streams.handles().to_vec();
        let serving = async move {
            let served = stream::serve(nodes, listeners.grpc, grpc_gate, certificates.grpc, &threads);
            if let Err(error) = served.await {
                tracing::error!(%error, "nodes cannot be served");
            }
        };
        self.tasks.spawn(vital.watch("grpc", &draining, serving));
        let proxies = services.config.api.trusted_proxies.clone();
        let patience = services.config.listeners.patience();
        let door = ConsoleDoor {
            is_secure: services.config.console.is_secure(),
            api: self.addresses.api,
            sign_on: services.config.console.sign_on(),
        };
        let console =
            Listening { gate: console_gate, patience, proxies: proxies.clone(), tls: certificates.console };
        let api = Listening { gate: api_gate, patience, proxies, tls: certificates.api };
        let admin = Listening { gate: admin_gate, patience, proxies: Vec::new(), tls: certificates.admin };
        // One for both: a site's quota is the same whoever purges.
        let customers = Arc::new(Api::new(Arc::clone(services)));
        // Customers on the threads of the log and of the feed, but for what they wait for; who looks on has one of its own,
        // whatever it asks for.
        let serving =
            http_server::serve(listeners.api, api, api::router_of(Arc::clone(&customers)), draining.clone());
        self.tasks.spawn(vital.watch("api", &draining, serving));
        let serving =
            http_server::serve(listeners.admin, admin, admin::router(Arc::clone(services)), draining.clone());
        let observers = self.observers.first();
        self.tasks.spawn_on(vital.watch("admin", &draining, serving), observers);
        let pages = console::router(customers, door);
        let serving = http_server::serve(listeners.console, console, pages, draining.clone());
        self.tasks.spawn_on(vital.watch("console", &draining, serving), observers);
        self.tasks.close();
    }

    /// Waits until the process must not go on; for ever, when all is well.
    pub async fn failed(&self) {
        self.vital.failed().await;
    }

    /// The supervisor hears from now on that this control plane does its job, for as long as it does.
    pub fn supervised(&self) -> Supervisor {
        let others: Vec<Handle> = [self.streams.handles(), self.observers.handles()].concat();
        Supervisor::ready(self.vital.clone(), &others, Arc::clone(&self.ops) as _)
    }

    /// Reads all certificates again. Those that cannot be used stay as they are.
    pub fn reload(&self) {
        self.services.certificates.reload();
    }

    /// Accepts nothing more, sends nodes away, finishes what was begun, closes the store. Takes at most
    /// [`DRAIN_PATIENCE`].
    pub async fn drain(self) {
        self.services.draining.cancel();
        if tokio::time::timeout(FAREWELL_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        self.stopping.cancel();
        let closing = async {
            self.background.wait().await;
            if let Err(error) = self.services.audit.flush().await {
                tracing::warn!(%error, "the audit log was not written; it follows from the purge log at the next start");
            }
            if let Err(error) = self.services.tracker.save().await {
                tracing::warn!(%error, "cursors were not saved");
            }
            if let Err(error) = self.services.catalog.save().await {
                tracing::warn!(%error, "changes of sites were not saved");
            }
            if let Err(error) = self.services.catalog.save_uses().await {
                tracing::warn!(%error, "the last uses of tokens were not saved");
            }
            self.services.store.close().await;
        };
        if tokio::time::timeout(DRAIN_PATIENCE.saturating_sub(FAREWELL_PATIENCE), closing).await.is_err() {
            tracing::warn!("the store was not closed in time; nothing acknowledged is lost");
        }
    }
}

/// The connections that are configured of API, admin API, console, gRPC and metrics.
pub(crate) fn wanted_connections(config: &Config) -> [usize; 5] {
    let nodes = config.limits.node_connections;
    // Nodes that connect anew have two for a moment, and strangers are looked at before they are sent away.
    let nodes = nodes + nodes / 8 + 256;
    let customers = config.listeners.connections_max;
    [customers, ADMIN_CONNECTIONS, CONSOLE_CONNECTIONS, nodes, monitor::CONNECTIONS_MAX]
}

/// The connections of API, admin API, console, gRPC and metrics: as many as wanted, or their parts of what the system lets this
/// process have, so that no listener takes the last descriptor from another.
fn gates(config: &Config) -> [Arc<Gate<IpAddr>>; 5] {
    let wanted = wanted_connections(config);
    let limit = descriptors::raise();
    let shares = descriptors::divide(limit, wanted);
    let [api, admin, console, grpc, metrics] = shares;
    if shares != wanted {
        tracing::warn!(
            limit,
            api,
            admin,
            console,
            grpc,
            metrics,
            "not enough files may be open for all connections that are configured; raise the limit (LimitNOFILE=, ulimit -n)"
        );
    }
    // Nodes are told apart by their certificates, and may share an address.
    let nodes = Limits { total: grpc, each: grpc };
    let gate = |name, total| Gate::new(name, Limits::of(total));
    let api = Gate::new("api", config.listeners.limits(api));
    [api, gate("admin", admin), gate("console", console), Gate::new("grpc", nodes), gate("metrics", metrics)]
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            api: bind("api.listen", config.api.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
            console: bind("console.listen", config.console.listen).await?,
            grpc: bind("grpc.listen", config.grpc.listen).await?,
        })
    }

    fn addresses(&self, config: &Config, metrics: SocketAddr) -> Addresses {
        let of = |listener: &TcpListener, configured| listener.local_addr().unwrap_or(configured);
        Addresses {
            api: of(&self.api, config.api.listen),
            admin: of(&self.admin, config.admin.listen),
            console: of(&self.console, config.console.listen),
            grpc: of(&self.grpc, config.grpc.listen),
            metrics,
        }
    }
}

/// Everything that can be said of a configuration without binding an address or opening the store, for people: each line
/// is something that was looked at and is in order.
pub fn check(config: &Config) -> Result<Vec<String>, StartError> {
    init::load(&config.data.dir).map_err(StartError::Secrets)?;
    certificates(config)?;
    Revoked::check(config.grpc.revoked.as_deref())?;
    let store = engine::check(config)?;
    let tls = |files: Option<TlsFiles>| match files {
        Some(TlsFiles { cert, clients, .. }) => match clients {
            ClientCertificates::Required(ca) => {
                format!("mutual TLS with {} and {}", cert.display(), ca.display())
            }
            ClientCertificates::Optional(ca) => {
                format!("TLS with {}, and a proxy that {} knows", cert.display(), ca.display())
            }
            ClientCertificates::None => format!("TLS with {}", cert.display()),
        },
        None => "without TLS".to_owned(),
    };
    Ok(vec![
        format!("data    {}: master key and admin token are there", config.data.dir.display()),
        format!("store   {store}"),
        format!("replica {}", config.replica.described()),
        format!("api     {}, {}", config.api.listen, tls(config.api.tls())),
        format!("admin   {}, {}", config.admin.listen, tls(config.admin.tls())),
        format!("console {}, {}", config.console.listen, tls(config.console.tls())),
        format!("grpc    {}, {}", config.grpc.listen, tls(config.grpc.tls())),
        format!("metrics {}", config.metrics.listen),
        format!("lease   {} ms: its times keep the two seconds", config.lease.lease_ms),
        format!("log     {}", config.log.level),
    ])
}

/// Reads the certificates that the configuration names.
fn certificates(config: &Config) -> Result<Certificates, StartError> {
    let load = |key, files: Option<TlsFiles>| {
        files.map(|files| Tls::load(key, files)).transpose().map_err(|error| StartError::Tls { key, error })
    };
    Ok(Certificates {
        api: load("api", config.api.tls())?,
        admin: load("admin", config.admin.tls())?,
        console: load("console", config.console.tls())?,
        grpc: load("grpc", config.grpc.tls())?,
    })
}

/// The files of each listener; `None` for one that speaks without TLS.
pub(crate) fn tls_files(config: &Config) -> [(&'static str, Option<TlsFiles>); 4] {
    [
        ("api", config.api.tls()),
        ("admin", config.admin.tls()),
        ("console", config.console.tls()),
        ("grpc", config.grpc.tls()),
    ]
}

impl ApiConfig {
    fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: ClientCertificates::None, alpn: http_alpn() })
    }
}

impl AdminConfig {
    fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: required(self.ca.clone()), alpn: http_alpn() })
    }
}

impl ConsoleConfig {
    fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        let clients = match &self.proxy {
            Some(proxy) => ClientCertificates::Optional(proxy.ca.clone()),
            None => ClientCertificates::None,
        };
        Some(TlsFiles { cert, key, clients, alpn: http_alpn() })
    }

    /// Who signs people in in front of it.
    fn sign_on(&self) -> Option<SignOnProxy> {
        let proxy = self.proxy.as_ref()?;
        let grant = |group: &ConsoleGroup| {
            let role = match group.role {
                GroupRole::Operator => Role::Operator,
                GroupRole::Manager => Role::Manager,
                GroupRole::Member => Role::Member,
                GroupRole::Viewer => Role::Viewer,
            };
            (group.group.clone(), Grant { role, sites: group.sites.clone() })
        };
        Some(SignOnProxy {
            name: if proxy.name.contains("://") {
                proxy.name.clone()
            } else {
                proxy.name.to_ascii_lowercase()
            },
            is_required: proxy.required,
            user_header: proxy.user_header.clone(),
            groups_header: proxy.groups_header.clone(),
            separator: proxy.groups_separator.clone(),
            groups: proxy.groups.iter().map(grant).collect(),
            sign_out: proxy.sign_out_url.clone(),
        })
    }

    /// Whether browsers reach it over TLS, ours or a proxy's.
    fn is_secure(&self) -> bool {
        self.cert.is_some() || self.behind_tls_proxy
    }

    fn times(&self) -> SessionTimes {
        SessionTimes {
            idle: Duration::from_secs(self.session_idle_minutes * 60),
            absolute: Duration::from_secs(self.session_hours * 60 * 60),
        }
    }
}

impl GrpcConfig {
    fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: required(self.ca.clone()), alpn: vec![b"h2".to_vec()] })
    }
}

fn required(ca: Option<PathBuf>) -> ClientCertificates {
    ca.map_or(ClientCertificates::None, ClientCertificates::Required)
}

fn http_alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}
