//! Segments made ahead, and their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::aligned::AlignedBytes;
use super::super::directory::{Directory, flush_directory};
use super::super::medium::{Medium, SegmentAccess, SegmentFile};

/// A file that can become a segment: all its room is taken from the disk already.
#[derive(Debug)]
pub(in crate::embedded) struct Spare {
    pub(in crate::embedded) path: PathBuf,
    pub(in crate::embedded) bytes: u64,
}

impl Spare {
    /// A new file of `bytes` bytes at `path`, filled with zeros and flushed. Nothing is left of it when that fails.
    pub(in crate::embedded) fn make<M: Medium>(medium: &M, path: &Path, bytes: u64) -> io::Result<Self> {
        let filled = medium.open_segment(path, SegmentAccess::Create).and_then(|file| fill(&*file, bytes));
        if let Err(error) = filled {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// A segment that was trimmed away, under the name of a spare.
    pub(in crate::embedded) fn recycle(directory: &Directory, old: &Self, path: &Path) -> io::Result<Self> {
        fs::rename(&old.path, path)?;
        // Before its head is written anew: no segment may be found under the old name with another's head.
        flush_directory(directory.path())?;
        Ok(Self { path: path.to_owned(), bytes: old.bytes })
    }
}

fn fill(file: &dyn SegmentFile, bytes: u64) -> io::Result<()> {
    let zeros = AlignedBytes::zeroed(1024 * 1024);
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write(at, &zeros.as_slice()[..len])?;
        at += len as u64;
    }
    file.flush()
}
