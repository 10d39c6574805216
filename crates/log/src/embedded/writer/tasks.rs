use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use redb::ReadableTable;

use super::super::fault::Fault;
use super::super::queue::{ForgottenPiece, TrimmedPiece};
use super::super::rows;
use super::draft::CommitDraft;

/// Records dropped by one transaction. Bounds how long a trim keeps appends waiting; it goes on in the next.
const TRIM_RECORDS_PER_COMMIT: u64 = 16_384;

/// Tasks looked at, and expired keys forgotten, by one transaction. Bounds how long forgetting keeps appends waiting.
const FORGET_ROWS_PER_COMMIT: usize = 2_048;

/// Younger tasks that forgetting passes over to find older ones behind them: rows lie in the order of the log, and
/// the callers' clocks need not agree with it.
const FORGET_YOUNGER_MAX: usize = 256;

impl CommitDraft<'_> {
    /// Drops a piece of what lies before `keep_from`.
    pub(super) fn trim(&mut self, keep_from: Seq) -> Result<TrimmedPiece, Fault> {
        let (first, end) = (self.committed.first, self.committed.tail.next());
        let target = keep_from.min(end);
        if target <= first {
            return Ok(TrimmedPiece { first, is_last: true });
        }
        let piece_end = target.get().min(first.get() + TRIM_RECORDS_PER_COMMIT);
        self.log()?.log.retain_in(first.get()..piece_end, |_, _| false)?;
        self.committed.first = Seq::new(piece_end).unwrap_or(target);
        self.is_changed = true;
        Ok(TrimmedPiece { first: self.committed.first, is_last: piece_end == target.get() })
    }

    pub(super) fn put_completions(&mut self, rows: Vec<(TaskId, Bytes)>) -> Result<(), Fault> {
        for (task, completion) in rows {
            let tables = self.log()?;
            let seq = tables.task_seqs.get(&task.to_bytes())?.map(|seq| seq.value());
            if let Some(seq) = seq {
                tables.completions.insert(seq, rows::completion(seq, &completion).as_slice())?;
                self.is_changed = true;
            }
        }
        Ok(())
    }

    /// Forgets a piece of the tasks from record `from` on that are older than `older_than`, and of the expired keys.
    pub(super) fn forget_tasks(
        &mut self,
        older_than: UnixMillis,
        from: u64,
    ) -> Result<ForgottenPiece, Fault> {
        let tables = self.log()?;
        let mut old = Vec::new();
        let mut next = None;
        let mut younger = 0;
        for (looked_at, row) in tables.tasks.range(from..)?.enumerate() {
            let (seq, row) = row?;
            if looked_at == FORGET_ROWS_PER_COMMIT {
                next = Some(seq.value());
                break;
            }
            let task = rows::read_task(seq.value(), row.value())?;
            if task.accepted_at < older_than {
                old.push(task);
            } else {
                younger += 1;
                if younger > FORGET_YOUNGER_MAX {
                    break;
                }
            }
        }
        for task in &old {
            let seq = task.seq.get();
            tables.tasks.remove(seq)?;
            tables.task_seqs.remove(&task.task.to_bytes())?;
            tables.site_tasks.remove((task.site.as_str(), seq))?;
            tables.completions.remove(seq)?;
        }
        self.is_changed |= !old.is_empty();
        if self.forget_keys(FORGET_ROWS_PER_COMMIT)? == FORGET_ROWS_PER_COMMIT {
            // There may be more keys even if there are no more tasks.
            next = next.or(Some(u64::MAX));
        }
        Ok(ForgottenPiece { forgotten: old.len() as u64, next })
    }
}
