//! All that the tracker knows, and the steps that change it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{Greeting, HelloRefused, PURGE_TARGET, Resume, Roster, RosterEvent};
use batoff_types::message::{Ack, GoAwayReason, Heartbeat, Hello, LeaseGrant, RecordReport};
use batoff_types::{Body, Cursor, Moment, NodeName, Record, Seq, SiteId, TaskId, UnixMillis};

use super::nodes::mailbox::{Directive, Mailbox};
use super::nodes::roll::Roll;
use super::nodes::voices::Voices;
use super::sla::ledger::{Judged, SlaLedger};
use super::sla::view::Breach;
use super::tasks::events::Told;
use super::tasks::live::{Completion, Decided, LiveTask};
use super::tasks::progress::TaskProgress;
use super::tasks::view::{AwaitedNode, NodeCounts, TaskState, TaskView};
use crate::metrics;

/// Late nodes kept with a task that missed the target.
const LATE_MAX: usize = 16;

/// Bytes of a reason that are kept with each.
const REASON_BYTES_MAX: usize = 256;

/// How long a completed task stays in memory for nodes that have not reported yet. Later reports change its row in the
/// log.
const SETTLE_FOR: Duration = Duration::from_secs(600);

/// Reports on tasks that have left memory, waiting to be added to their rows. Further ones are dropped and counted:
/// those tasks' counts stay too low, and are never shown as final.
const LATE_REPORTS_MAX: usize = 16_384;

/// All that the tracker knows, changed by small synchronous steps under one lock.
pub(super) struct State {
    pub roster: Roster,
    pub roll: Roll,
    pub voices: Voices,
    pub live: BTreeMap<Seq, LiveTask>,
    pub by_task: HashMap<TaskId, Seq>,
    live_max: usize,
    /// The first place that memory knows all open tasks from; earlier open tasks are resolved from the log.
    spilled_through: Cursor,
    /// Completed by the rules, and to be made durable.
    decided: VecDeque<DecidedSpan>,
    /// Tasks through here were looked at when the target passed.
    overdue_through: Cursor,
    /// Some node has been sent everything through here.
    sent_through: Cursor,
    late_reports: VecDeque<(NodeName, RecordReport)>,
    /// Tasks taken out of memory whose rows must be brought up to date first.
    pub leaving: Vec<(TaskId, TaskProgress)>,
    /// Counts for the SLA that are not durable yet.
    pub ledger: SlaLedger,
    dirty: BTreeSet<Seq>,
    /// Changes that subscribers are to be told, oldest first.
    pub news: Vec<TaskView>,
    /// Tasks whose completion has just become durable.
    pub finished: Vec<Finished>,
}

/// A task at its end, for the log.
#[derive(Debug)]
pub(super) struct Finished {
    pub task: TaskView,
    /// The node that confirmed it last, and how long after it was durable; `None` when none has.
    pub slowest: Option<(Arc<str>, Duration)>,
}

