//! The listener for visitors: our own accept loop, so that port 0, the announcement and the drain are ours.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use batoff_edge::Fence;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::collapse::Collapse;
use crate::origin::Origins;
use crate::service::{COLLAPSE_MAX, Service};
use crate::shield::Shield;
use crate::store::Store;
use crate::tags::IgnoredTags;

/// Visitors' connections at once. Further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;

/// Between two attempts to accept after the kernel refused one (no file descriptors left, usually).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// For answers that are under way when the proxy is drained.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// A proxy that is ready to serve.
pub struct Proxy {
    app: Arc<HttpProxy<Service>>,
}

impl Proxy {
    /// Over a cache, the right to serve from it, origins, and the tiers around this node.
    pub fn new(
        store: &'static Store,
        fence: Arc<Fence>,
        origins: Origins,
        shield: Shield,
        keep_tag_header: bool,
    ) -> Self {
        let shield = Arc::new(shield);
        // pingora wants its parts to live for ever; there is one proxy a process.
        let collapse = Collapse::new(store.shared_index(), Arc::clone(&shield), COLLAPSE_MAX);
        let collapse = Box::leak(Box::new(collapse));
        let ignored_tags = IgnoredTags::default();
        let service = Service { store, collapse, fence, origins, shield, keep_tag_header, ignored_tags };
        tracing::info!(on_lease_lost = ?service.policy(), "proxy built");
        Self { app: Arc::new(http_proxy(&Arc::new(ServerConf::default()), service)) }
    }

    /// Serves until `stop`, then finishes what is under way within 6 s.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let (draining, drain) = watch::channel(false);
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &room) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    let (app, drain) = (Arc::clone(&self.app), drain.clone());
                    connections.spawn(async move {
                        serve_one(&app, stream, peer, &drain).await;
                        drop(permit);
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

async fn serve_one(
    app: &Arc<HttpProxy<Service>>,
    stream: TcpStream,
    peer: SocketAddr,
    drain: &watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection that was gone at once");
        return;
    }
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // New, so not set yet.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut stream = Stream::from(stream);
    stream.set_socket_digest(digest);
    app.process_new(Box::new(stream), drain).await;
}
