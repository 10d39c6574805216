//! The listener for visitors: our own accept loop, so that port 0, the announcement and the drain are ours.

use std::sync::Arc;
use std::time::Duration;

use batoff_edge::{Fence, Overflow};
use batoff_program::gate::{Gate, Limits};
use batoff_program::listen::{ListenersSection, accept_in_turn};
use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod connection;
mod descriptors;

use crate::collapse::{COLLAPSE_MAX, Collapse};
use crate::figures;
use crate::origin::Origins;
use crate::service::Service;
use crate::shield::Shield;
use crate::store::Store;
use crate::undeclared::Undeclared;

/// For answers that are under way when the proxy is drained.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// A proxy that is ready to serve.
pub struct Proxy {
    app: Arc<HttpProxy<Service>>,
    listeners: ListenersSection,
    limits: Limits,
}

impl Proxy {
    /// Over a cache, the right to serve from it, origins, and the tiers around this node.
    pub fn new(
        store: &'static Store,
        fence: Arc<Fence>,
        origins: Origins,
        shield: Shield,
        keep_tag_header: bool,
        overflow: Arc<Overflow>,
        listeners: ListenersSection,
    ) -> Self {
        let shield = Arc::new(shield);
        // pingora wants its parts to live for ever; there is one proxy a process.
        let collapse = Collapse::new(store.shared_index(), Arc::clone(&shield), COLLAPSE_MAX);
        let collapse = Box::leak(Box::new(collapse));
        let undeclared = Undeclared::default();
        let idle_seconds = connection::idle_seconds(&listeners);
        let service = Service {
            store,
            collapse,
            fence,
            origins,
            shield,
            keep_tag_header,
            overflow,
            undeclared,
            idle_seconds,
        };
        tracing::info!(on_lease_lost = ?service.policy(), "proxy built");
        let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), service));
        Self { app, listeners, limits: listeners.limits(listeners.connections_max) }
    }

    /// Takes the descriptors that its visitors will need. Before the first of them; not calling it serves all the same.
    ///
    /// # Errors
    /// The limit of open files leaves no room for visitors.
    pub fn reserve_descriptors(&mut self) -> std::io::Result<()> {
        self.limits = self.listeners.limits(descriptors::visitors(self.listeners.connections_max)?);
        Ok(())
    }

    /// Serves until `stop`, then finishes what is under way within 6 s.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let (draining, drain) = watch::channel(false);
        let connections = TaskTracker::new();
        let gate = Gate::new("visitors", self.limits);
        loop {
            let (stream, peer, admission) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept_in_turn(&listener, &gate, figures::connection_refused) => accepted,
            };
            let (app, drain, listeners) = (Arc::clone(&self.app), drain.clone(), self.listeners);
            connections.spawn(async move {
                connection::serve(&app, stream, peer, &listeners, &drain).await;
                drop(admission);
            });
        }
        drop(listener);
        draining.send_replace(true);
        self.app.http_cleanup().await;
        connections.close();
        if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "not every answer was finished in time");
        }
    }
}
