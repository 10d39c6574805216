//! The default engine: a log of our own on the control plane's own disk, and what follows from it beside it.
//!
//! ```text
//!  append ─┐                      ┌──── one group ────┐  one write, one flush
//!  trim   ─┼─ queue ─▶ writer ────┤ segment of the log├──────▶ answers, live feed, layers in memory
//!  cas    ─┘  (bounded)  (a thread)└──────────────────┘                       │ now and then
//!                          └─▶ pairs.redb (compare-and-set)   keeper (a thread) ─▶ purge.redb, keys-…
//!  read, tail ─▶ segments     find, list ─▶ layers, then the database     get, scan ─▶ pairs
//! ```
//!
//! One thread writes. Whatever was queued while it flushed goes into its next group, so the number of flushes a second
//! does not bound the number of appends, and an idle store adds no delay. A group says all that was decided; rows of tasks
//! and keys of requests follow from it, lie in memory until a checkpoint has taken them over, and are read again from the
//! log after a crash.
//!
//! After an IO error nothing is promised on the strength of the failed flush: the writer closes its files, opens them
//! again, compares what the disk holds with what it has acknowledged, and accepts writes only if nothing is missing.
//! While the disk lets itself be read and not written, what was acknowledged can be read.

mod aligned;
mod backup;
mod checkpoint;
mod committed;
mod database;
mod directory;
mod fault;
mod first_segment;
mod keeper;
mod keys;
mod layer;
mod layout;
mod log;
mod log_copy;
mod measure;
mod medium;
mod migrate;
mod names;
mod open_error;
mod overlay;
mod pace;
mod pairs;
mod peers;
mod queue;
mod read;
mod recovery;
mod replay;
mod rows;
mod seal;
mod sealing;
mod segments;
mod shared;
mod tail;
mod task_index;
mod watch;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use batoff_types::LogId;
use tokio::sync::{oneshot, watch as tokio_watch};

use self::backup::RestoredLog;
use self::directory::{Directory, io_error};
use self::layer::TaskLayers;
use self::medium::{Disk, Medium};
pub use self::open_error::OpenError;
use self::pace::Pace;
use self::queue::{Request, RequestQueue};
use self::recovery::RecoveredStore;
use self::shared::Shared;
use crate::kv::Kv;
use crate::presence::Presence;
use crate::purge_log::{LogState, PurgeLog};
use crate::store::{Health, Store, WallClock, system_clock};

pub use self::backup::{BackupContents, BackupError, BackupSummary, compose_backup, verify_backup};
pub use self::database::CACHE_BYTES;
pub use self::measure::describe_metrics;
pub use self::seal::Seal;

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

/// The store in one directory. Needs a tokio runtime for its async methods.
///
/// Call [`Store::close`] at the end; a store that is only dropped lets go of its directory a moment later.
pub struct EmbeddedStore {
    dir: PathBuf,
    shared: Arc<Shared>,
    requests: RequestQueue,
}

impl EmbeddedStore {
    /// Opens the store in `config.dir`, or makes a new one if the directory is absent or empty of one.
    ///
    /// Blocks: the index of tasks is read through, and after a crash what the log says since the last checkpoint, which is
    /// bounded. A store of an older format is carried over first, for which the disk must have room for both.
    pub fn open(config: EmbeddedConfig) -> Result<Arc<Self>, OpenError> {
        Self::open_on(Disk, config, Pace::default())
    }

    /// Makes the log in `dir`, a copy or a restored backup, a log of its own with a new identity, so that every node
    /// that followed the old one starts anew instead of taking its cursor for a place in this one.
    pub fn adopt_copy(dir: &Path) -> Result<LogId, OpenError> {
        let directory = Directory::new(dir.to_owned());
        let log_id = database::new_log_id();
        recovery::adopt(&Disk, &directory, log_id, (system_clock())())?;
        Ok(log_id)
    }

