//! What the store writes to: the disk; in tests, one that fails on demand.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::OFlags;

use super::aligned::{AlignedBytes, BLOCK};

/// What the store writes to.
pub(super) trait Medium: Clone + Send + Sync + 'static {
    type Backend: StorageBackend;

    /// Opens the database at `path` for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::Backend>;

    /// Creates an empty database file at `path`, mode 0600.
    fn create(&self, path: &Path) -> io::Result<Self::Backend>;

    /// Opens a segment of the log.
    fn open_segment(&self, path: &Path, access: SegmentAccess) -> io::Result<Box<dyn SegmentFile>>;
}

/// What a segment is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentAccess {
    /// To be filled with zeros; it must not be there.
    Create,
    /// To be appended to.
    Append,
    /// To be read.
    Read,
}

/// A segment of the log.
pub(super) trait SegmentFile: Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes; durable only after a flush.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable whatever was written to the file, by whomever.
    fn flush(&self) -> io::Result<()>;

    /// Writes whole blocks that lie at whole blocks, in memory too; durable when it returns.
    fn write_durably(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        self.write(offset, blocks)?;
        self.flush()
    }
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

    fn open_segment(&self, path: &Path, access: SegmentAccess) -> io::Result<Box<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        let file = match access {
            SegmentAccess::Read => options.open(path)?,
            SegmentAccess::Create => options.write(true).create_new(true).mode(0o600).open(path)?,
            SegmentAccess::Append => {
                if let Some(file) = open_direct(path)? {
                    return Ok(Box::new(DiskSegment { file, is_direct: true }));
                }
                options.write(true).open(path)?
            }
        };
        if access == SegmentAccess::Append {
            forget_cached_pages(&file);
        }
        Ok(Box::new(DiskSegment { file, is_direct: false }))
    }
}

/// A file that is written past the page cache, each write durable when it returns; `None` where the file system takes no
/// such writes.
fn open_direct(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(i32::try_from(flags).map_err(io::Error::other)?);
    // Some file systems take the flag and refuse the transfer.
    let opened = options.open(path).and_then(|file| {
        forget_cached_pages(&file);
        let mut block = AlignedBytes::zeroed(BLOCK);
        file.read_exact_at(block.as_mut_slice(), 0).map(|()| file)
    });
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::info!(
                    path = %path.display(),
                    "the file system takes no direct writes; the purge log is written through the page cache and flushed"
                );
            });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct DiskSegment {
    file: File,
    is_direct: bool,
}

impl SegmentFile for DiskSegment {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.is_direct {
            return self.file.read_exact_at(out, offset);
        }
        // Only a start or a repair reads through this file, whose transfers must be of whole blocks.
        let begin = offset - offset % BLOCK as u64;
        let skipped = (offset - begin) as usize;
        let mut blocks = AlignedBytes::zeroed((skipped + out.len()).next_multiple_of(BLOCK));
        self.file.read_exact_at(blocks.as_mut_slice(), begin)?;
        out.copy_from_slice(&blocks.as_slice()[skipped..skipped + out.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_durably(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        self.write(offset, blocks)?;
        if self.is_direct { Ok(()) } else { self.flush() }
    }
}

/// After a failed flush the kernel may show pages that never reached the disk as if they had. Dropping its clean pages
/// makes what we read next come from the disk. A refusal is harmless: what is read is checked.
pub(super) fn forget_cached_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}
