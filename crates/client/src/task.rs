//! A purge that was accepted, and how far it is, as the API tells it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Spread;

/// The longest that the API holds one status reply; longer waits are made of several.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable, not yet sent to any node.
    Pending,
    /// At least one node has it.
    InProgress,
    /// No node can serve any of it any more.
    Completed,
    /// Two seconds have passed, and a node that may serve without a lease has not confirmed.
    Partial,
    /// A state that this build does not know; treat it as not completed.
    #[serde(other)]
    Unknown,
}

impl State {
    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many nodes stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Nodes that count.
    pub total: u64,
    /// Evicted there, and acknowledged.
    pub confirmed: u64,
    /// Without a valid lease, so serving nothing from cache.
    pub fenced: u64,
    /// Neither: may still serve.
    pub unreachable: u64,
}

/// A purge that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// A ULID; later tasks sort higher.
    pub task_id: String,
    /// How far it has come.
    pub state: State,
    /// Items asked for.
    #[serde(default)]
    pub items_total: u64,
    /// All of them at `completed`, none before.
    #[serde(default)]
    pub items_done: u64,
    /// When it was accepted: RFC 3339, UTC, whole seconds.
    #[serde(default)]
    pub started_at: String,
    /// When no node could serve it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Milliseconds from accepted to completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_ms: Option<u64>,
    /// Whether that, and the nodes, are near and not exact: of several control planes another one accepted it, or has not
    /// written down yet what it measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate: Option<bool>,
    /// Cached objects that it made unservable, over all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_evicted: Option<u64>,
    /// Whether that number can still grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_final: Option<bool>,
    /// How many nodes stand where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Counts>,
    /// The same for each PoP, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pops: Option<Vec<PopReport>>,
    /// How it spread, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Spread>,
    /// The items in normal form, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Item>>,
}

impl Task {
    /// Whether no node can serve any of it any more.
    pub fn is_completed(&self) -> bool {
        self.state == State::Completed
    }
}

/// How a purge did in one PoP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopReport {
    /// The PoP.
    pub pop: String,
    /// Its nodes.
    #[serde(default)]
    pub nodes: Counts,
    /// Milliseconds until its last node had confirmed.
    #[serde(default)]
    pub slowest_ms: Option<u64>,
    /// Cached objects made unservable there.
    #[serde(default)]
    pub objects_evicted: u64,
}

/// One item of a purge, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// `url`, `prefix`, `tag`, `host` or `everything`.
    pub kind: String,
    /// The URL, prefix, tag or host.
    #[serde(default)]
    pub value: String,
}

/// What a purge would hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// Always true.
    pub dry_run: bool,
    /// Each item in normal form.
    pub items: Vec<DryRunItem>,
    /// Cached objects over all items, on the nodes that answered.
    pub objects_total: u64,
    /// How many nodes answered.
    pub nodes: DryRunNodes,
}

/// One item of a dry run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRunItem {
    /// `url`, `prefix`, `tag`, `host` or `everything`.
    pub kind: String,
    /// In normal form.
    #[serde(default)]
    pub value: String,
    /// Cached objects that it would hit.
    pub objects: u64,
}

/// Who answered a dry run within its second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRunNodes {
    /// Nodes that count.
    pub total: u64,
    /// Nodes whose objects are in the numbers.
    pub answered: u64,
}

/// A page of tasks, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The tasks.
    pub purges: Vec<Task>,
    /// Where the next page begins; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a status reply should carry besides the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// One entry a PoP.
    pub pops: bool,
    /// The items in normal form.
    pub items: bool,
    /// How it spread, and which nodes were slowest.
    pub propagation: bool,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those with an item of this kind.
    pub kind: Option<String>,
    /// Only those accepted at this time (RFC 3339) or later.
    pub since: Option<String>,
    /// Tasks a page, 1 to 200.
    pub limit: Option<u32>,
    /// From the page before.
    pub cursor: Option<String>,
}

impl ListQuery {
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.state.map(|state| ("state", state.as_str().to_owned())));
        pairs.extend(self.kind.clone().map(|kind| ("kind", kind)));
        pairs.extend(self.since.clone().map(|since| ("since", since)));
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_example_is_understood() {
        let task: Task = serde_json::from_str(
            r#"{ "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": "completed", "items_total": 2, "items_done": 2,
                 "started_at": "2026-04-20T08:12:31Z", "completed_at": "2026-04-20T08:12:32Z",
                 "propagation_ms": 412, "objects_evicted": 318, "objects_final": true, "new_member": 1,
                 "nodes": { "total": 42, "confirmed": 41, "fenced": 1, "unreachable": 0 } }"#,
        )
        .unwrap();
        assert!(task.is_completed());
        assert_eq!(task.nodes.unwrap().fenced, 1);
    }

    #[test]
    fn a_state_of_the_future_is_not_completed() {
        let task: Task = serde_json::from_str(r#"{ "task_id": "01", "state": "paused" }"#).unwrap();
        assert_eq!(task.state, State::Unknown);
        assert!(!task.is_completed());
    }
}
