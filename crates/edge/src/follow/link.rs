//! A stream and everything that is its own, and the way on which one follows the other.

use batoff_delivery::{FeedLine, HelloSaid, InboxError};
use batoff_types::message::{FromNode, GoAway};
use batoff_types::{Replica, SiteTable};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::connect::ConnectError;
use super::index_size::ToldSize;
use crate::config::Endpoint;

/// Whom a stream is to lead to. `Welcome` says whom it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aim {
    /// Whoever answers at the endpoints of the configuration.
    Anyone,
    /// This one, where the others say that it is.
    Replica(Replica),
}

/// Streams with one aim, one after the other.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) backoff: Backoff,
    /// Not before that.
    pub(super) again_at: Instant,
    /// The present one.
    pub(super) link: Option<u64>,
    /// Where a `GoAway` sent this node; only of use on the way to anyone.
    pub(super) elsewhere: Vec<Endpoint>,
    /// The next `Hello` speaks the older protocol: whoever answered last knows no other.
    pub(super) older: bool,
    /// Why the last stream ended, for people; empty: there was none.
    pub(super) ended: String,
}

/// One stream, from the attempt to connect on.
#[derive(Debug)]
pub(super) struct FeedLink {
    pub(super) aim: Aim,
    pub(super) endpoint: Endpoint,
    /// Ends the attempt to connect, if it is still under way.
    pub(super) attempt: AbortHandle,
    /// When the attempt began; once it is open, when it was opened.
    pub(super) since: Instant,
    /// Once it is open.
    pub(super) outgoing: Option<mpsc::Sender<FromNode>>,
    /// Until it is welcomed.
    pub(super) said: Option<HelloSaid>,
    /// Once it is welcomed.
    pub(super) line: Option<FeedLine>,
    /// Whose each hostname is where the stream goes on: that is where a `Reset` right behind `Welcome` puts the node. `None` as
    /// soon as something else came.
    pub(super) sites: Option<SiteTable>,
    /// Nothing has come since `Welcome`.
    pub(super) is_fresh: bool,
    /// What it has been told of the index's size.
    pub(super) told_size: ToldSize,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Connect(ConnectError),
    #[error("{0}")]
    Failed(String),
    /// Before `Welcome`, with `FAILED_PRECONDITION`: perhaps it knows no protocol but the older one.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Inbox(#[from] InboxError),
    #[error("what this node said of itself is no longer so")]
    Void,
    #[error("the control plane asked to reconnect ({:?})", .0.reason)]
    GoAway(GoAway),
    #[error("reset in the middle of a stream; connecting again for the sites as of there")]
    SitesUnknown,
    #[error("too much is under way for a reset; connecting again")]
    TooBusy,
    #[error("the certificates are to be read again")]
    Reload,
    #[error("it is reached elsewhere now")]
    Moved,
}

impl Way {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            backoff: Backoff::new(),
            again_at: now,
            link: None,
            elsewhere: Vec::new(),
            older: false,
            ended: String::new(),
        }
    }
}

impl FeedLink {
    /// Where to, for log lines.
    pub(super) fn replica(&self) -> Option<u8> {
        match (self.line, self.aim) {
            (Some(line), _) => Some(line.replica.0),
            (None, Aim::Replica(replica)) => Some(replica.0),
            (None, Aim::Anyone) => None,
        }
    }

    /// What can be said on it once it is welcomed.
    pub(super) fn welcomed(&self) -> Option<(FeedLine, &mpsc::Sender<FromNode>)> {
        Some((self.line?, self.outgoing.as_ref()?))
    }
}
