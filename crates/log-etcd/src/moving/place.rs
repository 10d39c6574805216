//! The place in etcd, what is there, and why a log does not move to it or away.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::moving::MoveError;
use batoff_log::{StoreError, WallClock};
use batoff_types::{LogId, UnixMillis};
use bytes::Bytes;

use crate::client::{EtcdClient, EtcdError};
use crate::config::EtcdConfig;
use crate::names::KeyNames;
use crate::open::{id, inspect, read_identity, read_import};
use crate::open_error::EtcdOpenError;
use crate::rpc::{Compare, Headed, KeyRange, KeyValue, RangeResponse, RequestOp, TxnRequest};
use crate::stored::{FORMAT, FORMAT_MOVED, damaged};

/// How often a call is repeated while the cluster elects a leader.
const ATTEMPTS_MAX: u32 = 60;

/// How long to wait in between.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Keys that are looked through or deleted by one request: those of groups come with a quarter of a megabyte each on the
/// member's side.
pub(super) const KEYS_AT_ONCE: i64 = 256;

/// Why a log did not move here, or away.
#[derive(Debug, thiserror::Error)]
pub enum EtcdMoveError {
    /// The cluster, or what is in it, cannot be used.
    #[error(transparent)]
    Open(#[from] EtcdOpenError),
    /// There is a log already.
    #[error(
        "the purge log {log_id} is in etcd under {prefix} already; name an empty prefix (store.etcd.prefix), or delete what \
         is there if it is of no use (etcdctl del --prefix {prefix})"
    )]
    Occupied {
        /// Where.
        prefix: String,
        /// Which log.
        log_id: LogId,
    },
    /// There is something else.
    #[error(
        "etcd has keys under {prefix} that are no purge log, such as {key}; name an empty prefix (store.etcd.prefix)"
    )]
    Foreign {
        /// Where.
        prefix: String,
        /// One of them.
        key: String,
    },
    /// The log does not fit.
    #[error(
        "the log needs about {needed} bytes in etcd, which holds {used} of the {usable} that may be used of its quota \
         ({quota}); raise --quota-backend-bytes (and store.etcd.quota_bytes), or shorten [retention] before moving"
    )]
    Room {
        /// What is to be written, in bytes.
        needed: u64,
        /// What the members hold.
        used: u64,
        /// What they may hold before appends are refused.
        usable: u64,
        /// Their quota.
        quota: u64,
    },
    /// Somebody else moves a log here.
    #[error("somebody else moves a log to this place in etcd, or has taken it back; see that only one does")]
    Overtaken,
    /// A control plane is there.
    #[error(
        "the control plane {replica} has the log in etcd open, or had it until ten seconds ago; stop every one of them, wait \
         ten seconds, and repeat"
    )]
    Inhabited {
        /// As it calls itself at present.
        replica: String,
    },
    /// There is no log, or not the one that was expected.
    #[error(
        "the log {expected} is not in etcd under {prefix}; check endpoints and prefix: what is there (or is not) says nothing \
         about whether it was accepted elsewhere"
    )]
    Missing {
        /// Where.
        prefix: String,
        /// Which log.
        expected: LogId,
    },
    /// It has gone on there.
    #[error(
        "the log in etcd has gone on since it was moved ({key} was written later): to take it back would lose that; move it \
         with `batoff-control migrate --to embedded --data-dir NEW`"
    )]
    GoneOn {
        /// What was written.
        key: String,
    },
    /// etcd did not answer, or refused.
    #[error("etcd: {0}")]
    Etcd(String),
    /// What is stored cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The other engine.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl From<EtcdError> for EtcdMoveError {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error.to_string())
    }
}

/// When a log moved, and where to, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTo {
    /// When.
    pub at: UnixMillis,
    /// Where to.
    pub to: String,
}

/// What is under the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundLog {
    /// No key at all.
    Nothing,
    /// A log that was not moved here entirely.
    Half(LogId),
    /// A log, which has moved away if that is said.
    Log(LogId, Option<MovedTo>),
}

/// The place in an etcd cluster to which, or from which, a log moves. No store may be open there; what moves is refused to
/// those that come.
pub struct EtcdMove {
    pub(super) way: Arc<WayToEtcd>,
    pub(super) cluster: u64,
    pub(super) clock: WallClock,
    pub(super) quota: Option<u64>,
    pub(super) prefix: String,
}

/// How etcd is reached, and under which names.
pub(super) struct WayToEtcd {
    pub(super) client: EtcdClient,
    pub(super) names: KeyNames,
}

