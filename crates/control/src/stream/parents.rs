use std::time::Duration;

use batoff_types::message::Parents;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is said of one node's parents, as it is to be told to it: at once, but no more often than records are gathered.
pub(super) struct ParentsFeed {
    /// `None` for a node that names no parents.
    seen: Option<watch::Receiver<Parents>>,
    gather: Duration,
    not_before: Instant,
}

impl ParentsFeed {
    /// The first to be told is what there is now.
    pub(super) fn new(mut seen: Option<watch::Receiver<Parents>>, gather_ms: u64) -> Self {
        if let Some(seen) = &mut seen {
            seen.mark_changed();
        }
        Self { seen, gather: Duration::from_millis(gather_ms), not_before: Instant::now() }
    }

    /// Waits until there is something to tell. Cancel-safe.
    pub(super) async fn next(&mut self) -> Parents {
        let Some(seen) = &mut self.seen else { return std::future::pending().await };
        tokio::time::sleep_until(self.not_before).await;
        if seen.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.not_before = Instant::now() + self.gather;
        seen.borrow_and_update().clone()
    }
}
