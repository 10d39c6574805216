//! A task in memory: what nodes have confirmed and reported, and whether it is completed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Cursor, Moment, Purge, Record, Selector, Seq, SiteId, TaskId, UnixMillis};

use super::progress::{TaskProgress, WAITING_MAX};
use super::view::{AwaitedNode, NodeCounts, PopView, TaskState, TaskView};
use crate::clock::millis;
use crate::tracker::nodes::roll::{NodeIndex, NodeSet, PopIndex, Roll};

/// A task whose progress is in memory.
#[derive(Debug)]
pub(in crate::tracker) struct LiveTask {
    pub task: TaskId,
    pub site: SiteId,
    pub request_id: Arc<str>,
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
    /// Whether it became `partial`.
    pub partial: bool,
    /// Nodes that it waited for when the target passed.
    pub late: Vec<AwaitedNode>,
    pub completion: Completion,
    /// Whether memory knows more than the row in the log.
    pub dirty: bool,
}

/// How far the completion of a task is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tracker) enum Completion {
    /// Some node may still serve what it purged.
    Open,
    /// No node can; not yet reported, because that is not yet durable.
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
}

/// Records that were completed together.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct DecidedSpan {
    pub after: Cursor,
    pub through: Cursor,
    pub at: UnixMillis,
    /// When, by the monotonic clock.
    pub moment: Moment,
}

/// What was so when a task was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct Decided {
    pub at: UnixMillis,
    pub took: Duration,
    pub nodes: NodeCounts,
    pub by_pop: Arc<[(Arc<str>, NodeCounts)]>,
}

/// What one PoP has done with a task.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tracker) struct PopProgress {
    pub objects: u64,
    /// From durable until the slowest node so far had confirmed.
    pub slowest: Option<Duration>,
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
            selectors: purge.selectors.as_slice().into(),
            soft: purge.soft,
            accepted_at: record.accepted_at,
            durable_at,
            objects: 0,
            waiting,
            pops: BTreeMap::new(),
            slowest: None,
            partial: false,
            late: Vec::new(),
            completion: Completion::Open,
            dirty: false,
        }
    }

    /// A node has confirmed it.
    pub(in crate::tracker) fn handle_confirmed(&mut self, node: &Arc<str>, pop: PopIndex, after: Duration) {
        if self.is_open() && self.slowest.as_ref().is_none_or(|(_, before)| *before <= after) {
            self.slowest = Some((Arc::clone(node), after));
        }
        let slowest = &mut self.pops.entry(pop).or_default().slowest;
        *slowest = Some(slowest.map_or(after, |before| before.max(after)));
    }

    /// A node has reported what it did.
    pub(in crate::tracker) fn handle_report(
        &mut self,
        node: NodeIndex,
        pop: PopIndex,
        objects: u64,
        last: bool,
    ) {
        self.objects = self.objects.saturating_add(objects);
        let sum = &mut self.pops.entry(pop).or_default().objects;
        *sum = sum.saturating_add(objects);
        let settled = last && self.waiting.remove(node);
        self.dirty |= objects > 0 || settled;
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

    fn decided(&self) -> Option<&Decided> {
        match &self.completion {
            Completion::Stored(decided) | Completion::Decided(decided) => Some(decided),
            Completion::Open => None,
        }
    }

    /// Whether nothing about it can change any more, and the row in the log says all.
    pub(in crate::tracker) fn is_settled(&self) -> bool {
        self.stored().is_some() && self.waiting.is_empty() && !self.dirty
    }

    /// What its row in the log is to say now.
    pub(in crate::tracker) fn progress(&self, roll: &Roll) -> TaskProgress {
        let decided = self.decided();
        TaskProgress {
            completed: decided.map(|decided| (decided.at, millis(decided.took))),
            objects: self.objects,
            nodes: decided.map(|decided| decided.nodes).unwrap_or_default(),
            pops: decided.map(|decided| self.pop_views(&decided.by_pop, roll)).unwrap_or_default(),
            waiting: self.waiting.iter().take(WAITING_MAX).filter_map(|node| roll.name_of(node)).collect(),
            waiting_more: self.waiting.len() > WAITING_MAX,
            late: self.late.clone(),
        }
    }

    /// PoP by PoP, with the nodes as `by_pop` says.
    pub(in crate::tracker) fn pop_views(
        &self,
        by_pop: &[(Arc<str>, NodeCounts)],
        roll: &Roll,
    ) -> Vec<PopView> {
        let view = |(pop, nodes): &(Arc<str>, NodeCounts)| {
            let done = roll.pop(pop).and_then(|index| self.pops.get(&index)).copied().unwrap_or_default();
            PopView {
                pop: Arc::clone(pop),
                nodes: *nodes,
                slowest_ms: done.slowest.map(millis),
                objects_evicted: done.objects,
            }
        };
        by_pop.iter().map(view).collect()
    }

    /// The task for the API; `state` and `nodes` as they are while it is not completed.
    pub(in crate::tracker) fn view(&self, seq: Seq, state: TaskState, nodes: NodeCounts) -> TaskView {
        let stored = self.stored();
        TaskView {
            task: self.task,
            site: self.site.clone(),
            seq,
            request_id: Arc::clone(&self.request_id),
            state: if stored.is_some() { TaskState::Completed } else { state },
            selectors: Arc::clone(&self.selectors),
            soft: self.soft,
            started_at: self.accepted_at,
            completed_at: stored.map(|decided| decided.at),
            propagation_ms: stored.map(|decided| millis(decided.took)),
            objects_evicted: self.objects,
            objects_final: self.waiting.is_empty(),
            nodes: stored.map_or(nodes, |decided| decided.nodes),
        }
    }
}
