//! What follows from the log, in memory: where each group lies, which tasks there are, which requests were accepted before.
//!
//! ```text
//!  etcd      x/ what is left of trimmed records | l/ … 41  42  43 |
//!  index     ───────────────── everything through group 43 ───────^ and the revision at which 43 became the last
//! ```
//!
//! Each replica applies the same groups in the same order, and a group says what was decided and not how, so all have the
//! same index at the same group. An append is decided on the index at one group and written on condition that this group
//! is still the last: what it decides is true of the whole log, whoever else appends.

mod dirty;
mod places;
mod seen;
mod tasks;

use std::collections::BTreeMap;

use batoff_log::moving::{LogOutline, MovedKey};
use batoff_log::{LogState, StoreError, StoredRecord, TaskRow};
use batoff_types::{Cursor, LogId, Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;

use self::dirty::DirtyPages;
use self::places::GroupDirectory;
pub(crate) use self::places::{GroupEntry, ReadPlan};
pub(crate) use self::seen::SeenRequest;
use self::seen::SeenRequests;
use self::tasks::TaskIndex;
use crate::stored::{Decision, First, Group, LogRecord, Row, SeenKey, Task, hash, task_id};

/// Records of one page of what is left of trimmed ones. Few in tests, so that there are pages that a trim need not write.
pub(crate) const PAGE_SEQS: u64 = if cfg!(test) { 16 } else { 512 };

pub(crate) struct LogIndex {
    /// The last group that was applied; 0 before the first.
    group: u64,
    /// When it became the last.
    head_revision: i64,
    tail: Cursor,
    places: GroupDirectory,
    tasks: TaskIndex,
    seen: SeenRequests,
    dirty: DirtyPages,
}

/// What became of a group that was to be applied.
pub(crate) enum Applied {
    /// It was applied, and these are its records.
    New(Vec<StoredRecord>),
    /// It was applied before.
    Known,
    /// There are others before it.
    Gap,
}

impl LogIndex {
    /// Of a log that begins with this group and record, all before them being left to [`Self::load_row`].
    pub(crate) fn beginning(first: &First) -> Self {
        Self {
            group: first.group.saturating_sub(1),
            head_revision: 0,
            tail: Cursor::new(first.seq.saturating_sub(1)),
            places: GroupDirectory::beginning(first.group, first.seq),
            tasks: TaskIndex::default(),
            seen: SeenRequests::default(),
            dirty: DirtyPages::default(),
        }
    }

    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    pub(crate) fn tail(&self) -> Cursor {
        self.tail
    }

    pub(crate) fn head_revision(&self) -> i64 {
        self.head_revision
    }

    /// For a log whose last group has been trimmed.
    pub(crate) fn set_head_revision(&mut self, revision: i64) {
        self.head_revision = revision;
    }

    pub(crate) fn first_seq(&self) -> Seq {
        Seq::new(self.places.first_seq()).unwrap_or(Seq::FIRST)
    }

    pub(crate) fn first_group(&self) -> u64 {
        self.places.first_group()
    }

    pub(crate) fn state(&self, log_id: LogId) -> LogState {
        LogState { log_id, first: self.first_seq(), tail: self.tail }
    }

    /// Applies a group that was written at this revision. The error says what is wrong with it.
    pub(crate) fn apply(
        &mut self,
        group: Group,
        revision: i64,
        place: GroupEntry,
    ) -> Result<Applied, &'static str> {
        if group.group <= self.group {
            return Ok(Applied::Known);
        }
        if group.group > self.group + 1 {
            return Ok(Applied::Gap);
        }
        if group.first_seq != self.tail.next().get() {
            return Err("its records do not follow those of the group before it");
        }
        let mut records = Vec::new();
        let mut high = 0;
        for entry in group.entries {
            match entry.entry {
                Some(Decision::Record(record)) => {
                    high = high.max(record.accepted_at);
                    records.push(self.apply_record(record)?);
                }
                Some(Decision::Completion(completion)) => {
                    if self.tasks.complete(completion.seq, &completion.completion) {
                        self.dirty.mark(completion.seq / PAGE_SEQS, group.group);
                    }
                }
                Some(Decision::ForgetBefore(before)) => {
                    for seq in self.tasks.forget_before(before) {
                        self.dirty.mark(seq / PAGE_SEQS, group.group);
                    }
                }
                None => return Err("it has an entry of a kind that this build does not know"),
            }
        }
        let count = records.len() as u64;
        self.places.push(GroupEntry { first_seq: group.first_seq, records: count, high, ..place });
        self.group = group.group;
        self.head_revision = revision;
        Ok(Applied::New(records))
    }

    fn apply_record(&mut self, record: LogRecord) -> Result<StoredRecord, &'static str> {
        let seq = self.tail.next();
        let accepted_at = UnixMillis(record.accepted_at);
        if let Some(task) = &record.task {
            self.add_task(seq, accepted_at, task, &task.meta_of(&record.body), None)?;
        }
        for key in &record.keys {
            self.remember(seq, key)?;
        }
        self.tail = Cursor::after(seq);
        Ok(StoredRecord { seq, accepted_at, body: record.body })
    }

    /// Takes in what is left of a trimmed record.
    pub(crate) fn load_row(&mut self, row: &Row) -> Result<(), &'static str> {
        let seq = Seq::new(row.seq).ok_or("it has a row of record 0")?;
        if let Some(task) = &row.task {
            let completion = row.completed.then_some(&row.completion);
            self.add_task(seq, UnixMillis(row.accepted_at), task, &task.meta, completion)?;
        }
        row.keys.iter().try_for_each(|key| self.remember(seq, key))
    }

    fn add_task(
        &mut self,
        seq: Seq,
        accepted_at: UnixMillis,
        task: &Task,
        meta: &Bytes,
        completion: Option<&Bytes>,
    ) -> Result<(), &'static str> {
        self.tasks.add(TaskRow {
            site: task.site_id().ok_or("a task's site has no valid name")?,
            task: task_id(&task.task).ok_or("a task's id has not 16 bytes")?,
            seq,
            accepted_at,
            // Copies: else a row would hold all of its group in memory.
            meta: Bytes::copy_from_slice(meta),
            completion: completion.map(|completion| Bytes::copy_from_slice(completion)),
        });
        Ok(())
    }

    fn remember(&mut self, seq: Seq, key: &SeenKey) -> Result<(), &'static str> {
        let seen = SeenRequest {
            seq,
            task: task_id(&key.task).ok_or("a task's id has not 16 bytes")?,
            body_hash: hash(&key.body_hash).ok_or("a hash has not 32 bytes")?,
            first_at: UnixMillis(key.first_at),
            expires_at: UnixMillis(key.expires_at),
        };
        self.seen.remember(hash(&key.key).ok_or("a key has not 32 bytes")?, seen);
        Ok(())
    }

    /// The log begins here from now on, wherever that was decided.
    pub(crate) fn trimmed(&mut self, first: &First) {
        if first.group <= self.group + 1 && self.places.trim(first.group, first.seq) {
            self.dirty.written_through(first.group.saturating_sub(1));
        }
    }

    /// Which groups hold the records from `from` on, as many as asked for.
    pub(crate) fn plan(&self, from: Seq, max_items: usize, max_bytes: usize) -> ReadPlan {
        self.places.plan(from.get(), self.tail, max_items, max_bytes)
    }

    /// The first group with a record accepted at or after `at`.
    pub(crate) fn group_since(&self, at: UnixMillis) -> Option<(u64, Seq)> {
        self.places.since(at.0)
    }

    /// The groups before the one that holds `keep_from`, at most `max` of them, as the place where the log would begin.
    pub(crate) fn trim_target(&self, keep_from: Seq, max: u64) -> First {
        self.places.trim_target(keep_from.get(), self.tail, max)
    }

    /// Places of groups before `group`.
    pub(crate) fn places_before(&self, group: u64) -> impl Iterator<Item = &GroupEntry> {
        self.places.before(group)
    }

    /// All places.
    pub(crate) fn places(&self) -> impl Iterator<Item = &GroupEntry> {
        self.places.before(u64::MAX)
    }

    /// Pages that must be written before the log may begin at `first`.
    pub(crate) fn pages_for(&self, first: &First) -> std::collections::BTreeSet<u64> {
        let mut pages = self.dirty.through(first.group.saturating_sub(1), first.seq / PAGE_SEQS);
        if first.seq > self.places.first_seq() {
            pages.extend(self.places.first_seq() / PAGE_SEQS..=(first.seq - 1) / PAGE_SEQS);
        }
        pages
    }

    /// All that the index holds of tasks and keys, with `log_id`; without keys that have expired at `now`.
    pub(crate) fn into_outline(self, log_id: LogId, now: UnixMillis) -> LogOutline {
        let state = self.state(log_id);
        let tasks = self.tasks.into_rows().map(|row| (row.seq, row)).collect();
        let mut keys: BTreeMap<Seq, Vec<MovedKey>> = BTreeMap::new();
        for (key, seen) in self.seen.into_all().filter(|(_, seen)| now < seen.expires_at) {
            keys.entry(seen.seq).or_default().push(MovedKey {
                key,
                body_hash: seen.body_hash,
                first_at: seen.first_at,
                expires_at: seen.expires_at,
                task: seen.task,
            });
        }
        keys.values_mut().for_each(|keys| keys.sort_unstable());
        LogOutline { state, tasks, keys }
    }

    /// Rows of the tasks of records from `from` on that lie before `end`.
    pub(crate) fn rows(&self, from: u64, end: u64) -> impl Iterator<Item = &TaskRow> {
        self.tasks.range(from, end)
    }

    pub(crate) fn seen(&self, key: &[u8; 32]) -> Option<&SeenRequest> {
        self.seen.find(key)
    }

    pub(crate) fn drop_expired(&mut self, now: UnixMillis) {
        self.seen.drop_expired(now);
    }

    pub(crate) fn seq_of(&self, task: TaskId) -> Option<u64> {
        self.tasks.seq_of(task)
    }

    pub(crate) fn task(&self, task: TaskId) -> Option<TaskRow> {
        self.tasks.find(task)
    }

    /// What the row of this task says became of it.
    pub(crate) fn completion(&self, task: TaskId) -> Option<&Bytes> {
        self.tasks.completion(task)
    }

    pub(crate) fn tasks_of(&self, site: &SiteId, before: Option<TaskId>, limit: usize) -> Vec<TaskRow> {
        self.tasks.of_site(site, before, limit)
    }

    pub(crate) fn older_than(&self, at: UnixMillis) -> u64 {
        self.tasks.older_than(at.0)
    }
}

/// What a value that cannot be understood is reported as.
pub(crate) fn damaged_group(key: &[u8], why: &str) -> StoreError {
    crate::stored::damaged(key, why)
}
