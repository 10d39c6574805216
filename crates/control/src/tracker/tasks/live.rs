//! A task in memory: what nodes have confirmed and reported, and whether it is completed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::message::RecordReport;
use batoff_types::{
    Cursor, Moment, Purge, Record, Replica, Selector, Seq, SiteId, TaskId, TraceParent, UnixMillis,
};

use super::marks::{PopProgress, SlowNodes, WayMark};
use super::progress::{TaskProgress, WAITING_MAX};
use super::propagation::Fences;
use super::took::SeenWhen;
use super::view::{AwaitedNode, NodeCounts, PopView, TaskState, TaskView};
use crate::clock::millis;
use crate::tracker::nodes::roll::{NodeIndex, NodeSet, PopIndex, Roll};
use crate::tracker::replicas::quorum::Rise;

/// A task whose progress is in memory.
#[derive(Debug)]
pub(in crate::tracker) struct LiveTask {
    pub task: TaskId,
    pub site: SiteId,
    pub request_id: Arc<str>,
    pub trace: Option<TraceParent>,
    pub selectors: Arc<[Selector]>,
    pub soft: bool,
    pub accepted_at: UnixMillis,
    /// Zero of `propagation_ms`, and of the two-second target.
    pub durable_at: Moment,
    /// Objects made unservable, as far as reported.
    pub objects: u64,
    /// Nodes that have not reported all their objects.
    pub waiting: NodeSet,
    /// PoPs that have confirmed or reported anything.
    pub pops: BTreeMap<PopIndex, PopProgress>,
    /// The node that confirmed it last so far.
    pub slowest: Option<(Arc<str>, Duration)>,
    /// The nodes that did so last.
    pub slow: SlowNodes,
    /// Whether it became `partial`.
    pub partial: bool,
    /// Nodes that it waited for when the target passed.
    pub late: Vec<AwaitedNode>,
    pub completion: Completion,
    /// Whether memory knows more than the row in the log.
    pub dirty: bool,
    /// Whether this control plane writes its row. Always, where it is alone.
    pub row_is_ours: bool,
    /// How soon after it became durable it was seen here. Of no interest where it is alone.
    pub seen: SeenWhen,
    /// Whether it was accepted by this process, so that `durable_at` is when it became durable. Of no interest where it is
    /// alone.
    pub accepted_here: bool,
}

/// How far the completion of a task is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tracker) enum Completion {
    /// Some node may still serve what it purged.
    Open,
    /// No node can. Where this control plane is alone it is not yet reported, because that is not yet durable.
    Decided(Decided),
    /// Durable, and reported.
    Stored(Decided),
}

/// A task at its end, for the log.
#[derive(Debug)]
pub(in crate::tracker) struct Finished {
    pub task: TaskView,
    /// The node that confirmed it last, and how long after it was durable; `None` when none has.
    pub slowest: Option<(Arc<str>, Duration)>,
    /// Where that is told, if it is traced.
    pub trace: Option<TraceParent>,
}

/// A traced task that some node's stream has been handed.
#[derive(Debug)]
pub(in crate::tracker) struct Handed {
    pub seq: Seq,
    pub task: TaskId,
    pub trace: TraceParent,
    pub durable_at: Moment,
}

/// Records that were completed together.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct DecidedSpan {
    pub after: Cursor,
    pub through: Cursor,
    pub at: UnixMillis,
    /// When, by the monotonic clock.
    pub moment: Moment,
    /// How it was recorded in the store, as far as that is known and there are several control planes.
    pub raised: Option<Rise>,
    /// Whether this control plane writes down what became of them.
    pub is_ours: bool,
}

impl DecidedSpan {
    /// Its first `max` records.
    pub(in crate::tracker) fn first(&self, max: u64) -> Self {
        let through = Cursor::new(self.through.get().min(self.after.get().saturating_add(max)));
        Self { through, ..self.clone() }
    }
}

/// The counts of a task by PoP.
pub(in crate::tracker) type CountsByPop = Arc<[(Arc<str>, NodeCounts)]>;

/// What was so when a task was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct Decided {
    pub at: UnixMillis,
    pub took: Duration,
    pub nodes: NodeCounts,
    pub by_pop: CountsByPop,
    /// The nodes that it did not wait for.
    pub fences: Arc<Fences>,
    /// Of several control planes the one that says all this.
    pub by: Option<Replica>,
    /// Whether it is recorded as done in the store, for all to see, so that it is told before its row is written.
    pub is_recorded: bool,
    /// Whether `took` is not from the moment at which it became durable, which only another control plane knows.
    pub approximate: bool,
}

impl LiveTask {
    pub(in crate::tracker) fn new(
        record: &Record,
        purge: &Purge,
        durable_at: Moment,
        waiting: NodeSet,
    ) -> Self {
        Self {
            task: record.task,
            site: purge.site.clone(),
            request_id: Arc::clone(&record.request_id),
            trace: record.trace,
            selectors: purge.selectors.as_slice().into(),
            soft: purge.soft,
            accepted_at: record.accepted_at,
            durable_at,
            objects: 0,
            waiting,
            pops: BTreeMap::new(),
            slowest: None,
            slow: SlowNodes::default(),
            partial: false,
            late: Vec::new(),
            completion: Completion::Open,
            dirty: false,
            row_is_ours: true,
            accepted_here: false,
            seen: SeenWhen::Soon,
        }
    }

