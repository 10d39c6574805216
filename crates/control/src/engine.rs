//! Where the purge log is: files in the data folder, or an etcd cluster. Everything above knows a
//! [`Store`] and no engine.
//!
//! A data folder belongs to one log. With the embedded engine the log lies in it; with etcd the folder remembers which one
//! it was, so that an empty cluster, or another prefix, is refused and does not become the beginning of a second log.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore, OpenError};
use batoff_log::{Store, WallClock};
use batoff_log_etcd::{EtcdConfig, EtcdOpenError, EtcdStore, EtcdTls, EtcdUser};
use batoff_program::durable;
use batoff_types::LogId;
use zeroize::Zeroizing;

use crate::config::{Config, Engine, EtcdSection};
use crate::seat::{FolderLock, LockError};

/// The file in the data folder with the identity of the log that was found in etcd.
const LOG_ID_FILE: &str = "log.id";

/// The file beside it in which the store notes what it has last seen of that log.
const SEEN_FILE: &str = "log.seen";

/// The store could not be opened. The text names the file, or the cluster, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store in the data folder.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The log in etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdOpenError),
    /// Another log than this data folder belongs to.
    #[error(
        "{source}. If the log was given a new identity on purpose (--new-log-id at another control plane), remove {}",
        file.display()
    )]
    OtherLog {
        /// What the folder remembers.
        file: PathBuf,
        /// What was found.
        source: EtcdOpenError,
    },
    /// A file that the configuration names, or one of the data folder's own.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why it cannot be used.
        source: io::Error,
    },
    /// The password could be read by others.
    #[error("{} may be read by others than its owner; run: chmod 600 {}", .0.display(), .0.display())]
    Open(PathBuf),
    /// The data folder has a log of its own.
    #[error(
        "{} holds a purge log of its own, which would be left behind: start with a new data folder, with the same \
         master.key and admin.token, or set store.engine = \"embedded\"",
        .0.display()
    )]
    HasLog(PathBuf),
    /// Somebody else has the data folder.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The store, and what belongs to its engine alone.
pub enum OpenedStore {
    /// In the data folder.
    Embedded(Arc<EmbeddedStore>),
    /// In etcd, with the lock on the data folder, to be kept for as long as this process may act.
    Etcd(Arc<EtcdStore>, FolderLock),
}

impl OpenedStore {
    /// Without the engine.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => Arc::clone(store) as Arc<dyn Store>,
            Self::Etcd(store, _) => Arc::clone(store) as Arc<dyn Store>,
        }
    }
}

