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
use tokio::runtime::Handle;
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

/// Where accepted connections go: to the threads of streams, one after the other.
pub(super) struct Doors<S> {
    doors: Vec<Door<S>>,
    next: usize,
}

/// The way to the server on one thread.
pub(super) struct Door<S> {
    thread: Handle,
    accepted: mpsc::Sender<io::Result<Incoming<S>>>,
}

impl<S: Send + 'static> Doors<S> {
    /// One to each thread, and what the server there is to take.
    pub(super) fn to(threads: &[Handle]) -> (Self, Vec<ReceiverStream<io::Result<Incoming<S>>>>) {
        let pairs = threads.iter().map(|thread| {
            let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
            (Door { thread: thread.clone(), accepted }, ReceiverStream::new(incoming))
        });
        let (doors, incoming) = pairs.unzip();
        (Self { doors, next: 0 }, incoming)
    }

    /// Lets a socket go to the next thread, and there be made ready for the server by `prepare`.
    fn pass<F>(&mut self, socket: TcpStream, prepare: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = Option<Incoming<S>>> + Send,
    {
        let Some(Door { thread, accepted }) = self.doors.get(self.next) else { return };
        self.next = (self.next + 1) % self.doors.len();
        let accepted = accepted.clone();
        // What a socket waits for is waited for by the runtime that it was registered with.
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "a node's connection was lost as it was accepted"),
        };
        thread.spawn(async move {
            let socket = match TcpStream::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    return tracing::warn!(%error, "a node's connection was lost as it was accepted");
                }
            };
            if let Some(ready) = prepare(socket).await {
                let _ = accepted.send(Ok(ready)).await;
            }
        });
    }
}

/// Accepts connections until the process drains, and passes on those whose handshake has succeeded. A slow or hostile
/// handshake holds up nobody else.
pub(super) async fn tls(
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    tls: Arc<Tls>,
    hello: Duration,
    draining: CancellationToken,
    mut doors: Doors<TlsStream<TcpStream>>,
) {
    let handshakes = Handshakes::new(gate.name());
    let identities = Gate::new("connections of a node", Limits { total: usize::MAX, each: OF_IDENTITY_MAX });
    loop {
        let next = accept(&listener, &gate, &[]);
        let Some((socket, peer, admission)) = draining.run_until_cancelled(next).await else { return };
        let tls = Arc::clone(&tls);
        let (handshakes, identities) = (Arc::clone(&handshakes), Arc::clone(&identities));
        doors.pass(socket, move |socket| async move {
            let stream = handshakes.shake(&tls, socket, peer.ip(), hello).await?;
            let identity = identity::certified(&stream);
            let identity = match identity.as_ref().map(|name| identities.admit(name)).transpose() {
                Ok(identity) => identity,
                Err(full) => {
                    tracing::warn!(%peer, ?identity, %full, "a node's connection was closed");
                    return None;
                }
            };
            if identity.is_some() {
                handshakes.remember(peer.ip());
            }
            Some(Watched::new(Permitted::new(stream, admission, identity), patience(hello)))
        });
    }
}

/// Accepts connections until the process drains, and passes them on as they come.
pub(super) async fn plain(
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    hello: Duration,
    draining: CancellationToken,
    mut doors: Doors<TcpStream>,
) {
    loop {
        let next = accept(&listener, &gate, &[]);
        let Some((socket, _, admission)) = draining.run_until_cancelled(next).await else { return };
        doors.pass(socket, move |socket| async move { Some(elsewhere(socket, admission, hello)) });
    }
}

/// A connection of which nothing more is known.
pub(super) fn elsewhere<S: AsyncRead + AsyncWrite>(
    socket: S,
    admission: Option<Admission<IpAddr>>,
    hello: Duration,
) -> Incoming<S> {
    Watched::new(Permitted::new(socket, admission, None), patience(hello))
}
