//! Tasks as JSON. The names and forms are the contract's.

use batoff_types::{Selector, SelectorKind};
use serde::Serialize;
use utoipa::ToSchema;

use super::counts::NodesDocument;
use super::propagation::PropagationDocument;
use crate::clock::rfc3339;
use crate::tracker::{PopView, TaskState, TaskView};

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable, not yet sent to any node.
    Pending,
    /// At least one node has it.
    InProgress,
    /// No node can serve any of it any more.
    Completed,
    /// The two-second target passed while a node that may serve without a lease is unreachable; it becomes `completed`
    /// when that node has caught up.
    Partial,
}

/// What an item names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One URL.
    Url,
    /// The beginning of URLs.
    Prefix,
    /// A tag.
    Tag,
    /// A hostname.
    Host,
    /// All of the site.
    Everything,
}

/// The answer to a submission. A repeat of the submission gets exactly this again, however far the task is by then.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Accepted)]
pub struct AcceptedDocument {
    /// The task to follow: a ULID.
    #[schema(example = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y")]
    pub task_id: String,
    /// Always `pending`.
    pub state: State,
    /// The number of items.
    #[schema(example = 2)]
    pub items_total: usize,
    /// Always 0.
    #[schema(example = 0)]
    pub items_done: usize,
    /// When it was accepted.
    #[schema(example = "2026-04-20T08:12:31Z", format = DateTime)]
    pub started_at: String,
}

/// The success of a submission that queues nothing, or that was waited for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Submitted)]
#[serde(untagged)]
#[expect(dead_code, reason = "the description's name for one of two documents")]
pub enum SubmittedDocument {
    /// With `dry_run=true`.
    DryRun(DryRunDocument),
    /// With `wait`, when it was completed in time.
    Task(TaskDocument),
}

/// A task.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskDocument {
    /// Its id: a ULID.
    #[schema(example = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y")]
    pub task_id: String,
    /// How far it is.
    #[schema(example = "completed")]
    pub state: State,
    /// The number of items.
    #[schema(example = 2)]
    pub items_total: usize,
    /// `items_total` at `completed`, 0 before.
    #[schema(example = 2)]
    pub items_done: usize,
    /// When it was accepted.
    #[schema(example = "2026-04-20T08:12:31Z", format = DateTime)]
    pub started_at: String,
    /// When it was completed; only with `completed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-04-20T08:12:32Z", format = DateTime, nullable = false)]
    pub completed_at: Option<String>,
    /// Milliseconds from durable to completed; only with `completed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 412, nullable = false)]
    pub propagation_ms: Option<u64>,
    /// That `propagation_ms` and `nodes` are near and not exact: of several control planes another one accepted the purge, or
    /// has not written down yet what it measured. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = true, nullable = false)]
    pub approximate: Option<bool>,
    /// Cached objects (each variant counts one) that this purge made unservable, as far as the nodes have reported.
    #[schema(example = 318)]
    pub objects_evicted: u64,
    /// Whether all nodes have reported their objects.
    pub objects_final: bool,
    /// The nodes.
    pub nodes: NodesDocument,
    /// The items in normal form; only with `include=items`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub items: Option<Vec<ItemDocument>>,
    /// The task PoP by PoP, sorted by name; only with `include=pops`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pops: Option<Vec<PopDocument>>,
    /// How it spread, PoP by PoP, and which nodes were slowest; only with `include=propagation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub propagation: Option<Box<PropagationDocument>>,
}

/// An item in normal form.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub struct ItemDocument {
    /// What the item names.
    #[schema(example = "url")]
    pub kind: Kind,
    /// What it names; absent for `everything`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://www.example.com/b", nullable = false)]
    pub value: Option<String>,
    /// Cached objects that it would hit; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, nullable = false)]
    pub objects: Option<u64>,
}

/// One PoP's part in a task.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Pop)]
pub struct PopDocument {
    /// The PoP's name.
    #[schema(example = "fra1")]
    pub pop: String,
    /// Its nodes.
    pub nodes: NodesDocument,
    /// Milliseconds until its slowest node had confirmed; absent while none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 41, nullable = false)]
    pub slowest_ms: Option<u64>,
    /// Objects made unservable there, as far as reported.
    #[schema(example = 9)]
    pub objects_evicted: u64,
}

/// The answer to a dry run.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DryRun)]
pub struct DryRunDocument {
    /// Always true.
    pub dry_run: bool,
    /// The items in normal form, each with what it would hit.
    pub items: Vec<ItemDocument>,
    /// The sum over the items. An object that several items hit counts for each.
    #[schema(example = 3)]
    pub objects_total: u64,
    /// Whom it was asked of.
    pub nodes: AnsweredDocument,
}

/// How many nodes answered within a second.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Answered)]
pub struct AnsweredDocument {
    /// All registered nodes.
    #[schema(example = 3)]
    pub total: u32,
    /// Those that answered.
    #[schema(example = 3)]
    pub answered: u32,
}

/// A page of tasks.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TaskList)]
pub struct TaskListDocument {
    /// The tasks, newest first. With a filter a page may be short, or empty, and still not be the last.
    pub purges: Vec<TaskDocument>,
    /// What to give as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next_cursor: Option<String>,
}

impl From<&TaskView> for TaskDocument {
    fn from(view: &TaskView) -> Self {
        Self {
            task_id: view.task.to_string(),
            state: view.state.into(),
            items_total: view.items_total(),
            items_done: view.items_done(),
            started_at: rfc3339(view.started_at),
            completed_at: view.completed_at.map(rfc3339),
            propagation_ms: view.propagation_ms,
            approximate: view.approximate.then_some(true),
            objects_evicted: view.objects_evicted,
            objects_final: view.objects_final,
            nodes: view.nodes.into(),
            items: None,
            pops: None,
            propagation: None,
        }
    }
}

impl From<TaskState> for State {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Pending => Self::Pending,
            TaskState::InProgress => Self::InProgress,
            TaskState::Completed => Self::Completed,
            TaskState::Partial => Self::Partial,
        }
    }
}

impl From<SelectorKind> for Kind {
    fn from(kind: SelectorKind) -> Self {
        match kind {
            SelectorKind::Url => Self::Url,
            SelectorKind::Prefix => Self::Prefix,
            SelectorKind::Tag => Self::Tag,
            SelectorKind::Host => Self::Host,
            SelectorKind::Everything => Self::Everything,
        }
    }
}

impl From<&Selector> for ItemDocument {
    fn from(selector: &Selector) -> Self {
        let value = Some(selector.value()).filter(|_| *selector != Selector::Everything);
        Self { kind: selector.kind().into(), value: value.map(str::to_owned), objects: None }
    }
}

impl From<PopView> for PopDocument {
    fn from(view: PopView) -> Self {
        Self {
            pop: view.pop.to_string(),
            nodes: view.nodes.into(),
            slowest_ms: view.slowest_ms,
            objects_evicted: view.objects_evicted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_kinds_are_written_as_everywhere_else() {
        for state in TaskState::ALL {
            assert_eq!(serde_json::to_value(State::from(state)).unwrap(), state.as_str());
        }
        for kind in SelectorKind::ALL {
            assert_eq!(serde_json::to_value(Kind::from(kind)).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn everything_has_no_value() {
        let item = ItemDocument::from(&Selector::Everything);
        assert_eq!(serde_json::to_value(item).unwrap(), serde_json::json!({ "kind": "everything" }));
    }
}
