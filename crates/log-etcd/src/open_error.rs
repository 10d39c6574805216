//! Why a store in etcd is not opened, and what to do about it.

use std::io;
use std::path::PathBuf;

use batoff_log::StoreError;
use batoff_types::{LogId, UnixMillis};

/// Why a store in etcd could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EtcdOpenError {
    /// No endpoint was given.
    #[error("no endpoint of etcd is configured; name one for each member, such as http://10.0.0.1:2379")]
    NoEndpoints,
    /// An endpoint cannot be used.
    #[error("etcd endpoint {url:?}: {why}")]
    Endpoint {
        /// As it was configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The prefix cannot be used.
    #[error(
        "etcd prefix {prefix:?}: it must not be empty, must be ASCII without control characters, and end with /"
    )]
    Prefix {
        /// As it was configured.
        prefix: String,
    },
    /// A member is older than what is safe.
    #[error(
        "etcd at {endpoint} has version {found}; at least 3.4.22 or 3.5.6 is needed, older ones can damage their data in \
         a crash; upgrade this member"
    )]
    Version {
        /// Which member.
        endpoint: String,
        /// What it says.
        found: String,
    },
    /// Two endpoints belong to different clusters.
    #[error("etcd endpoints {one} and {other} belong to different clusters; name the members of one")]
    TwoClusters {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// There is no log, or another one, where one was expected.
    #[error(
        "the log {expected} is not in this cluster under the prefix ({}); check endpoints and prefix",
        found.map_or("there is none".to_owned(), |found| format!("there is {found}"))
    )]
    AnotherLog {
        /// What was expected.
        expected: LogId,
        /// What is there.
        found: Option<LogId>,
    },
    /// The log was made in another cluster: this is a restored snapshot.
    #[error(
        "the log {log_id} was made in another cluster, so this is a restored snapshot and may lack its last records; \
         let it become a log of its own (--new-log-id), which makes every node begin anew"
    )]
    Restored {
        /// Of the log in the snapshot.
        log_id: LogId,
    },
    /// The members have come back with an older state than this machine has seen.
    #[error(
        "the log {log_id} in etcd is an older copy: {lacks}, as {} says; put the newer data back, or let it become a log \
         of its own (--new-log-id), which makes every node begin anew",
        file.display()
    )]
    Older {
        /// Which log.
        log_id: LogId,
        /// What is missing.
        lacks: String,
        /// Where it was noted.
        file: PathBuf,
    },
    /// What this machine has seen of the log cannot be read.
    #[error("{}: {source}", file.display())]
    Seen {
        /// Where it is noted.
        file: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// It goes on in another engine.
    #[error("the log {log_id} has moved to {to} on {}; start the control plane there", date(*at))]
    Moved {
        /// Which log.
        log_id: LogId,
        /// When.
        at: UnixMillis,
        /// Where to, for people.
        to: String,
    },
    /// A log is being moved here, or was and something came in between.
    #[error(
        "the log {log_id} has not been moved to this cluster entirely: run `batoff-control migrate --to etcd` again until it \
         says that it is done, or take it back with --undo"
    )]
    Importing {
        /// Which log.
        log_id: LogId,
    },
    /// etcd did not answer, or refused.
    #[error("etcd: {0}")]
    Etcd(String),
    /// What is stored cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn date(at: UnixMillis) -> jiff::Timestamp {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}
