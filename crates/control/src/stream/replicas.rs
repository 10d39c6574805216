use batoff_types::message::{Hello, PROTOCOL_VERSION, Whereabouts};
use tokio::sync::watch;

/// What is said to one node of where the control planes are: all that is known, at once and whenever it changes. A node of
/// an older version hears nothing, and nobody hears that nothing is known.
pub(super) struct ReplicasFeed {
    seen: Option<watch::Receiver<Whereabouts>>,
}

impl ReplicasFeed {
    pub(super) fn new(hello: &Hello, mut seen: watch::Receiver<Whereabouts>) -> Self {
        seen.mark_changed();
        Self { seen: (hello.protocol >= PROTOCOL_VERSION).then_some(seen) }
    }

    /// What is to be said before anything else, if there is anything.
    pub(super) fn first(&mut self) -> Option<Whereabouts> {
        let now = self.seen.as_mut()?.borrow_and_update().clone();
        (!now.replicas.is_empty()).then_some(now)
    }

    /// Waits until there is something to tell. Cancel-safe.
    pub(super) async fn next(&mut self) -> Whereabouts {
        let Some(seen) = &mut self.seen else { return std::future::pending().await };
        loop {
            if seen.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = seen.borrow_and_update().clone();
            if !now.replicas.is_empty() {
                return now;
            }
        }
    }
}
