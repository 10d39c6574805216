//! A folder that belongs to one cache and to the daemon that drives it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A folder that is held against a second daemon for as long as this value lives.
///
/// The lock is on the folder itself, so nothing has to be written to it, and it ends with the process.
#[derive(Debug)]
pub struct OwnFolder {
    path: PathBuf,
    folder: File,
}

impl OwnFolder {
    /// Takes a folder that is there.
    ///
    /// # Errors
    /// `ResourceBusy` when another daemon has it; the text says so. Everything that [`File::open`] may say.
    pub fn take(path: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), folder }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another daemon drives this cache; each cache has one, and each daemon its own",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether what stands at its path is still this folder: not removed, not mounted over, no link to somewhere else.
    pub fn is_in_place(&self) -> io::Result<bool> {
        let (held, now) = (self.folder.metadata()?, fs::metadata(&self.path));
        match now {
            Ok(now) => Ok((held.dev(), held.ino()) == (now.dev(), now.ino())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_does_not_get_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnFolder::take(dir.path()).unwrap();
        let error = OwnFolder::take(dir.path()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::ResourceBusy && error.to_string().contains("another daemon"));
        drop(first);
        OwnFolder::take(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_that_was_moved_or_made_anew_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        fs::create_dir(&path).unwrap();
        let folder = OwnFolder::take(&path).unwrap();
        assert!(folder.is_in_place().unwrap());
        fs::rename(&path, dir.path().join("aside")).unwrap();
        assert!(!folder.is_in_place().unwrap());
        fs::create_dir(&path).unwrap();
        assert!(!folder.is_in_place().unwrap());
    }
}
