//! All that the tracker knows, and the steps that change it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{Greeting, HelloRefused, Resume, Roster, RosterEvent};
use batoff_types::message::{Ack, GoAwayReason, Heartbeat, Hello, LeaseGrant, RecordReport};
use batoff_types::{Body, Cursor, Moment, NodeName, Record, Seq, TaskId, UnixMillis};

use super::nodes::mailbox::{Directive, Mailbox};
use super::nodes::roll::Roll;
use super::nodes::voices::Voices;
use super::sla::ledger::SlaLedger;
use super::tasks::events::Told;
use super::tasks::live::{DecidedSpan, Finished, LiveTask};
use super::tasks::progress::TaskProgress;
use super::tasks::view::{TaskState, TaskView};
use crate::metrics;

/// All that the tracker knows, changed by small synchronous steps under one lock.
pub(super) struct State {
    pub roster: Roster,
    pub roll: Roll,
    pub voices: Voices,
    pub live: BTreeMap<Seq, LiveTask>,
    pub by_task: HashMap<TaskId, Seq>,
    pub live_max: usize,
    /// The first place that memory knows all open tasks from; earlier open tasks are resolved from the log.
    pub spilled_through: Cursor,
    /// Completed by the rules, and to be made durable.
    pub decided: VecDeque<DecidedSpan>,
    /// Tasks through here were looked at when the target passed.
    pub overdue_through: Cursor,
    /// Some node has been sent everything through here.
    pub sent_through: Cursor,
    pub late_reports: VecDeque<(NodeName, RecordReport)>,
    /// Tasks taken out of memory whose rows must be brought up to date first.
    pub leaving: Vec<(TaskId, TaskProgress)>,
    /// Counts for the SLA that are not durable yet.
    pub ledger: SlaLedger,
    pub dirty: BTreeSet<Seq>,
    /// Changes that subscribers are to be told, oldest first.
    pub news: Vec<TaskView>,
    /// Tasks whose completion has just become durable.
    pub finished: Vec<Finished>,
}

