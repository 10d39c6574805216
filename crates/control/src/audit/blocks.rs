//! Where blocks are: `audit/<chain>/<number of the first entry, 20 digits>`.

use batoff_log::{Key, Kv, StoreError, Version};
use bytes::Bytes;

use super::block::AuditBlock;
use crate::store::rows;

/// What stands under a block's key, not looked at yet.
pub(super) struct Unopened {
    key: Key,
    /// The number of its first entry, as the key says.
    pub first: u64,
    pub value: Bytes,
    pub version: Version,
}

impl Unopened {
    /// The block; or what is wrong with it.
    pub(super) fn look(&self) -> Result<AuditBlock, &'static str> {
        let block = AuditBlock::decode(&self.value)?;
        if block.head.first == self.first { Ok(block) } else { Err("it is the block of another place") }
    }

    /// The block; what is wrong with it is an error of the store.
    pub(super) fn open(&self) -> Result<AuditBlock, StoreError> {
        self.look().map_err(|why| rows::unreadable(&self.key, why))
    }
}

/// The blocks of one chain.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub kv: &'a dyn Kv,
    pub replica: &'a str,
}

impl Blocks<'_> {
    /// The key of the block that begins with this entry.
    pub(super) fn key(&self, first: u64) -> Key {
        Key::from(format!("audit/{}/{first:020}", self.replica))
    }

    /// The first block that begins with this entry or a later one.
    pub(super) async fn from(&self, number: u64) -> Result<Option<Unopened>, StoreError> {
        let prefix = format!("audit/{}/", self.replica);
        let before = number.checked_sub(1).map(|before| self.key(before));
        let page = self.kv.scan(&Key::from(prefix.as_str()), before.as_ref(), 1).await?;
        let Some((key, row)) = page.into_iter().next() else { return Ok(None) };
        let digits = key.as_bytes().get(prefix.len()..).and_then(|rest| std::str::from_utf8(rest).ok());
        let first = digits.and_then(|digits| digits.parse().ok());
        let first = first.ok_or_else(|| rows::unreadable(&key, "its key ends in no number"))?;
        Ok(Some(Unopened { key, first, value: row.value, version: row.version }))
    }

    /// The block that begins with exactly this entry.
    pub(super) async fn at(&self, first: u64) -> Result<Option<Unopened>, StoreError> {
        Ok(self.from(first).await?.filter(|found| found.first == first))
    }

    /// The last block for which `fits` holds, when it holds for none after the first for which it does not. By halving,
    /// for the store lists keys in one direction only; a handful of reads for each doubling of the chain.
    pub(super) async fn last(
        &self,
        fits: impl Fn(&Unopened) -> Result<bool, StoreError>,
    ) -> Result<Option<Unopened>, StoreError> {
        let Some(mut best) = self.from(0).await? else { return Ok(None) };
        if !fits(&best)? {
            return Ok(None);
        }
        // What fits begins before this.
        let mut end = u64::MAX;
        while best.first + 1 < end {
            let middle = best.first + 1 + (end - best.first - 1) / 2;
            match self.from(middle).await? {
                Some(found) if found.first < end && fits(&found)? => best = found,
                _ => end = middle,
            }
        }
        Ok(Some(best))
    }
}
