use std::time::Duration;

use batoff_types::message::Parents;
use tokio::sync::watch;
use tokio::time::Instant;

/// How far apart two messages about a node's parents are, at least: each costs the node a wake-up, and the last one says all.
const APART: Duration = Duration::from_millis(5);

/// What is said of one node's parents, as it is to be told to it: at once, but no more often than [`APART`].
pub(super) struct ParentsFeed {
    /// `None` for a node that names no parents.
    seen: Option<watch::Receiver<Parents>>,
    not_before: Instant,
}

impl ParentsFeed {
    /// The first to be told is what there is now.
    pub(super) fn new(mut seen: Option<watch::Receiver<Parents>>) -> Self {
        if let Some(seen) = &mut seen {
            seen.mark_changed();
        }
        Self { seen, not_before: Instant::now() }
    }

    /// Waits until there is something to tell. Cancel-safe.
    pub(super) async fn next(&mut self) -> Parents {
        let Some(seen) = &mut self.seen else { return std::future::pending().await };
        tokio::time::sleep_until(self.not_before).await;
        if seen.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.not_before = Instant::now() + APART;
        seen.borrow_and_update().clone()
    }
}
