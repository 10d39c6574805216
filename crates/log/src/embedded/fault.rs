//! What goes wrong below the store, and what its callers are told of it.

use std::io;
use std::time::Duration;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use crate::error::StoreError;

/// How long after a first failure writes are refused. Doubled with each further one.
pub(super) const REOPEN_FIRST_DELAY: Duration = Duration::from_millis(50);

/// What a caller is told who is to come back as soon as the file may be open again.
pub(super) fn unavailable() -> StoreError {
    StoreError::Unavailable { retry_after: REOPEN_FIRST_DELAY }
}

/// What went wrong below us, sorted by what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The disk has no room.
    Full,
    /// The disk failed, or the database remembers that it did.
    Io(String),
    /// What is stored is not what was written.
    Damaged(String),
}

impl Fault {
    /// For an operation that certainly was not done.
    pub(super) fn certain(&self) -> StoreError {
        match self {
            Self::Full => StoreError::Full,
            Self::Io(_) => unavailable(),
            Self::Damaged(detail) => StoreError::Corrupt(detail.clone()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("no room left on the disk"),
            Self::Io(detail) | Self::Damaged(detail) => f.write_str(detail),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => error.into(),
            StorageError::Corrupted(detail) => Self::Damaged(detail),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}
