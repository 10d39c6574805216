//! What both ways share: why a log does not move, how far it is, and its copy in a file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_log::StoreError;
use batoff_log::embedded::{BackupContents, BackupError, EmbeddedStore, OpenError};
use batoff_log::moving::{MoveError, MovedCounts};
use batoff_log_etcd::EtcdMoveError;
use batoff_types::LogId;

use crate::clock::Clock;
use crate::config::{Config, Engine, EtcdSection};
use crate::engine::EngineError;
use crate::seat::{LockError, SeatLost};

/// Why the log did not move. The text names what is in the way and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum MigrateFailed {
    /// The configuration is not of etcd.
    #[error(
        "the configuration has no etcd: name the file with which control planes run on it (store.engine = \"etcd\" and \
         [store.etcd] with endpoints), or add --set store.engine=etcd --set 'store.etcd.endpoints=[\"http://…\"]'"
    )]
    NoEtcd,
    /// The log of a single control plane becomes that of replica 1.
    #[error("a log moves with replica 1, whose rows it has; replica.id is {0}")]
    Replica(u8),
    /// There is no store.
    #[error("{} has no store to move; data.dir names the data folder of the control plane that is to move", .0.display())]
    NoStore(PathBuf),
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new folder holds something.
    #[error("{} is not empty; the log moves into an empty folder only", .0.display())]
    Occupied(PathBuf),
    /// The log went somewhere else.
    #[error(
        "the log {log_id} has moved to {to} already; if that came to nothing, remove what is there and repeat with it"
    )]
    Elsewhere {
        /// Which log.
        log_id: LogId,
        /// Where it is, or was to be.
        to: String,
    },
    /// The store is sealed for another cluster.
    #[error("{source}; the configured one is {configured:x}")]
    OtherCluster {
        /// What the seal says.
        source: OpenError,
        /// The cluster of the configuration.
        configured: u64,
    },
    /// Other control planes have been beside the log.
    #[error(
        "the control plane {0} has rows beside this log; only the log of control plane 1 alone can move into a data folder"
    )]
    NotAlone(String),
    /// Somebody else has the replica's seat.
    #[error(transparent)]
    Seat(#[from] SeatLost),
    /// The data folder belongs to another process.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The files of the configuration, or the log in etcd.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store in the data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy of it.
    #[error(transparent)]
    Copy(#[from] BackupError),
    /// The place in etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdMoveError),
    /// The store does not answer.
    #[error(transparent)]
    Answer(#[from] StoreError),
}

impl From<MoveError> for MigrateFailed {
    fn from(error: MoveError) -> Self {
        Self::Etcd(error.into())
    }
}

/// A log that has moved.
#[derive(Clone, Copy, Debug)]
pub struct Migrated {
    /// Which.
    pub log_id: LogId,
    /// What there is, compared at its new place with the old one; `None` when that was done by an earlier run.
    pub counts: Option<MovedCounts>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateProgress {
    /// The store is copied into a file.
    Copying,
    /// So much is written; twice as much has to be read again.
    Writing(MovedCounts),
    /// An earlier control plane is waited for, until it has certainly stopped.
    Waiting,
    /// What was written is read and compared.
    Comparing,
}

/// Hears of it.
pub type ProgressListener<'t> = &'t mut (dyn FnMut(MigrateProgress) + Send);

pub(super) fn etcd_of(config: &Config) -> Result<&EtcdSection, MigrateFailed> {
    let etcd = config.store.etcd.as_ref().filter(|_| config.store.engine == Engine::Etcd);
    let etcd = etcd.ok_or(MigrateFailed::NoEtcd)?;
    match config.replica.id {
        1 => Ok(etcd),
        other => Err(MigrateFailed::Replica(other)),
    }
}

/// Copies a store that is open into a file, and reads it. Whatever was there before goes.
pub(super) async fn copy(
    store: &Arc<EmbeddedStore>,
    to: &Path,
    clock: &Clock,
) -> Result<BackupContents, MigrateFailed> {
    let (store, to, now) = (Arc::clone(store), to.to_owned(), clock.wall());
    blocking(&to.clone(), move || {
        remove_if_there(&to)?;
        let mut file = private(&to)?;
        let mut buffered = io::BufWriter::new(&mut file);
        store.backup(&mut buffered)?;
        drop(buffered);
        Ok(BackupContents::read(&to, now)?)
    })
    .await
}

/// Does what blocks.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, MigrateFailed> + Send + 'static,
) -> Result<T, MigrateFailed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed(path)(io::Error::other(error)))?
}

/// A new file that only this user may read: secrets' hashes and customers' hosts stand in it.
pub(super) fn private(path: &Path) -> Result<fs::File, MigrateFailed> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), MigrateFailed> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> MigrateFailed + use<> {
    let path = path.to_owned();
    move |source| MigrateFailed::File { path: path.clone(), source }
}
