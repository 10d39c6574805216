//! How everything is, as the operator's API tells it.

use serde::{Deserialize, Serialize};

use crate::Percentiles;

/// How everything is, at most a second old.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OverviewReport {
    /// When it was looked at.
    pub at: String,
    /// The nodes in numbers.
    pub nodes: FleetReport,
    /// The number of the last durable record.
    pub tail: u64,
    /// The number of the last record that no node can serve against.
    pub watermark: u64,
    /// Purges in each of the last 60 seconds, the oldest first.
    pub purges_per_second: Vec<u32>,
    /// Propagation of the last hour.
    pub last_hour: HourReport,
    /// What needs attention, the most urgent first.
    pub attention: Vec<ConcernReport>,
    /// How many more such things there are.
    pub attention_more: u64,
}

/// The nodes in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetReport {
    /// Those that are registered.
    pub total: u64,
    /// Those with a lease and nothing to acknowledge that is older than a second.
    pub current: u64,
    /// Those with a lease.
    pub leased: u64,
    /// Connected, and without a lease yet.
    pub joining: u64,
    /// Without a lease.
    pub away: u64,
    /// Not heard of since the control plane started.
    pub unknown: u64,
    /// Those with a stream.
    pub connected: u64,
}

/// Propagation of the last hour.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HourReport {
    /// The target, in milliseconds.
    pub target_ms: u64,
    /// Purges that were accepted.
    pub purges: u64,
    /// The share that was completed within the target, 0 to 1; 1 when there were none.
    pub within_target: f64,
    /// From durable to completed.
    pub propagation_ms: Percentiles,
    /// The slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<SlowestReport>,
}

/// The slowest purge of some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowestReport {
    /// Which.
    pub task_id: String,
    /// Whose.
    pub site_id: String,
    /// From durable to completed.
    pub propagation_ms: u64,
    /// The node that it waited for last: `fra1/edge-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What kept that, in a word such as `cache_busy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What a cache said that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Something that needs attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConcernReport {
    /// `store`, `late_node`, `cache_trouble`, `no_lease`, `certificate` or `over_quota`; more may come.
    pub kind: String,
    /// A node, a site, a listener, a folder.
    pub subject: String,
    /// What keeps a node, in a word such as `no_connection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// More of it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it gets worse: when a certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}
