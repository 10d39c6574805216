//! What has happened to tasks since a checkpoint, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use batoff_types::{SiteId, TaskId};
use bytes::Bytes;

use crate::purge_log::TaskRow;

/// What a row takes in memory beside its meta, about; for the bound on a layer's size.
const ROW_BYTES: usize = 256;

/// Changes of the index of tasks, in memory until a checkpoint has taken them over. It hides what lies below it: an older
/// layer, or the database.
#[derive(Debug, Default)]
pub(super) struct TaskLayer {
    /// By seq; without completions.
    tasks: BTreeMap<u64, TaskRow>,
    by_task: HashMap<TaskId, u64>,
    /// Rising.
    by_site: HashMap<SiteId, Vec<u64>>,
    /// Of tasks here or below.
    completions: BTreeMap<u64, Bytes>,
    /// Of tasks below.
    forgotten: BTreeSet<u64>,
    bytes: usize,
}

impl TaskLayer {
    /// A task that is not known yet, of a later record than all others.
    pub(super) fn add(&mut self, row: TaskRow) {
        let seq = row.seq.get();
        self.bytes += ROW_BYTES + row.meta.len();
        self.by_task.insert(row.task, seq);
        match self.by_site.get_mut(&row.site) {
            Some(seqs) => seqs.push(seq),
            None => drop(self.by_site.insert(row.site.clone(), vec![seq])),
        }
        self.tasks.insert(seq, row);
    }

    /// What became of the task of record `seq`, which may lie below.
    pub(super) fn complete(&mut self, seq: u64, completion: Bytes) {
        self.bytes += ROW_BYTES / 2 + completion.len();
        self.completions.insert(seq, completion);
    }

    /// The task of record `seq`, which may lie below, is forgotten.
    pub(super) fn forget(&mut self, seq: u64) {
        self.completions.remove(&seq);
        match self.tasks.remove(&seq) {
            Some(row) => {
                self.by_task.remove(&row.task);
                if let Some(seqs) = self.by_site.get_mut(&row.site) {
                    seqs.retain(|one| *one != seq);
                }
            }
            None => {
                self.bytes += ROW_BYTES / 8;
                self.forgotten.insert(seq);
            }
        }
    }

    /// Changes that a checkpoint has to write.
    pub(super) fn rows(&self) -> usize {
        self.tasks.len() + self.completions.len() + self.forgotten.len()
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn seq_of(&self, task: TaskId) -> Option<u64> {
        self.by_task.get(&task).copied()
    }

    pub(super) fn task(&self, seq: u64) -> Option<&TaskRow> {
        self.tasks.get(&seq)
    }

    pub(super) fn completion(&self, seq: u64) -> Option<&Bytes> {
        self.completions.get(&seq)
    }

    /// Whether a task that lies below is hidden.
    pub(super) fn hides(&self, seq: u64) -> bool {
        self.forgotten.contains(&seq)
    }

    /// Tasks of `site` of records before `end`, newest first.
    pub(super) fn of_site(&self, site: &SiteId, end: u64) -> impl Iterator<Item = u64> {
        let seqs = self.by_site.get(site).map_or(&[][..], Vec::as_slice);
        seqs[..seqs.partition_point(|seq| *seq < end)].iter().rev().copied()
    }

    /// The oldest task here.
    pub(super) fn first_task(&self) -> Option<u64> {
        self.tasks.first_key_value().map(|(seq, _)| *seq)
    }

    /// Tasks from record `from` on, oldest first.
    pub(super) fn tasks_from(&self, from: u64) -> impl Iterator<Item = &TaskRow> {
        self.tasks.range(from..).map(|(_, row)| row)
    }

    /// What became of tasks here or below, by record.
    pub(super) fn completions(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.completions.iter().map(|(seq, completion)| (*seq, completion))
    }

    /// Records whose tasks lie below and are forgotten.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = u64> {
        self.forgotten.iter().copied()
    }
}

/// The layers above the database: the one that changes, and the one that a checkpoint is writing.
#[derive(Debug, Default)]
pub(super) struct TaskLayers {
    pub(super) changing: TaskLayer,
    leaving: Option<Arc<TaskLayer>>,
    /// Checkpoints that have ended. A reader of the database who finds it unchanged knows that the layers still hold all
    /// that is above what it read.
    ended: u64,
}

impl TaskLayers {
    /// Above a database that holds all but `changing`.
    pub(super) fn new(changing: TaskLayer) -> Self {
        Self { changing, ..Self::default() }
    }

    /// What changed goes into a checkpoint, and further changes into a new layer above it.
    pub(super) fn begin_checkpoint(&mut self) -> Arc<TaskLayer> {
        let layer = Arc::new(std::mem::take(&mut self.changing));
        self.leaving = Some(Arc::clone(&layer));
        layer
    }

    /// The database has what was leaving.
    pub(super) fn end_checkpoint(&mut self) {
        self.leaving = None;
        self.ended += 1;
    }

    /// Checkpoints that have ended since the start.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// The layer that a checkpoint is writing.
    pub(super) fn leaving(&self) -> Option<&TaskLayer> {
        self.leaving.as_deref()
    }

    /// Upper first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TaskLayer> {
        std::iter::once(&self.changing).chain(self.leaving.as_deref())
    }

    /// Where the task's record is, according to a layer; `Some(None)` when one says that it was forgotten.
    pub(super) fn seq_of(&self, task: TaskId) -> Option<u64> {
        self.iter().find_map(|layer| layer.seq_of(task)).filter(|seq| !self.hides(*seq))
    }

    /// Whether a task that lies in the database or a lower layer is forgotten.
    pub(super) fn hides(&self, seq: u64) -> bool {
        self.iter().any(|layer| layer.hides(seq))
    }

    /// The row of a task that lies in a layer, without its completion.
    pub(super) fn task(&self, seq: u64) -> Option<&TaskRow> {
        self.iter().find_map(|layer| layer.task(seq))
    }

    /// What became of a task, if a layer knows.
    pub(super) fn completion(&self, seq: u64) -> Option<&Bytes> {
        self.iter().find_map(|layer| layer.completion(seq))
    }

    /// The oldest task in any layer; those of the database are older, or are the same.
    pub(super) fn first_task(&self) -> Option<u64> {
        self.iter().filter_map(TaskLayer::first_task).min()
    }
}
