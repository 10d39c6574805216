//! A backup of the data folder, taken while the control plane runs, and a data folder made of one.
//!
//! ```text
//!  batoff-control backup ──▶ backup.sock in the data folder ──▶ the running control plane reads its store
//!      │ none listens there: opens the store itself                     │
//!      ▼                                                                ▼
//!  TARGET.part/ store.backup, master.key, admin.token, manifest.json ── verified, then renamed ──▶ TARGET/
//! ```
//!
//! The socket stands in a folder that only the control plane's user may enter; the secrets are read by whoever takes the
//! backup, and never go through it. The store's own format says where it was cut or altered, byte by byte; the manifest has
//! the SHA-256 of each file.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use batoff_log::Store;
use batoff_log::embedded::{
    BackupError, BackupSummary, EmbeddedConfig, EmbeddedStore, OpenError, verify_backup,
};
use batoff_program::durable;
use batoff_types::{LogId, Replica};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, ChainReport};
use crate::clock::{Clock, rfc3339};
use crate::engine;
use crate::init::{ADMIN_TOKEN_FILE, MASTER_KEY_FILE};

/// The socket in the data folder at which a running control plane gives a copy of its store.
const SOCKET: &str = "backup.sock";

/// How long whoever takes a backup may take nothing: so long a store that has failed may wait until it is opened again.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// The version of the folder. Another set of files, or another meaning of the manifest, is a new one.
const FORMAT: u32 = 1;

const STORE_FILE: &str = "store.backup";
const MANIFEST_FILE: &str = "manifest.json";

/// Files beside the store's, in backup and data folder alike.
const SECRET_FILES: [&str; 2] = [MASTER_KEY_FILE, ADMIN_TOKEN_FILE];

/// Why there is no backup, or no data folder was made of one. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailed {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is there already.
    #[error("{} is there already; name another folder, or remove it if it is a backup that was interrupted", .0.display())]
    Exists(PathBuf),
    /// There is no store.
    #[error("{} has no store to back up; name the data folder of a control plane with --data-dir", .0.display())]
    NoStore(PathBuf),
    /// The store is in etcd.
    #[error(
        "the purge log of {} is in etcd: take a snapshot there (etcdctl snapshot save), and keep a copy of master.key and \
         admin.token",
        .0.display()
    )]
    InEtcd(PathBuf),
    /// The folder is no backup, or not a whole one.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The audit log of what was restored does not hold together.
    #[error(
        "the store was restored, but its audit log has {0} flaws, which the backup had, too; `batoff audit verify` names them"
    )]
    Audit(u64),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] BackupError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store does not answer.
    #[error(transparent)]
    Answer(#[from] batoff_log::StoreError),
}

/// What stands in a backup's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    version: String,
    taken_at: String,
    log_id: String,
    first_seq: u64,
    last_seq: u64,
    records: u64,
    pairs: u64,
    /// SHA-256 of each file, in hex.
    files: BTreeMap<String, String>,
}

/// Whether a folder may get a path of its own that is short enough for a socket.
fn socket_in(dir: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

/// Whether a control plane that runs on `dir` gives backups. Nothing is asked of it.
pub(crate) fn is_served(dir: &Path) -> bool {
    socket_in(dir).and_then(|(_folder, path)| UnixStream::connect(path)).is_ok()
}

/// Gives a copy of the store in `dir` to whoever connects, one after the other, until `stopping`.
pub async fn serve(store: Arc<EmbeddedStore>, dir: PathBuf, stopping: CancellationToken) {
    let listening = || -> io::Result<tokio::net::UnixListener> {
        let (_folder, path) = socket_in(&dir)?;
        // Whoever left it there is gone: the store is ours.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = match listening() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "no backup can be taken while this runs: its socket cannot be made");
            return stopping.cancelled().await;
        }
    };
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        match accepted.and_then(|(socket, _)| socket.into_std()) {
            Ok(socket) => give(Arc::clone(&store), socket, &stopping).await,
            Err(error) => {
                tracing::warn!(%error, "a backup cannot be asked for");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _ = fs::remove_file(dir.join(SOCKET));
}

async fn give(store: Arc<EmbeddedStore>, socket: UnixStream, stopping: &CancellationToken) {
    let prepared = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_write_timeout(Some(WRITE_PATIENCE)))
        .and_then(|()| socket.try_clone());
    let closer = match prepared {
        Ok(closer) => closer,
        Err(error) => return tracing::warn!(%error, "a backup cannot be given"),
    };
    let mut giving = tokio::task::spawn_blocking(move || store.backup(&mut BufWriter::new(socket)));
    let given = tokio::select! {
        given = &mut giving => given,
        () = stopping.cancelled() => {
            // Whoever takes it finds that it is cut off.
            let _ = closer.shutdown(Shutdown::Both);
            giving.await
        }
    };
    match given {
        Ok(Ok(summary)) => {
            tracing::info!(records = summary.records, pairs = summary.pairs, tail = %summary.tail, "a backup was taken");
        }
        Ok(Err(error)) => tracing::warn!(%error, "a backup was not taken"),
        Err(error) => tracing::error!(%error, "defect: a backup was not taken"),
    }
}

/// Takes a backup of the data folder into a new folder, from the control plane that runs on it, or itself when none does;
/// and reads it again. Blocks.
///
/// # Errors
/// There is none then: what was begun lies in a folder whose name ends in `.part`.
pub fn take(data_dir: &Path, target: &Path, clock: Clock) -> Result<BackupSummary, BackupFailed> {
    let part = PathBuf::from(format!("{}.part", target.display()));
    for path in [target, &part] {
        if path.symlink_metadata().is_ok() {
            return Err(BackupFailed::Exists(path.to_owned()));
        }
    }
    if engine::is_in_etcd(data_dir) {
        return Err(BackupFailed::InEtcd(data_dir.to_owned()));
    }
    if !EmbeddedStore::is_in(data_dir) {
        return Err(BackupFailed::NoStore(data_dir.to_owned()));
    }
    DirBuilder::new().mode(0o700).create(&part).map_err(failed(&part))?;
    let store = part.join(STORE_FILE);
    copy_store(data_dir, &store, clock)?;
    // What lies on the disk, not what was sent.
    let summary = verify_backup(&store)?;
    let mut files = BTreeMap::new();
    files.insert(STORE_FILE.to_owned(), hash_of(&store)?);
    for name in SECRET_FILES {
        let content =
            zeroize::Zeroizing::new(fs::read(data_dir.join(name)).map_err(failed(&data_dir.join(name)))?);
        write_private(&part.join(name), &content)?;
        files.insert(name.to_owned(), hash_of(&part.join(name))?);
    }
    let manifest = Manifest {
        format: FORMAT,
        version: summary.version.clone(),
        taken_at: rfc3339(summary.taken_at),
        log_id: summary.log_id.to_string(),
        first_seq: summary.first.get(),
        last_seq: summary.tail.get(),
        records: summary.records,
        pairs: summary.pairs,
        files,
    };
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| failed(&part.join(MANIFEST_FILE))(io::Error::other(error)))?;
    write_private(&part.join(MANIFEST_FILE), &text)?;
    durable::flush(&part).map_err(failed(&part))?;
    fs::rename(&part, target).map_err(failed(target))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::flush(parent).map_err(failed(parent))?;
    Ok(summary)
}

