//! An answer that is not older than its question, although another replica may have accepted or recorded something a moment
//! ago: one linearizable read, shared by all who ask meanwhile.

use std::time::Duration;

use batoff_log::StoreError;

use crate::tracker::Tracker;

/// How long records may take from the store's tail to here. When they take longer this replica does not know enough to
/// answer, and another one may.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// When to ask again a replica that does not follow the log.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Tracker {
    /// Makes sure that everything is known here that was accepted or recorded as done, at whichever replica, before this
    /// was called. Of no effect where a control plane is alone. An error says that it is not known, and nothing but what
    /// is completed may be answered.
    pub(in crate::tracker) async fn fresh(&self) -> Result<(), StoreError> {
        if self.is_alone() {
            return Ok(());
        }
        self.fresh.share(self.read_fresh()).await
    }

    async fn read_fresh(&self) -> Result<(), StoreError> {
        let (log, done) = futures_util::future::join(self.store.log().state(), self.look_at_done()).await;
        done?;
        let tail = log?.tail;
        let mut known = self.known.subscribe();
        let follows = known.wait_for(|known| *known >= tail);
        match tokio::time::timeout(KNOWN_WITHIN, follows).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Unavailable { retry_after: ASK_AGAIN }),
        }
    }

    /// How many reads there were.
    #[cfg(test)]
    pub(crate) fn fresh_reads(&self) -> u64 {
        self.fresh.begun()
    }
}
