use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_edge::Fence;

use super::layout::{OPEN_MICROS, double};
use super::table::Shown;

/// Between two writes of a lease of which nobody says that it has changed: an available node hears of its agreement nowhere
/// else.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

/// Keeps the end of the lease in the table. The script compares it with the same clock at each hit, so it ends by itself.
#[derive(Debug)]
pub(super) struct LeaseKeeper {
    pub(super) shown: Arc<Shown>,
    pub(super) fence: Arc<Fence>,
    pub(super) guard: Duration,
    /// Whether an available node may serve before its first lease: not when this run begins with less than what its
    /// predecessor may have acknowledged.
    pub(super) complete: AtomicBool,
}

impl LeaseKeeper {
    pub(super) async fn run(self: Arc<Self>) {
        let mut failing = false;
        loop {
            match self.write() {
                Err(error) if !failing => {
                    tracing::error!(%error, "trafficserver cannot be told its lease");
                    failing = true;
                }
                Err(_) => {}
                Ok(()) => failing = false,
            }
            tokio::time::sleep(AGAIN_EVERY).await;
        }
    }

    /// In force when it returns.
    pub(super) fn write(&self) -> std::io::Result<()> {
        self.shown.serve_until(self.until())
    }

    fn until(&self) -> f64 {
        if self.fence.is_leased() {
            self.complete.store(true, Ordering::Relaxed);
        }
        let open = self.fence.serves_without_lease();
        if open && self.complete.load(Ordering::Relaxed) {
            return OPEN_MICROS;
        }
        let guard = u64::try_from(self.guard.as_micros()).unwrap_or(u64::MAX);
        double(self.fence.until().as_micros().saturating_sub(guard))
    }
}
