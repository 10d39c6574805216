//! One transaction: what its requests have changed so far, in the file and beside it.

use redb::{Table, WriteTransaction};

use batoff_types::UnixMillis;

use super::super::committed::Committed;
use super::super::fault::Fault;
use super::super::layout::{
    COMPLETIONS, DEDUPE, DEDUPE_EXPIRY, KV, KV_EXPIRY, LOG, META, META_COMMIT, META_FIRST, META_KV_VERSION,
    SITE_TASKS, TASK_SEQS, TASKS,
};
use super::super::queue::{HeldAnswer, Request};
use crate::kv::{Key, Versioned};
use crate::purge_log::StoredRecord;

/// How much room a full disk must have got before writes are accepted again, in bytes.
pub(super) const PROBE_BYTES: usize = 1024 * 1024;

/// The key of the pair that takes that room for a moment; callers' keys are not empty.
const PROBE_KEY: &[u8] = b"";

/// A transaction that is being written: what it has changed so far, in the file and beside it.
pub(super) struct CommitDraft<'t> {
    transaction: &'t WriteTransaction,
    log: Option<LogTables<'t>>,
    pairs: Option<PairTables<'t>>,
    pub(super) committed: Committed,
    pub(super) now: UnixMillis,
    pub(super) records: Vec<StoredRecord>,
    pub(super) changes: Vec<(Key, Option<Versioned>)>,
    /// Keys remembered by this transaction.
    pub(super) remembered: usize,
    pub(super) is_changed: bool,
}

/// The log and its indexes.
pub(super) struct LogTables<'t> {
    pub(super) log: Table<'t, u64, &'static [u8]>,
    pub(super) tasks: Table<'t, u64, &'static [u8]>,
    pub(super) task_seqs: Table<'t, &'static [u8; 16], u64>,
    pub(super) site_tasks: Table<'t, (&'static str, u64), ()>,
    pub(super) completions: Table<'t, u64, &'static [u8]>,
    pub(super) dedupe: Table<'t, &'static [u8; 32], &'static [u8; 72]>,
    pub(super) dedupe_expiry: Table<'t, (u64, &'static [u8; 32]), ()>,
}

/// The pairs beside the log.
pub(super) struct PairTables<'t> {
    pub(super) pairs: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) expiry: Table<'t, (u64, &'static [u8]), ()>,
}

/// What a transaction has changed, told when it is durable.
pub(super) struct Outcome {
    pub(super) committed: Committed,
    pub(super) records: Vec<StoredRecord>,
    pub(super) changes: Vec<(Key, Option<Versioned>)>,
}

impl<'t> CommitDraft<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, committed: Committed, now: UnixMillis) -> Self {
        Self {
            transaction,
            log: None,
            pairs: None,
            committed,
            now,
            records: Vec::new(),
            changes: Vec::new(),
            remembered: 0,
            is_changed: false,
        }
    }

    /// Carries out one request; its answer waits for the flush.
    pub(super) fn carry_out(&mut self, request: Request, answers: &mut Vec<HeldAnswer>) -> Result<(), Fault> {
        macro_rules! answer {
            ($reply:ident, $result:expr) => {{
                match $result {
                    Ok(value) => answers.push(HeldAnswer::new($reply, value)),
                    Err(fault) => {
                        answers.push(HeldAnswer::of_failed($reply));
                        return Err(fault);
                    }
                }
            }};
        }
        match request {
            Request::Append { batch, reply, .. } => answer!(reply, self.append(batch)),
            Request::Trim { keep_from, reply } => answer!(reply, self.trim(keep_from)),
            Request::PutCompletions { rows, reply, .. } => answer!(reply, self.put_completions(rows)),
            Request::ForgetTasks { older_than, from, reply } => {
                answer!(reply, self.forget_tasks(older_than, from))
            }
            Request::Cas { key, expect, write, reply } => answer!(reply, self.cas(key, expect, write)),
            // The writer has seen to these.
            Request::Mend { .. } | Request::Close { .. } => {}
        }
        Ok(())
    }

    /// Writes something that a full disk has no room for, or takes it away again.
    pub(super) fn probe(&mut self, ballast: Option<usize>) -> Result<(), Fault> {
        let tables = self.pairs()?;
        match ballast {
            Some(bytes) => {
                tables.pairs.insert_reserve(PROBE_KEY, bytes)?.as_mut().fill(0xA5);
            }
            None => {
                tables.pairs.remove(PROBE_KEY)?;
            }
        }
        self.is_changed = true;
        Ok(())
    }

    /// Writes the counters. `None` when there is nothing to commit.
    pub(super) fn finish(mut self) -> Result<Option<Outcome>, Fault> {
        self.forget_expired_keys()?;
        if !self.is_changed {
            return Ok(None);
        }
        if let Some(tables) = &self.pairs {
            self.committed.kv_expiry = tables.next_expiry()?;
        }
        self.committed.commit += 1;
        let mut meta = self.transaction.open_table(META)?;
        meta.insert(META_COMMIT, u128::from(self.committed.commit))?;
        meta.insert(META_FIRST, u128::from(self.committed.first.get()))?;
        meta.insert(META_KV_VERSION, u128::from(self.committed.kv_version))?;
        Ok(Some(Outcome { committed: self.committed, records: self.records, changes: self.changes }))
    }

    pub(super) fn has_log_tables(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn log(&mut self) -> Result<&mut LogTables<'t>, Fault> {
        let tables = match self.log.take() {
            Some(tables) => tables,
            None => LogTables {
                log: self.transaction.open_table(LOG)?,
                tasks: self.transaction.open_table(TASKS)?,
                task_seqs: self.transaction.open_table(TASK_SEQS)?,
                site_tasks: self.transaction.open_table(SITE_TASKS)?,
                completions: self.transaction.open_table(COMPLETIONS)?,
                dedupe: self.transaction.open_table(DEDUPE)?,
                dedupe_expiry: self.transaction.open_table(DEDUPE_EXPIRY)?,
            },
        };
        Ok(self.log.insert(tables))
    }

    pub(super) fn pairs(&mut self) -> Result<&mut PairTables<'t>, Fault> {
        let tables = match self.pairs.take() {
            Some(tables) => tables,
            None => PairTables {
                pairs: self.transaction.open_table(KV)?,
                expiry: self.transaction.open_table(KV_EXPIRY)?,
            },
        };
        Ok(self.pairs.insert(tables))
    }
}
