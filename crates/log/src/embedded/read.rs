//! What is read from a snapshot of the last commit.

use batoff_types::{Cursor, Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::fault::Fault;
use super::layout::{COMPLETIONS, KV, LOG, META, META_COMMIT, META_FIRST, SITE_TASKS, TASK_SEQS, TASKS};
use super::rows::{self, Pair};
use crate::kv::{Key, Versioned};
use crate::purge_log::{StoredRecord, TaskRow};

/// What a snapshot has for a reader of the log.
pub(super) enum Stretch {
    Records(Vec<StoredRecord>),
    Trimmed { first: Seq },
    AheadOfLog { tail: Cursor },
}

/// Records from `from` on: at most `max_items`, and no more after `max_bytes`.
pub(super) fn stretch(
    snapshot: &ReadTransaction,
    from: Seq,
    max_items: usize,
    max_bytes: usize,
) -> Result<Stretch, Fault> {
    let log = snapshot.open_table(LOG)?;
    let (first, tail) = bounds(snapshot, &log)?;
    if from < first {
        return Ok(Stretch::Trimmed { first });
    }
    if from > tail.next() {
        return Ok(Stretch::AheadOfLog { tail });
    }
    let mut records = Vec::with_capacity(max_items.min(64));
    let mut bytes = 0;
    for row in log.range(from.get()..)? {
        let (seq, row) = row?;
        let record = rows::read_record(seq.value(), row.value())?;
        bytes += record.body.len();
        if bytes > max_bytes && !records.is_empty() {
            break;
        }
        records.push(record);
        if records.len() >= max_items {
            break;
        }
    }
    Ok(Stretch::Records(records))
}

/// The first record accepted at or after `at`; the next to be written if there is none.
pub(super) fn first_since(snapshot: &ReadTransaction, at: UnixMillis) -> Result<Seq, Fault> {
    let log = snapshot.open_table(LOG)?;
    let (first, tail) = bounds(snapshot, &log)?;
    // The latest time up to each record only rises, so the first record with one of `at` or later was accepted then.
    let (mut low, mut high) = (first.get(), tail.next().get());
    while low < high {
        let middle = low + (high - low) / 2;
        let row = log.get(middle)?.ok_or_else(|| Fault::Damaged(format!("record {middle} is missing")))?;
        if rows::record_high(row.value()) < at {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(Seq::new(low).unwrap_or(Seq::FIRST))
}

fn bounds(snapshot: &ReadTransaction, log: &ReadOnlyTable<u64, &[u8]>) -> Result<(Seq, Cursor), Fault> {
    let first = meta(snapshot, META_FIRST)?;
    let first = Seq::new(first).ok_or_else(|| Fault::Damaged("its log begins at 0".to_owned()))?;
    let tail = match log.last()? {
        Some((seq, _)) => Cursor::new(seq.value()),
        None => Cursor::before(first),
    };
    Ok((first, tail))
}

fn meta(snapshot: &ReadTransaction, name: &'static str) -> Result<u64, Fault> {
    let value = snapshot.open_table(META)?.get(name)?.map(|value| value.value());
    value
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| Fault::Damaged(format!("its {name} is missing or out of range")))
}

/// The row of `task`, with its completion.
pub(super) fn task(snapshot: &ReadTransaction, task: TaskId) -> Result<Option<TaskRow>, Fault> {
    let Some(seq) = snapshot.open_table(TASK_SEQS)?.get(&task.to_bytes())?.map(|seq| seq.value()) else {
        return Ok(None);
    };
    let tasks = snapshot.open_table(TASKS)?;
    let completions = snapshot.open_table(COMPLETIONS)?;
    task_row(&tasks, &completions, seq).map(Some)
}

/// Tasks of `site`, newest first, older than `before`.
pub(super) fn tasks_of(
    snapshot: &ReadTransaction,
    site: &SiteId,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<TaskRow>, Fault> {
    let end = match before {
        None => u64::MAX,
        Some(task) => match snapshot.open_table(TASK_SEQS)?.get(&task.to_bytes())? {
            Some(seq) => seq.value(),
            None => return Ok(Vec::new()),
        },
    };
    let tasks = snapshot.open_table(TASKS)?;
    let completions = snapshot.open_table(COMPLETIONS)?;
    let site_tasks = snapshot.open_table(SITE_TASKS)?;
    let newest_first = site_tasks.range((site.as_str(), 0)..(site.as_str(), end))?.rev();
    newest_first.take(limit).map(|row| task_row(&tasks, &completions, row?.0.value().1)).collect()
}

fn task_row(
    tasks: &ReadOnlyTable<u64, &[u8]>,
    completions: &ReadOnlyTable<u64, &[u8]>,
    seq: u64,
) -> Result<TaskRow, Fault> {
    let row =
        tasks.get(seq)?.ok_or_else(|| Fault::Damaged(format!("the task row of record {seq} is missing")))?;
    let mut task = rows::read_task(seq, row.value())?;
    task.completion = completions.get(seq)?.map(|row| rows::read_completion(seq, row.value())).transpose()?;
    Ok(task)
}

/// What `key` holds, expired or not.
pub(super) fn pair(snapshot: &ReadTransaction, key: &Key) -> Result<Option<Pair>, Fault> {
    let row = snapshot.open_table(KV)?.get(key.as_bytes())?;
    row.map(|row| Pair::from_row(row.value())).transpose()
}

/// Pairs under `prefix` after `after` that have not expired, in order, at most `limit`; with the number of the commit
/// that the snapshot shows.
pub(super) fn pairs(
    snapshot: &ReadTransaction,
    prefix: &Key,
    after: Option<&Key>,
    limit: usize,
    now: UnixMillis,
) -> Result<(u64, Vec<(Key, Versioned)>), Fault> {
    let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
    let mut found = Vec::new();
    for row in snapshot.open_table(KV)?.range(start.as_bytes()..)? {
        let (key, row) = row?;
        if !key.value().starts_with(prefix.as_bytes()) || found.len() >= limit {
            break;
        }
        let pair = Pair::from_row(row.value())?;
        // The empty key is the writer's own (see `CommitDraft::probe`).
        let is_after = key.value() > after.map_or(&[][..], Key::as_bytes);
        if is_after && pair.is_alive(now) {
            found.push((Key::new(Bytes::copy_from_slice(key.value())), pair.into_versioned()));
        }
    }
    Ok((meta(snapshot, META_COMMIT)?, found))
}
