//! The listener for visitors: our own accept loop, so that port 0, the announcement and the drain are ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use batoff_edge::{Fence, Overflow};
use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod connection;
mod crowd;
mod descriptors;

pub(crate) use self::connection::HeaderRead;
use self::crowd::Crowd;
use crate::collapse::Collapse;
use crate::config::ListenersSection;
use crate::figures;
use crate::origin::Origins;
use crate::service::{COLLAPSE_MAX, Service};
use crate::shield::Shield;
use crate::store::Store;
use crate::undeclared::Undeclared;

/// Between two attempts to accept after the kernel refused one (no file descriptors left, usually).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// For answers that are under way when the proxy is drained.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// A proxy that is ready to serve.
pub struct Proxy {
    app: Arc<HttpProxy<Service>>,
    listeners: ListenersSection,
}

impl Proxy {
    /// Over a cache, the right to serve from it, origins, and the tiers around this node.
    pub fn new(
        store: &'static Store,
        fence: Arc<Fence>,
        origins: Origins,
        shield: Shield,
        keep_tag_header: bool,
        listeners: ListenersSection,
    ) -> Self {
        let shield = Arc::new(shield);
        // pingora wants its parts to live for ever; there is one proxy a process.
        let collapse = Collapse::new(store.shared_index(), Arc::clone(&shield), COLLAPSE_MAX);
        let collapse = Box::leak(Box::new(collapse));
        let overflow = Overflow::default();
        let undeclared = Undeclared::default();
        let idle_seconds = listeners.idle_seconds();
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
        Self { app: Arc::new(http_proxy(&Arc::new(ServerConf::default()), service)), listeners }
    }

    /// Takes the descriptors that its visitors will need. Before the first of them; not calling it serves all the same.
    ///
    /// # Errors
    /// The limit of open files leaves no room for visitors.
    pub fn reserve_descriptors(&mut self) -> std::io::Result<()> {
        let listeners = &mut self.listeners;
        listeners.connections_max = descriptors::visitors(listeners.connections_max)?;
        // The limit stays below the total, unless the operator has said otherwise.
        listeners.connections_per_address_max =
            listeners.connections_per_address_max.min(listeners.connections_max);
        Ok(())
    }

    /// Serves until `stop`, then finishes what is under way within 6 s.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let (draining, drain) = watch::channel(false);
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(self.listeners.connections_max));
        let crowd = Crowd::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &room) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    let Some(place) = crowd.enter(peer.ip(), self.listeners.connections_per_address_max)
                    else {
                        figures::connection_refused();
                        continue;
                    };
                    let (app, drain, listeners) = (Arc::clone(&self.app), drain.clone(), self.listeners);
                    connections.spawn(async move {
                        connection::serve(&app, stream, peer, &listeners, &drain).await;
                        drop((permit, place));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
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

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    // Never closed, so never an error.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}
