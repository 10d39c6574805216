//! Records that are in the log, read from their groups.

use batoff_log::{READ_BYTES_MAX, READ_RECORDS_MAX, ReadError, StoreError, StoredRecord};
use batoff_types::{Seq, UnixMillis};

use crate::envelope::VALUES_PER_READ;
use crate::index::ReadPlan;
use crate::names::PartsShelf;
use crate::rpc::KeyRange;
use crate::shared::StoreCore;
use crate::stored::{Decision, Envelope, Group, damaged};

/// How often a read begins anew because the log was trimmed behind it.
const ATTEMPTS_MAX: u32 = 8;

impl StoreCore {
    /// See [`PurgeLog::read`](batoff_log::PurgeLog::read).
    pub(crate) async fn read_records(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let items = max_items.clamp(1, READ_RECORDS_MAX);
        let bytes = max_bytes.min(READ_BYTES_MAX);
        let mut is_newest = false;
        for _ in 0..ATTEMPTS_MAX {
            self.check_running()?;
            let plan = self.index.read().plan(from, items, bytes);
            let (first, last) = match plan {
                ReadPlan::Trimmed { first } => return Err(ReadError::Trimmed { first }),
                ReadPlan::Groups { first, last } => (first, last),
                // Another replica may have appended it, and told.
                ReadPlan::Nothing | ReadPlan::AheadOfLog { .. } if !is_newest => {
                    self.catch_up().await?;
                    is_newest = true;
                    continue;
                }
                ReadPlan::Nothing => return Ok(Vec::new()),
                ReadPlan::AheadOfLog { tail } => return Err(ReadError::AheadOfLog { tail }),
            };
            match self.groups(first, last).await? {
                Some(groups) => return Ok(cut(groups, from, items, bytes)),
                // Trimmed, by another replica.
                None => _ = self.catch_up().await?,
            }
        }
        Err(StoreError::Unavailable { retry_after: crate::client::RETRY_AFTER }.into())
    }

    /// The groups from `first` to `last`, which are in the log; `None` when not all of them are there any more.
    ///
    /// Groups never change, so any member may answer, even one that has lost the others. One that lags is asked once more,
    /// with all the others.
    pub(crate) async fn groups(&self, first: u64, last: u64) -> Result<Option<Vec<Group>>, StoreError> {
        match self.groups_of_member(first, last, true).await {
            Ok(Some(groups)) => Ok(Some(groups)),
            Ok(None) | Err(StoreError::Unavailable { .. }) => self.groups_of_member(first, last, false).await,
            Err(error) => Err(error),
        }
    }

    async fn groups_of_member(
        &self,
        first: u64,
        last: u64,
        serializable: bool,
    ) -> Result<Option<Vec<Group>>, StoreError> {
        let mut groups = Vec::new();
        let mut next = first;
        while next <= last {
            let range = KeyRange { begin: self.names.group(next), end: self.names.group(last + 1) };
            let mut request = range.read(VALUES_PER_READ);
            request.serializable = serializable;
            let answer = self.client.range(&request).await.map_err(|error| self.told(error, false))?;
            if answer.kvs.is_empty() {
                return Ok(None);
            }
            for kv in answer.kvs {
                let envelope = Envelope::open(&kv.key, kv.value).map_err(|error| self.noted(error))?;
                let unpacked =
                    envelope.unpack::<Group>(PartsShelf::Groups, &kv.key, &self.client, &self.names).await;
                let Some(group) = unpacked.map_err(|error| self.noted(error))? else { return Ok(None) };
                if self.names.group_of(&kv.key) != Some(group.group) {
                    return Err(self.noted(damaged(&kv.key, "it says that it is another group")));
                }
                if group.group != next {
                    return Ok(None);
                }
                next += 1;
                groups.push(group);
            }
        }
        Ok(Some(groups))
    }

    /// See [`PurgeLog::find_by_time`](batoff_log::PurgeLog::find_by_time).
    pub(crate) async fn first_since(&self, at: UnixMillis) -> Result<Seq, StoreError> {
        self.catch_up().await?;
        for _ in 0..ATTEMPTS_MAX {
            let (found, next) = {
                let index = self.index.read();
                (index.group_since(at), index.tail().next())
            };
            let Some((group, _)) = found else { return Ok(next) };
            if let Some(groups) = self.groups(group, group).await? {
                let found = groups.into_iter().flat_map(records).find(|record| record.accepted_at >= at);
                return Ok(found.map_or(next, |record| record.seq));
            }
            self.catch_up().await?;
        }
        Err(StoreError::Unavailable { retry_after: crate::client::RETRY_AFTER })
    }
}

/// Of the groups' records those from `from` on, as many as fit.
fn cut(groups: Vec<Group>, from: Seq, max_items: usize, max_bytes: usize) -> Vec<StoredRecord> {
    let (mut cut, mut bytes) = (Vec::new(), 0);
    for record in groups.into_iter().flat_map(records).filter(|record| record.seq >= from) {
        bytes += record.body.len();
        let is_full = cut.len() >= max_items || bytes > max_bytes;
        if is_full && !cut.is_empty() {
            break;
        }
        cut.push(record);
    }
    cut
}

/// A group's records.
pub(crate) fn records(group: Group) -> impl Iterator<Item = StoredRecord> {
    let mut next = Seq::new(group.first_seq).unwrap_or(Seq::FIRST);
    group.entries.into_iter().filter_map(move |entry| match entry.entry {
        Some(Decision::Record(record)) => {
            let seq = next;
            next = next.next();
            Some(StoredRecord { seq, accepted_at: UnixMillis(record.accepted_at), body: record.body })
        }
        _ => None,
    })
}
