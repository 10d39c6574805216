//! The end of the lease in HAProxy's map.

use std::sync::Arc;
use std::time::Duration;

use batoff_edge::{boottime, metrics};

use super::charge::{Allowance, wall_millis};
use super::link::Link;
use super::socket::NOT_FOUND;

/// Between two writes of a lease that has not changed: a new process is noticed within it.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

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
                metrics::trouble(super::config::NAME, kept.is_err());
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

    fn lease(&self) -> Allowance {
        let fence = &self.link.fence;
        if fence.serves_without_lease() {
            return Allowance::Open;
        }
        // The wall clock first: what passes between the two readings then makes the lease shorter, never longer.
        let wall = wall_millis();
        let until = fence.until();
        let left = until.since(boottime()).saturating_sub(self.link.guard);
        if left.is_zero() {
            return Allowance::NOTHING;
        }
        let wall_millis = wall.saturating_add(u64::try_from(left.as_millis()).unwrap_or(0));
        Allowance::Until { until, wall_millis }
    }
}
