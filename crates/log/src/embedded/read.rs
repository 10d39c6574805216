//! What is read of what is durable.

use std::sync::Arc;

use batoff_types::{Cursor, Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::checkpoint::MetaNumbers;
use super::fault::{Fault, unavailable};
use super::layer::TaskLayers;
use super::layout::{COMPLETIONS, KV, META_COMMIT, SITE_TASKS, TASK_SEQS, TASKS};
use super::rows::{self, Pair};
use super::shared::{OpenedFiles, Shared};
use crate::error::StoreError;
use crate::kv::{Key, Versioned};
use crate::purge_log::{StoredRecord, TaskRow};

/// What a snapshot has for a reader of the log.
pub(super) enum Stretch {
    Records(Vec<StoredRecord>),
    Trimmed { first: Seq },
    AheadOfLog { tail: Cursor },
}

/// What is durable, as one opening of the databases has it.
pub(super) struct StoreView {
    pub(super) shared: Arc<Shared>,
    pub(super) files: OpenedFiles,
}

impl Shared {
    /// Runs `work` on what is durable, off the async threads. `mend` is told which opening of the files failed, so that
    /// the writer opens them again although nobody writes.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        mend: impl FnOnce(u64),
        work: impl FnOnce(&StoreView) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check_running()?;
        let files = self.opened().ok_or_else(unavailable)?;
        let opening = files.opening;
        let snapshot = StoreView { shared: Arc::clone(self), files };
        let snapshot = tokio::task::spawn_blocking(move || work(&snapshot)).await;
        match snapshot {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(fault)) => {
                tracing::error!(%fault, "the purge log could not be read");
                if !matches!(fault, Fault::Damaged(_)) {
                    mend(opening);
                    return Err(unavailable());
                }
                Err(fault.certain())
            }
            // Some kinds of damage make redb panic instead of saying so.
            Err(gave_up) if gave_up.is_panic() => {
                Err(StoreError::Corrupt("its pages contradict one another".to_owned()))
            }
            Err(_) => Err(unavailable()),
        }
    }
}

impl StoreView {
    /// Records from `from` on: at most `max_items`, and no more after `max_bytes`.
    pub(super) fn stretch(&self, from: Seq, max_items: usize, max_bytes: usize) -> Result<Stretch, Fault> {
        loop {
            let state = self.shared.state();
            if from < state.first {
                return Ok(Stretch::Trimmed { first: state.first });
            }
            if from > state.tail.next() {
                return Ok(Stretch::AheadOfLog { tail: state.tail });
            }
            if let Some(records) = self.shared.shelf.records(from, state.tail, max_items, max_bytes)? {
                return Ok(Stretch::Records(records));
            }
        }
    }

    /// The first record accepted at or after `at`; the next to be written if there is none.
    pub(super) fn first_since(&self, at: UnixMillis) -> Result<Seq, Fault> {
        let before = self.shared.state();
        let found = self.shared.shelf.first_since(at)?.filter(|seq| before.tail.covers(*seq));
        let after = self.shared.state();
        Ok(found.unwrap_or(before.tail.next()).max(after.first))
    }

    /// The row of `task`, with its completion.
    pub(super) fn task(&self, task: TaskId) -> Result<Option<TaskRow>, Fault> {
        loop {
            let ended = {
                let layers = self.shared.layers.read();
                if let Some(seq) = layers.seq_of(task)
                    && let Some(row) = layers.task(seq)
                {
                    return Ok(Some(whole_row(&layers, seq, row)));
                }
                layers.ended()
            };
            let tables = TaskTables::open(&self.files.checkpoint.begin_read()?)?;
            let Some(seq) = tables.seq_below(task)? else { return Ok(None) };
            let mut rows = vec![tables.row_below(seq)?];
            if self.bring_up_to_date(&mut rows, ended) {
                return Ok(rows.pop());
            }
        }
    }

