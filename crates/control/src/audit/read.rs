//! Reading a chain: the newest entries that fit, all of it in order, whether it is whole; and forgetting its old end.

use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::UnixMillis;

use super::blocks::{Blocks, Unopened};
use super::chain::ChainHead;
use super::check::{ChainCheck, ChainReport};
use super::entry::{AuditAction, AuditEntry, ITSELF};
use super::log::{Audit, CHAIN};
use super::writer::{Addition, ChainEnd, ChainWrite};
use crate::store::rows;

/// Entries of one page at most.
pub const LISTED_MAX: usize = 200;

/// Blocks that are read for one page. A question that few entries fit gets pages with few or none, and goes on.
const BLOCKS_PER_PAGE: usize = 64;

/// Blocks that are forgotten at once, so that nothing waits long.
const FORGOTTEN_AT_ONCE: usize = 1_024;

/// How often the chain is gone along anew because its old end was forgotten meanwhile.
const WALKS_MAX: u32 = 3;

/// What a chain may have more than its share before it is cut back, so that an entry about it is not written each minute.
const SLACK: u64 = 20;

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// About this site.
    pub site: Option<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of this kind.
    pub action: Option<AuditAction>,
    /// At or after this time.
    pub since: Option<UnixMillis>,
    /// Before this time.
    pub until: Option<UnixMillis>,
}

impl AuditFilter {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        is(&self.site, entry.site.as_deref())
            && is(&self.actor, Some(&entry.actor))
            && self.action.is_none_or(|action| entry.action == action.as_str())
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// An entry as it is given out: its canonical form with its hash as the last member. Without `,"hash":"…"` before the
/// closing brace it is the bytes that were hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry(String);

impl ListedEntry {
    fn new(line: &str, hash: &[u8; 32]) -> Self {
        let open = line.strip_suffix('}').unwrap_or(line);
        Self(format!("{open},\"hash\":\"{}\"}}", hex::encode(hash)))
    }

    /// As JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Some entries, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// Those that fit.
    pub entries: Vec<ListedEntry>,
    /// Where to go on; there is nothing more without it.
    pub next: Option<u64>,
}

impl Audit {
    fn blocks(&self) -> Blocks<'_> {
        Blocks { kv: self.store.kv(), replica: CHAIN }
    }