    /// A node has confirmed it, to whose stream it was handed at that moment.
    pub(in crate::tracker) fn handle_confirmed(
        &mut self,
        (node, name): (NodeIndex, &Arc<str>),
        pop: PopIndex,
        sent: Option<Moment>,
        after: Duration,
    ) {
        let sent = sent.map_or(WayMark::NONE, |sent| WayMark::of(sent.since(self.durable_at)));
        if self.is_open() && self.slowest.as_ref().is_none_or(|(_, before)| *before <= after) {
            self.slowest = Some((Arc::clone(name), after));
        }
        self.pops.entry(pop).or_default().handle_confirmed(sent, after);
        self.slow.handle_confirmed(node, sent, after);
    }

    /// A node has reported what it did.
    pub(in crate::tracker) fn handle_report(
        &mut self,
        (node, pop): (NodeIndex, PopIndex),
        report: &RecordReport,
        after: Duration,
    ) {
        self.objects = self.objects.saturating_add(report.objects);
        self.pops.entry(pop).or_default().handle_report(report, after);
        self.slow.handle_report(node, report, after);
        let settled = report.last && self.waiting.remove(node);
        self.dirty |= report.objects > 0 || settled;
    }

    pub(in crate::tracker) fn is_open(&self) -> bool {
        self.completion == Completion::Open
    }

    pub(in crate::tracker) fn stored(&self) -> Option<&Decided> {
        match &self.completion {
            Completion::Stored(decided) => Some(decided),
            Completion::Open | Completion::Decided(_) => None,
        }
    }

    /// What may be told: no node can serve what it purged, and nothing takes that back.
    pub(in crate::tracker) fn completed(&self) -> Option<&Decided> {
        match &self.completion {
            Completion::Stored(decided) => Some(decided),
            Completion::Decided(decided) => Some(decided).filter(|decided| decided.is_recorded),
            Completion::Open => None,
        }
    }

    /// Whether its row is another control plane's, and says what became of it: then that is what is told.
    pub(in crate::tracker) fn is_adopted(&self) -> bool {
        !self.row_is_ours && self.stored().is_some()
    }

    fn decided(&self) -> Option<&Decided> {
        match &self.completion {
            Completion::Stored(decided) | Completion::Decided(decided) => Some(decided),
            Completion::Open => None,
        }
    }

    /// Whether nothing about it can change any more, and the row in the log says all.
    pub(in crate::tracker) fn is_settled(&self) -> bool {
        self.stored().is_some() && self.waiting.is_empty() && (!self.dirty || !self.row_is_ours)
    }

    /// What its row in the log is to say now.
    pub(in crate::tracker) fn progress(&self, roll: &Roll) -> TaskProgress {
        let decided = self.decided();
        TaskProgress {
            completed: decided.map(|decided| (decided.at, millis(decided.took))),
            objects: self.objects,
            nodes: decided.map(|decided| decided.nodes).unwrap_or_default(),
            pops: decided
                .map(|decided| self.pop_lines(&decided.by_pop, &decided.fences, roll))
                .unwrap_or_default(),
            slow: decided.map(|decided| self.slow_lines(&decided.fences, roll)).unwrap_or_default(),
            waiting: self.waiting.iter().take(WAITING_MAX).filter_map(|node| roll.name_of(node)).collect(),
            waiting_more: self.waiting.len() > WAITING_MAX,
            late: self.late.clone(),
            by: decided.and_then(|decided| decided.by),
            approximate: decided.is_some_and(|decided| decided.approximate),
        }
    }

    /// What is told of each PoP, with the nodes as `by_pop` says.
    pub(in crate::tracker) fn pop_views(
        &self,
        by_pop: &[(Arc<str>, NodeCounts)],
        roll: &Roll,
    ) -> Vec<PopView> {
        self.pop_lines(by_pop, &Fences::default(), roll).into_iter().map(PopView::from).collect()
    }

    /// The task for the API; `state` and `nodes` as they are while it is not completed.
    pub(in crate::tracker) fn view(&self, seq: Seq, state: TaskState, nodes: NodeCounts) -> TaskView {
        let completed = self.completed();
        TaskView {
            task: self.task,
            site: self.site.clone(),
            seq,
            request_id: Arc::clone(&self.request_id),
            state: if completed.is_some() { TaskState::Completed } else { state },
            selectors: Arc::clone(&self.selectors),
            soft: self.soft,
            started_at: self.accepted_at,
            completed_at: completed.map(|decided| decided.at),
            propagation_ms: completed.map(|decided| millis(decided.took)),
            approximate: self.is_approximate(),
            objects_evicted: self.objects,
            objects_final: self.waiting.is_empty(),
            nodes: completed.map_or(nodes, |decided| decided.nodes),
        }
    }

    /// Whether what is said of its end may still change: it is told before its row is durable, in which another control plane
    /// may say something else if this one dies. Or it was not measured from the moment at which it became durable.
    fn is_approximate(&self) -> bool {
        self.completed().is_some_and(|decided| decided.approximate || self.stored().is_none())
    }
}
