//! Until when each process was ever told that it may serve.

use std::time::{SystemTime, UNIX_EPOCH};

use batoff_types::Moment;

/// What an available node's HAProxy is told: it serves without a lease. The year 2286.
const OPEN_MILLIS: u64 = 9_999_999_999_999;

/// Until when a process was told that it may serve from its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// By the clock of leases, and by the wall clock that it is compared with: whichever is later counts.
    Until { until: Moment, wall_millis: u64 },
    /// For as long as it runs.
    Open,
}

impl Allowance {
    pub(super) const NOTHING: Self = Self::Until { until: Moment::ZERO, wall_millis: 0 };

    /// What `self` and `other` allow together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Until { until: a, wall_millis: b }, Self::Until { until: c, wall_millis: d }) => {
                Self::Until { until: a.max(c), wall_millis: b.max(d) }
            }
            _ => Self::Open,
        }
    }

    pub(super) fn is_over(self, now: Moment, wall: u64) -> bool {
        matches!(self, Self::Until { until, wall_millis } if until <= now && wall_millis <= wall)
    }

    /// As HAProxy is told it.
    pub(super) const fn millis(self) -> u64 {
        match self {
            Self::Until { wall_millis, .. } => wall_millis,
            Self::Open => OPEN_MILLIS,
        }
    }
}

/// The process that the lease is written for.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    /// Its name; nothing is written before it is known.
    pub(super) name: String,
    /// Everything that it was told.
    pub(super) told: Allowance,
}

/// Milliseconds since 1970.
pub(super) fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
