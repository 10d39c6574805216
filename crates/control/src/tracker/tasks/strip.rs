//! The question how a purge spread: answered from memory where it knows, and from the task's row where it does not.

use std::sync::Arc;

use batoff_delivery::Lateness;
use batoff_log::{StoreError, TaskRow};
use batoff_types::{Moment, Seq, SiteId, TaskId, UnixMillis};

use super::cause::LateCause;
use super::live::LiveTask;
use super::progress::TaskProgress;
use super::propagation::{FencedLine, Fences, NodeLine, PopLine, Propagation, sort};
use super::query::progress_of;
use super::view::TaskState;
use crate::clock::millis;
use crate::tracker::Tracker;
use crate::tracker::state::State;

/// Nodes that an open task waits for of which is told.
const AWAITED_MAX: usize = 16;

impl Tracker {
    /// How the purge spread; `None` when there is no such task, or not of this site, if one is named.
    pub async fn propagation(
        &self,
        site: Option<&SiteId>,
        task: TaskId,
    ) -> Result<Option<Propagation>, StoreError> {
        let found = self.propagation_as_known(site, task).await?;
        if self.is_alone() || found.as_ref().is_some_and(|found| found.state == TaskState::Completed) {
            return Ok(found);
        }
        self.fresh().await?;
        self.propagation_as_known(site, task).await
    }

    async fn propagation_as_known(
        &self,
        site: Option<&SiteId>,
        task: TaskId,
    ) -> Result<Option<Propagation>, StoreError> {
        let known = self.state.lock().tasks.by_task.get(&task).copied();
        if let Some(seq) = known {
            self.durable(seq).await;
        }
        let live = {
            let wall = self.clock.wall();
            let state = self.state.lock();
            let now = self.clock.now();
            let live =
                state.tasks.by_task.get(&task).and_then(|seq| Some((*seq, state.tasks.live.get(seq)?)));
            let live = live.filter(|(_, task)| !task.is_adopted());
            live.map(|(seq, task)| state.spread_of_live(now, wall, seq, task))
        };
        let found = match live {
            Some(live) => Some(live),
            None => self.store.log().find_task(task).await?.map(|row| self.spread_of_row(row)),
        };
        Ok(found.filter(|found| site.is_none_or(|site| found.site == *site)).map(|mut found| {
            sort(&mut found.pops, &mut found.late);
            found
        }))
    }

    fn spread_of_row(&self, row: TaskRow) -> Propagation {
        let mut progress = progress_of(&row).unwrap_or_default();
        if progress.completed.is_none() {
            let now = self.clock.now();
            self.state.lock().complete_row(now, &row, &mut progress);
        }
        let TaskProgress { completed: Some((at, took)), pops, slow, late, .. } = progress else {
            let wall = self.clock.wall();
            let state = self.state.lock();
            return state.spread_of_open_row(self.clock.now(), wall, row);
        };
        // What is kept of the moment at which the target passed says more than nothing.
        let told = |node| slow.iter().any(|line: &NodeLine| line.node == node);
        let awaited = late.into_iter().filter(|late| !told(late.node.clone()));
        let awaited: Vec<_> =
            awaited.map(|late| NodeLine::new(late.node, LateCause::Working, late.reason)).collect();
        Propagation {
            task: row.task,
            site: row.site,
            state: TaskState::Completed,
            durable_at: UnixMillis(at.0.saturating_sub(took)),
            completed_ms: Some(took),
            elapsed_ms: None,
            pops,
            late: slow.into_iter().chain(awaited).collect(),
        }
    }
}

