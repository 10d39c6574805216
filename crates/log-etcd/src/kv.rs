//! The small records beside the log. A version is the revision of the write.
//!
//! A pair that expires carries the time in its value, and an entry under that time names it; each replica deletes what has
//! expired, on condition that it is still that write. No lease of etcd's is used: those restart with each new leader, and
//! members of some versions have ended them early.

mod expiry;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use batoff_log::{
    CasError, Expect, Guard, GuardedError, KEY_BYTES_MAX, Key, Kv, KvEvent, SCAN_ITEMS_MAX, StoreError,
    VALUE_BYTES_MAX, Version, Versioned, Write,
};
use batoff_types::UnixMillis;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use prost::Message;

use crate::client::{EtcdError, RETRY_AFTER};
use crate::rpc::{Headed, KeyRange, KeyValue, TxnRequest, delete, if_modified_at, put, read};
use crate::shared::StoreCore;
use crate::stored::{Pair, decode};

pub(crate) use self::expiry::expire;

/// How often a swap is tried again because what was in its way had expired.
const ATTEMPTS_MAX: u32 = 8;

/// The pairs of one log.
pub(crate) struct EtcdPairs {
    shared: Arc<StoreCore>,
}

impl EtcdPairs {
    pub(crate) fn new(shared: Arc<StoreCore>) -> Self {
        Self { shared }
    }

    /// Writes if the guard holds and the last write of the key is of `revision` (0: there is none; `None`: whatever it
    /// is). Else says what the key holds.
    async fn swap(
        &self,
        key: &Key,
        revision: Option<i64>,
        write: &Write,
        guard: Option<&Guard>,
    ) -> Result<Result<Version, Option<KeyValue>>, GuardedError> {
        let names = &self.shared.names;
        let name = names.pair(key);
        let success = match write {
            Write::Delete => vec![delete(&KeyRange::one(name.clone()))],
            Write::Put { value, ttl } => {
                let expires_at = ttl.map_or(0, |ttl| {
                    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                    self.shared.now().0.saturating_add(ttl_ms).max(1)
                });
                let pair = Pair { expires_at, value: value.clone() };
                let mut writes = vec![put(name.clone(), pair.encode_to_vec())];
                if expires_at > 0 {
                    writes.push(put(names.expiry(expires_at, key), Bytes::new()));
                }
                writes
            }
        };
        let guarded = guard.map(|guard| (names.pair(&guard.key), revision_of(guard.version)));
        // A log that has moved, or got another identity, takes no pairs either.
        let identity = self.shared.identity.revision;
        let mut compare = vec![if_modified_at(names.identity(), identity)];
        compare.extend(revision.map(|revision| if_modified_at(name.clone(), revision)));
        let mut failure = [names.identity(), name].map(|key| read(KeyRange::one(key).read(1))).to_vec();
        if let Some((guard, revision)) = &guarded {
            compare.push(if_modified_at(guard.clone(), *revision));
            failure.push(read(KeyRange::one(guard.clone()).read(1)));
        }
        let request = TxnRequest { compare, success, failure };
        let answer = self.shared.client.txn(&request).await;
        self.shared.has_answered(answer.as_ref().err(), true);
        if matches!(answer, Err(EtcdError::Full)) {
            return Err(self.of_full(key, revision, write).await.into());
        }
        let answer = answer.map_err(|error| self.shared.told(error, true))?;
        if answer.succeeded {
            return Ok(Ok(version(answer.revision())));
        }
        if answer.kvs(0).first().is_none_or(|found| found.mod_revision != identity) {
            tracing::error!("the log in etcd has got another identity, or has moved");
            return Err(self.shared.noted(StoreError::WrongCluster).into());
        }
        if let Some((_, revision)) = guarded
            && answer.kvs(2).first().is_none_or(|guard| guard.mod_revision != revision)
        {
            return Err(GuardedError::Fenced);
        }
        Ok(Err(answer.kvs(1).first().cloned()))
    }

    async fn swap_until_decided(
        &self,
        key: &Key,
        expect: Expect,
        write: &Write,
        guard: Option<&Guard>,
    ) -> Result<Version, GuardedError> {
        self.shared.check_running()?;
        check(key, write)?;
        let mut revision = match expect {
            Expect::Absent => Some(0),
            Expect::Version(version) => Some(revision_of(version)),
            Expect::Any => None,
        };
        for _ in 0..ATTEMPTS_MAX {
            let in_the_way = match self.swap(key, revision, write, guard).await? {
                Ok(version) => return Ok(version),
                Err(in_the_way) => in_the_way,
            };
            let held = in_the_way.as_ref().map(|kv| self.shared.alive(kv)).transpose()?.flatten();
            match (expect, in_the_way) {
                // What has expired and is still there is as good as absent.
                (Expect::Absent, Some(kv)) if held.is_none() => revision = Some(kv.mod_revision),
                (Expect::Absent, None) => revision = Some(0),
                _ => return Err(CasError::Conflict(held).into()),
            }
        }
        Err(StoreError::Unavailable { retry_after: RETRY_AFTER }.into())
    }
}

