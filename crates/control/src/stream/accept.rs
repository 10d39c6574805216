//! Connections of nodes, handed to the server once they are known to be somebody's.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use batoff_program::gate::{Admission, Gate, Limits};
use batoff_program::listen::accept;
use batoff_program::watched::{Patience, Watched};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::identity;
use super::permitted::Permitted;
use crate::handshakes::Handshakes;
use crate::tls::Tls;

/// Accepted connections that the server has not taken yet.
const ACCEPTED_MAX: usize = 64;

/// Connections of one certificate at one time. A node has one, and for a moment two when it connects anew.
const OF_IDENTITY_MAX: usize = 8;

/// A connection that the server may have.
pub(super) type Incoming<S> = Watched<Permitted<S>>;

/// How long a node's connection is waited for. While a stream is open, its own rules and HTTP/2's pings hold.
pub(super) const fn patience(hello: Duration) -> Patience {
    Patience { first_byte: None, head: hello, idle: Duration::from_secs(30), write: Duration::from_secs(30) }
}

/// Connections whose handshake has succeeded. A slow or hostile handshake holds up nobody else.
pub(super) fn tls(
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    tls: Arc<Tls>,
    hello: Duration,
    draining: CancellationToken,
) -> ReceiverStream<io::Result<Incoming<TlsStream<TcpStream>>>> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    let handshakes = Handshakes::new(gate.name());
    let identities = Gate::new("connections of a node", Limits { total: usize::MAX, each: OF_IDENTITY_MAX });
    tokio::spawn(async move {
        loop {
            let next = accept(&listener, &gate, &[]);
            let Some((socket, peer, admission)) = draining.run_until_cancelled(next).await else { return };
            let (tls, accepted) = (Arc::clone(&tls), accepted.clone());
            let (handshakes, identities) = (Arc::clone(&handshakes), Arc::clone(&identities));
            tokio::spawn(async move {
                let stream = match handshakes.shake(&tls, socket, peer.ip(), hello).await {
                    Ok(stream) => stream,
                    Err(error) => return tracing::warn!(%peer, %error, "TLS handshake of a node failed"),
                };
                let identity = identity::certified(&stream);
                let identity = match identity.as_ref().map(|name| identities.admit(name)).transpose() {
                    Ok(identity) => identity,
                    Err(full) => {
                        return tracing::warn!(%peer, ?identity, %full, "a node's connection was closed");
                    }
                };
                if identity.is_some() {
                    handshakes.remember(peer.ip());
                }
                let permitted = Permitted::new(stream, admission, identity);
                let _ = accepted.send(Ok(Watched::new(permitted, patience(hello)))).await;
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// Connections as they come.
pub(super) fn plain(
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    hello: Duration,
    draining: CancellationToken,
) -> ReceiverStream<io::Result<Incoming<TcpStream>>> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(async move {
        loop {
            let next = accept(&listener, &gate, &[]);
            let Some((socket, _, admission)) = draining.run_until_cancelled(next).await else { return };
            if accepted.send(Ok(elsewhere(socket, admission, hello))).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(incoming)
}

/// A connection of which nothing more is known.
pub(super) fn elsewhere<S: AsyncRead + AsyncWrite>(
    socket: S,
    admission: Option<Admission<IpAddr>>,
    hello: Duration,
) -> Incoming<S> {
    Watched::new(Permitted::new(socket, admission, None), patience(hello))
}
