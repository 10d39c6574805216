//! Why the store did not do what it was asked, named by what the caller can do about it.

use std::time::Duration;

use batoff_types::{Cursor, Seq};

/// Why the store did not do what it was asked, named by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Certainly not done: overloaded, closed, or the disk (or quorum) is away. Repeat after a while.
    #[error("the purge log is not available; nothing was written; try again in {} ms", retry_after.as_millis())]
    Unavailable {
        /// How long to wait before trying again; add jitter.
        retry_after: Duration,
    },
    /// It may or may not have been done. Every operation is safe to repeat, an append with the same [`Dedupe`] keys.
    ///
    /// [`Dedupe`]: crate::Dedupe
    #[error("the outcome is unknown: it may or may not have been written; repeat it in {} ms", retry_after.as_millis())]
    Unknown {
        /// How long to wait before repeating; add jitter.
        retry_after: Duration,
    },
    /// Certainly not done: there is no room. It recovers by itself when there is.
    #[error(
        "no room left for the purge log; nothing was written; free space, or shorten the log's retention"
    )]
    Full,
    /// Certainly not done: an item is larger than the store takes. Repeating does not help.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit that was passed, in bytes.
        limit: usize,
    },
    /// Certainly not done: the request breaks a rule of the trait. Repeating does not help.
    #[error("not a valid request to the purge log: {0}")]
    Invalid(&'static str),
    /// What is stored is not what was written. The store refuses everything until an operator has seen to it.
    #[error("the purge log is damaged: {0}; restore a backup and start with --new-log-id")]
    Corrupt(String),
    /// The engine that answers is not the one this log was made in.
    #[error("this is another cluster than the one the purge log was made in; check the endpoints")]
    WrongCluster,
    /// The stored data has a format that this build does not understand.
    #[error("the purge log has format {0}, which this build does not understand; use a newer build")]
    Format(u32),
}

impl StoreError {
    /// How long to wait before repeating; `None` when repeating does not help, or only after somebody did something.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after } | Self::Unknown { retry_after } => Some(*retry_after),
            Self::Full
            | Self::TooLarge { .. }
            | Self::Invalid(_)
            | Self::Corrupt(_)
            | Self::WrongCluster
            | Self::Format(_) => None,
        }
    }
}

/// Why records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The record asked for was trimmed. The reader has missed records for good and must begin anew at `first`.
    #[error("trimmed: the log begins at {first}")]
    Trimmed {
        /// The oldest record still there (or the next to be written, when there is none).
        first: Seq,
    },
    /// The position lies beyond the next record to be written: the reader followed another log.
    #[error("ahead of the log, which ends after {tail}")]
    AheadOfLog {
        /// Where the log ends.
        tail: Cursor,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
