//! The sequence of records: what it promises, and what is written together with it.

use std::sync::Arc;

use async_trait::async_trait;
use batoff_types::{Cursor, LogId, Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::{ReadError, StoreError};

/// Largest record, in bytes of body and task meta together. A larger one is refused with [`StoreError::TooLarge`].
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most records in one append. A longer batch is refused with [`StoreError::Invalid`]; split it.
pub const BATCH_RECORDS_MAX: usize = 4_096;

/// Most bytes in one append, bodies and task meta together. A larger one is refused with [`StoreError::TooLarge`].
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most records that one [`PurgeLog::read`] returns, whatever was asked for.
pub const READ_RECORDS_MAX: usize = 8_192;

/// Most bytes of bodies that one [`PurgeLog::read`] returns, whatever was asked for (a single record may be larger).
pub const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most rows that one [`PurgeLog::list_tasks`] returns, whatever was asked for.
pub const LIST_TASKS_MAX: usize = 1_000;

/// A record to be appended. The store never looks inside `body` or `meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The payload, opaque.
    pub body: Bytes,
    /// When the request was accepted, by the caller's wall clock. Kept as given; need not be in order.
    pub accepted_at: UnixMillis,
    /// The task that the record belongs to, if a customer may ask for it.
    pub task: Option<NewTask>,
    /// The keys under which a repeat of this request is recognised. Not empty only if there is a `task`.
    pub dedupe: Vec<Dedupe>,
}

/// The row of the task index that is written with a record. When the task id is already known, the first row stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// Whose task it is.
    pub site: SiteId,
    /// Its id.
    pub task: TaskId,
    /// What the caller wants to find again with it, opaque.
    pub meta: Bytes,
}

/// One key under which a repeated request is recognised.
///
/// ```text
///  first accepted            + fresh_for           expires_at
///        |------- not a duplicate --|----- a duplicate -----|--- as if never seen --->
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// A hash of the scope and the token with the signature or the idempotency key.
    pub key: [u8; 32],
    /// A hash of the request's body: the same key with another one is a [`Appended::Conflict`].
    pub body_hash: [u8; 32],
    /// A repeat within this many milliseconds after the *first* is not a duplicate: it is a new record, and the first
    /// one's row stays. 0: every repeat is a duplicate.
    pub fresh_for_ms: u64,
    /// From this time on the key is as if it had never been seen.
    pub expires_at: UnixMillis,
}

/// What became of one record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable, and this is its number.
    New {
        /// Its place in the log.
        seq: Seq,
    },
    /// The request was accepted before; nothing was written.
    Duplicate {
        /// The first one's place in the log.
        seq: Seq,
        /// The first one's task.
        task: TaskId,
    },
    /// One of its keys was used with another body; nothing was written.
    Conflict,
}

/// Where a log begins and ends.
///
/// ```text
///  seq    … 6   7   8   9
///  trimmed  |   |   |   |
///       first = 7       ^- tail = Cursor::after(9)
/// ```
///
/// An empty log has `first == tail.next()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Which log this is.
    pub log_id: LogId,
    /// The oldest record that can be read; the next to be written when there is none.
    pub first: Seq,
    /// The place after the newest durable record.
    pub tail: Cursor,
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the log.
    pub seq: Seq,
    /// As given when it was appended.
    pub accepted_at: UnixMillis,
    /// The payload, opaque.
    pub body: Bytes,
}

/// A row of the task index. It outlives the trimming of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Whose task it is.
    pub site: SiteId,
    /// Its id.
    pub task: TaskId,
    /// Where its record is, or was.
    pub seq: Seq,
    /// When its record was accepted.
    pub accepted_at: UnixMillis,
    /// As given when it was appended.
    pub meta: Bytes,
    /// What [`PurgeLog::put_completions`] wrote last; `None` before.
    pub completion: Option<Bytes>,
}

/// What a task's row is to say of what became of it, if nobody else has written there meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionChange {
    /// Whose row.
    pub task: TaskId,
    /// What stood there when its writer looked; `None` when nothing did.
    pub before: Option<Bytes>,
    /// What is to stand there.
    pub after: Bytes,
}

/// One durable, totally ordered sequence of records, and what must be written together with them.
///
/// ```text
///  seq            3   4   5   6
///  trimmed 1, 2 |   |   |   |   |
///               ^ first = 3     ^ tail = Cursor::after(6)
///
///  read(3) … read(6)   records        read(2)  Trimmed { first: 3 }
///  read(7)             empty page     read(8)  AheadOfLog { tail: |6 }
/// ```
///
/// An implementation
/// - must not answer an append with `Ok` before its records are durable (flushed; on a majority, if replicated);
/// - must number records 1, 2, 3, … without a gap, and never use a number for two records, across crashes too;
/// - must give an append that begins after another's `Ok` larger numbers;
/// - must not let a reader see a record that can still be lost;
/// - does the group commit itself: whatever waits while a flush runs goes into the next, and nothing waits for a timer.
#[async_trait]
pub trait PurgeLog: Send + Sync {
    /// Appends all records of `batch`, or none; answers one [`Appended`] for each, in order.
    ///
    /// The records that are [`Appended::New`] get contiguous numbers with no record of another batch between them.
    /// Of a record's keys, any conflict makes it a [`Appended::Conflict`], else any duplicate makes it a
    /// [`Appended::Duplicate`]; else it is new, and those keys that are absent (or expired) are stored with it. Repeats
    /// inside one batch are recognised too. Body, task row and keys are written together or not at all.
    ///
    /// Dropping the future before it is ready leaves the outcome unknown, as [`StoreError::Unknown`] does: the records
    /// may or may not be in the log. Repeat with the same keys.
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError>;