    /// Tasks of `site`, newest first, older than `before`.
    pub(super) fn tasks_of(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, Fault> {
        let end = match before {
            None => u64::MAX,
            Some(task) => match self.task(task)? {
                Some(row) => row.seq.get(),
                None => return Ok(Vec::new()),
            },
        };
        loop {
            let ended = self.shared.layers.read().ended();
            let below = self.files.checkpoint.begin_read()?;
            let tables = TaskTables::open(&below)?;
            let (mut found, end_below) = {
                let layers = self.shared.layers.read();
                if layers.ended() != ended {
                    continue;
                }
                // A checkpoint that has just ended holds what a layer still does.
                let end_below = layers.first_task().unwrap_or(u64::MAX).min(end);
                (newest_above(&layers, site, end, limit), end_below)
            };
            let site_tasks = below.open_table(SITE_TASKS)?;
            let mut seqs = site_tasks.range((site.as_str(), 0)..(site.as_str(), end_below))?.rev();
            let is_current = loop {
                let rows = seqs.by_ref().take(limit.saturating_sub(found.len()));
                let rows = rows.map(|row| tables.row_below(row?.0.value().1));
                let mut rows = rows.collect::<Result<Vec<_>, Fault>>()?;
                if rows.is_empty() {
                    break true;
                }
                if !self.bring_up_to_date(&mut rows, ended) {
                    break false;
                }
                found.append(&mut rows);
            };
            if is_current {
                return Ok(found);
            }
        }
    }

    /// Drops those of `rows` that were forgotten since the checkpoint they were read from, and adds what became of the
    /// others. False when a checkpoint has ended since `ended` was: then the layers do not know any more what happened.
    fn bring_up_to_date(&self, rows: &mut Vec<TaskRow>, ended: u64) -> bool {
        let layers = self.shared.layers.read();
        rows.retain_mut(|row| {
            let seq = row.seq.get();
            if let Some(completion) = layers.completion(seq) {
                row.completion = Some(completion.clone());
            }
            !layers.hides(seq)
        });
        layers.ended() == ended
    }

    /// What `key` holds, expired or not.
    pub(super) fn pair(&self, key: &Key) -> Result<Option<Pair>, Fault> {
        let row = self.files.pairs.begin_read()?.open_table(KV)?.get(key.as_bytes())?;
        row.map(|row| Pair::from_row(row.value())).transpose()
    }

    /// The pairs as of one commit.
    pub(super) fn pairs(&self) -> Result<PairsSnapshot, Fault> {
        Ok(PairsSnapshot(self.files.pairs.begin_read()?))
    }
}

/// Tasks of `site` in the layers before record `end`, newest first.
fn newest_above(layers: &TaskLayers, site: &SiteId, end: u64, limit: usize) -> Vec<TaskRow> {
    let seqs = layers.iter().flat_map(|layer| layer.of_site(site, end)).filter(|seq| !layers.hides(*seq));
    seqs.filter_map(|seq| layers.task(seq).map(|row| whole_row(layers, seq, row))).take(limit).collect()
}

/// The row of a task that lies in a layer: what became of it came later, so it cannot lie below.
fn whole_row(layers: &TaskLayers, seq: u64, row: &TaskRow) -> TaskRow {
    TaskRow { completion: layers.completion(seq).cloned(), ..row.clone() }
}

/// The index of tasks in the database, below the layers.
pub(super) struct TaskTables {
    tasks: ReadOnlyTable<u64, &'static [u8]>,
    task_seqs: ReadOnlyTable<&'static [u8; 16], u64>,
    completions: ReadOnlyTable<u64, &'static [u8]>,
}

impl TaskTables {
    pub(super) fn open(snapshot: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            tasks: snapshot.open_table(TASKS)?,
            task_seqs: snapshot.open_table(TASK_SEQS)?,
            completions: snapshot.open_table(COMPLETIONS)?,
        })
    }

    /// Where the task's record is, or was; `None` when it is not known, or was forgotten.
    pub(super) fn seq_of(&self, layers: &TaskLayers, task: TaskId) -> Result<Option<u64>, Fault> {
        if let Some(seq) = layers.seq_of(task) {
            return Ok(Some(seq));
        }
        Ok(self.seq_below(task)?.filter(|seq| !layers.hides(*seq)))
    }

    /// Where the task's record was when the checkpoint was written.
    fn seq_below(&self, task: TaskId) -> Result<Option<u64>, Fault> {
        Ok(self.task_seqs.get(&task.to_bytes())?.map(|seq| seq.value()))
    }

    /// The task of record `seq`, which is there, as it was when the checkpoint was written.
    fn row_below(&self, seq: u64) -> Result<TaskRow, Fault> {
        let row = self.tasks.get(seq)?;
        let row = row.ok_or_else(|| Fault::Damaged(format!("the task row of record {seq} is missing")))?;
        let completion = self.completion_below(seq)?;
        Ok(TaskRow { completion, ..rows::read_task(seq, row.value())? })
    }

    /// What the row of record `seq` said of its end when the checkpoint was written.
    pub(super) fn completion_below(&self, seq: u64) -> Result<Option<Bytes>, Fault> {
        let completion = self.completions.get(seq)?;
        completion.map(|row| rows::read_completion(seq, row.value())).transpose()
    }

    /// Tasks in the database from record `from` on, oldest first, forgotten or not.
    pub(super) fn tasks_from(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, UnixMillis), Fault>>, Fault> {
        let rows = self.tasks.range(from..)?;
        Ok(rows.map(|row| {
            let (seq, row) = row?;
            Ok((seq.value(), rows::read_task(seq.value(), row.value())?.accepted_at))
        }))
    }
}

/// The pairs as of one commit.
pub(super) struct PairsSnapshot(ReadTransaction);

impl PairsSnapshot {
    /// Which commit it is.
    pub(super) fn commit(&self) -> Result<u64, Fault> {
        MetaNumbers(&self.0).narrow(META_COMMIT)
    }

    /// Pairs under `prefix` after `after` that have not expired, in order, at most `limit`.
    pub(super) fn page(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Vec<(Key, Versioned)>, Fault> {
        let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let mut found = Vec::new();
        for row in self.0.open_table(KV)?.range(start.as_bytes()..)? {
            let (key, row) = row?;
            if !key.value().starts_with(prefix.as_bytes()) || found.len() >= limit {
                break;
            }
            let pair = Pair::from_row(row.value())?;
            // The empty key is the writer's own (see `PairsDraft::probe`).
            let is_after = key.value() > after.map_or(&[][..], Key::as_bytes);
            if is_after && pair.is_alive(now) {
                found.push((Key::new(Bytes::copy_from_slice(key.value())), pair.into_versioned()));
            }
        }
        Ok(found)
    }
}
