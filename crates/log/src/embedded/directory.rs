//! The folder of a store, and how a file gets its name in it: last, when it is complete.
//!
//! | file | holds |
//! | --- | --- |
//! | `log-….seg` | what was accepted, in order |
//! | `purge.redb` | what can be derived from that, through some group of it |
//! | `keys-…` | keys of accepted requests, as the checkpoint in `purge.redb` lists them |
//! | `pairs.redb` | the small records beside the log |
//! | `LOG_ID`, `ACKNOWLEDGED` | the log's identity, and what was acknowledged last |
//! | `spare-…`, `….new`, `purge.redb.3`, `purge.redb.restoring` | nothing yet: made, carried over or restored, and not finished |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use batoff_types::LogId;

use super::names::{number_of_key_run, number_of_segment};
use super::open_error::OpenError;
use super::witness::Witness;

/// What the names of segments that are made ahead begin with.
const SPARE: &str = "spare-";

/// The store's directory and the names in it.
///
/// `purge.redb` exists only once the store is complete: a new one is made under another name, which is there before
/// anything else is and renamed last.
#[derive(Clone, Debug)]
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new store that is being made.
    pub(super) fn unfinished_store(&self) -> PathBuf {
        self.path.join("purge.redb.new")
    }

    /// A store of an older format that is being carried over; it takes the older one's name last.
    pub(super) fn carried_store(&self) -> PathBuf {
        self.path.join("purge.redb.3")
    }

    /// A store that is being made of a backup. Not removed by a start, which refuses what lies beside it.
    pub(super) fn restored_store(&self) -> PathBuf {
        self.path.join("purge.redb.restoring")
    }

    /// The small records beside the log.
    pub(super) fn pairs(&self) -> PathBuf {
        self.path.join("pairs.redb")
    }

    /// A segment that is made ahead.
    pub(super) fn spare(&self, number: u64) -> PathBuf {
        self.path.join(format!("{SPARE}{number}"))
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
            self.remove_made()?;
            self.remove_if_there(&unfinished)?;
        }
        if exists(&self.store())? {
            // What its last writer had made ahead.
            for path in self.files(|name| name.starts_with(SPARE))? {
                self.remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Removes all that a store consists of, but for what gives it its name.
    pub(super) fn remove_made(&self) -> Result<(), OpenError> {
        let is_made = |name: &str| {
            number_of_segment(name).is_some() || number_of_key_run(name).is_some() || name.starts_with(SPARE)
        };
        for path in self.files(is_made)? {
            self.remove_if_there(&path)?;
        }
        self.remove_if_there(&self.pairs())
    }

    /// The segments' files by their numbers, lowest first.
    pub(super) fn segments(&self) -> Result<Vec<(u64, PathBuf)>, OpenError> {
        let mut segments: Vec<_> = self
            .files(|name| number_of_segment(name).is_some())?
            .into_iter()
            .filter_map(|path| Some((number_of_segment(path.file_name()?.to_str()?)?, path)))
            .collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// The files with keys.
    pub(super) fn key_runs(&self) -> Result<Vec<(u64, PathBuf)>, OpenError> {
        let paths = self.files(|name| number_of_key_run(name).is_some())?;
        let numbered = |path: PathBuf| Some((number_of_key_run(path.file_name()?.to_str()?)?, path));
        Ok(paths.into_iter().filter_map(numbered).collect())
    }

    fn files(&self, is_one: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, OpenError> {
        let read = || -> io::Result<Vec<PathBuf>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(&is_one) {
                    found.push(entry.path());
                }
            }
            Ok(found)
        };
        read().map_err(|source| io_error("look through", &self.path, source))
    }

    pub(super) fn has_store(&self) -> Result<bool, OpenError> {
        exists(&self.store())
    }

    pub(super) fn names_a_log(&self) -> Result<bool, OpenError> {
        Ok(exists(&self.log_id())? || !self.segments()?.is_empty())
    }

    /// Whether anything is there that only a store of today's format has.
    pub(super) fn names_newer(&self) -> Result<bool, OpenError> {
        Ok(!self.segments()?.is_empty() || exists(&self.pairs())?)
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

    /// Gives a finished store its name; `from` is what it had before.
    pub(super) fn finish_store(&self, from: &Path) -> Result<(), OpenError> {
        let path = self.store();
        // What it consists of has its names first.
        self.flush()?;
        fs::rename(from, &path).map_err(|source| io_error("create", &path, source))?;
        self.flush()
    }

    /// Makes the names in it durable.
    pub(super) fn flush(&self) -> Result<(), OpenError> {
        flush_directory(&self.path).map_err(|source| io_error("flush the directory", &self.path, source))
    }

    pub(super) fn remove_if_there(&self, path: &Path) -> Result<(), OpenError> {
        match fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error("remove", path, source)),
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn flush_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { action, path: path.to_owned(), source }
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| io_error("look for", path, source))
}