    /// What an append of a record with these keys would be answered now, if it would not be new; `None` when it would.
    /// Writes nothing. Linearizable as [`PurgeLog::state`] is: knows of every append that was answered before the call.
    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError>;

    /// Records from `from` on, in order: at most `max_items`, and no more after `max_bytes` of bodies; at least one if
    /// `from` has been written (`max_items` 0 counts as 1), none if `from` is the next to be written. Capped at
    /// [`READ_RECORDS_MAX`] and [`READ_BYTES_MAX`].
    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError>;

    /// Every record from `from` on, in order, each once, without end: what is there, then what comes. Reconnects
    /// inside. Items are never empty. A reader that is too slow for the live feed is fed by reading; one that has
    /// been overtaken by a trim gets [`ReadError::Trimmed`]. After an error the stream ends; it ends without one when
    /// the store is closed.
    fn tail(&self, from: Seq) -> BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>>;

    /// Where the log begins and ends. Linearizable: includes every append that was answered before the call.
    async fn state(&self) -> Result<LogState, StoreError>;

    /// Drops records before `keep_from`; may keep more than asked. Never goes back; a `keep_from` beyond the tail
    /// counts as the next record. Returns the first record that is there now. Task rows stay.
    async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError>;

    /// The first record accepted at or after `at` among those not trimmed; the next to be written if there is none.
    /// For trimming by age.
    async fn find_by_time(&self, at: UnixMillis) -> Result<Seq, StoreError>;

    /// The task's row, if there is one.
    async fn find_task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError>;

    /// Tasks of `site`, newest first (by their place in the log), only those strictly older than `before` if given.
    /// At most `limit` and at most [`LIST_TASKS_MAX`]. Empty when `before` is not known: its elders are gone as well.
    async fn list_tasks(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError>;

    /// Writes what became of tasks: all rows or none, durable before `Ok`. A later row for a task replaces an earlier;
    /// rows of unknown tasks are passed over.
    async fn put_completions(&self, rows: Vec<(TaskId, Bytes)>) -> Result<(), StoreError>;

    /// The same for those rows alone that still say what their writer found there; durable before `Ok`. Returns of each, in
    /// order, whether it was written: one that another has changed is left as it is, and so is that of an unknown task.
    ///
    /// After [`StoreError::Unknown`] it may have been written; asked again, it is then told not to be, and is found there.
    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError>;

    /// Forgets tasks whose record was accepted before `older_than`, and keys that have expired. Returns how many tasks
    /// were forgotten.
    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError>;
}

/// For engines: the bytes of bodies and task meta in a batch, if it keeps the rules of [`PurgeLog::append`].
pub fn check_batch(batch: &[NewRecord]) -> Result<usize, StoreError> {
    if batch.len() > BATCH_RECORDS_MAX {
        return Err(StoreError::Invalid("a batch has at most 4096 records"));
    }
    let mut bytes = 0;
    for record in batch {
        let size = record.body.len() + record.task.as_ref().map_or(0, |task| task.meta.len());
        if size > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { limit: RECORD_BYTES_MAX });
        }
        if record.task.is_none() && !record.dedupe.is_empty() {
            return Err(StoreError::Invalid("a record with dedupe keys must have a task"));
        }
        bytes += size;
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(StoreError::TooLarge { limit: BATCH_BYTES_MAX });
    }
    Ok(bytes)
}

/// For engines: the bytes of these rows with their ids, if they keep the rules of [`PurgeLog::put_completions`].
pub fn check_completions(rows: &[(TaskId, Bytes)]) -> Result<usize, StoreError> {
    check_rows(rows.iter().map(|(_, row)| row))
}

/// For engines: the same of these changes, if they keep the rules.
pub fn check_changes(changes: &[CompletionChange]) -> Result<usize, StoreError> {
    check_rows(changes.iter().map(|change| &change.after))
}

fn check_rows<'r>(rows: impl Iterator<Item = &'r Bytes>) -> Result<usize, StoreError> {
    let mut bytes = 0;
    for row in rows {
        if row.len() > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { limit: RECORD_BYTES_MAX });
        }
        bytes += row.len() + 16;
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(StoreError::TooLarge { limit: BATCH_BYTES_MAX });
    }
    Ok(bytes)
}
