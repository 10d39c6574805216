//! Why a control plane could not start.

use std::io;

use batoff_log::StoreError;
use batoff_program::config::ConfigError;
use batoff_program::listen::ListenError;
use batoff_types::Cursor;

use crate::engine::EngineError;
use crate::init::InitError;
use crate::revoked::RevokedError;
use crate::seat::SeatLost;
use crate::tls::TlsError;

/// The control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder has no usable secrets.
    #[error(transparent)]
    Secrets(#[from] InitError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] EngineError),
    /// Another process has taken the seat while this one waited for it.
    #[error(transparent)]
    Seat(#[from] SeatLost),
    /// The log ends before what a predecessor has seen of it.
    #[error(
        "the store says that the purge log ends at {tail}, and has said {floor} before: it answers with old data; nothing was \
         started"
    )]
    Behind {
        /// Where it ends now.
        tail: Cursor,
        /// Where it ended before.
        floor: Cursor,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates cannot be used.
    #[error("{key}: {error}")]
    Tls {
        /// The section that names them.
        key: &'static str,
        /// What is wrong.
        error: TlsError,
    },
    /// The list of revoked certificates cannot be used.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// The collector of traces is not configured well.
    #[error(transparent)]
    Traces(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No threads for the nodes' streams, or for those who look on.
    #[error("threads cannot be started: {0}; raise the limit of tasks (TasksMax=, ulimit -u)")]
    Threads(io::Error),
}
