use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use batoff_types::UnixMillis;
use tokio::sync::watch;

use crate::kv::Kv;
use crate::presence::Presence;
use crate::purge_log::PurgeLog;

/// A wall clock. It decides when keys and values expire, and nothing that the proof rests on.
pub type WallClock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// The machine's wall clock.
pub fn system_clock() -> WallClock {
    Arc::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    })
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does all it is asked.
    Ok,
    /// It refuses writes (and perhaps reads) for now and tries to recover by itself.
    Degraded {
        /// Since when, by the store's clock.
        since: UnixMillis,
        /// What is wrong, for people.
        reason: String,
    },
    /// The part of it that writes has stopped unexpectedly: it accepts nothing any more, and another start of the
    /// process mends it.
    Stopped {
        /// What is wrong, for people.
        reason: String,
    },
    /// It has been closed, or is damaged and will not recover in this process.
    Down {
        /// What is wrong, for people.
        reason: String,
    },
}

/// A log with what belongs beside it.
#[async_trait]
pub trait Store: Send + Sync {
    /// The sequence of records.
    fn log(&self) -> &dyn PurgeLog;

    /// The small records beside it.
    fn kv(&self) -> &dyn Kv;

    /// Which replicas are there.
    fn presence(&self) -> &dyn Presence;

    /// Whether others may write to it at the same time. If not, what was read from it or written to it once may be kept in
    /// memory and be believed; else somebody may have changed it meanwhile.
    fn is_shared(&self) -> bool;

    /// How the store is, now and when that changes.
    fn health(&self) -> watch::Receiver<Health>;

    /// Finishes what was begun and lets go of the disk or the network. Later calls answer
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable); streams end.
    async fn close(&self);
}
