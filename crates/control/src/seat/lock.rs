use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

/// The file in the data folder that a control plane over etcd holds a lock on.
const LOCK_FILE: &str = "control.lock";

/// Says which start of which kernel this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another control plane runs on it.
    #[error("another control plane runs on the data folder {}; stop it, or give this one another data.dir", .0.display())]
    Held(PathBuf),
    /// The file system refuses.
    #[error("{}: {source}; check that the data folder is there and can be written by this user", file.display())]
    File {
        /// The lock's file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The lock on a data folder, which is freed when this process ends, and only then.
///
/// Whoever holds it at a place knows that nobody else acts from there. The place is the kernel (its boot id) and the file
/// (device and inode): a file that was deleted while somebody holds it keeps its inode, so a new one is another place.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    place: Option<Arc<str>>,
}

impl FolderLock {
    /// Takes the lock on the folder.
    ///
    /// # Errors
    /// Somebody else has it, or the file system refuses.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let failed = |source| LockError::File { file: path.clone(), source };
        let mut options = OpenOptions::new();
        let file =
            options.create(true).write(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                return Err(LockError::Held(dir.to_owned()));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let metadata = file.metadata().map_err(failed)?;
        let place = match fs::read_to_string(BOOT_ID) {
            Ok(boot) => Some(format!("{} {}:{}", boot.trim(), metadata.dev(), metadata.ino()).into()),
            Err(error) => {
                tracing::warn!(
                    file = BOOT_ID, %error,
                    "nobody can tell whether a later start is on the same machine: it will wait as if it were not"
                );
                None
            }
        };
        Ok(Self { _file: file, place })
    }

    /// Where it is held; `None` when nobody could tell one place from another.
    pub const fn place(&self) -> Option<&Arc<str>> {
        self.place.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_had_by_one_and_is_the_same_place_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path()).unwrap();
        assert!(matches!(FolderLock::take(dir.path()), Err(LockError::Held(_))));
        let place = first.place().cloned();
        assert!(place.is_some());
        drop(first);
        let second = FolderLock::take(dir.path()).unwrap();
        assert_eq!(second.place(), place.as_ref());

        // A file that was put in its place is another one, as long as the first is held.
        fs::remove_file(dir.path().join(LOCK_FILE)).unwrap();
        let third = FolderLock::take(dir.path()).unwrap();
        assert_ne!(third.place(), place.as_ref());
        drop(second);
    }
}