impl State {
    fn spread_of_live(&self, now: Moment, wall: UnixMillis, seq: Seq, task: &LiveTask) -> Propagation {
        let elapsed = millis(now.since(task.durable_at));
        let (state, completed_ms, pops, late) = match task.completed() {
            Some(decided) => (
                TaskState::Completed,
                Some(millis(decided.took)),
                task.pop_lines(&decided.by_pop, &decided.fences, &self.roll),
                task.slow_lines(&decided.fences, &self.roll),
            ),
            None => {
                let fences = self.fences_at(now, seq);
                let mut late = self.awaited_lines(now, seq, task.durable_at);
                late.extend(task.slow_lines(&fences, &self.roll));
                let state = self.open_state(now, seq, task.partial);
                (state, None, task.pop_lines(&self.pops_at(seq), &fences, &self.roll), late)
            }
        };
        Propagation {
            task: task.task,
            site: task.site.clone(),
            state,
            durable_at: UnixMillis(wall.0.saturating_sub(elapsed)),
            completed_ms,
            elapsed_ms: completed_ms.is_none().then_some(elapsed),
            pops,
            late,
        }
    }

    /// Of a task that has left memory and is not completed.
    fn spread_of_open_row(&self, now: Moment, wall: UnixMillis, row: TaskRow) -> Propagation {
        let durable_at = self.roster.durable_at(row.seq);
        let elapsed = millis(now.since(durable_at));
        let pops = self.pops_at(row.seq);
        Propagation {
            task: row.task,
            site: row.site,
            state: self.open_state(now, row.seq, false),
            durable_at: UnixMillis(wall.0.saturating_sub(elapsed)),
            completed_ms: None,
            elapsed_ms: Some(elapsed),
            pops: pops.iter().map(|(pop, nodes)| PopLine::new(Arc::clone(pop), *nodes)).collect(),
            late: self.awaited_lines(now, row.seq, durable_at),
        }
    }

    /// The nodes that an open task waits for, and why.
    fn awaited_lines(&self, now: Moment, seq: Seq, durable_at: Moment) -> Vec<NodeLine> {
        let awaited = self.roster.late_at(seq).into_iter().take(AWAITED_MAX);
        let line = |late: batoff_delivery::LateNode| {
            let connected = self.roster.node(now, &late.node).is_some_and(|view| view.connected);
            let sent = self.roll.sent_of(&late.node).and_then(|sent| sent.at(seq));
            let detail = self.roll.trouble_since(&late.node, now).unwrap_or_default();
            let cause = match late.why {
                Lateness::Held => LateCause::EarlierLease,
                _ if !connected => LateCause::NoConnection,
                Lateness::Unreachable | Lateness::LeaseRuns => LateCause::NoLease,
                Lateness::Lagging if !detail.is_empty() => LateCause::CacheTrouble,
                Lateness::Lagging if sent.is_none() => LateCause::SentLate,
                Lateness::Lagging => LateCause::Working,
            };
            let sent_ms = sent.map(|at| millis(at.since(durable_at)));
            NodeLine { sent_ms, ..NodeLine::new(late.node, cause, detail) }
        };
        awaited.map(line).collect()
    }

    /// The nodes that need not be waited for with the record, because they have no lease.
    pub(in crate::tracker) fn fences_at(&self, now: Moment, seq: Seq) -> Fences {
        let mut fences = Fences::default();
        for fenced in self.roster.fenced_at(seq) {
            // A lease of which it is certain that it cannot harm may still run.
            let since = fenced.since.min(now);
            match fences.by_pop.get_mut(fenced.node.pop()) {
                Some(last) => *last = since.max(*last),
                None => {
                    fences.by_pop.insert(fenced.node.pop().into(), since);
                }
            }
            if fences.nodes.len() < super::propagation::FENCED_MAX {
                let connected = self.roster.node(now, &fenced.node).is_some_and(|view| view.connected);
                fences.nodes.push(FencedLine {
                    since,
                    sent: self.roll.sent_of(&fenced.node).and_then(|sent| sent.at(seq)),
                    cause: if connected { LateCause::NoLease } else { LateCause::NoConnection },
                    detail: self.roll.trouble_since(&fenced.node, now).unwrap_or_default(),
                    node: fenced.node,
                });
            }
        }
        fences
    }
}
