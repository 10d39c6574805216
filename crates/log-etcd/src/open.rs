//! Which cluster this is, and which log is in it.

use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::{LogId, UnixMillis};
use bytes::Bytes;
use prost::Message;
use ulid::Ulid;

use crate::client::{EtcdClient, EtcdError};
use crate::names::KeyNames;
use crate::open_error::EtcdOpenError;
use crate::rpc::{KeyRange, KeyValue, RequestOp, TxnRequest, if_modified_at, put};
use crate::shared::KnownIdentity;
use crate::stored::{FORMAT, FORMAT_MOVED, First, Head, Identity, Import, damaged, decode};

/// How often a call is repeated while the cluster elects a leader.
const ATTEMPTS_MAX: u32 = 30;

/// How long to wait in between.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Asks each member for its version and its cluster; one must answer. Returns the cluster.
pub(crate) async fn inspect(client: &EtcdClient) -> Result<u64, EtcdOpenError> {
    let mut cluster: Option<(u64, usize)> = None;
    let mut silence = String::new();
    for at in 0..client.endpoints() {
        let endpoint = || client.endpoint_name(at).to_owned();
        let answer = match client.status_of(at).await {
            Ok(status) if !is_safe(&status.version) => {
                return Err(EtcdOpenError::Version { endpoint: endpoint(), found: status.version });
            }
            Ok(status) => {
                for error in &status.errors {
                    tracing::warn!(
                        endpoint = endpoint(),
                        error,
                        "a member of etcd says that something is wrong"
                    );
                }
                Ok(status.header)
            }
            // Only releases later than any that is unsafe keep this from a user who is not root.
            Err(EtcdError::Forbidden(_)) => client.members_at(at).await.map(|members| members.header),
            Err(error) => Err(error),
        };
        let header = match answer {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(%error, endpoint = endpoint(), "a member of etcd does not answer");
                silence = error.to_string();
                continue;
            }
        };
        let found = header.map_or(0, |header| header.cluster_id);
        match cluster {
            Some((one, first)) if one != found => {
                let one = client.endpoint_name(first).to_owned();
                return Err(EtcdOpenError::TwoClusters { one, other: endpoint() });
            }
            Some(_) => {}
            None => cluster = Some((found, at)),
        }
    }
    let Some((cluster, _)) = cluster else { return Err(EtcdOpenError::Etcd(silence)) };
    if let Ok(members) = client.members().await {
        let voting = members.members.iter().filter(|member| !member.is_learner).count();
        tracing::info!(members = voting, endpoints = client.endpoints(), "the purge log is in etcd");
        if voting > client.endpoints() {
            tracing::warn!(
                members = voting,
                endpoints = client.endpoints(),
                "not all members of etcd are configured as endpoints: when those fail that are, the others are of no help"
            );
        }
    }
    Ok(cluster)
}

/// Whether a member of this version can be trusted with data: earlier ones of their lines could damage them in a crash.
/// What is older than 3.4 lacks parts of the API.
fn is_safe(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 22,
        (Some(3), Some(5), Some(patch)) => patch >= 6,
        (Some(major), Some(minor), _) => (major, minor) > (3, 5),
        _ => false,
    }
}

/// Reads which log is there, or makes one where there is none and none was expected.
pub(crate) async fn identify(
    client: &EtcdClient,
    names: &KeyNames,
    cluster: u64,
    expected: Option<LogId>,
) -> Result<KnownIdentity, EtcdOpenError> {
    let key = names.identity();
    let found = read_identity(client, &key).await?;
    if found.is_none()
        && let Some(import) = read_import(client, names).await?
    {
        return Err(EtcdOpenError::Importing { log_id: import.log_id });
    }
    let (found, revision) = match (found, expected) {
        (Some(found), _) => found,
        (None, Some(expected)) => return Err(EtcdOpenError::AnotherLog { expected, found: None }),
        (None, None) => {
            let log_id = LogId::from_ulid(Ulid::generate());
            let mut writes = write_identity(&key, cluster, log_id);
            writes.push(put(names.head(), Head { group: 0, tail: 0 }.encode_to_vec()));
            writes.push(put(names.first(), First { group: 1, seq: 1 }.encode_to_vec()));
            // Unless a log is moved here at this moment.
            let made = write(client, &[(&key, 0), (&names.import(), 0)], writes).await?;
            // Or another replica was faster.
            let found = read_identity(client, &key).await?.ok_or_else(|| damaged(&key, "it is not there"))?;
            tracing::info!(log_id = %log_id, made, "made a new purge log in etcd");
            found
        }
    };
    let log_id = log_id_of(&key, &found)?;
    if expected.is_some_and(|expected| expected != log_id) {
        let expected = expected.unwrap_or(log_id);
        return Err(EtcdOpenError::AnotherLog { expected, found: Some(log_id) });
    }
    if found.cluster_id != cluster {
        return Err(EtcdOpenError::Restored { log_id });
    }
    Ok(KnownIdentity { log_id, revision })
}

