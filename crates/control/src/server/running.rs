//! A control plane that runs: who answers on which listener and thread, and how it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use batoff_program::gate::Gate;
use batoff_program::supervisor::Supervisor;
use batoff_program::vital::Vital;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::listeners::{Addresses, Listeners};
use crate::api::Api;
use crate::console::ConsoleDoor;
use crate::http_server::Listening;
use crate::own_threads::OwnThreads;
use crate::seat::SeatKeeper;
use crate::service::Services;
use crate::{admin, api, console, http_server, ops, stream};

/// How long everything may take to end, from the signal on.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(8);

/// Of it, for requests and streams; the rest is for the store.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(7);

/// A control plane that runs.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// What its APIs answer from.
    pub services: Arc<Services>,
    pub(super) ops: Arc<ops::Ops>,
    pub(super) tasks: TaskTracker,
    pub(super) background: TaskTracker,
    pub(super) streams: OwnThreads,
    pub(super) observers: OwnThreads,
    pub(super) _followers: OwnThreads,
    pub(super) stopping: CancellationToken,
    /// What keeps the seat, once that is stopped; `None` without a seat.
    pub(super) seat: Option<oneshot::Receiver<SeatKeeper>>,
    /// Says when the process must not go on.
    pub(super) vital: Vital,
}

impl Running {
    /// Begins to answer on all of them.
    pub(super) fn run_listeners(
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
        let listening = |gate, proxies, tls| Listening {
            gate,
            patience,
            proxies,
            tls,
            revoked: services.revoked.subscribe(),
        };
        let console = listening(console_gate, proxies.clone(), certificates.console);
        let api = listening(api_gate, proxies, certificates.api);
        let admin = listening(admin_gate, Vec::new(), certificates.admin);
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

    /// Reads all certificates again, and what the collector of traces wants to be told. What cannot be used stays as it was.
    pub fn reload(&self) {
        self.services.certificates.reload();
        self.services.exporter.reload();
    }

    /// Accepts nothing more, sends nodes away, finishes what was begun, releases its seat, closes the store. Takes at most
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
            // The last of what it writes as its replica.
            if let Some(seat) = self.seat
                && let Ok(keeper) = seat.await
            {
                keeper.release().await;
            }
            self.services.store.close().await;
        };
        let closing = tokio::time::timeout(DRAIN_PATIENCE.saturating_sub(FAREWELL_PATIENCE), closing);
        // Beside it, so that a collector that is away takes no time from the store.
        let (closed, ()) = tokio::join!(closing, self.services.exporter.finish());
        if closed.is_err() {
            tracing::warn!("the store was not closed in time; nothing acknowledged is lost");
        }
    }
}
