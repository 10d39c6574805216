//! What records and nodes' messages do to tasks.

use std::sync::Arc;

use batoff_types::message::RecordReport;
use batoff_types::{Body, Cursor, Moment, NodeName, Purge, Record, Seq};

use super::events::Told;
use super::live::{Handed, LiveTask};
use super::progress::TaskProgress;
use super::took::SeenWhen;
use super::view::TaskState;
use crate::tracker::state::State;

impl State {
    /// A purge was accepted.
    pub(in crate::tracker) fn handle_purge(&mut self, now: Moment, record: &Record, purge: &Purge) {
        self.pulse.handle_accepted(now);
        self.ledger.handle_accepted(&purge.site, record.seq, record.accepted_at);
        let waiting = self.roll.present().clone();
        let mut task = LiveTask::new(record, purge, now, waiting);
        if !self.quorum.is_alone() {
            task.row_is_ours = false;
            task.accepted_here = crate::ids::maker_of(record.task) == self.quorum.own();
            if let Some(since) = self.standstill.stood_since(now) {
                task.seen = SeenWhen::AfterStandstill { since };
            }
        }
        self.tasks.insert(record.seq, task);
    }

    /// A task that was accepted before this start and may not be completed yet; `known` is what its row says.
    pub(in crate::tracker) fn restore(&mut self, record: &Record, known: Option<TaskProgress>, now: Moment) {
        let Body::Purge(purge) = &record.body else { return };
        let mut task = LiveTask::new(record, purge, now, self.roll.present().clone());
        if let Some(known) = known {
            task.objects = known.objects;
            task.late = known.late;
        }
        task.row_is_ours = self.quorum.is_alone();
        task.seen = SeenWhen::AtStart;
        self.tasks.insert(record.seq, task);
        self.spill();
    }

    /// Tells subscribers of the tasks from `first` through `last`.
    pub(in crate::tracker) fn announce(&mut self, first: Seq, last: Seq, now: Moment) {
        let counts = self.counts_between(first, last);
        for (seq, task) in self.tasks.live.range(first..=last) {
            let state = self.open_state(now, *seq, task.partial);
            let counts = counts.unwrap_or_else(|| self.counts_at(*seq));
            self.tasks.news.push(task.view(*seq, state, counts));
        }
    }

    /// Some stream was handed everything through `through`.
    pub(in crate::tracker) fn handle_sent(&mut self, through: Seq) {
        let before = self.tasks.sent_through;
        if before.covers(through) {
            return;
        }
        self.tasks.sent_through = Cursor::after(through);
        if self.tasks.live.range(before.next()..=through).next().is_some() {
            let counts = self.counts_between(before.next(), through);
            for (seq, task) in
                self.tasks.live.range(before.next()..=through).filter(|(_, task)| task.is_open())
            {
                let counts = counts.unwrap_or_else(|| self.counts_at(*seq));
                self.tasks.news.push(task.view(*seq, TaskState::InProgress, counts));
                if let Some(trace) = task.trace {
                    let (seq, task, durable_at) = (*seq, task.task, task.durable_at);
                    self.tasks.handed.push(Handed { seq, task, trace, durable_at });
                }
            }
        }
    }

    /// The node has confirmed what lies between the two.
    pub(in crate::tracker) fn confirm(
        &mut self,
        now: Moment,
        node: &NodeName,
        before: Cursor,
        after: Cursor,
    ) {
        let sent = self.roll.sent_of(node);
        let mut confirmed = self.tasks.live.range_mut(before.next()..after.next()).peekable();
        if confirmed.peek().is_some()
            && let Some((index, pop)) = self.roll.present_as(node)
        {
            // A name for all of them.
            let name: Arc<str> = node.to_string().into();
            for (seq, task) in confirmed {
                let sent = sent.and_then(|sent| sent.at(*seq));
                task.handle_confirmed((index, &name), pop, sent, now.since(task.durable_at));
            }
        }
        if let Some(sent) = sent {
            sent.forget(after);
        }
        if after > self.roster.tail() {
            self.tasks.ahead.insert(node.clone());
        }
    }

    /// What a node has done with a task.
    pub(in crate::tracker) fn report(&mut self, now: Moment, node: &NodeName, report: &RecordReport) {
        let Some(place) = self.roll.present_as(node) else {
            return;
        };
        match self.tasks.live.get_mut(&report.seq) {
            Some(task) => {
                task.handle_report(place, report, now.since(task.durable_at));
                if task.dirty && !task.is_open() && task.row_is_ours {
                    self.tasks.dirty.insert(report.seq);
                }
            }
            None if !self.roster.tail().covers(report.seq) => self.keep_early_report(node, report),
            None => self.keep_late_report(node, report),
        }
    }

    /// What subscribers have been told of all tasks, once all news is passed on.
    pub(in crate::tracker) fn told(&self) -> Told {
        let completed = self.completed_through();
        Told { accepted: self.roster.tail(), in_progress: self.tasks.sent_through.max(completed), completed }
    }
}
