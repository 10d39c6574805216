//! What became of tasks is written down by the replica that recorded them as done; the others take over what it says, and
//! write in its place if it does not.
//!
//! Two may write at one time: one that was slow, because the store refused its rows for a while, and one that has given it
//! up. **The first row that says what became of a task stays**: whoever comes later is told so by the store, and takes over
//! what it says. So all tell the same of a task from then on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{CompletionChange, StoreError, TaskRow};
use batoff_types::{Moment, Seq, TaskId};
use bytes::Bytes;

use crate::tracker::Tracker;
use crate::tracker::state::State;
use crate::tracker::tasks::live::{Completion, Decided, DecidedSpan};
use crate::tracker::tasks::progress::TaskProgress;

/// How long the replica that has recorded tasks as done may take to write down what became of them, before another one does
/// so. One after the other, so that mostly only one does.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);

/// How much longer each waits than the one before it in the set.
const TAKE_OVER_STEP: Duration = Duration::from_secs(1);

/// For how long what this replica has recorded is its own to write down. After that another one may have.
const OURS_FOR: Duration = Duration::from_secs(1);

/// Tasks that are looked at in one go.
const BATCH: u64 = 512;

impl Tracker {
    /// Takes over what others have written down, as far as they have.
    pub(in crate::tracker) async fn adopt(&self) -> Result<(), StoreError> {
        loop {
            let (span, tasks, is_due) = {
                let mut state = self.state.lock();
                let now = self.clock.now();
                state.give_up_old(now);
                let Some(span) = state.next_foreign(BATCH) else { return Ok(()) };
                let tasks = state.unwritten(&span);
                (span.clone(), tasks, now.since(span.moment) >= state.take_over_after())
            };
            let mut missing = HashSet::new();
            for (seq, task) in tasks {
                match written(self.store.log().find_task(task).await?) {
                    RowState::Completed(said) => {
                        self.step(|state, _, _| state.handle_adopted(seq, *said));
                    }
                    RowState::Open(_) => _ = missing.insert(seq),
                    // It was forgotten: nobody can ask for it any more.
                    RowState::Nowhere => {}
                }
            }
            if !missing.is_empty() && !is_due {
                return Ok(());
            }
            let is_spilled = self.state.lock().is_spilled(span.after.next());
            let spilled = if is_spilled { self.spilled_rows(&span).await? } else { Vec::new() };
            if !spilled.is_empty() && !is_due {
                return Ok(());
            }
            let mut rows: Vec<(Seq, CompletionChange)> = self.state.lock().take_over(&missing);
            rows.extend(spilled.into_iter().map(|(completed, row)| (completed.seq, row)));
            if !rows.is_empty() {
                tracing::info!(
                    tasks = rows.len(),
                    "what became of tasks is written down here, for the replica that completed them has not"
                );
            }
            let theirs = self.write_first(rows).await?;
            self.step(|state, _, _| {
                theirs.into_iter().for_each(|(seq, said)| state.handle_adopted(seq, said));
                state.handle_foreign_done(&span, &missing);
            });
        }
    }

    /// Writes down what became of tasks, of each if nobody else has; returns of the others what their rows say.
    pub(in crate::tracker) async fn write_first(
        &self,
        mut rows: Vec<(Seq, CompletionChange)>,
    ) -> Result<Vec<(Seq, TaskProgress)>, StoreError> {
        let mut theirs = Vec::new();
        while !rows.is_empty() {
            let changes = rows.iter().map(|(_, change)| change.clone()).collect();
            let written = self.store.log().change_completions(changes).await?;
            let refused = rows.into_iter().zip(written).filter(|(_, is_written)| !is_written);
            let mut again = Vec::new();
            for ((seq, change), _) in refused {
                match self::written(self.store.log().find_task(change.task).await?) {
                    RowState::Completed(said) => theirs.push((seq, *said)),
                    // As it was when this control plane was alone: how far the task was when it left memory.
                    RowState::Open(before) => again.push((seq, CompletionChange { before, ..change })),
                    RowState::Nowhere => {}
                }
            }
            rows = again;
        }
        Ok(theirs)
    }
}