impl EtcdPairs {
    /// What a write has come to that was refused for want of room: the one that fills the cluster is carried out.
    async fn of_full(&self, key: &Key, revision: Option<i64>, write: &Write) -> StoreError {
        let unknown = StoreError::Unknown { retry_after: RETRY_AFTER };
        let range = KeyRange::one(self.shared.names.pair(key)).read(1);
        let Ok(answer) = self.shared.client.range(&range).await else { return unknown };
        let found = answer.kvs.first();
        let is_as_before = match (revision, write) {
            (Some(revision), _) => found.map_or(0, |kv| kv.mod_revision) == revision,
            (None, Write::Put { value, .. }) => {
                found.is_none_or(|kv| Pair::decode(kv.value.clone()).is_ok_and(|pair| pair.value != *value))
            }
            (None, Write::Delete) => found.is_some(),
        };
        if is_as_before { StoreError::Full } else { unknown }
    }
}

#[async_trait]
impl Kv for EtcdPairs {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.shared.check_running()?;
        let range = KeyRange::one(self.shared.names.pair(key)).read(1);
        let answer =
            self.shared.client.range(&range).await.map_err(|error| self.shared.told(error, false))?;
        match answer.kvs.first() {
            Some(kv) => self.shared.alive(kv),
            None => Ok(None),
        }
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        self.shared.check_running()?;
        let limit = limit.min(SCAN_ITEMS_MAX);
        let names = &self.shared.names;
        let mut range = names.pairs(prefix);
        if let Some(after) = after {
            range = range.after(&names.pair(after));
        }
        let mut pairs = Vec::new();
        while pairs.len() < limit {
            let (page, next) = self.shared.pairs_page(&range, limit - pairs.len(), 0).await?;
            pairs.extend(page);
            match next {
                Some(next) => range = next,
                None => break,
            }
        }
        Ok(pairs)
    }

    async fn cas(&self, key: &Key, expect: Expect, write: Write) -> Result<Version, CasError> {
        self.swap_until_decided(key, expect, &write, None).await.map_err(GuardedError::unguarded)
    }

    async fn cas_guarded(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: &Guard,
    ) -> Result<Version, GuardedError> {
        self.swap_until_decided(key, expect, &write, Some(guard)).await
    }

    fn watch(&self, prefix: &Key) -> BoxStream<'static, KvEvent> {
        watch::watch(Arc::clone(&self.shared), prefix)
    }
}

impl StoreCore {
    /// What a pair holds; `None` when it has expired.
    fn alive(&self, kv: &KeyValue) -> Result<Option<Versioned>, StoreError> {
        let pair: Pair = decode(&kv.key, kv.value.clone()).map_err(|error| self.noted(error))?;
        let versioned = Versioned { value: pair.value, version: version(kv.mod_revision) };
        Ok(is_alive(pair.expires_at, self.now()).then_some(versioned))
    }

    /// Pairs of a range, at most so many, as of a revision (0: now); and the range after them, if there may be more.
    async fn pairs_page(
        &self,
        range: &KeyRange,
        limit: usize,
        revision: i64,
    ) -> Result<(Vec<(Key, Versioned)>, Option<KeyRange>), StoreError> {
        let answer = self.pairs_answer(range, limit, revision).await;
        let answer = answer.map_err(|error| self.told(error, false))?;
        let next = answer.kvs.last().filter(|_| answer.more).map(|last| range.after(&last.key));
        Ok((self.pairs_of(&answer.kvs)?, next))
    }

    async fn pairs_answer(
        &self,
        range: &KeyRange,
        limit: usize,
        revision: i64,
    ) -> Result<crate::rpc::RangeResponse, EtcdError> {
        let mut request = range.read(i64::try_from(limit.min(PAIRS_PER_READ)).unwrap_or(1));
        request.revision = revision;
        self.client.range(&request).await
    }

    fn pairs_of(&self, kvs: &[KeyValue]) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let mut pairs = Vec::new();
        for kv in kvs {
            if let (Some(key), Some(versioned)) = (self.names.pair_of(&kv.key), self.alive(kv)?) {
                pairs.push((key, versioned));
            }
        }
        Ok(pairs)
    }
}

/// Pairs that are read by one request: each may have a megabyte.
const PAIRS_PER_READ: usize = 48;

fn is_alive(expires_at: u64, now: UnixMillis) -> bool {
    expires_at == 0 || now.0 < expires_at
}

fn version(revision: i64) -> Version {
    // Revisions are positive.
    Version::from_raw(u64::try_from(revision).unwrap_or(0))
}

/// A version of another engine is none of this one's.
fn revision_of(version: Version) -> i64 {
    i64::try_from(version.raw()).unwrap_or(i64::MAX)
}

fn check(key: &Key, write: &Write) -> Result<(), StoreError> {
    if key.as_bytes().is_empty() || key.as_bytes().len() > KEY_BYTES_MAX {
        return Err(StoreError::Invalid("a key has 1 to 1024 bytes"));
    }
    match write {
        Write::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
            Err(StoreError::TooLarge { limit: VALUE_BYTES_MAX })
        }
        _ => Ok(()),
    }
}
