//! How a purge spread, as the API tells it.

use serde::{Deserialize, Serialize};

use crate::Counts;

/// How a purge spread. Every figure is milliseconds since it was durable; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// When it was durable: RFC 3339, UTC, whole seconds.
    pub durable_at: String,
    /// Until no node could serve it; `None` while one may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_ms: Option<u64>,
    /// Until now, while it is not completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// PoP by PoP, the slowest first.
    pub pops: Vec<PopSpread>,
    /// The nodes that it waits for, some of those that it did not wait for, and the slowest; the slowest first.
    pub late: Vec<NodeSpread>,
}

/// A purge's way in one PoP: of the last of its nodes, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PopSpread {
    /// The PoP.
    pub pop: String,
    /// Its nodes.
    pub nodes: Counts,
    /// When the first of its nodes was sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ms: Option<u64>,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_last_ms: Option<u64>,
    /// When nothing that it hit was served any more, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force_ms: Option<u64>,
    /// When it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_ms: Option<u64>,
    /// When it was reported that the objects are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted_ms: Option<u64>,
    /// When the last node without a lease counted as fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fenced_ms: Option<u64>,
    /// Cached objects made unservable there.
    pub objects_evicted: u64,
}

/// A purge's way on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpread {
    /// Its PoP.
    pub pop: String,
    /// Its name there.
    pub node: String,
    /// When it was sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ms: Option<u64>,
    /// When nothing that it hit was served there any more, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force_ms: Option<u64>,
    /// When it acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_ms: Option<u64>,
    /// When it had reported that the objects are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted_ms: Option<u64>,
    /// When it counted as fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fenced_ms: Option<u64>,
    /// What took the most time, or still does, in a word such as `cache_busy`.
    pub cause: String,
    /// What a cache said that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