enum RowState {
    Completed(Box<TaskProgress>),
    /// With what it says.
    Open(Option<Bytes>),
    Nowhere,
}

fn written(row: Option<TaskRow>) -> RowState {
    let Some(row) = row else { return RowState::Nowhere };
    match row.completion.as_deref().and_then(TaskProgress::decode) {
        Some(said) if said.completed.is_some() => RowState::Completed(Box::new(said)),
        _ => RowState::Open(row.completion),
    }
}

impl State {
    /// What was recorded here a while ago, and is not written down: by now another replica may have done so.
    fn give_up_old(&mut self, now: Moment) {
        if self.quorum.is_alone() {
            return;
        }
        while let Some(span) = self.tasks.take_decided_if(|span| now.since(span.moment) >= OURS_FOR) {
            for (_, task) in self.tasks.live_between(&span) {
                if matches!(task.completion, Completion::Decided(_)) {
                    task.row_is_ours = false;
                }
            }
            self.tasks.add_foreign(DecidedSpan { is_ours: false, ..span });
        }
    }

    /// What another replica has recorded and is to write down: at most `max` records of one span.
    fn next_foreign(&self, max: u64) -> Option<DecidedSpan> {
        self.tasks.next_foreign(max)
    }

    /// The tasks of it whose rows are not known to say what became of them.
    fn unwritten(&mut self, span: &DecidedSpan) -> Vec<(Seq, TaskId)> {
        let live = self.tasks.live_between(span);
        live.filter(|(_, task)| task.stored().is_none()).map(|(seq, task)| (seq, task.task)).collect()
    }

    fn take_over_after(&self) -> Duration {
        let (_, set) = self.quorum.statements().sets().newest();
        let own = self.quorum.own();
        let place = set.members().iter().position(|member| *member == own).unwrap_or(set.members().len());
        TAKE_OVER_AFTER + TAKE_OVER_STEP * u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// A task's row says what became of it.
    pub(in crate::tracker) fn handle_adopted(&mut self, seq: Seq, said: TaskProgress) {
        let own = self.quorum.own();
        let Some(task) = self.tasks.live_mut(seq) else { return };
        let Some((at, took)) = said.completed else { return };
        let fences = match &task.completion {
            Completion::Decided(decided) => {
                let figures = (decided.at, crate::clock::millis(decided.took), decided.nodes);
                if said.by == Some(own) && figures == (at, took, said.nodes) {
                    // It was written here, and the answer was lost.
                    task.row_is_ours = true;
                    return self.handle_row_stored(seq);
                }
                Arc::clone(&decided.fences)
            }
            Completion::Open | Completion::Stored(_) => return,
        };
        task.row_is_ours = false;
        task.completion = Completion::Stored(Decided {
            at,
            took: Duration::from_millis(took),
            nodes: said.nodes,
            by_pop: said.pops.iter().map(|pop| (Arc::clone(&pop.pop), pop.nodes)).collect(),
            fences,
            by: said.by,
            is_recorded: true,
            approximate: said.approximate,
        });
        if task.is_settled() {
            self.forget(seq);
        }
    }

    /// What is to be written in another one's place.
    fn take_over(&mut self, missing: &HashSet<Seq>) -> Vec<(Seq, CompletionChange)> {
        let mut rows = Vec::with_capacity(missing.len());
        for seq in missing {
            if let Some(task) = self.tasks.live_mut(*seq) {
                task.row_is_ours = true;
                let after = task.progress(&self.roll).encode().into();
                rows.push((*seq, CompletionChange { task: task.task, before: None, after }));
            }
        }
        rows
    }

    /// All rows of the span are written; those of `ours` by this replica.
    fn handle_foreign_done(&mut self, span: &DecidedSpan, ours: &HashSet<Seq>) {
        for seq in ours {
            self.handle_row_stored(*seq);
        }
        self.tasks.handle_span_done(span);
    }
}
