//! Whose is the log after this process stood still?

use std::sync::Arc;
use std::time::Duration;

use batoff_types::Moment;

use crate::tracker::Tracker;

/// Before the store is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Tracker {
    /// Makes the roster grant leases again, if nobody else has started with the log since `noticed`; otherwise drains.
    /// The answer is a write: what is only read could come from memory, and the disk may have been given to another
    /// machine.
    pub(in crate::tracker) async fn ask_whose_the_log_is(self: Arc<Self>, noticed: Moment) {
        tracing::warn!(
            "this process stood still for a while; no lease is granted until the log is known to be its own"
        );
        match self.own_rows().is_still_ours(self.term).await {
            Ok(true) => return self.step(|state, _, _| state.roster.handle_still_ours(noticed)),
            Ok(false) => {
                tracing::error!(
                    term = self.term.0,
                    "another control plane has started with this log; this one sends its nodes away, stop it"
                );
                self.draining.cancel();
            }
            Err(error) => tracing::warn!(%error, "the store does not say whose the log is"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use batoff_log::Store;
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};

    use batoff_types::Term;

    use crate::seat::Tenure;
    use crate::tracker::durable::saved::OwnRows;

    #[tokio::test]
    async fn a_later_start_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), batoff_log::system_clock())).unwrap();
        let tenure = Tenure::alone();
        let rows = OwnRows::new(store.kv(), &tenure);
        let term = rows.next_term(Term(0)).await.unwrap();
        assert!(rows.is_still_ours(term).await.unwrap());
        assert!(rows.is_still_ours(term).await.unwrap(), "asking changes nothing");
        let successor = rows.next_term(Term(0)).await.unwrap();
        assert!(!rows.is_still_ours(term).await.unwrap());
        assert!(rows.is_still_ours(successor).await.unwrap());
        store.close().await;
    }
}
