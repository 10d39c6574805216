//! The one who writes the chain: entries behind entries, and in the same write how far the purge log has its entries and
//! which changes are under way. So a kill at any instant leaves all of it as it was before a write, or after.
//!
//! Where several control planes share the store, each writes the same chain: a write is made behind the end that was read,
//! or not at all, and then behind the new end. So entries have one order, and each purge still has one entry.

use std::sync::Arc;

use batoff_log::{CasError, Expect, Store, StoreError, Version, Write};
use batoff_types::{Body, Cursor, LogId, Replica, Seq, UnixMillis};
use bytes::Bytes;

use super::block::{AuditBlock, OpenChange};
use super::blocks::{Blocks, Unopened};
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

/// How old a change may become that another control plane has under way, before it is taken for one that died with it.
const OPEN_MILLIS_MAX: u64 = 60 * 60 * 1_000;

/// How often a write is made anew behind what others have written.
const TRIES_MAX: u64 = 64;

/// The longest pause before that, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 20;

/// What one write adds.
#[derive(Clone, Default)]
pub(super) struct Addition {
    pub entries: Vec<AuditEntry>,
    /// Purges up to here have their entries.
    pub through: Option<Cursor>,
    pub begins: Option<OpenChange>,
    pub ends: Option<String>,
    /// Entries up to this one are to be forgotten.
    pub trimmed: Option<u64>,
    /// It follows from the end as it was read: not to be written behind another.
    pub is_strict: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainWrite {
    /// It is durable.
    Done,
    /// Another control plane has written first, and nothing was done.
    Overtaken,
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

/// Writes the chain.
pub(super) struct ChainWriter {
    store: Arc<dyn Store>,
    clock: Clock,
    chain: &'static str,
    replica: Replica,
    log_id: LogId,
    /// `None` when a write failed: what the store holds is read anew before the next.
    end: Option<ChainEnd>,
    /// The first entry of a block near the end.
    near: u64,
}

impl ChainWriter {
    /// Finds the end of the chain, or begins one, and writes down what the start itself has to tell: that the chain
    /// begins, that the store is another one, which changes the last process of this `replica` had under way.
    pub(super) async fn open(
        store: Arc<dyn Store>,
        clock: Clock,
        (chain, replica): (&'static str, Replica),
        log_id: LogId,
    ) -> Result<Self, StoreError> {
        let mut writer = Self { store, clock, chain, replica, log_id, end: None, near: 0 };
        for _ in 0..TRIES_MAX {
            let addition = writer.of_start().await?;
            if addition.entries.is_empty() || writer.write(addition).await? == ChainWrite::Done {
                return Ok(writer);
            }
        }
        Err(contended())
    }

    /// What a start has to tell, and nothing else is to be written before.
    async fn of_start(&mut self) -> Result<Addition, StoreError> {
        let mut end = self.end().await?;
        // Read after the chain: others write down what they have read from the log.
        let tail = self.store.log().state().await?.tail;
        let (now, log_id) = (self.clock.wall(), self.log_id);
        let head = end.block.head.clone();
        let mut addition = Addition { is_strict: true, ..Addition::default() };
        if end.version.is_none() {
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
        // Of our last process, and of one that does not come back.
        let is_over = |open: &OpenChange| {
            open.replica == self.replica.0 || open.entry.at.0.saturating_add(OPEN_MILLIS_MAX) < now.0
        };
        for open in head.open.iter().filter(|open| is_over(open)) {
            addition
                .entries
                .push(AuditEntry { result: AuditResult::Unknown.as_str().into(), ..open.entry.clone() });
        }
        end.block.head.open.retain(|open| !is_over(open));
        self.end = Some(end);
        Ok(addition)
    }

    /// The end of the chain as it is now, whoever has written.
    pub(super) async fn newest_end(&mut self) -> Result<ChainEnd, StoreError> {
        if self.store.is_shared()
            && let Some(end) = &self.end
        {
            let blocks = Blocks { kv: self.store.kv(), replica: self.chain };
            let there = blocks.at(end.block.head.first).await?;
            let is_same = there.is_some_and(|found| Some(found.version) == end.version);
            // Behind a full block there may be another.
            if !is_same || end.block.lines.len() >= BLOCK_BYTES {
                self.end = None;
            }
        }
        self.end().await
    }

    /// The end of the chain, as it was read or written last.
    pub(super) async fn end(&mut self) -> Result<ChainEnd, StoreError> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let end = match self.last_block().await? {
            Some(found) => {
                let block = found.open()?;
                let hash = block.links().last().map(|(_, _, hash)| hash);
                let hash = hash.or(block.previous()).unwrap_or_default();
                ChainEnd { block, version: Some(found.version), hash }
            }
            None => {
                let log_id = self.log_id.to_string();
                let hash = genesis(self.chain, &log_id);
                let block = AuditBlock::first(self.chain, &log_id, &hash);
                ChainEnd { block, version: None, hash }
            }
        };
        self.near = end.block.head.first;
        self.end = Some(end.clone());
        Ok(end)
    }

    /// The last block, looked for from where the end was.
    async fn last_block(&self) -> Result<Option<Unopened>, StoreError> {
        let blocks = Blocks { kv: self.store.kv(), replica: self.chain };
        let Some(mut found) = blocks.at(self.near).await? else { return blocks.last(|_| Ok(true)).await };
        loop {
            let next = found.open()?.end();
            match blocks.from(next).await? {
                Some(later) if later.first > found.first => found = later,
                _ => return Ok(Some(found)),
            }
        }
    }

    /// Adds to the chain; durable when it returns. After an error it may be durable or not, but never in part.
    pub(super) async fn write(&mut self, addition: Addition) -> Result<ChainWrite, StoreError> {
        for tries in 1..=TRIES_MAX {
            if self.write_once(addition.clone()).await? == ChainWrite::Done {
                return Ok(ChainWrite::Done);
            }
            // Whoever was faster would be so again.
            let pause_ms = rand::random_range(0..=tries.min(PAUSE_MILLIS_MAX));
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
            if addition.is_strict {
                return Ok(ChainWrite::Overtaken);
            }
        }
        Err(contended())
    }

    async fn write_once(&mut self, addition: Addition) -> Result<ChainWrite, StoreError> {
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
        head.stamp = self.store.is_shared().then(|| hex::encode(rand::random::<[u8; 8]>()));
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
        if self.put(end).await? == ChainWrite::Overtaken {
            return Ok(ChainWrite::Overtaken);
        }
        metrics::audit_entries(written);
        Ok(ChainWrite::Done)
    }

    async fn put(&mut self, mut end: ChainEnd) -> Result<ChainWrite, StoreError> {
        let blocks = Blocks { kv: self.store.kv(), replica: self.chain };
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
                _ if self.store.is_shared() && matches!(error, CasError::Conflict(_)) => {
                    return Ok(ChainWrite::Overtaken);
                }
                _ => return Err(refused(error)),
            },
        };
        end.version = Some(version);
        self.near = end.block.head.first;
        self.end = Some(end);
        Ok(ChainWrite::Done)
    }

    /// Writes the entries of all purges that are in the log and have none yet.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        let tail = self.store.log().state().await?.tail;
        // Each time it is overtaken somebody else has come further.
        while self.newest_end().await?.through() < tail {
            self.follow(tail).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, tail: Cursor) -> Result<ChainWrite, StoreError> {
        let store = Arc::clone(&self.store);
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
                let addition =
                    Addition { entries, through: Some(through), is_strict: true, ..Addition::default() };
                if self.write(addition).await? == ChainWrite::Overtaken {
                    return Ok(ChainWrite::Overtaken);
                }
            }
        }
        if through < tail {
            // All of the rest was trimmed.
            let entries = vec![gap(self.clock.wall(), through.next(), tail.next())];
            let addition = Addition { entries, through: Some(tail), is_strict: true, ..Addition::default() };
            return self.write(addition).await;
        }
        Ok(ChainWrite::Done)
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

/// Others write all the time.
fn contended() -> StoreError {
    StoreError::Unavailable { retry_after: std::time::Duration::from_secs(1) }
}

fn refused(error: CasError) -> StoreError {
    match error {
        CasError::Store(error) => error,
        CasError::Conflict(_) => {
            StoreError::Corrupt("the audit log was written by somebody else at the same time".to_owned())
        }
    }
}
