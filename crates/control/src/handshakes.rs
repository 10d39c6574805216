//! TLS handshakes, so ordered that nobody who says nothing holds up those who do.
//!
//! ```text
//!  accepted ─▶ waits for its ClientHello ─▶ a turn ─▶ the rest of the handshake
//!                 │ cheap: no turn is taken     └── known addresses have turns of their own
//!                 └ when too many wait, the one that has been silent longest goes
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_program::gate::{Gate, Limits, client_of};
use batoff_program::handshake::{HandshakeReason, HandshakeTrouble, OurEnd, ToldFailures};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics;
use crate::tls::Tls;

/// Connections at one time that have not sent their ClientHello yet.
const SILENT_MAX: usize = 1_024;

/// Of them, and of handshakes under way, how many may come from one address from which nobody has ever been let in.
const PENDING_OF_STRANGER_MAX: usize = 64;

/// The listener that only nodes have any business with.
const NODES_LISTENER: &str = "grpc";

/// How long a ClientHello may take. It is the client's first flight, sent as soon as it is connected.
const CLIENT_HELLO_PATIENCE: Duration = Duration::from_secs(3);

/// Handshakes of addresses from which somebody was let in before, at one time. Bounds the work, not the number of nodes.
const KNOWN_TURNS: usize = 128;

/// Handshakes of all other addresses at one time.
const STRANGERS_TURNS: usize = 128;

/// Addresses that are remembered; when there are more, the memory begins anew.
const KNOWN_MAX: usize = 65_536;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeFailed {
    /// What TLS says.
    #[error("{0}")]
    Tls(#[from] io::Error),
    /// Too slow.
    #[error("it took too long")]
    Late,
    /// Others had something to say.
    #[error("it had said nothing when others needed its place")]
    Displaced,
    /// One address has as many handshakes under way as it may have.
    #[error("too many handshakes of this address are under way")]
    TooMany,
}

impl HandshakeFailed {
    fn trouble(&self) -> HandshakeTrouble {
        let reason = match self {
            Self::Tls(error) => return HandshakeTrouble::of_io(error, OurEnd::Server),
            Self::Late | Self::Displaced => HandshakeReason::Late,
            Self::TooMany => HandshakeReason::TooMany,
        };
        HandshakeTrouble::new(reason, self.to_string())
    }
}

/// The handshakes of one listener.
pub(crate) struct Handshakes {
    listener: &'static str,
    told: Mutex<ToldFailures>,
    strangers: Arc<Gate<IpAddr>>,
    known: Mutex<HashMap<IpAddr, ()>>,
    silent: Mutex<Silent>,
    known_turns: Semaphore,
    turns: Semaphore,
}

#[derive(Default)]
struct Silent {
    next: u64,
    /// The longest silent first.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Handshakes {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        let limits = Limits { total: usize::MAX, each: PENDING_OF_STRANGER_MAX };
        Arc::new(Self {
            listener: name,
            told: Mutex::default(),
            strangers: Gate::new(name, limits),
            known: Mutex::default(),
            silent: Mutex::default(),
            known_turns: Semaphore::new(KNOWN_TURNS),
            turns: Semaphore::new(STRANGERS_TURNS),
        })
    }

    /// Shakes hands; all of it takes at most `patience`. A failure is counted and told, with what helps against it.
    pub(crate) async fn shake(
        &self,
        tls: &Tls,
        socket: TcpStream,
        peer: IpAddr,
        patience: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let is_known = self.known.lock().contains_key(&client_of(peer));
        let shaken = self.try_to_shake(tls, socket, peer, is_known, patience).await;
        shaken.map_err(|failed| self.tell(peer, is_known, &failed.trouble())).ok()
    }

    /// One line for each client and reason within some seconds. Lines about clients that were let in before are a kind of
    /// their own, which strangers cannot use up; whoever knocks on every port of the Internet is not worth a line.
    fn tell(&self, peer: IpAddr, is_known: bool, trouble: &HandshakeTrouble) {
        let (listener, reason) = (self.listener, trouble.reason);
        metrics::handshake_failed(listener, reason);
        if !self.told.lock().is_news(client_of(peer), reason, Instant::now()) {
            return;
        }
        let reason = reason.as_str();
        if is_known {
            tracing::warn!(listener, %peer, reason, error = %trouble, "TLS handshake failed");
        } else if trouble.reason.is_about_certificates() || listener == NODES_LISTENER {
            tracing::warn!(listener, %peer, reason, error = %trouble, "TLS handshake of a stranger failed");
        } else {
            tracing::debug!(listener, %peer, reason, error = %trouble, "TLS handshake of a stranger failed");
        }
    }

    async fn try_to_shake(
        &self,
        tls: &Tls,
        socket: TcpStream,
        peer: IpAddr,
        is_known: bool,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeFailed> {
        let client = client_of(peer);
        let _pending = match is_known {
            true => None,
            false => Some(self.strangers.admit(&client).map_err(|_| HandshakeFailed::TooMany)?),
        };
        let shaking = async {
            let hello = self.client_hello(socket, is_known).await?;
            let turns = if is_known { &self.known_turns } else { &self.turns };
            // Never closed, so never an error.
            let _turn = turns.acquire().await;
            Ok(hello.into_stream(tls.config()).await?)
        };
        tokio::time::timeout(patience, shaking).await.unwrap_or(Err(HandshakeFailed::Late))
    }

    /// Somebody from there was let in.
    pub(crate) fn remember(&self, peer: IpAddr) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(client_of(peer), ());
    }

    async fn client_hello(
        &self,
        socket: TcpStream,
        is_known: bool,
    ) -> Result<tokio_rustls::StartHandshake<TcpStream>, HandshakeFailed> {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
        let hello = tokio::time::timeout(CLIENT_HELLO_PATIENCE, hello);
        if is_known {
            return Ok(hello.await.map_err(|_| HandshakeFailed::Late)??);
        }
        let (number, displaced) = self.silent.lock().wait();
        let outcome = tokio::select! {
            hello = hello => hello.map_err(|_| HandshakeFailed::Late).and_then(|hello| Ok(hello?)),
            // An error: nobody has displaced it, nor ever will.
            Ok(()) = displaced => Err(HandshakeFailed::Displaced),
        };
        self.silent.lock().spoke(number);
        outcome
    }
}

impl Silent {
    fn wait(&mut self) -> (u64, oneshot::Receiver<()>) {
        while self.waiting.len() >= SILENT_MAX {
            let Some((_, longest)) = self.waiting.pop_front() else { break };
            let _ = longest.send(());
        }
        let (displace, displaced) = oneshot::channel();
        self.next += 1;
        self.waiting.push_back((self.next, displace));
        (self.next, displaced)
    }

    fn spoke(&mut self, number: u64) {
        if let Ok(place) = self.waiting.binary_search_by_key(&number, |(number, _)| *number) {
            self.waiting.remove(place);
        }
    }
}

#[cfg(test)]
mod tests;
