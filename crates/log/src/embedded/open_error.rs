use std::io;
use std::path::PathBuf;

use batoff_types::{LogId, UnixMillis};

/// Why the store could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be created, read or written.
    #[error("cannot {action} {}: {source}; see that this user may write there and that the disk has room, or name another data directory", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process; stop it, or name another data directory", path.display())]
    Locked {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is not a store of ours.
    #[error("{} is not a purge log; name another data directory, or move the file away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// What is stored is not what was written.
    #[error("{} is damaged: {detail}; restore a backup and start with --new-log-id", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file was written by another version of this program.
    #[error("{} has format {found}, this build understands format {supported}; use a build that fits it", path.display())]
    Format {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// Its log goes on in another engine.
    #[error(
        "{} is sealed: its log was moved to the etcd cluster {cluster:x} at {}; start with [store] engine = \"etcd\"",
        path.display(), date(*at)
    )]
    Moved {
        /// The sealed file.
        path: PathBuf,
        /// When it was moved.
        at: UnixMillis,
        /// The cluster that has it.
        cluster: u64,
    },
    /// The store does not belong to this directory: it is a copy or a restored backup.
    #[error(
        "{} holds the log {stored}, but {}; a copy or a restored backup must become a log of its own: start once with --new-log-id (every node will drop what it holds and start anew)",
        path.display(), sibling(beside)
    )]
    Copy {
        /// The store's file.
        path: PathBuf,
        /// The identity inside it.
        stored: LogId,
        /// The identity that the file `LOG_ID` beside it names.
        beside: Option<LogId>,
    },
    /// The directory belonged to a log whose file is not there any more.
    #[error("{} is missing, but what lies beside it says that there was a log; put it and the files that belong to it back, or delete LOG_ID, pairs.redb and the log's segments (log-*) to begin a new log (every node will drop what it holds and start anew)", path.display())]
    Lost {
        /// The store's file.
        path: PathBuf,
    },
}

fn sibling(beside: &Option<LogId>) -> String {
    match beside {
        Some(log_id) => format!("the file LOG_ID beside it says {log_id}"),
        None => "there is no readable file LOG_ID beside it".to_owned(),
    }
}

fn date(at: UnixMillis) -> jiff::Timestamp {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}
