use std::time::Duration;

use batoff_log::StoreError;
use tonic::{Code, Status};

/// When to come back to a cluster that has no leader or cannot be reached: an election takes about as long.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call has no answer, by what may be concluded from that. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EtcdError {
    /// Certainly not carried out: it was not sent, or a member refused it before proposing it.
    #[error("{0}")]
    NotDone(String),
    /// It may have been carried out, or may yet be.
    #[error("{0}")]
    Unknown(String),
    /// The cluster has reached its quota. Never carried out later, but perhaps already: the one write with which the quota
    /// is reached is carried out and answered with this, too.
    #[error("etcd has reached its space quota (NOSPACE)")]
    Full,
    /// The revision that was asked for is not there any more.
    #[error("the revision has been compacted")]
    Compacted,
    /// Certainly not carried out: larger than etcd takes (`--max-request-bytes`).
    #[error("larger than etcd takes (--max-request-bytes)")]
    TooLarge,
    /// There is no such lease.
    #[error("the lease is gone")]
    LeaseLost,
    /// Certainly not carried out, and repeating does not help before somebody did something.
    #[error("{0}")]
    Refused(String),
    /// Certainly not carried out: this user may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// The answer came from another cluster than the one the log is in.
    #[error("an endpoint belongs to another cluster")]
    WrongCluster,
}

impl EtcdError {
    /// What a status says. Whatever is not known to have been refused before it was proposed may have been carried out.
    pub(super) fn judge(status: &Status, url: &str) -> Self {
        let message = status.message();
        let told = || format!("{url}: {message}");
        match status.code() {
            Code::Unavailable if message.contains("etcdserver: no leader") => Self::NotDone(told()),
            Code::ResourceExhausted if message.contains("database space exceeded") => Self::Full,
            Code::ResourceExhausted if message.contains("too many requests") => Self::NotDone(told()),
            Code::OutOfRange if message.contains("compacted") => Self::Compacted,
            // A member that lags behind the one that was read before.
            Code::OutOfRange => Self::NotDone(told()),
            Code::InvalidArgument if message.contains("request is too large") => Self::TooLarge,
            Code::NotFound if message.contains("lease not found") => Self::LeaseLost,
            // Rights have changed: the next connection signs in anew.
            Code::InvalidArgument if message.contains("revision of auth store is old") => {
                Self::NotDone(told())
            }
            // The token has run out: the next connection signs in anew.
            Code::Unauthenticated => Self::NotDone(told()),
            Code::PermissionDenied => Self::Forbidden(told()),
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Self::Refused(told()),
            _ => Self::Unknown(told()),
        }
    }

    /// The same for what only prepared the call.
    pub(super) fn before_sending(self) -> Self {
        match self {
            Self::Unknown(told) => Self::NotDone(told),
            other => other,
        }
    }

    /// The same for a part of a value, which changes nothing before the value is there and may be written twice.
    pub(crate) fn of_a_part(self) -> Self {
        self.before_sending()
    }

    /// Whether another endpoint may do better.
    pub(crate) fn is_of_the_endpoint(&self) -> bool {
        matches!(self, Self::NotDone(_) | Self::Unknown(_) | Self::WrongCluster)
    }

    /// What a caller of the store is told of a call that changes nothing, or of one that changes something.
    pub(crate) fn into_store_error(self, writes: bool) -> StoreError {
        match self {
            Self::Unknown(_) if writes => StoreError::Unknown { retry_after: RETRY_AFTER },
            Self::Full => StoreError::Full,
            Self::WrongCluster => StoreError::WrongCluster,
            error => {
                tracing::debug!(%error, "etcd is not available");
                StoreError::Unavailable { retry_after: RETRY_AFTER }
            }
        }
    }
}
