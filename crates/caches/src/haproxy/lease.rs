//! The end of the lease in HAProxy's map, and until when each process was ever told that it may serve.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_edge::{boottime, metrics};
use batoff_types::Moment;

use super::link::Link;
use super::socket::NOT_FOUND;

/// Between two writes of a lease that has not changed: a new process is noticed within it.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

/// What an available node's HAProxy is told: it serves without a lease. The year 2286.
const OPEN_MILLIS: u64 = 9_999_999_999_999;

/// Until when a process was told that it may serve from its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// By the clock of leases, and by the wall clock that it is compared with: whichever is later counts.
    Until { until: Moment, wall_millis: u64 },
    /// For as long as it runs.
    Open,
}

impl Told {
    pub(super) const NOTHING: Self = Self::Until { until: Moment::ZERO, wall_millis: 0 };

    /// What `self` and `other` allow together.
    fn and(self, other: Self) -> Self {
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
    const fn millis(self) -> u64 {
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
    pub(super) told: Told,
}

/// Keeps the end of the lease in HAProxy's map, as milliseconds since 1970. HAProxy compares it with its clock at each
/// request, so it ends by itself.
pub(super) struct Keeper {
    pub(super) link: Arc<Link>,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut silent = false;
        loop {
            let kept = self.keep().await;
            if let Err(error) = &kept
                && !silent
            {
                tracing::warn!(at = %self.link.socket.path().display(), error, "haproxy cannot be told its lease");
            }
            if kept.is_err() != silent {
                metrics::trouble(super::NAME, kept.is_err());
            }
            silent = kept.is_err();
            // Whichever comes first.
            let _ = tokio::time::timeout(AGAIN_EVERY, self.link.renewed.notified()).await;
        }
    }

    async fn keep(&self) -> Result<(), String> {
        if self.write().await.map_err(|error| error.to_string())? {
            return Ok(());
        }
        self.link.meet().await.map_err(|error| error.to_string())
    }

    /// Whether the process that answers is the one that is known. Only that one has an entry of this name.
    async fn write(&self) -> std::io::Result<bool> {
        let lease = self.lease();
        let (map, name) = {
            let mut charge = self.link.charge.lock();
            let Some(charge) = charge.as_mut() else { return Ok(false) };
            // Before it is written: what was not answered may have been heard.
            charge.told = charge.told.and(lease);
            (self.link.maps.join("lease"), charge.name.clone())
        };
        let set = format!("set map {} {name} {}", map.display(), lease.millis());
        match self.link.socket.run(&[set]).await?.pop() {
            Some(answer) if answer.is_empty() => Ok(true),
            Some(answer) if answer.contains(NOT_FOUND) => Ok(false),
            answer => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, answer.unwrap_or_default())),
        }
    }

    fn lease(&self) -> Told {
        let fence = &self.link.fence;
        if fence.serves_without_lease() {
            return Told::Open;
        }
        // The wall clock first: what passes between the two readings then makes the lease shorter, never longer.
        let wall = wall_millis();
        let until = fence.until();
        let left = until.since(boottime()).saturating_sub(self.link.guard);
        if left.is_zero() {
            return Told::NOTHING;
        }
        let wall_millis = wall.saturating_add(u64::try_from(left.as_millis()).unwrap_or(0));
        Told::Until { until, wall_millis }
    }
}

/// Milliseconds since 1970.
pub(super) fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