    /// The newest entries that fit, only those before the number `before` if it is given.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        if before.is_none() {
            self.flush().await?;
        }
        let blocks = self.blocks();
        let below = before.unwrap_or(u64::MAX);
        let mut place = blocks.last(|block| Ok(block.first < below)).await?;
        let mut page = AuditPage::default();
        for _ in 0..BLOCKS_PER_PAGE {
            let Some(found) = place else { return Ok(page) };
            let block = found.open()?;
            // Nothing before is later than this.
            if filter.since.is_some_and(|since| block.head.latest < since.0) {
                page.next = None;
                return Ok(page);
            }
            let links: Vec<_> = block.links().filter(|(number, ..)| *number < below).collect();
            for (number, line, hash) in links.into_iter().rev() {
                let entry: AuditEntry = serde_json::from_str(line)
                    .map_err(|_| rows::unreadable(&blocks.key(found.first), "it holds what is no entry"))?;
                if page.entries.len() == limit {
                    page.next = Some(number + 1);
                    return Ok(page);
                }
                if filter.fits(&entry) {
                    page.entries.push(ListedEntry::new(line, &hash));
                }
            }
            page.next = Some(found.first).filter(|_| block.head.before.is_some());
            let Some(earlier) = block.head.before else { return Ok(page) };
            place = blocks.at(earlier).await?;
            if place.is_none() {
                // Forgotten.
                page.next = None;
            }
        }
        Ok(page)
    }

    /// The entries from this number on, block by block in the chain's order; `None` after the last. Before the first the
    /// number may be one that was forgotten: then it begins where the chain does.
    pub async fn stretch(&self, from: u64) -> Result<Option<ChainPart>, StoreError> {
        let blocks = self.blocks();
        let place = match blocks.last(|block| Ok(block.first <= from)).await? {
            Some(found) => Some(found),
            None => blocks.from(from).await?,
        };
        let Some(found) = place else { return Ok(None) };
        let block = found.open()?;
        let first = from.max(block.head.first);
        let mut previous = block.head.previous.clone();
        let mut entries = Vec::new();
        for (number, line, hash) in block.links() {
            if number < first {
                previous = hex::encode(hash);
            } else {
                entries.push(ListedEntry::new(line, &hash));
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let head = ChainPartHead { chain: CHAIN.to_owned(), first, previous };
        Ok(Some(ChainPart { head, next: block.end(), entries }))
    }

    /// Goes along the whole chain.
    pub async fn verify(&self, known: Option<ChainHead>) -> Result<ChainReport, StoreError> {
        self.flush().await?;
        let _walking = self.walking.read().await;
        let mut walks = 1;
        loop {
            let end = self.writer.lock().await.newest_end().await?;
            let report = self.walk(&end, known.clone()).await?;
            // Another control plane may have forgotten entries from under our feet.
            let since = self.writer.lock().await.newest_end().await?;
            if report.flaws_total == 0
                || since.block.head.trimmed == end.block.head.trimmed
                || walks == WALKS_MAX
            {
                return Ok(report);
            }
            walks += 1;
        }
    }

    async fn walk(&self, end: &ChainEnd, known: Option<ChainHead>) -> Result<ChainReport, StoreError> {
        let blocks = self.blocks();
        let mut check = ChainCheck::new(end.head(), end.block.head.trimmed, known);
        let mut next = 0;
        while let Some(found) = blocks.from(next).await? {
            // Written since.
            if found.first > end.block.head.first {
                break;
            }
            next = found.first + 1;
            match found.look() {
                Ok(block) => check.block(&block),
                Err(why) => check.unreadable(found.first, why),
            }
        }
        Ok(check.finish())
    }

    /// Forgets whole blocks of the oldest entries: those older than `age`, and as many as it takes to have at most
    /// `bytes`. Says so in an entry first.
    pub async fn forget(&self, now: UnixMillis, age: Duration, bytes: u64) -> Result<(), StoreError> {
        let Ok(_alone) = self.walking.try_write() else { return Ok(()) };
        let blocks = self.blocks();
        let end = self.writer.lock().await.newest_end().await?;
        let oldest = UnixMillis(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        let Some(start) = blocks.from(0).await? else { return Ok(()) };
        // What a forgetting before could not finish.
        self.delete_through(end.block.head.trimmed).await?;
        let kept = |block: &Unopened| -> Result<u64, StoreError> {
            Ok(end.block.head.bytes.saturating_sub(block.open()?.head.bytes))
        };
        let too_many = kept(&start)? > bytes;
        let goes = |block: &Unopened| -> Result<bool, StoreError> {
            if block.first >= end.block.head.first {
                return Ok(false);
            }
            let opened = block.open()?;
            let over = too_many && kept(block)? > bytes - bytes / SLACK;
            Ok(over || opened.head.latest < oldest.0)
        };
        let Some(last) = blocks.last(goes).await? else { return Ok(()) };
        let last = last.open()?;
        let through = last.end() - 1;
        let hash =
            last.links().last().map_or_else(|| last.head.previous.clone(), |(.., hash)| hex::encode(hash));
        let entry = AuditEntry {
            change: Some(serde_json::json!({ "through": through, "hash": hash })),
            ..AuditEntry::new(now, ITSELF, AuditAction::AuditTrim)
        };
        let (entries, trimmed, is_strict) = (vec![entry], Some(through), true);
        if self.write(Addition { entries, trimmed, is_strict, ..Addition::default() }).await?
            == ChainWrite::Overtaken
        {
            // Perhaps by somebody who forgets, too. There is a next time.
            return Ok(());
        }
        tracing::info!(through, "old entries of the audit log forgotten");
        self.delete_through(through).await
    }

    /// The oldest first, so that what is left is always the end of a chain.
    async fn delete_through(&self, through: u64) -> Result<(), StoreError> {
        let blocks = self.blocks();
        for _ in 0..FORGOTTEN_AT_ONCE {
            match blocks.from(0).await? {
                Some(found) if found.first <= through => {
                    rows::delete(blocks.kv, &blocks.key(found.first)).await?;
                }
                _ => break,
            }
        }
        Ok(())
    }
}

/// Where a stretch begins.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ChainPartHead {
    /// Whose chain it is.
    pub chain: String,
    /// The number of its first entry.
    pub first: u64,
    /// The hash before it, in hex.
    pub previous: String,
}

/// Consecutive entries.
#[derive(Clone, Debug)]
pub struct ChainPart {
    /// Where it begins.
    pub head: ChainPartHead,
    /// The number after its last entry.
    pub next: u64,
    /// In the chain's order.
    pub entries: Vec<ListedEntry>,
}
