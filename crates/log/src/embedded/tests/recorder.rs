//! A disk that keeps, at moments of its own choosing, what a power cut or a kill at that moment would have left.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;

use super::super::medium::{Disk, Medium, SegmentAccess, SegmentFile};
use super::{names, try_copy_files};

/// What a disk keeps whole when the power goes, in bytes.
const SECTOR: usize = 512;

/// What is left of what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// All of it: the process was killed.
    Nothing,
    /// Any sectors of it, in no order: the power was cut.
    Sectors,
}

/// What was found at one moment.
pub(super) struct Remains {
    pub(super) dir: TempDir,
    pub(super) loss: Loss,
    /// What [`RecordingDisk::at`] said last before.
    pub(super) after: usize,
}

/// A disk that remembers what a write took the place of, until it is flushed.
#[derive(Clone)]
pub(super) struct RecordingDisk(Arc<Mutex<Recording>>);

struct Recording {
    dir: PathBuf,
    /// Of each file: offset, and what was there.
    unflushed: HashMap<PathBuf, Vec<(u64, Vec<u8>)>>,
    random: u64,
    /// One in so many moments is kept.
    every: u64,
    after: usize,
    /// Segments that were made as new files.
    created: usize,
    remains: Vec<Remains>,
}

impl RecordingDisk {
    pub(super) fn new(dir: &Path, seed: u64, every: u64) -> Self {
        let unflushed = HashMap::new();
        let recording = Recording {
            dir: dir.to_owned(),
            unflushed,
            random: seed | 1,
            every,
            after: 0,
            created: 0,
            remains: Vec::new(),
        };
        Self(Arc::new(Mutex::new(recording)))
    }

    /// So many operations were answered.
    pub(super) fn at(&self, after: usize) {
        self.0.lock().after = after;
    }

    /// How many segments were made as new files.
    pub(super) fn created(&self) -> usize {
        self.0.lock().created
    }

    pub(super) fn take_remains(&self) -> Vec<Remains> {
        std::mem::take(&mut self.0.lock().remains)
    }

    /// Does `write`, which takes the place of `before`. Nothing is written anywhere while what is there is kept.
    fn written(
        &self,
        path: &Path,
        offset: u64,
        before: Vec<u8>,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut recording = self.0.lock();
        write()?;
        recording.unflushed.entry(path.to_owned()).or_default().push((offset, before));
        recording.moment();
        Ok(())
    }

    fn flushed(&self, path: &Path, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut recording = self.0.lock();
        flush()?;
        recording.unflushed.remove(path);
        recording.moment();
        Ok(())
    }
}

impl Recording {
    fn throw(&mut self) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn moment(&mut self) {
        if !self.throw().is_multiple_of(self.every) {
            return;
        }
        let dir = TempDir::new().unwrap();
        // What is deleted or renamed meanwhile would make it a state that never was.
        let before = names(&self.dir);
        if !try_copy_files(&self.dir, dir.path()) || names(&self.dir) != before {
            return;
        }
        let loss = if self.throw().is_multiple_of(3) { Loss::Nothing } else { Loss::Sectors };
        if loss == Loss::Sectors {
            self.lose(dir.path());
        }
        self.remains.push(Remains { dir, loss, after: self.after });
    }

    /// Takes some of what was not flushed away again.
    fn lose(&mut self, copy: &Path) {
        if self.throw().is_multiple_of(4) {
            // It is never flushed; so an older one, or none, may be found.
            let _ = fs::remove_file(copy.join("ACKNOWLEDGED"));
        }
        for (path, writes) in self.unflushed.clone() {
            let copied = copy.join(path.file_name().unwrap());
            let Ok(mut content) = fs::read(&copied) else { continue };
            for (offset, before) in writes.iter().rev() {
                if *offset as usize >= content.len() {
                    // It was made shorter: that has not reached the disk.
                    content.resize(*offset as usize, 0);
                    content.extend_from_slice(before);
                    continue;
                }
                for (sector, old) in before.chunks(SECTOR).enumerate() {
                    let at = *offset as usize + sector * SECTOR;
                    if at + old.len() <= content.len() && self.throw().is_multiple_of(2) {
                        content[at..at + old.len()].copy_from_slice(old);
                    }
                }
            }
            fs::write(&copied, content).unwrap();
        }
    }
}

impl Medium for RecordingDisk {
    type Backend = RecordedDatabase;

    fn open(&self, path: &Path) -> io::Result<RecordedDatabase> {
        Ok(RecordedDatabase { file: Disk.open(path)?, path: path.to_owned(), disk: self.clone() })
    }

    fn create(&self, path: &Path) -> io::Result<RecordedDatabase> {
        Ok(RecordedDatabase { file: Disk.create(path)?, path: path.to_owned(), disk: self.clone() })
    }

    fn open_segment(&self, path: &Path, access: SegmentAccess) -> io::Result<Box<dyn SegmentFile>> {
        let file = Disk.open_segment(path, access)?;
        self.0.lock().created += usize::from(access == SegmentAccess::Create);
        Ok(Box::new(RecordedSegment { file, path: path.to_owned(), disk: self.clone() }))
    }
}

impl std::fmt::Debug for RecordingDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordingDisk")
    }
}

#[derive(Debug)]
struct RecordedSegment {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    disk: RecordingDisk,
}

impl SegmentFile for RecordedSegment {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut before = vec![0; bytes.len()];
        if offset + bytes.len() as u64 <= self.file.len()? {
            self.file.read(offset, &mut before)?;
        }
        self.disk.written(&self.path, offset, before, || self.file.write(offset, bytes))
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flushed(&self.path, || self.file.flush())
    }
}

#[derive(Debug)]
pub(super) struct RecordedDatabase {
    file: FileBackend,
    path: PathBuf,
    disk: RecordingDisk,
}

impl StorageBackend for RecordedDatabase {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let cut_off = self.file.len()?.saturating_sub(len);
        let mut before = vec![0; cut_off as usize];
        if cut_off > 0 {
            self.file.read(len, &mut before)?;
        }
        self.disk.written(&self.path, len, before, || self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.flushed(&self.path, || self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut before = vec![0; data.len()];
        if offset + data.len() as u64 <= self.file.len()? {
            self.file.read(offset, &mut before)?;
        }
        self.disk.written(&self.path, offset, before, || self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        self.file.unlock_range(start, end)
    }
}