    /// Whether there is a store in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        Directory::new(dir.to_owned()).has_store().unwrap_or(false)
    }

    /// What the store in `dir` says of its log, as far as its last checkpoint; `None` where there never was one. Changes
    /// nothing. Not for a store that is open: what is read there may be half of something.
    ///
    /// # Errors
    /// It cannot be opened, for the reason that [`EmbeddedStore::open`] would give.
    pub fn inspect(dir: &Path) -> Result<Option<LogState>, OpenError> {
        recovery::inspect(&Directory::new(dir.to_owned()))
    }

    /// Writes all that the store holds to `out`, while it goes on: a backup, for [`EmbeddedStore::restore`]. Blocks; what it
    /// writes to must not stand still for long, because until the databases are read the store cannot be closed.
    ///
    /// # Errors
    /// The store cannot be read, or `out` cannot be written to. Then what was written is cut off, and says so when it is read.
    pub fn backup(&self, out: &mut dyn Write) -> Result<BackupSummary, BackupError> {
        backup::take(&self.shared, &self.dir, out)
    }

    /// Makes a store of the backup at `path` in `dir`, which is empty or not there. Its log is one of its own, so that every
    /// node that followed the old one starts anew. Blocks.
    ///
    /// # Errors
    /// The backup is not whole, `dir` holds something, or cannot be written to. A start on what is there then is refused.
    pub fn restore(path: &Path, dir: &Path) -> Result<(LogId, BackupSummary), BackupError> {
        Self::restore_as(path, dir, RestoredLog::New)
    }

    /// Makes a store of the backup at `path` in `dir`, which is empty or not there, with the same log: nodes go on where they
    /// are. Only for a log that moves, of which this is all that was ever accepted, because its engine takes nothing more.
    /// Blocks.
    ///
    /// # Errors
    /// As [`EmbeddedStore::restore`].
    pub fn restore_moved(path: &Path, dir: &Path) -> Result<BackupSummary, BackupError> {
        Self::restore_as(path, dir, RestoredLog::Same).map(|(_, summary)| summary)
    }

    fn restore_as(
        path: &Path,
        dir: &Path,
        identity: RestoredLog,
    ) -> Result<(LogId, BackupSummary), BackupError> {
        backup::refuse_occupied(dir)?;
        let directory = Directory::new(dir.to_owned());
        directory.prepare()?;
        backup::restore(&Disk, path, &directory, identity)
    }

    /// Says in the store, durably, that its log has moved: from the next start on every build refuses it. Until it is closed
    /// the store goes on as it was, so whoever has it open must accept nothing more.
    ///
    /// # Errors
    /// It cannot be written; then it is not sealed, or nobody knows, which the next start tells.
    pub fn seal(&self, seal: Seal) -> Result<(), OpenError> {
        let path = Directory::new(self.dir.clone()).pairs();
        let Some(opened) = self.shared.opened() else {
            return Err(io_error(
                "write",
                &path,
                std::io::Error::other("the store was closed, or has failed"),
            ));
        };
        sealing::write(&opened.pairs, seal, &path)
    }

    /// How the store in `dir` is sealed; `None` when it is not. Not for a store that is open.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub fn sealed(dir: &Path) -> Result<Option<Seal>, OpenError> {
        sealing::read(&Directory::new(dir.to_owned()).pairs())
    }

    /// The identity of the log that the store in `dir` has, or had before it was sealed, as the folder says; `None` where it
    /// says none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log_beside(dir: &Path) -> Result<Option<LogId>, OpenError> {
        Directory::new(dir.to_owned()).read_log_id()
    }

    /// Takes the seal off the store in `dir`. Whoever does it has made sure that its log goes on nowhere else.
    ///
    /// # Errors
    /// It is open, not sealed, or cannot be written to.
    pub fn unseal(dir: &Path) -> Result<(), OpenError> {
        sealing::remove(&Disk, &Directory::new(dir.to_owned()).pairs())
    }

    fn open_on<M: Medium>(medium: M, config: EmbeddedConfig, pace: Pace) -> Result<Arc<Self>, OpenError> {
        let dir = config.dir;
        let directory = Directory::new(dir.clone());
        directory.prepare()?;
        let now = (config.clock)();
        let recovered = recovery::open_or_create(&medium, &directory, config.cache_bytes / 2, pace, now)?;
        let witness = directory.witness()?;
        let path = directory.acknowledged();
        let testimony = witness.read().map_err(|source| io_error("read", &path, source))?;
        recovery::hear(testimony, &directory, &recovered)?;
        let RecoveredStore {
            checkpoint,
            checkpointed,
            pairs,
            committed,
            committed_pairs,
            shelf,
            appender,
            layer,
            keys,
        } = recovered;
        let layers = TaskLayers::new(layer);
        let shared = Arc::new(Shared::new(config.clock, checkpoint, pairs, shelf, layers, &committed));
        let opener = writer::Opener { medium, directory, witness, cache_bytes: config.cache_bytes, pace };
        let beginning = writer::Beginning { committed, committed_pairs, appender, keys, checkpointed };
        let requests = writer::spawn(opener, Arc::clone(&shared), beginning)?;
        Ok(Arc::new(Self { dir, shared, requests }))
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

    /// Its folder is locked for one process.
    fn is_shared(&self) -> bool {
        false
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