/// Gives the log that is there another identity, in this cluster.
pub(crate) async fn adopt(
    client: &EtcdClient,
    names: &KeyNames,
    cluster: u64,
) -> Result<LogId, EtcdOpenError> {
    let key = names.identity();
    let (found, revision) = read_identity(client, &key)
        .await?
        .ok_or_else(|| EtcdOpenError::Etcd("there is no purge log under the prefix".to_owned()))?;
    log_id_of(&key, &found)?;
    let log_id = LogId::from_ulid(Ulid::generate());
    if write(client, &[(&key, revision)], write_identity(&key, cluster, log_id)).await? {
        Ok(log_id)
    } else {
        Err(EtcdOpenError::Etcd("somebody else gives the log an identity at this moment".to_owned()))
    }
}

/// Which log is being moved here, and the write that said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundImport {
    pub(crate) log_id: LogId,
    pub(crate) revision: i64,
}

pub(crate) async fn read_import(
    client: &EtcdClient,
    names: &KeyNames,
) -> Result<Option<FoundImport>, EtcdOpenError> {
    let key = names.import();
    let Some(kv) = read_one(client, &key).await? else { return Ok(None) };
    let import: Import = decode(&key, kv.value)?;
    let log_id = id(&import.log_id).ok_or_else(|| damaged(&key, "the log's id has not 16 bytes"))?;
    Ok(Some(FoundImport { log_id, revision: kv.mod_revision }))
}

pub(crate) async fn read_identity(
    client: &EtcdClient,
    key: &Bytes,
) -> Result<Option<(Identity, i64)>, EtcdOpenError> {
    let Some(kv) = read_one(client, key).await? else { return Ok(None) };
    Ok(Some((decode(key, kv.value)?, kv.mod_revision)))
}

async fn read_one(client: &EtcdClient, key: &Bytes) -> Result<Option<KeyValue>, EtcdOpenError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match client.range(&KeyRange::one(key.clone()).read(1)).await {
            Ok(answer) => return Ok(answer.kvs.into_iter().next()),
            Err(EtcdError::NotDone(_) | EtcdError::Unknown(_)) if attempts < ATTEMPTS_MAX => {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(error) => return Err(EtcdOpenError::Etcd(error.to_string())),
        }
    }
}

/// Writes if these keys are of these revisions, and says whether they were: what was lost is looked for by the next reading.
async fn write(
    client: &EtcdClient,
    revisions: &[(&Bytes, i64)],
    success: Vec<RequestOp>,
) -> Result<bool, EtcdOpenError> {
    let compare = revisions.iter().map(|(key, revision)| if_modified_at(Bytes::clone(key), *revision));
    let request = TxnRequest { compare: compare.collect(), success, failure: Vec::new() };
    match client.txn(&request).await {
        Ok(answer) => Ok(answer.succeeded),
        Err(error) => Err(EtcdOpenError::Etcd(error.to_string())),
    }
}

pub(crate) fn write_identity(key: &Bytes, cluster: u64, log_id: LogId) -> Vec<RequestOp> {
    let log_id = Bytes::copy_from_slice(&log_id.to_bytes());
    let identity = Identity { format: FORMAT, log_id, cluster_id: cluster, ..Identity::default() };
    vec![put(key.clone(), identity.encode_to_vec())]
}

/// Which log an identity is of that is there to be used.
fn log_id_of(key: &[u8], identity: &Identity) -> Result<LogId, EtcdOpenError> {
    let log_id = || id(&identity.log_id).ok_or_else(|| damaged(key, "the log's id has not 16 bytes"));
    match identity.format {
        FORMAT => Ok(log_id()?),
        FORMAT_MOVED => {
            let at = UnixMillis(identity.moved_at);
            Err(EtcdOpenError::Moved { log_id: log_id()?, at, to: identity.moved_to.clone() })
        }
        other => Err(StoreError::Format(other).into()),
    }
}

/// An id of a log; `None` when these are not 16 bytes.
pub(crate) fn id(bytes: &[u8]) -> Option<LogId> {
    Some(LogId::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lose_data_are_refused() {
        for (version, is_ok) in [
            ("3.3.27", false),
            ("3.4.21", false),
            ("3.4.22", true),
            ("3.4.23", true),
            ("3.4.37-dev", true),
            ("3.5.2", false),
            ("3.5.5", false),
            ("3.5.6", true),
            ("3.5.26+git", true),
            ("3.6.0", true),
            ("4.0.0", true),
            ("2.3.8", false),
            ("", false),
            ("three", false),
        ] {
            assert_eq!(is_safe(version), is_ok, "{version:?}");
        }
    }
}