impl EtcdMove {
    /// Looks at the members of the cluster.
    ///
    /// # Errors
    /// As [`EtcdStore::open`](crate::EtcdStore::open), as far as the log that is there plays no part.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, EtcdOpenError> {
        let names = KeyNames::new(&config.prefix)?;
        let client = EtcdClient::new(config)?;
        let cluster = inspect(&client).await?;
        client.expect_cluster(cluster);
        Ok(Self {
            way: Arc::new(WayToEtcd { client, names }),
            cluster,
            clock: config.clock.clone(),
            quota: config.quota_bytes,
            prefix: config.prefix.clone(),
        })
    }

    /// The id of the cluster.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// What is under the prefix.
    ///
    /// # Errors
    /// It is a restored snapshot, of another format, or no purge log at all; or etcd does not answer.
    pub async fn find(&self) -> Result<FoundLog, EtcdMoveError> {
        let WayToEtcd { client, names } = &*self.way;
        let key = names.identity();
        let Some((identity, _)) = read_identity(client, &key).await? else {
            return match read_import(client, names).await? {
                Some(import) => Ok(FoundLog::Half(import.log_id)),
                None => self.refuse_foreign().await.map(|()| FoundLog::Nothing),
            };
        };
        let log_id = id(&identity.log_id).ok_or_else(|| damaged(&key, "the log's id has not 16 bytes"))?;
        if identity.cluster_id != self.cluster {
            return Err(EtcdOpenError::Restored { log_id }.into());
        }
        match identity.format {
            FORMAT => Ok(FoundLog::Log(log_id, None)),
            FORMAT_MOVED => {
                let moved = MovedTo { at: UnixMillis(identity.moved_at), to: identity.moved_to };
                Ok(FoundLog::Log(log_id, Some(moved)))
            }
            other => Err(StoreError::Format(other).into()),
        }
    }

    async fn refuse_foreign(&self) -> Result<(), EtcdMoveError> {
        match self.way.keys(&self.way.names.everything(), 1).await?.kvs.first() {
            Some(kv) => Err(EtcdMoveError::Foreign { prefix: self.prefix.clone(), key: text(&kv.key) }),
            None => Ok(()),
        }
    }

    /// Refuses while a control plane says that it is there, or did shortly before.
    pub(super) async fn refuse_inhabited(&self) -> Result<(), EtcdMoveError> {
        let names = &self.way.names;
        let found = self.way.keys(&names.replicas(), 1).await?;
        let replica =
            found.kvs.first().map(|kv| names.replica_of(&kv.key).map_or("?", |(name, _)| name).to_owned());
        replica.map_or(Ok(()), |replica| Err(EtcdMoveError::Inhabited { replica }))
    }
}

impl WayToEtcd {
    /// Reads keys without their values.
    pub(super) async fn keys(&self, range: &KeyRange, limit: i64) -> Result<RangeResponse, EtcdMoveError> {
        let mut request = range.read(limit);
        request.keys_only = true;
        self.read(&request).await
    }

    pub(super) async fn read(
        &self,
        request: &crate::rpc::RangeRequest,
    ) -> Result<RangeResponse, EtcdMoveError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.client.range(request).await {
                Err(EtcdError::NotDone(_) | EtcdError::Unknown(_)) if attempts < ATTEMPTS_MAX => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Everything of a range, some at a time.
    pub(super) fn pages(&self, range: KeyRange, at_once: i64) -> RangePages<'_> {
        RangePages { way: self, left: Some(range), at_once, keys_only: false }
    }

    /// Writes what may be written twice, if all of `compare` holds; returns the revision, or `None` when it does not hold.
    pub(super) async fn write(
        &self,
        compare: &[Compare],
        success: Vec<RequestOp>,
    ) -> Result<Option<i64>, EtcdMoveError> {
        let request = TxnRequest { compare: compare.to_vec(), success, failure: Vec::new() };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.client.txn(&request).await {
                Ok(answer) => return Ok(answer.succeeded.then(|| answer.revision())),
                Err(EtcdError::NotDone(_) | EtcdError::Unknown(_)) if attempts < ATTEMPTS_MAX => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(EtcdError::Full) => return Err(StoreError::Full.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A range that is read some keys at a time.
pub(super) struct RangePages<'w> {
    way: &'w WayToEtcd,
    left: Option<KeyRange>,
    at_once: i64,
    pub(super) keys_only: bool,
}

impl RangePages<'_> {
    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<KeyValue>, EtcdMoveError> {
        let Some(range) = self.left.take() else { return Ok(Vec::new()) };
        let mut request = range.read(self.at_once);
        request.keys_only = self.keys_only;
        let kvs = self.way.read(&request).await?.kvs;
        self.left = kvs.last().map(|last| range.after(&last.key));
        Ok(kvs)
    }
}

pub(super) fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}
