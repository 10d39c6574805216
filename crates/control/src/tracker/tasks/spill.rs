//! Which tasks leave memory, and what must be written of them before they are forgotten.

use std::time::Duration;

use batoff_types::message::RecordReport;
use batoff_types::{Cursor, Moment, NodeName, Seq, TaskId};

use super::progress::TaskProgress;
use crate::metrics;
use crate::tracker::state::State;

/// How long a completed task stays in memory for nodes that have not reported yet. Later reports change its row in the
/// log.
const SETTLE_FOR: Duration = Duration::from_secs(600);

/// Reports on tasks that have left memory, waiting to be added to their rows. Further ones are dropped and counted:
/// those tasks' counts stay too low, and are never shown as final.
const LATE_REPORTS_MAX: usize = 16_384;

impl State {
    /// Rows of completed tasks that have changed since they were written, at most `max`.
    pub(in crate::tracker) fn take_dirty(&mut self, max: usize) -> Vec<(Seq, TaskId, TaskProgress)> {
        let mut rows = Vec::new();
        while rows.len() < max
            && let Some(seq) = self.tasks.dirty.pop_first()
        {
            if let Some(task) = self.tasks.live.get_mut(&seq) {
                task.dirty = false;
                rows.push((seq, task.task, task.progress(&self.roll)));
            }
        }
        rows
    }

    /// Rows from [`State::take_dirty`] are durable, or could not be made so.
    pub(in crate::tracker) fn handle_rewritten(
        &mut self,
        seqs: impl IntoIterator<Item = Seq>,
        durable: bool,
    ) {
        for seq in seqs {
            let Some(task) = self.tasks.live.get_mut(&seq) else { continue };
            if !durable {
                task.dirty = true;
                self.tasks.dirty.insert(seq);
            } else if task.is_settled() {
                self.forget(seq);
            }
        }
    }

    /// A report on a task that has left memory.
    pub(in crate::tracker) fn keep_late_report(&mut self, node: &NodeName, report: &RecordReport) {
        if self.tasks.late_reports.len() < LATE_REPORTS_MAX {
            self.tasks.late_reports.push_back((node.clone(), *report));
        } else {
            metrics::reports_lost(1);
        }
    }

    /// A report on a record that is not known here yet, since another control plane was faster to send it.
    pub(in crate::tracker) fn keep_early_report(&mut self, node: &NodeName, report: &RecordReport) {
        if self.tasks.early_count < LATE_REPORTS_MAX {
            self.tasks.early_count += 1;
            self.tasks.early_reports.entry(report.seq).or_default().push((node.clone(), *report));
        } else {
            metrics::reports_lost(1);
        }
    }

    /// Takes in what nodes have said of records that are known here only now: those after `before`.
    pub(in crate::tracker) fn catch_up(&mut self, now: Moment, before: Cursor) {
        let tail = self.roster.tail();
        for node in std::mem::take(&mut self.tasks.ahead) {
            // One that was removed and registered anew may have confirmed less.
            let confirmed = self.roster.confirmed(&node).filter(|confirmed| *confirmed > before);
            let Some(confirmed) = confirmed else { continue };
            self.confirm(now, &node, before, confirmed.min(tail));
            if confirmed > tail {
                self.tasks.ahead.insert(node);
            }
        }
        while let Some(first) = self.tasks.early_reports.first_entry()
            && tail.covers(*first.key())
        {
            for (node, report) in first.remove() {
                self.tasks.early_count -= 1;
                self.report(now, &node, &report);
            }
        }
    }

    /// Reports that could not be added to their rows yet, in their order; what finds no room is lost and counted.
    pub(in crate::tracker) fn return_late_reports(&mut self, reports: Vec<(NodeName, RecordReport)>) {
        let room = LATE_REPORTS_MAX.saturating_sub(self.tasks.late_reports.len());
        metrics::reports_lost(reports.len().saturating_sub(room) as u64);
        reports.into_iter().take(room).rev().for_each(|report| self.tasks.late_reports.push_front(report));
    }

    pub(in crate::tracker) fn take_late_reports(&mut self, max: usize) -> Vec<(NodeName, RecordReport)> {
        let count = self.tasks.late_reports.len().min(max);
        self.tasks.late_reports.drain(..count).collect()
    }

    /// Completed tasks that nodes have not reported on for a long time leave memory.
    pub(in crate::tracker) fn handle_aging(&mut self, now: Moment) {
        let old: Vec<Seq> = self
            .tasks
            .live
            .iter()
            .take_while(|(_, task)| now.since(task.durable_at) > SETTLE_FOR)
            .filter(|(_, task)| task.stored().is_some())
            .map(|(seq, _)| *seq)
            .collect();
        for seq in old {
            self.leave(seq);
        }
    }

    /// Makes room: the oldest tasks leave memory, completed or not.
    pub(in crate::tracker) fn spill(&mut self) {
        while self.tasks.live.len() > self.tasks.live_max
            && let Some((&seq, _)) = self.tasks.live.first_key_value()
        {
            self.leave(seq);
        }
    }

    pub(in crate::tracker) fn leave(&mut self, seq: Seq) {
        if let Some(task) = self.tasks.live.get(&seq) {
            // Its row may say more by now, if another control plane writes it. Who writes it is decided by the first row that
            // says what became of it, so what is not stored yet is left to that: see `Tracker::write_first`.
            if task.row_is_ours && (self.quorum.is_alone() || task.stored().is_some()) {
                self.tasks.leaving.push((task.task, task.progress(&self.roll)));
            }
            self.tasks.spilled_through = self.tasks.spilled_through.max(Cursor::after(seq));
        }
        self.forget(seq);
    }

    pub(in crate::tracker) fn forget(&mut self, seq: Seq) {
        if let Some(task) = self.tasks.live.remove(&seq) {
            self.tasks.by_task.remove(&task.task);
        }
        self.tasks.dirty.remove(&seq);
    }

    /// Whether memory once knew tasks through here that it no longer knows.
    pub(in crate::tracker) fn is_spilled(&self, seq: Seq) -> bool {
        self.tasks.spilled_through.covers(seq)
    }
}