fn copy_store(data_dir: &Path, to: &Path, clock: Clock) -> Result<(), BackupFailed> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed(to))?;
    let connected = socket_in(data_dir).and_then(|(_folder, path)| UnixStream::connect(path));
    match connected {
        Ok(mut socket) => {
            io::copy(&mut socket, &mut out).map_err(failed(to))?;
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let store = EmbeddedStore::open(EmbeddedConfig::new(data_dir, clock.wall_fn()))?;
            let mut buffered = BufWriter::new(&mut out);
            let taken = store.backup(&mut buffered);
            drop(buffered);
            // Dropped, it lets go of its folder a moment later, with all that it has written.
            drop(store);
            taken?;
        }
        Err(error) => return Err(failed(&data_dir.join(SOCKET))(error)),
    }
    out.sync_all().map_err(failed(to))
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup held.
    pub summary: BackupSummary,
    /// The identity of the new log.
    pub log_id: LogId,
    /// The audit log, looked at.
    pub audit: ChainReport,
}

/// Makes a data folder of a backup's: all files are verified before the first is written, and the store is opened and its
/// audit log walked through afterwards.
///
/// # Errors
/// The backup is not whole, or the folder is not empty; a start on what is there then is refused.
pub async fn restore(source: &Path, data_dir: &Path, clock: Clock) -> Result<Restored, BackupFailed> {
    let (from, to) = (source.to_owned(), data_dir.to_owned());
    let making = tokio::task::spawn_blocking(move || make(&from, &to)).await;
    let (log_id, summary) = making.map_err(|error| failed(data_dir)(io::Error::other(error)))??;
    let opening = EmbeddedConfig::new(data_dir, clock.wall_fn());
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(opening)).await;
    let store = opened.map_err(|error| failed(data_dir)(io::Error::other(error)))??;
    let looked = look(&store, clock).await;
    store.close().await;
    let audit = looked?;
    if audit.flaws_total > 0 {
        return Err(BackupFailed::Audit(audit.flaws_total));
    }
    Ok(Restored { summary, log_id, audit })
}

async fn look(store: &Arc<EmbeddedStore>, clock: Clock) -> Result<ChainReport, BackupFailed> {
    let log_id = store.log().state().await?.log_id;
    let store = Arc::clone(store) as Arc<dyn Store>;
    Ok(Audit::open(store, clock, log_id, Replica::ONLY).await?.verify(None).await?)
}

fn make(source: &Path, data_dir: &Path) -> Result<(LogId, BackupSummary), BackupFailed> {
    let path = source.join(MANIFEST_FILE);
    let unusable = |path: &Path, problem: String| BackupFailed::Unusable { path: path.to_owned(), problem };
    let text = fs::read(&path).map_err(failed(&path))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| unusable(&path, format!("is no manifest: {error}")))?;
    if manifest.format != FORMAT {
        let problem = format!(
            "the backup has format {}, this build reads format {FORMAT}; use a build that fits it",
            manifest.format
        );
        return Err(unusable(&path, problem));
    }
    // It says where.
    verify_backup(&source.join(STORE_FILE))?;
    for name in SECRET_FILES.into_iter().chain([STORE_FILE]) {
        let file = source.join(name);
        let Some(expected) = manifest.files.get(name) else {
            return Err(unusable(&path, format!("does not name {name}")));
        };
        if hash_of(&file)? != *expected {
            return Err(unusable(
                &file,
                format!("is not what {} says: another file, or altered", path.display()),
            ));
        }
    }
    let restored = EmbeddedStore::restore(&source.join(STORE_FILE), data_dir)?;
    for name in SECRET_FILES {
        let content =
            zeroize::Zeroizing::new(fs::read(source.join(name)).map_err(failed(&source.join(name)))?);
        write_private(&data_dir.join(name), &content)?;
    }
    durable::flush(data_dir).map_err(failed(data_dir))?;
    Ok(restored)
}

fn hash_of(path: &Path) -> Result<String, BackupFailed> {
    let mut file = File::open(path).map_err(failed(path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer).map_err(failed(path))? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), BackupFailed> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupFailed {
    let path = path.to_owned();
    move |source| BackupFailed::File { path: path.clone(), source }
}
