//! The small records: compare, write, expire.

use batoff_types::UnixMillis;
use bytes::Bytes;
use redb::ReadableTable;

use super::super::fault::Fault;
use super::super::rows::{NEVER, Pair};
use super::draft::{CommitDraft, PairTables};
use crate::kv::{Expect, Key, Version, Versioned, Write};

/// Expired pairs removed by one transaction; the rest go with the next.
const EXPIRE_PAIRS_PER_COMMIT: usize = 1_024;

impl CommitDraft<'_> {
    /// Writes if the key holds what is expected; else says what it holds.
    pub(super) fn cas(
        &mut self,
        key: Key,
        expect: Expect,
        write: Write,
    ) -> Result<Result<Version, Option<Versioned>>, Fault> {
        let now = self.now;
        let tables = self.pairs()?;
        let stored = tables.get(&key)?;
        let current = stored.clone().filter(|pair| pair.is_alive(now));
        let is_expected = match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Version(version) => current.as_ref().is_some_and(|pair| pair.version == version.raw()),
        };
        if !is_expected {
            return Ok(Err(current.map(Pair::into_versioned)));
        }
        if let Some(stored) = stored {
            tables.remove(&key, stored.expires)?;
        }
        self.committed.kv_version += 1;
        let version = self.committed.kv_version;
        let written = match write {
            Write::Delete => None,
            Write::Put { value, ttl } => {
                let expires = ttl.map_or(NEVER, |ttl| {
                    // Rounded up: not before the time that was asked for.
                    let ttl_ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER);
                    now.0.saturating_add(ttl_ms)
                });
                let pair = Pair { version, expires, value };
                self.pairs()?.insert(&key, &pair)?;
                Some(pair.into_versioned())
            }
        };
        self.changes.push((key, written));
        self.is_changed = true;
        Ok(Ok(Version::from_raw(version)))
    }

    /// Removes pairs that have expired.
    pub(super) fn expire_pairs(&mut self) -> Result<(), Fault> {
        let now = self.now;
        if self.committed.kv_expiry.is_none_or(|expiry| now < expiry) {
            return Ok(());
        }
        let tables = self.pairs()?;
        let mut expired = Vec::new();
        for row in tables.expiry.range(..(now.0.saturating_add(1), &[][..]))?.take(EXPIRE_PAIRS_PER_COMMIT) {
            let row = row?;
            let (expires, key) = row.0.value();
            expired.push((expires, Key::new(Bytes::copy_from_slice(key))));
        }
        for (expires, key) in &expired {
            tables.remove(key, *expires)?;
        }
        self.is_changed |= !expired.is_empty();
        self.changes.extend(expired.into_iter().map(|(_, key)| (key, None)));
        Ok(())
    }
}

impl PairTables<'_> {
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

    /// When the next pair expires.
    pub(super) fn next_expiry(&self) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.expiry.first()?.map(|(key, _)| UnixMillis(key.value().0)))
    }
}
