//! Where the cluster is, and how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use batoff_log::WallClock;
use batoff_types::LogId;

/// The prefix of all keys, unless there is a reason for another.
pub const DEFAULT_PREFIX: &str = "batoff/";

/// How long an append or another write may be tried before its outcome is reported as not done or unknown. Longer than a
/// cluster needs to elect another leader.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long etcd's history of changes is kept by default, see [`EtcdConfig::compact_after`].
pub const COMPACT_AFTER: Duration = Duration::from_secs(600);

/// Where the cluster is, and how it is spoken to.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `http://` or `https://` with host and port, one for each member. The first is asked first.
    pub endpoints: Vec<String>,
    /// What all keys begin with. One prefix is one log; several logs can share a cluster.
    pub prefix: String,
    /// For `https`.
    pub tls: Option<EtcdTls>,
    /// For a cluster with authentication; needs to read and write the prefix.
    pub user: Option<EtcdUser>,
    /// The log that must be found. `None`: whichever is there, or a new one when there is none. With one given, an empty
    /// or another cluster is refused instead of becoming the beginning of a second log.
    pub log_id: Option<LogId>,
    /// Decides when keys and values expire.
    pub clock: WallClock,
    /// How long an append or another write may be tried; [`WRITE_TIME_MAX`] unless there is a reason.
    pub write_time_max: Duration,
    /// History of changes (not the log, which consists of keys that are there) older than this is compacted. It is etcd's,
    /// for all prefixes: `None` when etcd does it (`--auto-compaction-retention`) or others need it.
    pub compact_after: Option<Duration>,
    /// The members' quota (`--quota-backend-bytes`), in bytes, so that appends are refused while there is still room for
    /// trimming. Members from 3.6 on say it themselves. Unknown, a full cluster needs an operator.
    pub quota_bytes: Option<u64>,
    /// A file on this machine in which the store notes what it has last seen of the log. An older copy of the log, put
    /// back while the store was closed, is refused by it. `None` where that is somebody else's concern.
    pub seen: Option<PathBuf>,
}

impl EtcdConfig {
    /// The usual settings for a cluster without TLS and users.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>, clock: WallClock) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: DEFAULT_PREFIX.to_owned(),
            tls: None,
            user: None,
            log_id: None,
            clock,
            write_time_max: WRITE_TIME_MAX,
            compact_after: Some(COMPACT_AFTER),
            quota_bytes: None,
            seen: None,
        }
    }
}

/// Certificates for `https`, as PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who signed the members' certificates.
    pub ca_pem: Vec<u8>,
    /// The store's own certificate and its key, for members that ask for one.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
}

/// Who signs in.
#[derive(Clone)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}
