//! Appends: which record is new, and what is written together with it.

use batoff_types::{Cursor, UnixMillis};
use redb::ReadableTable;

use super::super::fault::Fault;
use super::super::rows::{self, SeenKey};
use super::draft::{CommitDraft, LogTables};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, StoredRecord};

/// Expired keys forgotten by a commit beyond twice as many as it remembers: more go than come, and no flush takes long.
const FORGET_KEYS_EXTRA: usize = 16;

impl CommitDraft<'_> {
    pub(super) fn append(&mut self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, Fault> {
        batch.into_iter().map(|record| self.append_one(record)).collect()
    }

    fn append_one(&mut self, record: NewRecord) -> Result<Appended, Fault> {
        let now = self.now;
        if let Some(known) = recognise(self.log()?, &record.dedupe, now)? {
            return Ok(known);
        }
        let seq = self.committed.tail.next();
        let high = self.committed.high.max(record.accepted_at);
        let tables = self.log()?;
        {
            let mut row = tables.log.insert_reserve(seq.get(), rows::record_len(&record))?;
            rows::write_record(row.as_mut(), seq.get(), high, &record);
        }
        let NewRecord { body, accepted_at, task, dedupe } = record;
        if let Some(task) = task {
            for key in &dedupe {
                let seen = SeenKey {
                    seq: seq.get(),
                    task: task.task,
                    body_hash: key.body_hash,
                    first_at: now,
                    expires_at: key.expires_at,
                };
                remember(tables, &key.key, seen, now)?;
            }
            index_task(tables, seq.get(), accepted_at, &task)?;
        }
        self.remembered += dedupe.len();
        self.committed.high = high;
        self.committed.tail = Cursor::after(seq);
        self.records.push(StoredRecord { seq, accepted_at, body });
        self.is_changed = true;
        Ok(Appended::New { seq })
    }

    /// Forgets some of the keys that have expired, if this transaction remembers any.
    pub(super) fn forget_expired_keys(&mut self) -> Result<(), Fault> {
        if self.remembered > 0 && self.has_log_tables() {
            self.forget_keys(2 * self.remembered + FORGET_KEYS_EXTRA)?;
        }
        Ok(())
    }

    /// Forgets at most `limit` keys that have expired; returns how many.
    pub(super) fn forget_keys(&mut self, limit: usize) -> Result<usize, Fault> {
        let end = self.now.0.saturating_add(1);
        let tables = self.log()?;
        let mut expired = Vec::new();
        for row in tables.dedupe_expiry.range(..(end, &[0; 32]))?.take(limit) {
            let row = row?;
            let (expires_at, key) = row.0.value();
            expired.push((expires_at, *key));
        }
        for (expires_at, key) in &expired {
            tables.dedupe_expiry.remove((*expires_at, key))?;
            tables.dedupe.remove(key)?;
        }
        self.is_changed |= !expired.is_empty();
        Ok(expired.len())
    }
}

/// Whether a request with these keys was accepted before, or cannot be now.
fn recognise(tables: &LogTables<'_>, keys: &[Dedupe], now: UnixMillis) -> Result<Option<Appended>, Fault> {
    let mut duplicate = None;
    for key in keys {
        let Some(seen) = tables.dedupe.get(&key.key)?.map(|row| SeenKey::from_row(row.value())) else {
            continue;
        };
        if seen.expires_at <= now {
            continue;
        }
        if seen.body_hash != key.body_hash {
            return Ok(Some(Appended::Conflict));
        }
        // A clock that was set back makes the first one fresh: a purge too many, never one too few.
        let age_ms = now.0.saturating_sub(seen.first_at.0);
        if age_ms >= key.fresh_for_ms && duplicate.is_none() {
            let seq = batoff_types::Seq::new(seen.seq)
                .ok_or_else(|| Fault::Damaged("a remembered request names record 0".to_owned()))?;
            duplicate = Some(Appended::Duplicate { seq, task: seen.task });
        }
    }
    Ok(duplicate)
}

/// Remembers `seen` under `key`, unless an earlier request is still remembered under it.
fn remember(tables: &mut LogTables<'_>, key: &[u8; 32], seen: SeenKey, now: UnixMillis) -> Result<(), Fault> {
    if seen.expires_at <= now {
        return Ok(());
    }
    let earlier = tables.dedupe.get(key)?.map(|row| SeenKey::from_row(row.value()));
    match earlier {
        Some(earlier) if now < earlier.expires_at => return Ok(()),
        Some(expired) => {
            tables.dedupe_expiry.remove((expired.expires_at.0, key))?;
        }
        None => {}
    }
    tables.dedupe.insert(key, &seen.to_row())?;
    tables.dedupe_expiry.insert((seen.expires_at.0, key), ())?;
    Ok(())
}

/// Writes the task's row, unless the task is known already.
fn index_task(
    tables: &mut LogTables<'_>,
    seq: u64,
    accepted_at: UnixMillis,
    task: &NewTask,
) -> Result<(), Fault> {
    let id = task.task.to_bytes();
    if tables.task_seqs.get(&id)?.is_some() {
        return Ok(());
    }
    tables.task_seqs.insert(&id, seq)?;
    tables.tasks.insert(seq, rows::task(seq, &task.site, task.task, accepted_at, &task.meta).as_slice())?;
    tables.site_tasks.insert((task.site.as_str(), seq), ())?;
    Ok(())
}
