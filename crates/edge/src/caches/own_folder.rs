//! A folder that belongs to one cache and to the daemon that drives it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::provenance::Identity;

/// The mark is an empty folder of this name and the identity: a name has no content that could be torn, and nginx, which
/// removes files from its cache that it does not know, leaves folders alone.
const MARK: &str = "batoff-";

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

    /// Whether it bears the mark of `identity`, and no other.
    pub fn is_marked(&self, identity: Identity) -> io::Result<bool> {
        Ok(self.marks()? == [mark(identity)])
    }

    /// Marks it with `identity` and takes other marks away; durable when this returns.
    pub fn mark(&self, identity: Identity) -> io::Result<()> {
        let wanted = mark(identity);
        for other in self.marks()?.into_iter().filter(|name| *name != wanted) {
            fs::remove_dir(self.path.join(other))?;
        }
        match fs::create_dir(self.path.join(wanted)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => self.folder.sync_all(),
        }
    }

    fn marks(&self) -> io::Result<Vec<String>> {
        let mut marks = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            marks.extend(name.to_str().filter(|name| is_mark(name)).map(str::to_owned));
        }
        Ok(marks)
    }
}

/// Whether a folder of this name is a mark, for whoever lists the folder.
pub fn is_mark(name: &str) -> bool {
    name.strip_prefix(MARK).is_some_and(|rest| rest.parse::<Identity>().is_ok())
}

fn mark(identity: Identity) -> String {
    format!("{MARK}{identity}")
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
    fn a_mark_is_of_one_identity_and_goes_with_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        fs::create_dir(&path).unwrap();
        let folder = OwnFolder::take(&path).unwrap();
        let (one, other) = (Identity::random(), Identity::random());
        assert!(!folder.is_marked(one).unwrap());
        folder.mark(one).unwrap();
        folder.mark(one).unwrap();
        assert!(folder.is_marked(one).unwrap() && !folder.is_marked(other).unwrap());
        folder.mark(other).unwrap();
        assert!(!folder.is_marked(one).unwrap() && folder.is_marked(other).unwrap());
        assert!(folder.is_in_place().unwrap());
        fs::rename(&path, dir.path().join("aside")).unwrap();
        assert!(!folder.is_in_place().unwrap());
        fs::create_dir(&path).unwrap();
        assert!(!folder.is_in_place().unwrap());
        assert!(!OwnFolder::take(&path).unwrap().is_marked(other).unwrap());
    }
}
