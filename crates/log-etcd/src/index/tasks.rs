use std::collections::{BTreeMap, BTreeSet, HashMap};

use batoff_log::TaskRow;
use batoff_types::{SiteId, TaskId};
use bytes::Bytes;

/// All tasks that are remembered, by the number of their record.
#[derive(Default)]
pub(super) struct TaskIndex {
    rows: BTreeMap<u64, TaskRow>,
    by_task: HashMap<TaskId, u64>,
    by_site: HashMap<SiteId, BTreeSet<u64>>,
    /// (accepted at, seq): callers' clocks need not agree with the order of the log.
    by_time: BTreeSet<(u64, u64)>,
}

impl TaskIndex {
    pub(super) fn add(&mut self, row: TaskRow) {
        let seq = row.seq.get();
        // Two copies of one page can be there for a while; they say the same of a row, or the log says it again.
        self.remove(seq);
        self.by_task.insert(row.task, seq);
        self.by_site.entry(row.site.clone()).or_default().insert(seq);
        self.by_time.insert((row.accepted_at.0, seq));
        self.rows.insert(seq, row);
    }

    /// Says what became of the task of record `seq`; false when there is no such task.
    pub(super) fn complete(&mut self, seq: u64, completion: &[u8]) -> bool {
        let row = self.rows.get_mut(&seq);
        row.map(|row| row.completion = Some(Bytes::copy_from_slice(completion))).is_some()
    }

    /// Forgets tasks that were accepted before this time; returns the numbers of their records.
    pub(super) fn forget_before(&mut self, at_ms: u64) -> Vec<u64> {
        let old: Vec<u64> = self.by_time.range(..(at_ms, 0)).map(|(_, seq)| *seq).collect();
        old.iter().for_each(|seq| self.remove(*seq));
        old
    }

    fn remove(&mut self, seq: u64) {
        let Some(row) = self.rows.remove(&seq) else { return };
        if self.by_task.get(&row.task) == Some(&seq) {
            self.by_task.remove(&row.task);
        }
        self.by_time.remove(&(row.accepted_at.0, seq));
        if let Some(seqs) = self.by_site.get_mut(&row.site) {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.by_site.remove(&row.site);
            }
        }
    }

    pub(super) fn older_than(&self, at_ms: u64) -> u64 {
        self.by_time.range(..(at_ms, 0)).count() as u64
    }

    pub(super) fn seq_of(&self, task: TaskId) -> Option<u64> {
        self.by_task.get(&task).copied()
    }

    pub(super) fn find(&self, task: TaskId) -> Option<TaskRow> {
        self.rows.get(&self.seq_of(task)?).cloned()
    }

    pub(super) fn completion(&self, task: TaskId) -> Option<&Bytes> {
        self.rows.get(&self.seq_of(task)?)?.completion.as_ref()
    }

    /// Newest first, those before `before`; none when that is not known.
    pub(super) fn of_site(&self, site: &SiteId, before: Option<TaskId>, limit: usize) -> Vec<TaskRow> {
        let end = match before {
            None => u64::MAX,
            Some(task) => match self.seq_of(task) {
                Some(seq) => seq,
                None => return Vec::new(),
            },
        };
        let Some(seqs) = self.by_site.get(site) else { return Vec::new() };
        seqs.range(..end).rev().take(limit).filter_map(|seq| self.rows.get(seq).cloned()).collect()
    }

    /// All rows, oldest first.
    pub(super) fn into_rows(self) -> impl Iterator<Item = TaskRow> {
        self.rows.into_values()
    }

    pub(super) fn range(&self, from: u64, end: u64) -> impl Iterator<Item = &TaskRow> {
        self.rows.range(from..end.max(from)).map(|(_, row)| row)
    }
}
