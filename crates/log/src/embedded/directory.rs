//! The folder of a store, and how a file gets its name in it: last, when it is complete.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use batoff_types::LogId;

use super::open_error::OpenError;
use super::witness::Witness;

/// The store's directory and the names in it.
///
/// `purge.redb` exists only once it is complete: a new store is made under another name and renamed last.
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("purge.redb")
    }

    pub(super) fn unfinished_store(&self) -> PathBuf {
        self.path.join("purge.redb.new")
    }

    /// Opens, or makes, the file that says what was acknowledged.
    pub(super) fn witness(&self) -> Result<Witness, OpenError> {
        let path = self.acknowledged();
        Witness::open(&path).map_err(|source| io_error("open", &path, source))
    }

    pub(super) fn acknowledged(&self) -> PathBuf {
        self.path.join("ACKNOWLEDGED")
    }

    fn log_id(&self) -> PathBuf {
        self.path.join("LOG_ID")
    }

    /// Makes the directory if it is not there, and what an interrupted first start left undone.
    pub(super) fn prepare(&self) -> Result<(), OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| io_error("create the directory", &self.path, source))?;
        let unfinished = self.unfinished_store();
        if !exists(&self.store())? && exists(&unfinished)? {
            // Nothing was ever acknowledged from a store that did not get its name.
            self.remove_if_there(&self.log_id())?;
            self.remove_if_there(&unfinished)?;
        }
        Ok(())
    }

    pub(super) fn has_store(&self) -> Result<bool, OpenError> {
        exists(&self.store())
    }

    pub(super) fn names_a_log(&self) -> Result<bool, OpenError> {
        exists(&self.log_id())
    }

    /// The identity that stands beside the store; `None` when the file is absent or not an identity.
    pub(super) fn read_log_id(&self) -> Result<Option<LogId>, OpenError> {
        match fs::read(self.log_id()) {
            Ok(bytes) => Ok(String::from_utf8(bytes).ok().and_then(|text| text.trim_end().parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &self.log_id(), source)),
        }
    }

    /// Writes the identity beside the store, durably and in one step.
    pub(super) fn write_log_id(&self, log_id: LogId) -> Result<(), OpenError> {
        let path = self.log_id();
        let next = self.path.join("LOG_ID.new");
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            writeln!(file, "{log_id}")?;
            file.sync_all()?;
            fs::rename(&next, &path)
        };
        write().map_err(|source| io_error("write", &path, source))?;
        self.flush()
    }

    /// Gives the finished store its name.
    pub(super) fn finish_store(&self) -> Result<(), OpenError> {
        let path = self.store();
        fs::rename(self.unfinished_store(), &path).map_err(|source| io_error("create", &path, source))?;
        self.flush()
    }

    fn flush(&self) -> Result<(), OpenError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| io_error("flush the directory", &self.path, source))
    }

    fn remove_if_there(&self, path: &Path) -> Result<(), OpenError> {
        match fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error("remove", path, source)),
        }
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { action, path: path.to_owned(), source }
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| io_error("look for", path, source))
}
