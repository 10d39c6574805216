//! Tasks as they look from outside.

use std::sync::Arc;

pub use batoff_delivery::NodeCounts;
use batoff_types::{NodeName, Selector, SelectorKind, Seq, SiteId, TaskId, UnixMillis};

/// How far a task is. `completed` is a proof, not a guess.
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
    pub(in crate::tracker) const fn rank(self) -> u8 {
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
    /// Whether that, and the nodes, are not exact: another control plane accepted it, or has not written down yet what it
    /// measured. Never so where there is one.
    pub approximate: bool,
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

/// A node that a task waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitedNode {
    /// Which.
    pub node: NodeName,
    /// Why, in a word or a sentence.
    pub reason: Arc<str>,
}
