//! The small records: compare, write, expire.

use batoff_types::UnixMillis;
use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::super::committed::CommittedPairs;
use super::super::fault::Fault;
use super::super::layout::{KV, KV_EXPIRY, META, META_COMMIT, META_KV_VERSION};
use super::super::rows::{NEVER, Pair};
use crate::kv::{CasError, Expect, Guard, GuardedError, Key, Version, Versioned, Write};

/// How much room a full disk must have got before writes are accepted again, in bytes.
pub(super) const PROBE_BYTES: usize = 1024 * 1024;

/// The key of the pair that takes that room for a moment; callers' keys are not empty.
const PROBE_KEY: &[u8] = b"";

/// Expired pairs removed by one transaction; the rest go with the next.
const EXPIRE_PAIRS_PER_COMMIT: usize = 1_024;

/// A transaction that is being written.
pub(super) struct PairsDraft<'t> {
    transaction: &'t WriteTransaction,
    pairs: Table<'t, &'static [u8], &'static [u8]>,
    expiry: Table<'t, (u64, &'static [u8]), ()>,
    committed: CommittedPairs,
    now: UnixMillis,
    changes: Vec<(Key, Option<Versioned>)>,
    is_changed: bool,
}

/// What a transaction has changed, told when it is durable.
pub(super) struct PairsOutcome {
    pub(super) committed: CommittedPairs,
    pub(super) changes: Vec<(Key, Option<Versioned>)>,
}

impl<'t> PairsDraft<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        committed: CommittedPairs,
        now: UnixMillis,
    ) -> Result<Self, Fault> {
        Ok(Self {
            transaction,
            pairs: transaction.open_table(KV)?,
            expiry: transaction.open_table(KV_EXPIRY)?,
            committed,
            now,
            changes: Vec::new(),
            is_changed: false,
        })
    }

    /// Writes if the guard holds and the key holds what is expected; else says which does not.
    pub(super) fn cas(
        &mut self,
        key: Key,
        expect: Expect,
        write: Write,
        guard: Option<&Guard>,
    ) -> Result<Result<Version, GuardedError>, Fault> {
        let now = self.now;
        if let Some(guard) = guard {
            let found = self.get(&guard.key)?.filter(|pair| pair.is_alive(now));
            if found.is_none_or(|pair| pair.version != guard.version.raw()) {
                return Ok(Err(GuardedError::Fenced));
            }
        }
        let stored = self.get(&key)?;
        let current = stored.clone().filter(|pair| pair.is_alive(now));
        let is_expected = match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Version(version) => current.as_ref().is_some_and(|pair| pair.version == version.raw()),
        };
        if !is_expected {
            return Ok(Err(CasError::Conflict(current.map(Pair::into_versioned)).into()));
        }
        if let Some(stored) = stored {
            self.remove(&key, stored.expires)?;
        }
        self.committed.version += 1;
        let version = self.committed.version;
        let written = match write {
            Write::Delete => None,
            Write::Put { value, ttl } => {
                let expires = ttl.map_or(NEVER, |ttl| {
                    // Rounded up: not before the time that was asked for.
                    let ttl_ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER);
                    now.0.saturating_add(ttl_ms)
                });
                let pair = Pair { version, expires, value };
                self.insert(&key, &pair)?;
                Some(pair.into_versioned())
            }
        };
        self.changes.push((key, written));
        self.is_changed = true;
        Ok(Ok(Version::from_raw(version)))
    }

    /// Removes pairs that have expired.
    pub(super) fn expire(&mut self) -> Result<(), Fault> {
        let end = self.now.0.saturating_add(1);
        let mut expired = Vec::new();
        for row in self.expiry.range(..(end, &[][..]))?.take(EXPIRE_PAIRS_PER_COMMIT) {
            let row = row?;
            let (expires, key) = row.0.value();
            expired.push((expires, Key::new(Bytes::copy_from_slice(key))));
        }
        for (expires, key) in &expired {
            self.remove(key, *expires)?;
        }
        self.is_changed |= !expired.is_empty();
        self.changes.extend(expired.into_iter().map(|(_, key)| (key, None)));
        Ok(())
    }

    /// Writes something that a full disk has no room for, or takes it away again.
    pub(super) fn probe(&mut self, ballast: Option<usize>) -> Result<(), Fault> {
        match ballast {
            Some(bytes) => {
                self.pairs.insert_reserve(PROBE_KEY, bytes)?.as_mut().fill(0xA5);
            }
            None => {
                self.pairs.remove(PROBE_KEY)?;
            }
        }
        self.is_changed = true;
        Ok(())
    }

    /// Writes the counters. `None` when there is nothing to commit.
    pub(super) fn finish(mut self) -> Result<Option<PairsOutcome>, Fault> {
        if !self.is_changed {
            return Ok(None);
        }
        self.committed.expiry = self.expiry.first()?.map(|(key, _)| UnixMillis(key.value().0));
        self.committed.commit += 1;
        let mut meta = self.transaction.open_table(META)?;
        meta.insert(META_COMMIT, u128::from(self.committed.commit))?;
        meta.insert(META_KV_VERSION, u128::from(self.committed.version))?;
        Ok(Some(PairsOutcome { committed: self.committed, changes: self.changes }))
    }

    fn get(&self, key: &Key) -> Result<Option<Pair>, Fault> {
        self.pairs.get(key.as_bytes())?.map(|row| Pair::from_row(row.value())).transpose()
    }

    fn insert(&mut self, key: &Key, pair: &Pair) -> Result<(), Fault> {
        self.pairs.insert(key.as_bytes(), pair.to_row().as_slice())?;
        if pair.expires != NEVER {
            self.expiry.insert((pair.expires, key.as_bytes()), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key, expires: u64) -> Result<(), Fault> {
        self.pairs.remove(key.as_bytes())?;
        if expires != NEVER {
            self.expiry.remove((expires, key.as_bytes()))?;
        }
        Ok(())
    }
}
