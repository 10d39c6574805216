//! The default engine: one file on the control plane's own disk, kept by redb.
//!
//! ```text
//!  append ─┐                       ┌─ one transaction ─┐
//!  cas    ─┼─ queue ─▶ writer ─────┤ log, tasks, keys  ├─ flush ─▶ answers, live feed
//!  trim   ─┘  (bounded)  (a thread)└───────────────────┘
//!  read, find, list, get, scan ─────▶ snapshot of the last commit
//! ```
//!
//! One thread writes. Whatever was queued while it flushed goes into its next transaction, so the number of flushes a
//! second does not bound the number of appends, and an idle store adds no delay.
//!
//! After an IO error nothing is promised on the strength of the failed flush: the writer closes the file, opens it
//! again, compares what the disk holds with what it has acknowledged, and accepts writes only if nothing is missing.
//! While the disk lets itself be read and not written, what was acknowledged can be read.

mod committed;
mod database;
mod directory;
mod fault;
mod layout;
mod log;
mod measure;
mod medium;
mod open_error;
mod overlay;
mod pairs;
mod peers;
mod queue;
mod read;
mod rows;
mod shared;
mod tail;
mod task_index;
mod watch;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use batoff_types::LogId;
use tokio::sync::{oneshot, watch as tokio_watch};

use self::directory::Directory;
use self::medium::{Disk, Medium};
pub use self::open_error::OpenError;
use self::queue::{Request, RequestQueue};
use self::shared::Shared;
use crate::kv::Kv;
use crate::presence::Presence;
use crate::purge_log::PurgeLog;
use crate::store::{Health, Store, WallClock};

pub use self::database::CACHE_BYTES;
pub use self::measure::describe_metrics;

/// Where and how the embedded store keeps its data.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// The directory; created with mode 0700 if it is not there. Belongs to one process at a time.
    pub dir: PathBuf,
    /// Decides when keys and values expire.
    pub clock: WallClock,
    /// Memory for cached pages, in bytes; [`CACHE_BYTES`] unless there is a reason.
    pub cache_bytes: usize,
}

impl EmbeddedConfig {
    /// The usual settings for `dir`.
    pub fn new(dir: impl Into<PathBuf>, clock: WallClock) -> Self {
        Self { dir: dir.into(), clock, cache_bytes: CACHE_BYTES }
    }
}

/// The store in one file. Needs a tokio runtime for its async methods.
///
/// Call [`Store::close`] at the end; a store that is only dropped lets go of its directory a moment later.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    requests: RequestQueue,
}

impl EmbeddedStore {
    /// Opens the store in `config.dir`, or makes a new one if the directory is absent or empty of one.
    ///
    /// Blocks: a file that was not closed properly is walked through first (about a second and a half per GB).
    pub fn open(config: EmbeddedConfig) -> Result<Arc<Self>, OpenError> {
        Self::open_on(Disk, config)
    }

    /// Makes the log in `dir`, a copy or a restored backup, a log of its own with a new identity, so that every node
    /// that followed the old one starts anew instead of taking its cursor for a place in this one.
    pub fn adopt_copy(dir: &Path) -> Result<LogId, OpenError> {
        let directory = Directory::new(dir.to_owned());
        let log_id = database::new_log_id();
        database::adopt(&Disk, &directory, log_id)?;
        Ok(log_id)
    }

    fn open_on<M: Medium>(medium: M, config: EmbeddedConfig) -> Result<Arc<Self>, OpenError> {
        let directory = Directory::new(config.dir);
        directory.prepare()?;
        let (database, committed) = database::open_or_create(&medium, &directory, config.cache_bytes)?;
        let witness = directory.witness()?;
        database::hear(&witness, &directory, &committed)?;
        let shared = Arc::new(Shared::new(config.clock, database, &committed));
        let opener = writer::Opener { medium, directory, witness, cache_bytes: config.cache_bytes };
        let requests = writer::spawn(opener, Arc::clone(&shared), committed)?;
        Ok(Arc::new(Self { shared, requests }))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.abandon();
        // Wakes the writer; when the queue is full it is awake.
        let (reply, _) = oneshot::channel();
        let _ = self.requests.send(Request::Close { reply });
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn log(&self) -> &dyn PurgeLog {
        self
    }

    fn kv(&self) -> &dyn Kv {
        self
    }

    fn presence(&self) -> &dyn Presence {
        &self.shared.peers
    }

    fn health(&self) -> tokio_watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).is_ok() {
            // An error means that the writer has ended already, which is what was wanted.
            let _ = closed.await;
        }
    }
}
