//! What is said of the promise.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::{NodeName, SiteId, TaskId, UnixMillis};

use crate::clock::millis;
use crate::tracker::tasks::cause::LateCause;
use crate::tracker::tasks::view::AwaitedNode;

/// Breaches that one SLA answer lists.
pub const SLA_BREACHES_MAX: usize = 100;

/// A site's (or the fleet's) propagation over a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlaView {
    /// Purges accepted within the window that were looked at.
    pub purges: u64,
    /// Those of them that are completed or past the target.
    pub judged: u64,
    /// Those of them that were completed within it.
    pub within: u64,
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
    /// The slowest purge, and what it waited for; `None` when none was completed, or a version that did not keep it counted it.
    pub slowest: Option<SlowPurge>,
    /// Tasks over the target, newest first, at most [`SLA_BREACHES_MAX`].
    pub breaches: Vec<Breach>,
}

/// The slowest purge of some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowPurge {
    /// Whose.
    pub site: SiteId,
    /// Which.
    pub task: TaskId,
    /// From durable to completed.
    pub propagation_ms: u64,
    /// The node that it waited for last, and what kept that; `None` when there was none, or when it is not known any more.
    pub node: Option<(NodeName, LateCause)>,
    /// What a cache said that was in the way; may be empty.
    pub detail: Arc<str>,
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

/// A day of UTC.
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Days, with today, of which something is kept, and so the days of one report: thirteen months and a few days.
pub const SLA_DAYS_MAX: u64 = 400;

/// When the first day begins that can be asked for.
pub fn sla_kept_since(now: UnixMillis) -> UnixMillis {
    begin_of((day_of(now) + 1).saturating_sub(SLA_DAYS_MAX))
}

/// The number of a moment's day, since 1970.
pub(super) fn day_of(at: UnixMillis) -> u64 {
    at.as_secs() / DAY.as_secs()
}

/// The beginning of a day.
pub(super) fn begin_of(day: u64) -> UnixMillis {
    UnixMillis(day.saturating_mul(millis(DAY)))
}

/// Breaches of one report, the newest.
pub const SLA_REPORT_BREACHES_MAX: usize = 10_000;

/// Propagation of one site, or of all, over some days.
#[derive(Clone, Debug, PartialEq)]
pub struct SlaReport {
    /// Whose; `None` for all together.
    pub site: Option<SiteId>,
    /// The beginning of the first day.
    pub from: UnixMillis,
    /// The end of the last, which may lie ahead.
    pub until: UnixMillis,
    /// The days, the oldest first, those without purges among them.
    pub days: Vec<SlaDay>,
    /// All of them together. Its breaches are those of the report.
    pub total: SlaView,
    /// Purges over the target, newest first, at most [`SLA_REPORT_BREACHES_MAX`].
    pub breaches: Vec<Breach>,
}

/// One day of UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct SlaDay {
    /// Its beginning.
    pub begins: UnixMillis,
    /// Its propagation; without its breaches.
    pub view: SlaView,
}

impl Breach {
    /// When its purge was accepted: its id says so.
    pub fn accepted_at(&self) -> UnixMillis {
        accepted_at(self.task)
    }
}

/// When the purge of a task was accepted: its id says so.
pub fn accepted_at(task: TaskId) -> UnixMillis {
    let time = task.to_bytes().into_iter().take(6);
    UnixMillis(time.fold(0, |sum, byte| (sum << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_knows_when_it_was_accepted() {
        let task = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y".parse().unwrap();
        let site = "shop".parse().unwrap();
        let breach = Breach { site, task, propagation_ms: None, late: Vec::new() };
        assert_eq!(breach.accepted_at(), UnixMillis(1_734_348_984_295));
    }
}
