//! Listeners: bound by the key that names them, bounded in number and in time by `[listeners]`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};

use crate::config::ConfigError;
use crate::exit::{Ends, Exit};
use crate::gate::{Admission, Gate, Limits, Room, client_of};
use crate::watched::Patience;

/// How long to wait when no connection can be accepted, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest deadline, in milliseconds.
const DEADLINE_MS_MAX: u64 = 3_600_000;

/// For a client that does not read what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);

/// `[listeners]`: how long a client of the public listener (a visitor of the proxy, a customer of the control plane's API)
/// may be silent, and how many connect at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenersSection {
    /// A connection whose first byte takes longer is closed, in milliseconds.
    pub first_byte_ms: u64,
    /// A request whose header takes longer from its first byte is closed, however its bytes trickle, in milliseconds.
    pub header_ms: u64,
    /// A connection that is idle between two requests for longer is closed, in milliseconds.
    pub idle_ms: u64,
    /// Clients' connections at once, fewer when the limit of open files does not suffice.
    pub connections_max: usize,
    /// Of these, how many from one address (a network of 64 bits with IPv6); further ones are closed. A hop in front that
    /// ends TLS has one address for all its clients.
    pub connections_per_address_max: usize,
}

impl Default for ListenersSection {
    fn default() -> Self {
        Self {
            first_byte_ms: 10_000,
            header_ms: 15_000,
            idle_ms: 60_000,
            connections_max: 16_384,
            connections_per_address_max: 4_096,
        }
    }
}

impl ListenersSection {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// A deadline or a number that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, min) in [
            ("listeners.first_byte_ms", self.first_byte_ms, 100),
            ("listeners.header_ms", self.header_ms, 100),
            ("listeners.idle_ms", self.idle_ms, 1_000),
        ] {
            if !(min..=DEADLINE_MS_MAX).contains(&value) {
                return Err(ConfigError::invalid(
                    key,
                    format!("{value} is outside {min} to {DEADLINE_MS_MAX} (milliseconds)"),
                ));
            }
        }
        if self.connections_max == 0 {
            return Err(ConfigError::invalid("listeners.connections_max", "must be at least 1"));
        }
        if !(1..=self.connections_max).contains(&self.connections_per_address_max) {
            return Err(ConfigError::invalid(
                "listeners.connections_per_address_max",
                format!("must be within 1 and listeners.connections_max, which is {}", self.connections_max),
            ));
        }
        Ok(())
    }

    /// Until the first byte.
    pub const fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    /// From the first byte until the header is whole.
    pub const fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }

    /// Between two requests.
    pub const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// How long a connection of ours is waited for.
    pub const fn patience(&self) -> Patience {
        Patience {
            first_byte: Some(self.first_byte()),
            head: self.header(),
            idle: self.idle(),
            write: WRITE_PATIENCE,
        }
    }

    /// The limits where there is room for `total` connections only: one address keeps its part of them, so that it never
    /// locks out the others unless the operator has said so.
    pub fn limits(&self, total: usize) -> Limits {
        let total = total.min(self.connections_max);
        let part = total.saturating_mul(self.connections_per_address_max) / self.connections_max.max(1);
        Limits { total, each: part.max(1) }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {error}; is another process listening there?")]
pub struct ListenError {
    key: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl Ends for ListenError {
    fn exit(&self) -> Exit {
        match self.error.kind() {
            // No patience gives a right that a process does not have.
            io::ErrorKind::PermissionDenied => Exit::Usage,
            // Taken by another process, or not this machine's yet.
            _ => Exit::Temporary,
        }
    }
}

/// Listens on an address; `key` is the one that names it.
///
/// # Errors
/// It cannot be listened on.
pub async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError { key, address, error })
}

/// A connection that may be served.
pub type Arrival = (TcpStream, SocketAddr, Option<Admission<IpAddr>>);

/// The next connection for which there is room. One for which there is none is closed at once: it would only wait in
/// the kernel's queue, in front of those that come after. `unlimited` are proxies of ours, which speak for many clients.
pub async fn accept(listener: &TcpListener, gate: &Arc<Gate<IpAddr>>, unlimited: &[IpAddr]) -> Arrival {
    loop {
        let (socket, peer) = next(listener, gate.name()).await;
        if unlimited.contains(&peer.ip().to_canonical()) {
            return (socket, peer, None);
        }
        match gate.admit(&client_of(peer.ip())) {
            Ok(admission) => return (socket, peer, Some(admission)),
            Err(full) => {
                tracing::warn!(listener = gate.name(), %peer, %full, "a connection was closed at once");
            }
        }
    }
}

/// The next connection, taken in only when there is room: until then it waits in the kernel's queue. For visitors, who
/// had rather wait a moment than be refused. One whose address has all it may is closed, after `refused` was told.
pub async fn accept_in_turn(
    listener: &TcpListener,
    gate: &Arc<Gate<IpAddr>>,
    refused: impl Fn(),
) -> (TcpStream, SocketAddr, Admission<IpAddr>) {
    let mut room: Option<Room<IpAddr>> = None;
    loop {
        let here = match room.take() {
            Some(room) => room,
            None => gate.room().await,
        };
        let (socket, peer) = next(listener, gate.name()).await;
        match here.admit(&client_of(peer.ip())) {
            Ok(admission) => return (socket, peer, admission),
            Err((back, _)) => {
                refused();
                room = Some(back);
            }
        }
    }
}

async fn next(listener: &TcpListener, name: &'static str) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Fails only when it has gone already, which its first read will say.
                let _ = socket.set_nodelay(true);
                return (socket, peer);
            }
            Err(error) => {
                tracing::warn!(listener = name, %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_keeps_its_part_when_there_is_room_for_fewer() {
        let section = ListenersSection::default();
        assert_eq!(section.limits(1 << 20), Limits { total: 16_384, each: 4_096 });
        assert_eq!(section.limits(368), Limits { total: 368, each: 92 });
        assert_eq!(section.limits(2), Limits { total: 2, each: 1 });
        let hop = ListenersSection { connections_per_address_max: 16_384, ..section };
        assert_eq!(hop.limits(368), Limits { total: 368, each: 368 });
    }

    #[test]
    fn what_cannot_be_is_named() {
        let section = ListenersSection::default();
        assert!(section.validate().is_ok());
        for (wrong, key) in [
            (ListenersSection { first_byte_ms: 99, ..section }, "listeners.first_byte_ms"),
            (ListenersSection { header_ms: 3_600_001, ..section }, "listeners.header_ms"),
            (ListenersSection { idle_ms: 999, ..section }, "listeners.idle_ms"),
            (ListenersSection { connections_max: 0, ..section }, "listeners.connections_max"),
            (
                ListenersSection { connections_per_address_max: 16_385, ..section },
                "listeners.connections_per_address_max",
            ),
        ] {
            let error = wrong.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }
}
