use std::sync::Arc;

use batoff_types::{NodeName, Selector, SelectorKind, Seq, SiteId, TaskId, UnixMillis};

/// How far a task is. See `api.md`: `completed` is a proof, not a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Durable, not yet sent to any node.
    Pending,
    /// At least one node has it.
    InProgress,
    /// No node can serve any of it any more.
    Completed,
    /// The two-second target passed while a node that may serve without a lease is unreachable.
    Partial,
}

impl TaskState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Pending, Self::InProgress, Self::Completed, Self::Partial];

    /// The state's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Partial => "partial",
        }
    }

    /// A task never goes back from a higher one to a lower one.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::InProgress => 1,
            Self::Partial => 2,
            Self::Completed => 3,
        }
    }

    /// The state with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// How many registered nodes stand where, as seen from one purge. `total` counts nodes that are on their way, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// All registered nodes.
    pub total: u32,
    /// Have acked it.
    pub confirmed: u32,
    /// Hold no lease and have therefore stopped serving.
    pub fenced: u32,
    /// May serve without a lease, and cannot be reached.
    pub unreachable: u32,
}

/// A task as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Its id.
    pub task: TaskId,
    /// Whose it is.
    pub site: SiteId,
    /// Where its record stands.
    pub seq: Seq,
    /// The request that caused it.
    pub request_id: Arc<str>,
    /// How far it is.
    pub state: TaskState,
    /// The items of the request, in their order.
    pub selectors: Arc<[Selector]>,
    /// Whether objects are marked stale instead of removed.
    pub soft: bool,
    /// When it was accepted.
    pub started_at: UnixMillis,
    /// When it was completed; `Some` exactly in [`TaskState::Completed`].
    pub completed_at: Option<UnixMillis>,
    /// From durable to completed, in milliseconds by the monotonic clock; `Some` exactly in [`TaskState::Completed`].
    pub propagation_ms: Option<u64>,
    /// Objects made unservable, as far as reported.
    pub objects_evicted: u64,
    /// Whether all nodes have reported their objects.
    pub objects_final: bool,
    /// The nodes.
    pub nodes: NodeCounts,
}

impl TaskView {
    /// The number of items.
    pub fn items_total(&self) -> usize {
        self.selectors.len()
    }

    /// All items when completed, none before: they become so together.
    pub fn items_done(&self) -> usize {
        if self.state == TaskState::Completed { self.selectors.len() } else { 0 }
    }

    /// Whether any item is of this kind.
    pub fn has_kind(&self, kind: SelectorKind) -> bool {
        self.selectors.iter().any(|selector| selector.kind() == kind)
    }
}

/// One PoP's part in a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopView {
    /// The PoP.
    pub pop: Arc<str>,
    /// Its nodes.
    pub nodes: NodeCounts,
    /// From durable until its slowest node had confirmed, in milliseconds; `None` while none has, or when unknown.
    pub slowest_ms: Option<u64>,
    /// Objects made unservable there, as far as reported.
    pub objects_evicted: u64,
}

/// What a list of tasks is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only tasks in this state.
    pub state: Option<TaskState>,
    /// Only tasks with an item of this kind.
    pub kind: Option<SelectorKind>,
    /// Only tasks accepted at or after this time.
    pub since: Option<UnixMillis>,
    /// Strictly older than this task: the `cursor` of the page before.
    pub before: Option<TaskId>,
    /// Tasks on a page, 1 to 200.
    pub limit: usize,
}

/// A page of tasks, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// What to ask with for the next page; `None` on the last. With a filter a page may hold fewer than `limit` tasks,
    /// or none, and still not be the last: a page looks at a bounded number of rows.
    pub next: Option<TaskId>,
}

/// Something happened to a task; what SSE sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    /// The event's id; a subscriber that names it later goes on after it.
    pub id: Arc<str>,
    /// The task after the event.
    pub task: TaskView,
}

/// How many cached objects selectors would hit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects a selector, in the question's order, summed over the nodes that answered.
    pub objects: Vec<u64>,
    /// Registered nodes.
    pub nodes_total: u32,
    /// Nodes that answered in time.
    pub nodes_answered: u32,
    /// Nodes that have not answered, or cannot say what their caches hold, and may serve from them: available ones,
    /// whether or not they are connected, and strict ones that may have a lease.
    pub missing: Vec<NodeName>,
}

/// A site's (or the fleet's) propagation over a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlaView {
    /// Purges accepted within the window that were looked at.
    pub purges: u64,
    /// Those of them completed within the target, divided by all that are completed or past the target; 1 when none.
    pub within_target: f64,
    /// Median propagation, in milliseconds.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
    /// Tasks over the target, newest first, at most [`super::SLA_BREACHES_MAX`].
    pub breaches: Vec<Breach>,
}

/// A task that took longer than the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Whose.
    pub site: SiteId,
    /// Which.
    pub task: TaskId,
    /// How long it took; `None` while it is not completed.
    pub propagation_ms: Option<u64>,
    /// The nodes it waited for when the target passed, as far as kept.
    pub late: Vec<LateNode>,
}

/// A node that a task waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateNode {
    /// Which.
    pub node: NodeName,
    /// Why, in a word or a sentence.
    pub reason: Arc<str>,
}