impl State {
    pub(super) fn new(
        roster: Roster,
        roll: Roll,
        ledger: SlaLedger,
        live_max: usize,
        spilled_through: Cursor,
    ) -> Self {
        let watermark = roster.watermark();
        Self {
            roster,
            roll,
            voices: Voices::default(),
            live: BTreeMap::new(),
            by_task: HashMap::new(),
            live_max,
            spilled_through,
            decided: VecDeque::new(),
            overdue_through: watermark,
            sent_through: Cursor::START,
            late_reports: VecDeque::new(),
            leaving: Vec::new(),
            ledger,
            dirty: BTreeSet::new(),
            news: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// The next records of the log, in order.
    pub(super) fn handle_records(&mut self, now: Moment, records: &[Record]) {
        let Some(last) = records.last().map(|record| record.seq) else { return };
        let first_new = self.roster.tail();
        for record in records {
            match &record.body {
                Body::Purge(purge) => {
                    self.ledger.handle_accepted(&purge.site, record.seq, record.accepted_at);
                    let waiting = self.roll.present().clone();
                    self.insert(record.seq, LiveTask::new(record, purge, now, waiting));
                }
                Body::NodeRegistered(name) => {
                    // The roster counts a node for records after its own; so those before must be known first.
                    self.roster.handle_appended(now, Cursor::after(record.seq));
                    if self.roll.handle_registered(name, record.seq) {
                        self.roster.handle_registered(now, name, record.seq, None);
                    }
                }
                Body::NodeRemoved(name) => {
                    self.roster.handle_appended(now, Cursor::after(record.seq));
                    if self.roll.handle_removed(name, record.seq) {
                        self.roster.handle_removed(now, name);
                        self.send_away(name, GoAwayReason::Removed);
                    }
                }
                Body::Site(_) | Body::Unknown => {}
            }
        }
        self.roster.handle_appended(now, Cursor::after(last));
        self.announce(first_new.next(), last, now);
        self.spill();
    }

    /// A task that was accepted before this start and may not be completed yet; `known` is what its row says.
    pub(super) fn restore(&mut self, record: &Record, known: Option<TaskProgress>, now: Moment) {
        let Body::Purge(purge) = &record.body else { return };
        let mut task = LiveTask::new(record, purge, now, self.roll.present().clone());
        if let Some(known) = known {
            task.objects = known.objects;
            task.late = known.late;
        }
        self.insert(record.seq, task);
        self.spill();
    }

    fn insert(&mut self, seq: Seq, task: LiveTask) {
        self.by_task.insert(task.task, seq);
        self.live.insert(seq, task);
    }

    /// Tells subscribers of the tasks from `first` through `last`.
    fn announce(&mut self, first: Seq, last: Seq, now: Moment) {
        let counts = self.counts_between(first, last);
        for (seq, task) in self.live.range(first..=last) {
            let state = self.open_state(now, *seq, task.partial);
            let counts = counts.unwrap_or_else(|| self.counts_at(*seq));
            self.news.push(task.view(*seq, state, counts));
        }
    }

    /// Some stream was handed everything through `through`.
    pub(super) fn handle_sent(&mut self, through: Seq) {
        let before = self.sent_through;
        if before.covers(through) {
            return;
        }
        self.sent_through = Cursor::after(through);
        if self.live.range(before.next()..=through).next().is_some() {
            let counts = self.counts_between(before.next(), through);
            for (seq, task) in self.live.range(before.next()..=through).filter(|(_, task)| task.is_open()) {
                let counts = counts.unwrap_or_else(|| self.counts_at(*seq));
                self.news.push(task.view(*seq, TaskState::InProgress, counts));
            }
        }
    }

    pub(super) fn is_sent(&self, through: Seq) -> bool {
        self.sent_through.covers(through)
    }

    /// A node connected; the older of two connections is told to go.
    pub(super) fn handle_hello(
        &mut self,
        now: Moment,
        hello: &Hello,
        resume: &Resume,
        connection: u64,
        mailbox: Mailbox,
    ) -> Result<Greeting, HelloRefused> {
        let greeting =
            self.hear(now, &hello.node, |roster| roster.handle_hello(now, hello, resume, connection))?;
        let replaced = self.roll.get_mut(&hello.node).and_then(|entry| {
            entry.handle_hello(hello);
            entry.mailbox.replace((connection, mailbox))
        });
        if let (Some(_), Some((_, old))) = (greeting.replaced, replaced) {
            let _ = old.try_send(Directive::GoAway(GoAwayReason::Replaced));
        }
        Ok(greeting)
    }

    /// How far each node has confirmed, as far as it may be made durable. One that counts no longer stays where it was.
    pub(super) fn confirmed_to_save(&mut self, now: Moment) -> Vec<(NodeName, Cursor)> {
        let Self { roster, roll, .. } = self;
        let gone = roll.iter().filter_map(|(name, entry)| Some((name, entry.left_at?)));
        let counted = roster.confirmed_to_save(now).filter(|(name, _)| roll.get(name).is_some());
        gone.chain(counted).map(|(name, cursor)| (name.clone(), cursor)).collect()
    }

    /// The answer to a heartbeat; `None` when the connection is not the node's present one.
    pub(super) fn handle_heartbeat(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        node: &NodeName,
        connection: u64,
        heartbeat: &Heartbeat,
    ) -> Option<LeaseGrant> {
        let grant =
            self.hear(now, node, |roster| roster.handle_heartbeat(now, node, connection, heartbeat))?;
        if let Some(entry) = self.roll.get_mut(node) {
            entry.heard_at = Some(wall);
        }
        Some(grant)
    }

    /// An ack. False when the connection is not the node's present one.
    pub(super) fn handle_ack(&mut self, now: Moment, node: &NodeName, connection: u64, ack: &Ack) -> bool {
        if !self.hear(now, node, |roster| roster.handle_ack(now, node, connection, ack.cursor)) {
            return false;
        }
        for report in &ack.reports {
            self.report(node, report);
        }
        true
    }

    pub(super) fn handle_disconnected(&mut self, now: Moment, node: &NodeName, connection: u64) {
        self.roster.handle_disconnected(now, node, connection);
        if let Some(entry) = self.roll.get_mut(node)
            && entry.mailbox.as_ref().is_some_and(|(id, _)| *id == connection)
        {
            entry.mailbox = None;
        }
    }

    /// Lets the roster hear something of a node, and tells tasks what the node has confirmed by it.
    fn hear<T>(&mut self, now: Moment, node: &NodeName, hear: impl FnOnce(&mut Roster) -> T) -> T {
        let before = self.roster.confirmed(node);
        let outcome = hear(&mut self.roster);
        if let (Some(before), Some(after)) = (before, self.roster.confirmed(node))
            && before < after
        {
            self.confirm(now, node, before, after);
        }
        outcome
    }

    fn confirm(&mut self, now: Moment, node: &NodeName, before: Cursor, after: Cursor) {
        let mut confirmed = self.live.range_mut(before.next()..after.next()).peekable();
        if confirmed.peek().is_none() {
            return;
        }
        let Some(pop) = self.roll.get(node).map(|entry| entry.pop) else { return };
        // A name for all of them.
        let name: Arc<str> = node.to_string().into();
        for (_, task) in confirmed {
            task.handle_confirmed(&name, pop, now.since(task.durable_at));
        }
    }

    fn report(&mut self, node: &NodeName, report: &RecordReport) {
        let Some((index, pop)) = self.roll.get(node).and_then(|entry| Some((entry.index?, entry.pop))) else {
            return;
        };
        match self.live.get_mut(&report.seq) {
            Some(task) => {
                task.handle_report(index, pop, report.objects, report.last);
                if task.dirty && !task.is_open() {
                    self.dirty.insert(report.seq);
                }
            }
            None => self.keep_late_report(node, report),
        }
    }

    /// Time has passed: leases end, and what the roster found completed is decided.
    pub(super) fn handle_tick(&mut self, now: Moment) {
        self.roster.handle_tick(now);
        self.mark_partial(now);
    }

    /// What became true since the last call. To be called after every step that touches the roster.
    pub(super) fn settle(&mut self, now: Moment, wall: UnixMillis) {
        if let Some(completed) = self.roster.poll_completed() {
            let span =
                DecidedSpan { after: completed.after, through: completed.through, at: wall, moment: now };
            self.decide(&span);
            self.decided.push_back(span);
        }
        self.tell_parents();
        while let Some(event) = self.roster.poll_event() {
            match event {
                RosterEvent::TwoInstances { node } => {
                    metrics::identity_conflict();
                    tracing::error!(%node, "two live processes use one node's name; both lose leases until one stops");
                }
                RosterEvent::Removed { node, confirmed } => {
                    tracing::info!(%node, "node removed");
                    self.drop_node(&node, confirmed);
                }
            }
        }
    }

    fn drop_node(&mut self, node: &NodeName, confirmed: Cursor) {
        // Nobody is to be alerted by the lag of a node that is no more.
        metrics::node_lag(node, Duration::ZERO, 0);
        let Some(index) = self.roll.handle_gone(node, confirmed) else { return };
        for (seq, task) in &mut self.live {
            if task.waiting.remove(index) && !task.is_open() {
                task.dirty = true;
                self.dirty.insert(*seq);
            }
        }
    }

    fn send_away(&self, node: &NodeName, reason: GoAwayReason) {
        if let Some((_, mailbox)) = self.roll.get(node).and_then(|entry| entry.mailbox.as_ref()) {
            let _ = mailbox.try_send(Directive::GoAway(reason));
        }
    }

    /// What subscribers have been told of all tasks, once all news is passed on.
    pub(super) fn told(&self) -> Told {
        let completed = self.completed_through();
        Told { accepted: self.roster.tail(), in_progress: self.sent_through.max(completed), completed }
    }
}
