//! Makes completions durable, and then says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{CompletionChange, StoreError, TaskRow};
use batoff_types::message::RecordReport;
use batoff_types::{Body, NodeName, Seq, TaskId};

use super::decide::{after, sum};
use super::live::{DecidedSpan, LiveTask};
use super::progress::TaskProgress;
use super::propagation::PopLine;
use crate::clock::millis;
use crate::metrics;
use crate::store::records::{RecordError, decode, pages, record_at};
use crate::tracker::Tracker;
use crate::tracker::sla::ledger::Judged;

/// Completions that are made durable in one go.
const BATCH: u64 = 512;

/// How often changed counts of evicted objects are written to their rows.
const REWRITE_EVERY: Duration = Duration::from_millis(250);

/// How often it is looked whether rows are there that another control plane writes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long to wait after the store refused.
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Tracker {
    /// Runs until the process drains, and then once more.
    pub(crate) async fn run_resolver(self: Arc<Self>) {
        let mut rewrite = tokio::time::interval(REWRITE_EVERY);
        rewrite.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let foreign = self.state.lock().tasks.have_foreign();
            tokio::select! {
                () = self.wake.notified() => {}
                // Nothing tells when a row of another replica's is there.
                () = tokio::time::sleep(LOOK_EVERY), if foreign => {}
                _ = rewrite.tick() => {
                    if let Err(error) = self.rewrite().await {
                        tracing::warn!(%error, "counts of evicted objects are not written yet");
                    }
                }
                () = self.stopping.cancelled() => break,
            }
            while let Err(error) = self.resolve_all().await {
                tracing::warn!(%error, "completions are not durable yet");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                    () = self.stopping.cancelled() => return,
                }
            }
        }
        let _ = self.resolve_all().await;
        let _ = self.rewrite().await;
    }

    async fn resolve_all(&self) -> Result<(), StoreError> {
        if !self.is_alone() {
            self.adopt().await?;
        }
        self.resolve().await
    }

    async fn resolve(&self) -> Result<(), StoreError> {
        loop {
            self.write_leaving().await?;
            let (span, mut rows, spilled) = {
                let state = self.state.lock();
                // The row of a task that has left memory meanwhile is not what it must be when it is completed.
                if !state.tasks.leaving.is_empty() {
                    continue;
                }
                let Some(span) = state.next_decided(BATCH) else { return Ok(()) };
                let live = state.tasks.live.range(span.after.next()..span.through.next());
                let row = |task: &LiveTask| CompletionChange {
                    task: task.task,
                    before: None,
                    after: task.progress(&state.roll).encode().into(),
                };
                let rows: Vec<(Seq, CompletionChange)> = live.map(|(seq, task)| (*seq, row(task))).collect();
                let spilled = state.is_spilled(span.after.next());
                (span, rows, spilled)
            };
            // Older than any in memory.
            let mut late: Vec<Judged> = Vec::new();
            if spilled {
                for (completed, row) in self.spilled_rows(&span).await? {
                    rows.push((completed.seq, row));
                    late.push(completed);
                }
            }
            let theirs = if self.is_alone() {
                let rows = rows.into_iter().map(|(_, row)| (row.task, row.after)).collect();
                self.store.log().put_completions(rows).await?;
                Vec::new()
            } else {
                self.write_first(rows).await?
            };
            let written_by_others: HashSet<Seq> = theirs.iter().map(|(seq, _)| *seq).collect();
            late.retain(|completed| !written_by_others.contains(&completed.seq));
            late.iter().for_each(|completed| metrics::propagation(completed.took));
            self.step(|state, _, _| {
                theirs.into_iter().for_each(|(seq, said)| state.handle_adopted(seq, said));
                state.handle_stored(&span, &late);
            });
        }
    }

    /// The completions of tasks of a span that are not in memory: found in the log, or, where that was trimmed, not at
    /// all; their rows then say when they were last known to be open. A record that cannot be read ends it: whatever it
    /// purges, nothing more is called completed until somebody has seen to the log.
    pub(in crate::tracker) async fn spilled_rows(
        &self,
        span: &DecidedSpan,
    ) -> Result<Vec<(Judged, CompletionChange)>, StoreError> {
        let mut rows = Vec::new();
        let mut pages = pages(self.store.log(), span.after.next(), span.through);
        while let Some(page) = pages.next().await? {
            for stored in page {
                if self.state.lock().tasks.live.contains_key(&stored.seq) {
                    continue;
                }
                let record = decode(stored.seq, &stored.body)?;
                if !matches!(record.body, Body::Purge(_)) {
                    continue;
                }
                let Some(row) = self.store.log().find_task(record.task).await? else { continue };
                let known = row.completion.as_deref().and_then(TaskProgress::decode);
                if known.as_ref().is_some_and(|known| known.completed.is_some()) {
                    continue;
                }
                // Of several, none writes a row before its task is completed: what nodes reported before is not known.
                let nothing = TaskProgress { waiting_more: !self.is_alone(), ..TaskProgress::default() };
                let (progress, took) = self.late_completion(&row, known.unwrap_or(nothing), span);
                let completed = Judged::new(&row, took, progress.late.clone(), &progress.slow);
                let after = progress.encode().into();
                rows.push((completed, CompletionChange { task: record.task, before: row.completion, after }));
            }
        }
        Ok(rows)
    }

    fn late_completion(
        &self,
        row: &TaskRow,
        mut known: TaskProgress,
        span: &DecidedSpan,
    ) -> (TaskProgress, Duration) {
        let state = self.state.lock();
        let took = span.moment.since(state.roster.durable_at(row.seq));
        let (by_pop, _) = state.pops_of_completed(row.seq);
        let at = if self.replica.is_some() { after(row.accepted_at, took) } else { span.at };
        known.completed = Some((at, millis(took)));
        known.by = self.replica;
        known.approximate = self.replica.is_some();
        known.nodes = sum(&by_pop);
        known.pops = by_pop.iter().map(|(pop, nodes)| PopLine::new(Arc::clone(pop), *nodes)).collect();
        (known, took)
    }

    /// Rows of completed tasks whose counts have changed.
    async fn rewrite(&self) -> Result<(), StoreError> {
        self.write_leaving().await?;
        loop {
            let changed = self.state.lock().take_dirty(BATCH as usize);
            if changed.is_empty() {
                break;
            }
            let rows = changed.iter().map(|(_, task, progress)| (*task, progress.encode().into())).collect();
            let outcome = self.store.log().put_completions(rows).await;
            let seqs = changed.iter().map(|(seq, ..)| *seq);
            self.state.lock().handle_rewritten(seqs, outcome.is_ok());
            outcome?;
        }
        self.write_late_reports().await
    }

    /// Tasks that have just left memory.
    async fn write_leaving(&self) -> Result<(), StoreError> {
        loop {
            let leaving: Vec<_> = {
                let mut state = self.state.lock();
                let count = state.tasks.leaving.len().min(BATCH as usize);
                state.tasks.leaving.drain(..count).collect()
            };
            if leaving.is_empty() {
                return Ok(());
            }
            let rows = leaving.iter().map(|(task, progress)| (*task, progress.encode().into())).collect();
            if let Err(error) = self.store.log().put_completions(rows).await {
                self.state.lock().tasks.leaving.extend(leaving);
                return Err(error);
            }
        }
    }

    /// Reports on tasks that are no longer in memory, added to their rows. When the store fails, none of them is lost,
    /// and none is added twice: what a row is to say is made out once, and then written until that has succeeded.
    async fn write_late_reports(&self) -> Result<(), StoreError> {
        let reports = {
            let mut state = self.state.lock();
            // A row must say all that memory knew of its task before a report is added to it.
            if !state.tasks.leaving.is_empty() {
                return Ok(());
            }
            state.take_late_reports(BATCH as usize)
        };
        match self.rows_with(&reports).await {
            Ok(rows) => self.state.lock().tasks.leaving.extend(rows),
            Err(error) => {
                self.state.lock().return_late_reports(reports);
                return Err(error);
            }
        }
        self.write_leaving().await
    }

    /// The rows of the reports' tasks as they are to be.
    async fn rows_with(
        &self,
        reports: &[(NodeName, RecordReport)],
    ) -> Result<HashMap<TaskId, TaskProgress>, StoreError> {
        let mut rows: HashMap<TaskId, TaskProgress> = HashMap::new();
        for (node, report) in reports {
            let Some(row) = self.row_at(report).await? else { continue };
            let known = row.completion.as_deref().and_then(TaskProgress::decode).unwrap_or_default();
            // Every replica hears every report, and one of them adds it.
            if known.by != self.replica {
                continue;
            }
            add(rows.entry(row.task).or_insert(known), node, report);
        }
        Ok(rows)
    }

    async fn row_at(&self, report: &RecordReport) -> Result<Option<TaskRow>, StoreError> {
        let record = match record_at(self.store.log(), report.seq).await {
            Ok(record) => record,
            // Its count stays too low, and is never shown as final.
            Err(RecordError::Unreadable(_)) => {
                metrics::reports_lost(1);
                return Ok(None);
            }
            Err(RecordError::Store(error)) => return Err(error),
        };
        match record.filter(|record| matches!(record.body, Body::Purge(_))) {
            Some(record) => self.store.log().find_task(record.task).await,
            None => Ok(None),
        }
    }
}

fn add(progress: &mut TaskProgress, node: &NodeName, report: &RecordReport) {
    progress.objects = progress.objects.saturating_add(report.objects);
    if let Some(pop) = progress.pops.iter_mut().find(|pop: &&mut PopLine| &*pop.pop == node.pop()) {
        pop.objects_evicted = pop.objects_evicted.saturating_add(report.objects);
    }
    if report.last {
        let name = node.to_string();
        progress.waiting.retain(|waiting| **waiting != *name);
    }
}
