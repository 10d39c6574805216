//! Puts the parts together, and takes them apart again in order.
//!
//! | module | answers |
//! | --- | --- |
//! | `parts` | What is a control plane made of, and what runs in the background? |
//! | `listeners` | Where does it listen, and how many may connect? |
//! | `certificates` | Which certificates has each listener, and whom does it ask for one? |
//! | `browsers` | What does the console's configuration mean for those who sign in? |
//! | `running` | Who answers on which listener and thread, and how does it end? |
//! | `start_error` | Why could it not start? |

mod browsers;
mod certificates;
mod listeners;
mod parts;
mod running;
mod start_error;

use std::sync::Arc;

use batoff_program::figures::PrometheusHandle;
use batoff_program::listen::{ListenError, bind};
use batoff_program::monitor;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::certificates::Certificates;
pub(crate) use self::certificates::tls_files;
pub use self::listeners::Addresses;
use self::listeners::Listeners;
pub(crate) use self::listeners::wanted_connections;
pub(crate) use self::parts::seat_in;
pub use self::parts::{Endings, Parts};
pub use self::running::{DRAIN_PATIENCE, Running};
pub use self::start_error::StartError;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{self, OpenedStore};
use crate::own_threads::OwnThreads;
use crate::revoked::Revoked;
use crate::seat::Tenure;
use crate::tls::{ClientCertificates, TlsFiles};
use crate::{backup, init, ops};

/// Starts everything. Nothing is left behind when it fails, and no address is bound before the data is known to be good;
/// but where another process may have to be waited for, that of metrics and health is, so that whoever started this one
/// can see why it is not ready.
pub async fn start(
    config: Config,
    clock: Clock,
    recorder: Option<PrometheusHandle>,
) -> Result<Running, StartError> {
    let secrets = init::load(&config.data.dir)?;
    let certificates = Certificates::read(&config)?;
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
    let [api_gate, admin_gate, console_gate, grpc_gate, metrics_gate] = listeners::gates(&config);
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
    let (parts, metrics, ops, embedded, seat) = match opened {
        OpenedStore::Embedded(embedded) => {
            let tenure = Tenure::alone();
            let (tenure, endings) = (tenure, endings.clone());
            let followers = followers.first().clone();
            let parts =
                Parts::assemble_as(tenure.clone(), endings, config, clock.clone(), store, secrets, followers);
            let parts = parts.await?;
            let (address, ops) = monitor(tenure).await?;
            (parts, address, ops, Some(embedded), None)
        }
        OpenedStore::Etcd(_, lock) => {
            let (keeper, tenure) = seat_in(&store, &config, &clock, lock).await?;
            let (address, ops) = monitor(tenure.clone()).await?;
            let (stopped, seat) = oneshot::channel();
            let keeping = keeper.run(endings.stopping.clone());
            // Of a start that fails nobody wants it back: nothing was granted, and the seat is left to its proofs.
            let keeping = async move { drop(stopped.send(keeping.await)) };
            background.spawn(endings.vital.watch("seat", &endings.stopping, keeping));
            tenure.seated().await?;
            let (endings, followers) = (endings.clone(), followers.first().clone());
            let parts = Parts::assemble_as(tenure, endings, config, clock.clone(), store, secrets, followers);
            (parts.await?, address, ops, None, Some(seat))
        }
    };
    let services = &parts.services;
    services.revoked.open(services.config.grpc.revoked.clone(), &services.audit, &services.clock)?;
    init::first_operator(&dir, &parts.services.accounts).await??;
    let listeners = Listeners::bind(&parts.services.config).await?;
    certificates.all().for_each(|tls| parts.services.certificates.add(Arc::clone(tls)));
    parts.services.exporter.run_on(observers.first());
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
        seat,
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

/// Takes the master key in the data folder for the store's, whichever it was before: every token must be issued anew.
pub async fn adopt_master_key(config: &Config, clock: Clock) -> Result<(), StartError> {
    let store = engine::open(config, clock.wall_fn()).await?.store();
    let forgotten = init::forget_master_key(store.kv()).await;
    store.close().await;
    Ok(forgotten?)
}

/// Everything that can be said of a configuration without binding an address or opening the store, for people: each line
/// is something that was looked at and is in order.
pub fn check(config: &Config) -> Result<Vec<String>, StartError> {
    init::load(&config.data.dir).map_err(StartError::Secrets)?;
    Certificates::read(config)?;
    Revoked::check(config.grpc.revoked.as_deref())?;
    let store = engine::check(config)?;
    config.traces.exporter(config.replica.replica())?;
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
        format!("traces  {}", config.traces.described()),
    ])
}
