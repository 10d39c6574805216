//! The one who writes a chain: entries behind entries, and in the same write how far the purge log has its entries and
//! which changes are under way. So a kill at any instant leaves all of it as it was before a write, or after.

use std::sync::Arc;

use batoff_log::{CasError, Expect, Store, StoreError, Version, Write};
use batoff_types::{Body, Cursor, LogId, Seq, UnixMillis};
use bytes::Bytes;

use super::block::{AuditBlock, OpenChange};
use super::blocks::Blocks;
use super::chain::{ChainHash, ChainHead, genesis, link};
use super::entry::{AuditAction, AuditEntry, AuditResult, ITSELF};
use crate::clock::Clock;
use crate::metrics;
use crate::store::records::{pages, requested};

/// Bytes of entries from which on the next write begins a new block. Small enough that writing the last block again with
/// one entry more costs little, large enough that a year of a quiet control plane is a few hundred blocks.
const BLOCK_BYTES: usize = 64 << 10;

/// Entries of purges in one write at most.
const ENTRIES_PER_WRITE: usize = 512;

/// Changes that may be under way at one time: they stand in the block, and a block is bounded.
const OPEN_MAX: usize = 64;

/// What one write adds.
#[derive(Default)]
pub(super) struct Addition {
    pub entries: Vec<AuditEntry>,
    /// Purges up to here have their entries.
    pub through: Option<Cursor>,
    pub begins: Option<OpenChange>,
    pub ends: Option<String>,
    /// Entries up to this one are to be forgotten.
    pub trimmed: Option<u64>,
}

/// The end of the chain, as the store holds it.
#[derive(Clone)]
pub(super) struct ChainEnd {
    pub block: AuditBlock,
    /// `None` as long as the block is not written.
    version: Option<Version>,
    hash: ChainHash,
}

impl ChainEnd {
    /// The last entry.
    pub(super) fn head(&self) -> ChainHead {
        ChainHead { replica: self.block.head.replica.clone(), number: self.block.end() - 1, hash: self.hash }
    }

    pub(super) fn through(&self) -> Cursor {
        Cursor::new(self.block.head.through)
    }
}

/// Writes one chain.
pub(super) struct ChainWriter {
    store: Arc<dyn Store>,
    clock: Clock,
    replica: &'static str,
    log_id: LogId,
    /// `None` when a write failed: what the store holds is read anew before the next.
    end: Option<ChainEnd>,
}

impl ChainWriter {
    /// Finds the end of the chain, or begins one, and writes down what the start itself has to tell: that the chain
    /// begins, that the store is another one, which changes the last process had under way.
    pub(super) async fn open(
        store: Arc<dyn Store>,
        clock: Clock,
        replica: &'static str,
        log_id: LogId,
        tail: Cursor,
    ) -> Result<Self, StoreError> {
        let mut writer = Self { store, clock, replica, log_id, end: None };
        let end = writer.end().await?;
        let (now, is_new) = (writer.clock.wall(), end.version.is_none());
        let head = end.block.head.clone();
        let mut addition = Addition::default();
        if is_new {
            // What was purged before there was an audit log has no entries: nobody noted who asked.
            addition.through = Some(tail);
            addition.entries.push(AuditEntry {
                object: Some(log_id.to_string()),
                ..AuditEntry::new(now, ITSELF, AuditAction::AuditBegin)
            });
        } else if head.log_id != log_id.to_string() {
            addition.through = Some(Cursor::new(head.through).min(tail));
            addition.entries.push(AuditEntry {
                object: Some(log_id.to_string()),
                what: Some(format!("the store was {} before: a copy, or a restored backup", head.log_id)),
                ..AuditEntry::new(now, ITSELF, AuditAction::LogChanged)
            });
        } else if head.through > tail.get() {
            addition.through = Some(tail);
            addition.entries.push(AuditEntry {
                what: Some(format!("the purge log ends at {tail}, and had been read to {}", head.through)),
                ..AuditEntry::new(now, ITSELF, AuditAction::LogGap)
            });
        }
        for open in &head.open {
            addition
                .entries
                .push(AuditEntry { result: AuditResult::Unknown.as_str().into(), ..open.entry.clone() });
        }
        if !addition.entries.is_empty() {
            let mut end = end;
            end.block.head.open.clear();
            writer.end = Some(end);
            writer.write(addition).await?;
        }
        Ok(writer)
    }