/// Records that were completed together.
#[derive(Clone, Debug)]
pub(super) struct DecidedSpan {
    pub after: Cursor,
    pub through: Cursor,
    pub at: UnixMillis,
    /// When, by the monotonic clock.
    pub moment: Moment,
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
        let greeting = self.roster.handle_hello(now, hello, resume, connection)?;
        let replaced = self.roll.get_mut(&hello.node).and_then(|entry| {
            entry.handle_hello(hello);
            entry.mailbox.replace((connection, mailbox))
        });
        if let (Some(_), Some((_, old))) = (greeting.replaced, replaced) {
            let _ = old.try_send(Directive::GoAway(GoAwayReason::Replaced));
        }
        if let Resume::At(cursor) = resume {
            self.confirm(now, &hello.node, *cursor);
        }
        Ok(greeting)
    }

    /// How far each node has confirmed, as far as it may be made durable. One that counts no longer stays where it was.
    pub(super) fn confirmed_to_save(&mut self, now: Moment) -> Vec<(NodeName, Cursor)> {
        let Self { roster, roll, .. } = self;
        for (name, cursor) in roster.confirmed_to_save(now) {
            if let Some(entry) = roll.get_mut(name) {
                entry.confirmed_to_save = cursor;
            }
        }
        roll.iter().map(|(name, entry)| (name.clone(), entry.confirmed_to_save)).collect()
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
        let grant = self.roster.handle_heartbeat(now, node, connection, heartbeat)?;
        self.confirm(now, node, heartbeat.cursor);
        if let Some(entry) = self.roll.get_mut(node) {
            entry.heard_at = Some(wall);
        }
        Some(grant)
    }

    /// An ack. False when the connection is not the node's present one.
    pub(super) fn handle_ack(&mut self, now: Moment, node: &NodeName, connection: u64, ack: &Ack) -> bool {
        if !self.roster.handle_ack(now, node, connection, ack.cursor) {
            return false;
        }
        self.confirm(now, node, ack.cursor);
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

    fn confirm(&mut self, now: Moment, node: &NodeName, cursor: Cursor) {
        let Some(entry) = self.roll.get_mut(node) else { return };
        if cursor <= entry.confirmed {
            return;
        }
        let (before, pop) = (entry.confirmed, entry.pop);
        entry.confirmed = cursor;
        let mut confirmed = self.live.range_mut(before.next()..cursor.next()).peekable();
        // A name for all of them, and none where there is no task.
        let name: Arc<str> = if confirmed.peek().is_some() { node.to_string().into() } else { Arc::from("") };
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
            None if self.late_reports.len() < LATE_REPORTS_MAX => {
                self.late_reports.push_back((node.clone(), *report));
            }
            None => metrics::reports_lost(1),
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
                RosterEvent::Removed { node } => {
                    tracing::info!(%node, "node removed");
                    self.drop_node(&node);
                }
            }
        }
    }

    fn decide(&mut self, span: &DecidedSpan) {
        let (Some(first), Some(last)) = (Some(span.after.next()), span.through.last()) else { return };
        if self.live.range(first..=last).next().is_none() {
            return;
        }
        // Both ends alike: so is everything between, for what a node has confirmed only ends somewhere once.
        let (at_first, at_last) = (self.pops_at(first), self.pops_at(last));
        let alike = at_first == at_last;
        let seqs: Vec<Seq> = self.live.range(first..=last).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            let by_pop = if alike { Arc::clone(&at_last) } else { self.pops_at(seq) };
            let nodes = sum(&by_pop);
            let Some(task) = self.live.get_mut(&seq) else { continue };
            let took = span.moment.since(task.durable_at);
            metrics::propagation(took);
            task.completion = Completion::Decided(Decided { at: span.at, took, nodes, by_pop });
        }
    }

    /// What is to be made durable next: at most `max` records of one span.
    pub(super) fn next_decided(&self, max: u64) -> Option<DecidedSpan> {
        let span = self.decided.front()?;
        let through = Cursor::new(span.through.get().min(span.after.get() + max));
        Some(DecidedSpan { through, ..span.clone() })
    }

    /// The completions of this span, as [`State::next_decided`] gave it, are durable; `spilled` are those that were not in
    /// memory, which are older.
    pub(super) fn handle_stored(&mut self, span: &DecidedSpan, spilled: &[Judged]) {
        spilled.iter().for_each(|completed| self.ledger.handle_completed(completed));
        let seqs: Vec<Seq> =
            self.live.range(span.after.next()..span.through.next()).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            let Some(task) = self.live.get_mut(&seq) else { continue };
            if let Completion::Decided(decided) = std::mem::replace(&mut task.completion, Completion::Open) {
                let nodes = decided.nodes;
                self.ledger.handle_completed(&Judged::of_live(seq, task, decided.took));
                task.completion = Completion::Stored(decided);
                let view = task.view(seq, TaskState::Completed, nodes);
                self.news.push(view.clone());
                self.finished.push(Finished { task: view, slowest: task.slowest.take() });
            }
            if task.dirty {
                self.dirty.insert(seq);
            } else if task.is_settled() {
                self.forget(seq);
            }
        }
        if let Some(front) = self.decided.front_mut() {
            front.after = front.after.max(span.through);
            if front.after >= front.through {
                self.decided.pop_front();
            }
        }
    }

    /// Rows of completed tasks that have changed since they were written, at most `max`.
    pub(super) fn take_dirty(&mut self, max: usize) -> Vec<(Seq, TaskId, TaskProgress)> {
        let mut rows = Vec::new();
        while rows.len() < max
            && let Some(seq) = self.dirty.pop_first()
        {
            if let Some(task) = self.live.get_mut(&seq) {
                task.dirty = false;
                rows.push((seq, task.task, task.progress(&self.roll)));
            }
        }
        rows
    }

    /// Rows from [`State::take_dirty`] are durable, or could not be made so.
    pub(super) fn handle_rewritten(&mut self, seqs: impl IntoIterator<Item = Seq>, durable: bool) {
        for seq in seqs {
            let Some(task) = self.live.get_mut(&seq) else { continue };
            if !durable {
                task.dirty = true;
                self.dirty.insert(seq);
            } else if task.is_settled() {
                self.forget(seq);
            }
        }
    }

    /// Reports that could not be added to their rows yet, in their order; what finds no room is lost and counted.
    pub(super) fn return_late_reports(&mut self, reports: Vec<(NodeName, RecordReport)>) {
        let room = LATE_REPORTS_MAX.saturating_sub(self.late_reports.len());
        metrics::reports_lost(reports.len().saturating_sub(room) as u64);
        reports.into_iter().take(room).rev().for_each(|report| self.late_reports.push_front(report));
    }

    pub(super) fn take_late_reports(&mut self, max: usize) -> Vec<(NodeName, RecordReport)> {
        let count = self.late_reports.len().min(max);
        self.late_reports.drain(..count).collect()
    }

    /// Completed tasks that nodes have not reported on for a long time leave memory.
    pub(super) fn handle_aging(&mut self, now: Moment) {
        let old: Vec<Seq> = self
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
    fn spill(&mut self) {
        while self.live.len() > self.live_max
            && let Some((&seq, _)) = self.live.first_key_value()
        {
            self.leave(seq);
        }
    }

    fn leave(&mut self, seq: Seq) {
        if let Some(task) = self.live.get(&seq) {
            self.leaving.push((task.task, task.progress(&self.roll)));
            self.spilled_through = self.spilled_through.max(Cursor::after(seq));
        }
        self.forget(seq);
    }

    fn forget(&mut self, seq: Seq) {
        if let Some(task) = self.live.remove(&seq) {
            self.by_task.remove(&task.task);
        }
        self.dirty.remove(&seq);
    }

    /// Looks at tasks whose target has passed. To be called before every step: what completes a task late must not hide
    /// which nodes it was waiting for.
    pub(super) fn judge_overdue(&mut self, now: Moment) {
        let is_overdue = |task: &LiveTask| now.since(task.durable_at) >= PURGE_TARGET;
        while let Some((&seq, task)) = self.live.range(self.overdue_through.next()..).next()
            && is_overdue(task)
        {
            self.overdue_through = Cursor::after(seq);
            if task.is_open() {
                self.handle_overdue(now, seq);
            }
        }
    }

    fn handle_overdue(&mut self, now: Moment, seq: Seq) {
        metrics::sla_breach();
        let late = self.late_at(now, seq);
        let Some(task) = self.live.get_mut(&seq) else { return };
        tracing::warn!(task = %task.task, site = %task.site, request_id = &*task.request_id,
            late = ?late.iter().map(|late| format!("{} {}", late.node, late.reason)).collect::<Vec<_>>(),
            "purge not completed within the target");
        task.late = late;
        let breach = Breach {
            site: task.site.clone(),
            task: task.task,
            propagation_ms: None,
            late: task.late.clone(),
        };
        self.ledger.handle_breach(&breach, task.accepted_at);
    }

    /// The site's tasks (all sites' for `None`) accepted since then that are past the target and not completed, as far
    /// as they are in memory.
    pub(super) fn overdue(&self, site: Option<&SiteId>, since: UnixMillis) -> u64 {
        let open = self.live.range(
            self.completed_through().next()..self.overdue_through.next().max(self.completed_through().next()),
        );
        let counts = |task: &LiveTask| {
            task.stored().is_none() && task.accepted_at >= since && site.is_none_or(|site| task.site == *site)
        };
        open.filter(|(_, task)| counts(task)).count() as u64
    }

    /// A node that keeps a purge from being completed keeps every later one from it too: so the newest tells whether
    /// there is anything to do.
    fn mark_partial(&mut self, now: Moment) {
        let open = |(_, task): &(&Seq, &LiveTask)| task.is_open() && !task.partial;
        let candidates = self.live.range(..self.overdue_through.next()).rev();
        let found: Vec<Seq> = candidates
            .take_while(|(_, task)| task.is_open())
            .filter(open)
            .map(|(seq, _)| *seq)
            .take_while(|seq| self.roster.is_partial(now, *seq))
            .collect();
        for seq in found.into_iter().rev() {
            let counts = self.counts_at(seq);
            if let Some(task) = self.live.get_mut(&seq) {
                task.partial = true;
                self.news.push(task.view(seq, TaskState::Partial, counts));
            }
        }
    }

    fn drop_node(&mut self, node: &NodeName) {
        // Nobody is to be alerted by the lag of a node that is no more.
        metrics::node_lag(node, Duration::ZERO, 0);
        let Some(index) = self.roll.handle_gone(node) else { return };
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

    /// The state of a task whose completion is not durable.
    pub(super) fn open_state(&self, now: Moment, seq: Seq, partial: bool) -> TaskState {
        if !self.roster.tail().covers(seq) {
            // Durable, and not heard of here yet: it is as young as can be.
            TaskState::Pending
        } else if partial || self.roster.is_partial(now, seq) {
            TaskState::Partial
        } else if self.sent_through.covers(seq) {
            TaskState::InProgress
        } else {
            TaskState::Pending
        }
    }

    pub(super) fn counts_at(&self, seq: Seq) -> NodeCounts {
        self.roster.counts_at(seq)
    }

    /// The counts of all records from `first` through `last`, if they are the same.
    fn counts_between(&self, first: Seq, last: Seq) -> Option<NodeCounts> {
        let at_last = self.counts_at(last);
        (first == last || self.counts_at(first) == at_last).then_some(at_last)
    }

    pub(super) fn pops_at(&self, seq: Seq) -> Arc<[(Arc<str>, NodeCounts)]> {
        self.roster.counts_by_pop(seq).into_iter().map(|(pop, nodes)| (Arc::from(pop), nodes)).collect()
    }

    fn late_at(&self, now: Moment, seq: Seq) -> Vec<AwaitedNode> {
        let late = self.roster.late_at(seq).into_iter().take(LATE_MAX);
        late.map(|late| AwaitedNode { reason: self.reason(now, &late), node: late.node }).collect()
    }

    /// Why a node is late: what the rules say, and what it said itself.
    fn reason(&self, now: Moment, late: &batoff_delivery::LateNode) -> Arc<str> {
        let mut reason = late.why.as_str().to_owned();
        let view = self.roster.node(now, &late.node);
        let connected = view.as_ref().is_some_and(|view| view.connected);
        reason.push_str(if connected { ", connected" } else { ", no connection" });
        if let Some(view) = view {
            let plural = if view.lag_records == 1 { "" } else { "s" };
            let _ = write!(reason, ", {} record{plural} behind", view.lag_records);
        }
        for (cache, (message, stuck)) in
            self.roll.get(&late.node).into_iter().flat_map(|entry| &entry.troubles)
        {
            let _ = write!(reason, "; {cache}: {message}");
            if let Some(stuck) = stuck {
                let _ = write!(reason, " (since seq {stuck})");
            }
        }
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.into()
    }

    /// What subscribers have been told of all tasks, once all news is passed on.
    pub(super) fn told(&self) -> Told {
        let completed = self.completed_through();
        Told { accepted: self.roster.tail(), in_progress: self.sent_through.max(completed), completed }
    }

    /// Everything through here is completed, and durably so.
    pub(super) fn completed_through(&self) -> Cursor {
        self.decided.front().map_or_else(|| self.roster.watermark(), |span| span.after)
    }

    /// Whether memory once knew tasks through here that it no longer knows.
    pub(super) fn is_spilled(&self, seq: Seq) -> bool {
        self.spilled_through.covers(seq)
    }
}

pub(super) fn sum(by_pop: &[(Arc<str>, NodeCounts)]) -> NodeCounts {
    by_pop.iter().fold(NodeCounts::default(), |sum, (_, nodes)| NodeCounts {
        total: sum.total + nodes.total,
        confirmed: sum.confirmed + nodes.confirmed,
        fenced: sum.fenced + nodes.fenced,
        unreachable: sum.unreachable + nodes.unreachable,
    })
}
