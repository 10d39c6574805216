//! A control plane without its listeners: what is made of what, and what runs in the background.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Health, Key, Kv, LogState, Store, StoreError};
use batoff_program::figures::PrometheusHandle;
use batoff_program::vital::Vital;
use batoff_types::{Cursor, ReplicaSet};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::start_error::StartError;
use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::commit::Commit;
use crate::config::{Config, Engine, ReplicaConfig};
use crate::feed::Feed;
use crate::housekeeping::{Housekeeping, LogSize};
use crate::hub::Hub;
use crate::ids::TaskIds;
use crate::init::Secrets;
use crate::overview::Overviews;
use crate::seat::{FolderLock, ReplicaPlaces, SeatKeeper, SeatWanted, Tenure};
use crate::service::Services;
use crate::store::rows;
use crate::tls::OwnCertificates;
use crate::tracker::{Several, Tracker, TrackerOptions, least_term};
use crate::{alike, rounds, stream};

/// How often the metrics' recorder sorts what it has collected.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Where the first set of a log stands, which counts until a record of the log says otherwise.
const FIRST_SET: &str = "replicas/first";

/// A control plane without its listeners, over any store.
pub struct Parts {
    /// What its APIs answer from.
    pub services: Arc<Services>,
    log: LogState,
    /// Of the master key.
    fingerprint: String,
    stopping: CancellationToken,
    vital: Vital,
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
        let (traces, exporter) = config.traces.exporter(config.replica.replica())?;
        let several = tenure.has_seat().then(|| Several {
            own: tenure.replica(),
            first: config.replica.first_set(),
            settings: Arc::new(alike::marks(&config, &secrets, log.log_id)),
        });
        let ids = Arc::new(match &several {
            Some(several) => TaskIds::of(clock.clone(), several.own),
            None => TaskIds::new(clock.clone()),
        });
        let totp_key = secrets.master.clone();
        let fingerprint = secrets.master.fingerprint();
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
                traces: traces.clone(),
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
            traces,
            exporter,
            admin_token: secrets.admin_token,
            followers,
            draining,
        });
        Ok(Self { services, log, fingerprint, stopping, vital })
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
            let (fingerprint, store) = (self.fingerprint.clone(), Arc::clone(&services.store));
            let until = stopping.clone();
            background.spawn(vital.watch("master.key", stopping, async move {
                until.run_until_cancelled(alike::outlived(&fingerprint, store.kv())).await;
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
        let revoked = Arc::clone(&services.revoked);
        let revoked = revoked.follow_file(Arc::clone(&services.audit), services.clock.clone());
        let until = stopping.clone();
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