/// Opens the store that is configured.
///
/// # Errors
/// See [`EngineError`].
pub async fn open(config: &Config, clock: WallClock) -> Result<OpenedStore, EngineError> {
    let dir = &config.data.dir;
    match &config.store.etcd {
        Some(etcd) if config.store.engine == Engine::Etcd => {
            let lock = FolderLock::take(dir)?;
            let store = open_etcd(dir, etcd, clock).await?;
            Ok(OpenedStore::Etcd(store, lock))
        }
        _ => {
            let config = EmbeddedConfig::new(dir, clock);
            // Walking through a file that was not closed properly takes a while, and blocks.
            let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(config)).await;
            match opened {
                Ok(store) => Ok(OpenedStore::Embedded(store?)),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
    }
}

/// Gives the log, which is a copy, an identity of its own. No control plane may have it open.
///
/// # Errors
/// See [`EngineError`].
pub async fn adopt_copy(config: &Config, clock: WallClock) -> Result<LogId, EngineError> {
    let dir = &config.data.dir;
    match &config.store.etcd {
        Some(etcd) if config.store.engine == Engine::Etcd => {
            let _alone = FolderLock::take(dir)?;
            let log_id = EtcdStore::adopt_copy(settings(etcd, clock)?).await?;
            remember(dir, log_id)?;
            Ok(log_id)
        }
        _ => Ok(EmbeddedStore::adopt_copy(dir)?),
    }
}

/// What can be said of the engine without asking it: its files are there, and the data folder fits.
///
/// # Errors
/// See [`EngineError`].
pub fn check(config: &Config) -> Result<String, EngineError> {
    match &config.store.etcd {
        Some(etcd) if config.store.engine == Engine::Etcd => {
            fits(&config.data.dir)?;
            settings(etcd, batoff_log::system_clock())?;
            let log = remembered(&config.data.dir)?;
            let log = log.map_or("whichever is there".to_owned(), |log_id| log_id.to_string());
            Ok(format!("etcd {}, under {}: {log}", etcd.endpoints.join(", "), etcd.prefix))
        }
        _ => Ok(format!("in {}", config.data.dir.display())),
    }
}

/// Opens the log in etcd. The caller holds the lock on the data folder.
pub(crate) async fn open_etcd(
    dir: &Path,
    section: &EtcdSection,
    clock: WallClock,
) -> Result<Arc<EtcdStore>, EngineError> {
    batoff_log_etcd::describe_metrics();
    fits(dir)?;
    let known = remembered(dir)?;
    let seen = Some(dir.join(SEEN_FILE));
    let config = EtcdConfig { log_id: known, seen, ..settings(section, clock)? };
    let store = EtcdStore::open(config).await.map_err(|error| match error {
        EtcdOpenError::AnotherLog { .. } => {
            EngineError::OtherLog { file: dir.join(LOG_ID_FILE), source: error }
        }
        other => other.into(),
    })?;
    if known.is_none() {
        remember(dir, store.log_id())?;
    }
    Ok(store)
}

/// Refuses a data folder whose own log would be forgotten, unless that has moved away.
fn fits(dir: &Path) -> Result<(), EngineError> {
    if EmbeddedStore::is_in(dir) && !has_moved(dir) {
        return Err(EngineError::HasLog(dir.to_owned()));
    }
    Ok(())
}

/// Whether the store in the data folder is sealed. One that cannot be read is not.
fn has_moved(dir: &Path) -> bool {
    matches!(EmbeddedStore::sealed(dir), Ok(Some(_)))
}

pub(crate) fn settings(section: &EtcdSection, clock: WallClock) -> Result<EtcdConfig, EngineError> {
    let tls = match &section.ca {
        None => None,
        Some(ca) => Some(EtcdTls {
            ca_pem: read(ca)?,
            client_pem: match (&section.cert, &section.key) {
                (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
                _ => None,
            },
        }),
    };
    let user = match (&section.user, &section.password_file) {
        (Some(name), Some(file)) => Some(EtcdUser { name: name.clone(), password: password(file)? }),
        _ => None,
    };
    Ok(EtcdConfig {
        prefix: section.prefix.clone(),
        tls,
        user,
        compact_after: match section.compact_after_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        quota_bytes: section.quota_bytes,
        ..EtcdConfig::new(&section.endpoints, clock)
    })
}

fn read(file: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(file).map_err(failed(file))
}

fn password(file: &Path) -> Result<String, EngineError> {
    let metadata = fs::metadata(file).map_err(failed(file))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(EngineError::Open(file.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(file).map_err(failed(file))?);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn remembered(dir: &Path) -> Result<Option<LogId>, EngineError> {
    let file = dir.join(LOG_ID_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse() {
            Ok(log_id) => Ok(Some(log_id)),
            Err(_) => {
                let why =
                    "holds no identity of a log; remove it, if the right cluster and prefix are configured";
                Err(failed(&file)(io::Error::other(why)))
            }
        },
        // The log that moved away from here is the one that has to be found, whether that was noted or not.
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_moved(dir) => {
            Ok(EmbeddedStore::log_beside(dir)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&file)(error)),
    }
}

/// Notes that the log of the data folder is not in etcd any more.
pub(crate) fn forget(dir: &Path) -> Result<(), EngineError> {
    for name in [SEEN_FILE, LOG_ID_FILE] {
        let file = dir.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&file)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Notes which log in etcd is that of the data folder.
pub(crate) fn remember(dir: &Path, log_id: LogId) -> Result<(), EngineError> {
    durable::replace(dir, LOG_ID_FILE, format!("{log_id}\n").as_bytes())
        .map_err(failed(&dir.join(LOG_ID_FILE)))
}

/// Whether the log of this data folder is in etcd, as far as the folder knows.
pub fn is_in_etcd(dir: &Path) -> bool {
    dir.join(LOG_ID_FILE).exists() && (!EmbeddedStore::is_in(dir) || has_moved(dir))
}

fn failed(file: &Path) -> impl FnOnce(io::Error) -> EngineError + use<> {
    let file = file.to_owned();
    move |source| EngineError::File { file, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use batoff_log::system_clock;
    use batoff_log_etcd::testing::EtcdServers;

    use super::*;

    fn config(dir: &Path, endpoints: &[String], etcd: &str) -> Config {
        let text = format!(
            "[data]\ndir = {dir:?}\n[grpc]\nplaintext = true\n[store]\nengine = 'etcd'\n[store.etcd]\n\
             endpoints = {endpoints:?}\n{etcd}\n"
        );
        Config::parse(&text, std::iter::empty()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_data_folder_belongs_to_one_log() {
        let servers = EtcdServers::start(1).await;
        let (dir, endpoints) = (tempfile::tempdir().unwrap(), servers.endpoints());
        let ours = config(dir.path(), &endpoints, "");
        assert!(check(&ours).unwrap().ends_with("under batoff/: whichever is there"));
        let opened = open(&ours, system_clock()).await.unwrap();
        let refused = open(&ours, system_clock()).await.err().unwrap().to_string();
        assert!(refused.contains("another control plane runs on the data folder"), "{refused}");
        let log_id = opened.store().log().state().await.unwrap().log_id;
        opened.store().close().await;
        drop(opened);
        assert!(check(&ours).unwrap().ends_with(&log_id.to_string()));
        assert!(is_in_etcd(dir.path()));

        // An empty prefix is no beginning of a second log.
        let other = config(dir.path(), &endpoints, "prefix = 'other/'");
        let refused = open(&other, system_clock()).await.err().unwrap().to_string();
        for part in [log_id.to_string().as_str(), "there is none", "log.id"] {
            assert!(refused.contains(part), "{refused}");
        }
        // A new identity is remembered.
        let adopted = adopt_copy(&ours, system_clock()).await.unwrap();
        assert_ne!(adopted, log_id);
        let opened = open(&ours, system_clock()).await.unwrap();
        assert_eq!(opened.store().log().state().await.unwrap().log_id, adopted);
        opened.store().close().await;
    }

    #[tokio::test]
    async fn a_folder_with_a_log_of_its_own_and_a_password_that_others_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o644).open(&password).unwrap();
        let user = format!("user = 'batoff'\npassword_file = {password:?}");
        let config = config(dir.path(), &["http://127.0.0.1:1".to_owned()], &user);
        let refused = check(&config).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        check(&config).unwrap();

        let embedded = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        embedded.close().await;
        for refused in [
            check(&config).err().unwrap().to_string(),
            open(&config, system_clock()).await.err().unwrap().to_string(),
        ] {
            assert!(refused.contains("holds a purge log of its own"), "{refused}");
        }
        assert!(!is_in_etcd(dir.path()));
    }
}
