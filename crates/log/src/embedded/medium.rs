use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::StorageBackend;
use redb::backends::FileBackend;

/// What the database writes to. The disk; in tests, one that fails on demand.
pub(super) trait Medium: Send + 'static {
    type Backend: StorageBackend;

    /// Opens the file at `path` for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::Backend>;

    /// Creates an empty file at `path`, mode 0600.
    fn create(&self, path: &Path) -> io::Result<Self::Backend>;
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Disk;

impl Medium for Disk {
    type Backend = FileBackend;

    fn open(&self, path: &Path) -> io::Result<FileBackend> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        forget_cached_pages(&file);
        FileBackend::new(file).map_err(io::Error::other)
    }

    fn create(&self, path: &Path) -> io::Result<FileBackend> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        FileBackend::new(file).map_err(io::Error::other)
    }
}

/// After a failed flush the kernel may show pages that never reached the disk as if they had. Dropping its clean pages
/// makes what we read next come from the disk. A refusal is harmless: the database checks what it reads when it repairs.
fn forget_cached_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}
