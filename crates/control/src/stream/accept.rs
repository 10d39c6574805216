use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::tls::Tls;

/// TLS handshakes at one time; further connections wait in the kernel's queue. Bounds what strangers can make us do.
const HANDSHAKES_MAX: usize = 256;

/// How long to wait when no connection can be accepted, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepted connections that the server has not taken yet.
const ACCEPTED_MAX: usize = 64;

/// Connections whose handshake has succeeded. A slow or hostile handshake holds up nobody else: each runs in a task of
/// its own, under a time-out.
pub(super) fn tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    patience: Duration,
    draining: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    let turns = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    tokio::spawn(async move {
        while let Some(socket) = next(&listener, &draining).await {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let (acceptor, accepted) = (tls.acceptor(), accepted.clone());
            tokio::spawn(async move {
                let peer = socket.peer_addr().ok();
                match tokio::time::timeout(patience, acceptor.accept(socket)).await {
                    Ok(Ok(stream)) => {
                        drop(turn);
                        let _ = accepted.send(Ok(stream)).await;
                    }
                    Ok(Err(error)) => tracing::warn!(?peer, %error, "TLS handshake of a node failed"),
                    Err(_) => tracing::warn!(?peer, "TLS handshake of a node took too long"),
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// Connections as they come.
pub(super) fn plain(
    listener: TcpListener,
    draining: CancellationToken,
) -> ReceiverStream<io::Result<TcpStream>> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(async move {
        while let Some(socket) = next(&listener, &draining).await {
            if accepted.send(Ok(socket)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(incoming)
}

async fn next(listener: &TcpListener, draining: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => return None,
        };
        match accepted {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true);
                return Some(socket);
            }
            Err(error) => {
                tracing::warn!(%error, "a node's connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
