//! What is said of the promise.

use batoff_types::{SiteId, TaskId};

use crate::tracker::tasks::view::AwaitedNode;

/// Breaches that one SLA answer lists.
pub const SLA_BREACHES_MAX: usize = 100;

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
    /// Tasks over the target, newest first, at most [`SLA_BREACHES_MAX`].
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
    pub late: Vec<AwaitedNode>,
}
