use serde::{Deserialize, Serialize};

/// How fast purges were over a window, and which took too long.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Sla {
    /// The window, as asked for.
    pub window: String,
    /// The target, in milliseconds.
    pub target_ms: u64,
    /// Purges accepted within the window.
    pub purges: u64,
    /// The share that was completed within the target, 0 to 1; 1 when there were none.
    pub within_target: f64,
    /// From durable to completed.
    pub propagation_ms: Percentiles,
    /// Purges over the target, newest first, at most 100.
    pub breaches: Vec<Breach>,
}

/// Propagation in milliseconds; 0 when there were no purges.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Percentiles {
    /// Half of the purges took no longer.
    pub p50: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// A purge that took longer than the target.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Breach {
    /// The task.
    pub task_id: String,
    /// How long it took; `None` while it is not completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_ms: Option<u64>,
    /// The nodes that it waited for when the target passed.
    pub late: Vec<LateNode>,
}

/// A node that a purge waited for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LateNode {
    /// Its PoP.
    pub pop: String,
    /// Its name there.
    pub node: String,
    /// Why it was late, for people.
    pub reason: String,
}
