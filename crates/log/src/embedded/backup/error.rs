use std::io;
use std::path::PathBuf;

use batoff_types::{Cursor, LogId, Seq, UnixMillis};

use super::super::open_error::OpenError;

/// Why there is no backup, or no store was made of one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Where the backup is written to takes no more.
    #[error("the backup cannot be written: {0}")]
    Written(io::Error),
    /// The file is no backup.
    #[error("{} is no backup of a purge log", .0.display())]
    Foreign(PathBuf),
    /// It was written by another version of this program.
    #[error(
        "{} is a backup of version {found}, this build reads version {supported}; use a build that fits it",
        path.display()
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// It ends before its end.
    #[error("{} is cut off at byte {at}; take another backup", path.display())]
    Cut {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// What stands there is not what was written.
    #[error("{} is altered or damaged at byte {at}: {detail}; take another backup", path.display())]
    Altered {
        /// Which file.
        path: PathBuf,
        /// Where the chunk begins that is not what it was.
        at: u64,
        /// What is wrong.
        detail: String,
    },
    /// The store cannot be read.
    #[error("the store cannot be backed up: {0}")]
    Store(String),
    /// The store is being closed, or opened again after a failure.
    #[error("the store was closed meanwhile, or has failed; try again once it runs")]
    Closing,
    /// Something is in the folder already.
    #[error("{} is not empty; a backup is restored into an empty folder only", .0.display())]
    Occupied(PathBuf),
    /// The new store cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The log that it is of.
    pub log_id: LogId,
    /// When it was begun.
    pub taken_at: UnixMillis,
    /// Who wrote it.
    pub version: String,
    /// The oldest record that was kept.
    pub first: Seq,
    /// The place after the newest record in it.
    pub tail: Cursor,
    /// Records in it, with those before `first` that share a part of the log with later ones.
    pub records: u64,
    /// Pairs beside the log.
    pub pairs: u64,
    /// Tasks that the checkpoint holds; those of later records follow from the log.
    pub tasks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}
