//! The tasks that memory knows, and what has to happen to them next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use batoff_types::message::RecordReport;
use batoff_types::{Cursor, NodeName, Seq, TaskId};

use super::live::{DecidedSpan, Finished, Handed, LiveTask};
use super::progress::TaskProgress;
use super::view::TaskView;
use crate::tracker::nodes::roll::NodeIndex;

/// What memory knows of tasks. Nobody outside of this room reaches into it: who else has something to tell, or to ask,
/// does so by the methods.
pub(in crate::tracker) struct Tasks {
    pub(super) live: BTreeMap<Seq, LiveTask>,
    pub(super) by_task: HashMap<TaskId, Seq>,
    pub(super) live_max: usize,
    /// The first place that memory knows all open tasks from; earlier open tasks are resolved from the log.
    pub(super) spilled_through: Cursor,
    /// Completed by the rules, and to be made durable.
    pub(super) decided: VecDeque<DecidedSpan>,
    /// Completed, as another control plane has recorded, which writes down what became of them.
    pub(super) foreign: VecDeque<DecidedSpan>,
    /// Tasks through here were looked at when the target passed.
    pub(super) overdue_through: Cursor,
    /// Some node has been sent everything through here.
    pub(super) sent_through: Cursor,
    pub(super) late_reports: VecDeque<(NodeName, RecordReport)>,
    /// Reports on records that another control plane was faster to send, by their places.
    pub(super) early_reports: BTreeMap<Seq, Vec<(NodeName, RecordReport)>>,
    /// How many.
    pub(super) early_count: usize,
    /// Nodes that have confirmed such records.
    pub(super) ahead: BTreeSet<NodeName>,
    /// Tasks taken out of memory whose rows must be brought up to date first.
    pub(super) leaving: Vec<(TaskId, TaskProgress)>,
    /// Completed tasks whose rows say less than memory knows.
    pub(super) dirty: BTreeSet<Seq>,
    /// Changes that subscribers are to be told, oldest first.
    pub(super) news: Vec<TaskView>,
    /// Tasks whose completion has just become durable.
    pub(super) finished: Vec<Finished>,
    /// Traced tasks that have come to a stream since that was asked last.
    pub(super) handed: Vec<Handed>,
}

impl Tasks {
    /// None yet. Those through `watermark` are completed, and open ones through `spilled_through` are in the log alone.
    pub(in crate::tracker) fn new(live_max: usize, spilled_through: Cursor, watermark: Cursor) -> Self {
        Self {
            live: BTreeMap::new(),
            by_task: HashMap::new(),
            live_max,
            spilled_through,
            decided: VecDeque::new(),
            foreign: VecDeque::new(),
            overdue_through: watermark,
            sent_through: Cursor::START,
            late_reports: VecDeque::new(),
            early_reports: BTreeMap::new(),
            early_count: 0,
            ahead: BTreeSet::new(),
            leaving: Vec::new(),
            dirty: BTreeSet::new(),
            news: Vec::new(),
            finished: Vec::new(),
            handed: Vec::new(),
        }
    }

    /// How many.
    pub(in crate::tracker) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether a stream was handed everything through `through`.
    pub(in crate::tracker) fn is_sent(&self, through: Seq) -> bool {
        self.sent_through.covers(through)
    }

    /// Traced tasks that have come to a stream since the last call.
    pub(in crate::tracker) fn take_handed(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }

    /// What subscribers and the log's reader are to be told since the last call.
    pub(in crate::tracker) fn take_news(&mut self) -> (Vec<TaskView>, Vec<Finished>) {
        (std::mem::take(&mut self.news), std::mem::take(&mut self.finished))
    }

    /// Whether something waits to be made durable.
    pub(in crate::tracker) fn have_work(&self) -> bool {
        !self.decided.is_empty() || !self.foreign.is_empty() || !self.leaving.is_empty()
    }

    /// The rows of this span's tasks say what became of them.
    pub(in crate::tracker) fn handle_span_done(&mut self, done: &DecidedSpan) {
        let spans = if done.is_ours { &mut self.decided } else { &mut self.foreign };
        if let Some(front) = spans.front_mut() {
            front.after = front.after.max(done.through);
            if front.after >= front.through {
                spans.pop_front();
            }
        }
    }

    /// The node counts no longer, so nothing waits for its reports.
    pub(in crate::tracker) fn handle_gone(&mut self, node: NodeIndex) {
        for (seq, task) in &mut self.live {
            task.slow.handle_gone(node);
            if task.waiting.remove(node) && !task.is_open() && task.row_is_ours {
                task.dirty = true;
                self.dirty.insert(*seq);
            }
        }
    }

    /// The oldest span that waits to be written down, if it is such a one.
    pub(in crate::tracker) fn take_decided_if(
        &mut self,
        is_such: impl FnOnce(&DecidedSpan) -> bool,
    ) -> Option<DecidedSpan> {
        self.decided.front().is_some_and(is_such).then(|| self.decided.pop_front())?
    }

    /// Another control plane may have written down what became of this span.
    pub(in crate::tracker) fn add_foreign(&mut self, span: DecidedSpan) {
        let place = self.foreign.partition_point(|other| other.after <= span.after);
        self.foreign.insert(place, span);
    }

    /// What another control plane is to write down: at most `max` records of one span.
    pub(in crate::tracker) fn next_foreign(&self, max: u64) -> Option<DecidedSpan> {
        self.foreign.front().map(|span| span.first(max))
    }

    /// Whether another control plane is to write something down.
    pub(in crate::tracker) fn have_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }

    /// The span's tasks that are in memory.
    pub(in crate::tracker) fn live_between(
        &mut self,
        span: &DecidedSpan,
    ) -> impl Iterator<Item = (Seq, &mut LiveTask)> {
        self.live.range_mut(span.after.next()..span.through.next()).map(|(seq, task)| (*seq, task))
    }

    /// Tasks after that place whose target has passed.
    pub(in crate::tracker) fn overdue_between(
        &self,
        completed: Cursor,
    ) -> impl DoubleEndedIterator<Item = &LiveTask> {
        let from = completed.next();
        self.live.range(from..self.overdue_through.next().max(from)).map(|(_, task)| task)
    }

    /// A task that is in memory.
    pub(in crate::tracker) fn live_mut(&mut self, seq: Seq) -> Option<&mut LiveTask> {
        self.live.get_mut(&seq)
    }

    pub(super) fn insert(&mut self, seq: Seq, task: LiveTask) {
        self.by_task.insert(task.task, seq);
        self.live.insert(seq, task);
    }
}