    /// The end of the chain.
    pub(super) async fn end(&mut self) -> Result<ChainEnd, StoreError> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let blocks = Blocks { kv: self.store.kv(), replica: self.replica };
        let end = match blocks.last(|_| Ok(true)).await? {
            Some(found) => {
                let block = found.open()?;
                let hash = block.links().last().map(|(_, _, hash)| hash);
                let hash = hash.or(block.previous()).unwrap_or_default();
                ChainEnd { block, version: Some(found.version), hash }
            }
            None => {
                let log_id = self.log_id.to_string();
                let hash = genesis(self.replica, &log_id);
                let block = AuditBlock::first(self.replica, &log_id, &hash);
                ChainEnd { block, version: None, hash }
            }
        };
        self.end = Some(end.clone());
        Ok(end)
    }

    /// Adds to the chain; durable when it returns. After an error it may be durable or not, but never in part.
    pub(super) async fn write(&mut self, addition: Addition) -> Result<(), StoreError> {
        let mut end = self.end().await?;
        if addition.begins.is_some() && end.block.head.open.len() >= OPEN_MAX {
            return Err(StoreError::Unavailable { retry_after: std::time::Duration::from_secs(1) });
        }
        if end.block.lines.len() >= BLOCK_BYTES {
            end = ChainEnd { block: end.block.after(&end.hash), version: None, hash: end.hash };
        }
        let written = addition.entries.len();
        let head = &mut end.block.head;
        head.log_id = self.log_id.to_string();
        head.through = addition.through.map_or(head.through, Cursor::get);
        head.trimmed = addition.trimmed.unwrap_or(head.trimmed);
        head.open.retain(|open| Some(&open.id) != addition.ends.as_ref());
        head.open.extend(addition.begins);
        for entry in addition.entries {
            let entry = AuditEntry { number: end.block.end(), ..entry };
            let line = entry.line();
            end.hash = link(&end.hash, &line);
            end.block.lines.push_str(&line);
            end.block.lines.push('\n');
            end.block.head.count += 1;
            end.block.head.latest = end.block.head.latest.max(entry.at.0);
        }
        self.put(end).await?;
        metrics::audit_entries(written);
        Ok(())
    }

    async fn put(&mut self, mut end: ChainEnd) -> Result<(), StoreError> {
        let blocks = Blocks { kv: self.store.kv(), replica: self.replica };
        let key = blocks.key(end.block.head.first);
        let value = Bytes::from(end.block.encode());
        let expect = end.version.map_or(Expect::Absent, Expect::Version);
        // Whatever comes of it, and should this future be dropped: only what is known to be written is gone on from.
        self.end = None;
        let written = blocks.kv.cas(&key, expect, Write::Put { value: value.clone(), ttl: None }).await;
        let version = match written {
            Ok(version) => version,
            // It may have been written all the same.
            Err(error) => match blocks.kv.get(&key).await? {
                Some(row) if row.value == value => row.version,
                _ => return Err(refused(error)),
            },
        };
        end.version = Some(version);
        self.end = Some(end);
        Ok(())
    }

    /// Writes the entries of all purges that are in the log and have none yet.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let tail = store.log().state().await?.tail;
        let mut through = self.end().await?.through();
        let mut pages = pages(store.log(), through.next(), tail);
        while let Some(page) = pages.next().await? {
            for part in page.chunks(ENTRIES_PER_WRITE) {
                let mut entries = Vec::new();
                for stored in part {
                    if stored.seq > through.next() {
                        entries.push(gap(self.clock.wall(), through.next(), stored.seq));
                    }
                    let (record, requester) = requested(stored.seq, &stored.body)?;
                    if let Body::Purge(purge) = &record.body {
                        entries.push(AuditEntry::of_purge(&record, purge, requester));
                    }
                    through = Cursor::after(stored.seq);
                }
                self.write(Addition { entries, through: Some(through), ..Addition::default() }).await?;
            }
        }
        Ok(())
    }
}

/// Records went before their purges had entries; the housekeeping does not do that.
fn gap(now: UnixMillis, from: Seq, to: Seq) -> AuditEntry {
    AuditEntry {
        what: Some(format!(
            "records {from} to {} of the purge log are gone and have no entries",
            to.get() - 1
        )),
        ..AuditEntry::new(now, ITSELF, AuditAction::LogGap)
    }
}

fn refused(error: CasError) -> StoreError {
    match error {
        CasError::Store(error) => error,
        CasError::Conflict(_) => {
            StoreError::Corrupt("the audit log was written by somebody else at the same time".to_owned())
        }
    }
}
