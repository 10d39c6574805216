//! What forgets tasks and notes what became of them, as parts of a group.

use batoff_types::{TaskId, UnixMillis};
use bytes::Bytes;

use super::super::fault::Fault;
use super::super::queue::ForgottenPiece;
use super::super::segments::{put_completions, put_forgotten};
use super::draft::GroupDraft;
use crate::purge_log::CompletionChange;

/// Tasks looked at by one group. Bounds how long forgetting keeps appends waiting.
const FORGET_ROWS_PER_GROUP: usize = 2_048;

/// Younger tasks that forgetting passes over to find older ones behind them: rows lie in the order of the log, and
/// the callers' clocks need not agree with it.
const FORGET_YOUNGER_MAX: usize = 256;

impl GroupDraft<'_> {
    pub(super) fn put_completions(&mut self, rows: Vec<(TaskId, Bytes)>) -> Result<(), Fault> {
        let mut known = Vec::with_capacity(rows.len());
        for (task, completion) in rows {
            if let Some(seq) = self.seq_of(task)? {
                known.push((seq, completion));
            }
        }
        if !known.is_empty() {
            put_completions(self.out, known.iter().map(|(seq, completion)| (*seq, &**completion)));
            self.group.completions.extend(known);
        }
        Ok(())
    }

    /// Of each, in order, whether it is written: its row says what the writer found there.
    pub(super) fn change_completions(&mut self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, Fault> {
        let mut written = Vec::with_capacity(changes.len());
        for CompletionChange { task, before, after } in changes {
            let seq = self.seq_of(task)?;
            let is_as_found = match seq {
                Some(seq) => self.completion_of(seq)? == before,
                None => false,
            };
            if is_as_found {
                self.put_completions(vec![(task, after)])?;
            }
            written.push(is_as_found);
        }
        Ok(written)
    }

    /// What the row of record `seq`, a task that is known, says by now.
    fn completion_of(&mut self, seq: u64) -> Result<Option<Bytes>, Fault> {
        let drafted = self.group.completions.iter().rev().find(|(of, _)| *of == seq);
        if let Some(completion) = drafted.map(|(_, completion)| completion).or(self.layers.completion(seq)) {
            return Ok(Some(completion.clone()));
        }
        self.tables()?.completion_below(seq)
    }

    /// Forgets a piece of the tasks from record `from` on that are older than `older_than`.
    pub(super) fn forget_tasks(
        &mut self,
        older_than: UnixMillis,
        from: u64,
    ) -> Result<ForgottenPiece, Fault> {
        let mut piece = Piece { older_than, old: Vec::new(), looked_at: 0, younger: 0, next: None, last: 0 };
        let layers = self.layers;
        let mut is_over = false;
        for row in self.tables()?.tasks_from(from)? {
            let (seq, accepted_at) = row?;
            is_over = !piece.look_at(seq, accepted_at, layers.hides(seq));
            if is_over {
                break;
            }
        }
        // Lower first: those are older.
        let lower_first = [layers.leaving(), Some(&layers.changing)];
        for layer in lower_first.into_iter().flatten() {
            for row in layer.tasks_from(from.max(piece.last + 1)) {
                is_over =
                    is_over || !piece.look_at(row.seq.get(), row.accepted_at, layers.hides(row.seq.get()));
                if is_over {
                    break;
                }
            }
        }
        let Piece { mut old, next, .. } = piece;
        old.retain(|seq| !self.group.forgotten.contains(seq));
        if !old.is_empty() {
            put_forgotten(self.out, &old);
        }
        let forgotten = old.len() as u64;
        self.group.forgotten.extend(old);
        Ok(ForgottenPiece { forgotten, next })
    }
}

/// A piece of the tasks, looked through for old ones.
struct Piece {
    older_than: UnixMillis,
    old: Vec<u64>,
    looked_at: usize,
    younger: usize,
    /// Where the next piece begins, if this one ended because it was full.
    next: Option<u64>,
    last: u64,
}

impl Piece {
    /// Whether the next one is to be looked at, too.
    fn look_at(&mut self, seq: u64, accepted_at: UnixMillis, is_hidden: bool) -> bool {
        if self.looked_at == FORGET_ROWS_PER_GROUP {
            self.next = Some(seq);
            return false;
        }
        self.looked_at += 1;
        self.last = seq;
        if is_hidden {
            return true;
        }
        if accepted_at < self.older_than {
            self.old.push(seq);
        } else {
            self.younger += 1;
        }
        self.younger <= FORGET_YOUNGER_MAX
    }
}
