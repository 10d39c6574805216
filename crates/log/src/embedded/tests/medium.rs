use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::super::medium::{Disk, Medium, SegmentAccess, SegmentFile};

/// How the medium fails from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ill {
    #[default]
    No,
    /// Writes beyond the first `after` fail.
    Writes { after: u64 },
    /// Flushes beyond the first `after` fail; what was written is there all the same.
    Flushes { after: u64 },
    /// One flush fails, the one after the first `after`.
    OneFlush { after: u64 },
    /// Writes beyond the first `after` find no room; where something was written before there is room for it.
    Full { after: u64 },
    /// Flushes wait until it recovers.
    Hangs,
    /// Flushes panic, as a defect might.
    Panics,
    /// Reads fail.
    Reads,
    /// Reads of the databases wait until it recovers.
    ReadsHang,
    /// It takes no writes, and does not let itself be opened for them.
    ReadOnly,
}

/// A disk that fails on demand.
#[derive(Clone, Debug, Default)]
pub(super) struct Patient(Arc<Chart>);

#[derive(Debug, Default)]
struct Chart {
    ill: Mutex<Ill>,
    /// Writes or flushes since the illness began.
    since: AtomicU64,
    /// Whether a read has waited.
    waiting: AtomicBool,
    /// The end of what was ever written, of each file.
    ends: Mutex<HashMap<PathBuf, u64>>,
    /// A file that takes the place of a segment before it is opened the next time.
    swap: Mutex<Option<PathBuf>>,
}

impl Patient {
    pub(super) fn falls(&self, ill: Ill) {
        *self.0.ill.lock() = ill;
        self.0.since.store(0, Ordering::SeqCst);
    }

    pub(super) fn recovers(&self) {
        self.falls(Ill::No);
    }

    /// Waits until a read hangs.
    pub(super) async fn holds_a_reader(&self) {
        while !self.0.waiting.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn swaps_for(&self, path: PathBuf) {
        *self.0.swap.lock() = Some(path);
    }
}

impl Medium for Patient {
    type Backend = Sick;

    fn open(&self, path: &Path) -> io::Result<Sick> {
        if self.0.is(Ill::ReadOnly) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(Sick { file: Disk.open(path)?, path: path.to_owned(), chart: Arc::clone(&self.0) })
    }

    fn create(&self, path: &Path) -> io::Result<Sick> {
        Ok(Sick { file: Disk.create(path)?, path: path.to_owned(), chart: Arc::clone(&self.0) })
    }

    fn open_segment(&self, path: &Path, access: SegmentAccess) -> io::Result<Box<dyn SegmentFile>> {
        if access != SegmentAccess::Read && self.0.is(Ill::ReadOnly) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if access == SegmentAccess::Append
            && let Some(other) = self.0.swap.lock().take()
        {
            fs::copy(other, path)?;
        }
        let file = Disk.open_segment(path, access)?;
        Ok(Box::new(SickSegment { file, path: path.to_owned(), chart: Arc::clone(&self.0) }))
    }
}

impl Chart {
    fn is(&self, ill: Ill) -> bool {
        *self.ill.lock() == ill
    }

    fn check(&self, which: impl Fn(Ill) -> Option<(u64, io::ErrorKind)>) -> io::Result<()> {
        let Some((after, kind)) = which(*self.ill.lock()) else { return Ok(()) };
        let before = self.since.fetch_add(1, Ordering::SeqCst);
        let is_over = matches!(*self.ill.lock(), Ill::OneFlush { .. }) && before > after;
        if before < after || is_over { Ok(()) } else { Err(kind.into()) }
    }

    fn read(&self) -> io::Result<()> {
        self.check(|ill| (ill == Ill::Reads).then_some((0, io::ErrorKind::Other)))
    }

    fn wait_to_read(&self) {
        while self.is(Ill::ReadsHang) {
            self.waiting.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.check(|ill| match ill {
            Ill::Flushes { after } | Ill::OneFlush { after } => Some((after, io::ErrorKind::Other)),
            _ => None,
        })?;
        assert!(!self.is(Ill::Panics), "a defect");
        while self.is(Ill::Hangs) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn write(&self, path: &Path, end: u64) -> io::Result<()> {
        let is_growth = end > self.ends.lock().get(path).copied().unwrap_or(0);
        self.check(|ill| match ill {
            Ill::Writes { after } => Some((after, io::ErrorKind::Other)),
            Ill::Full { after } if is_growth => Some((after, io::ErrorKind::StorageFull)),
            Ill::ReadOnly => Some((0, io::ErrorKind::ReadOnlyFilesystem)),
            _ => None,
        })?;
        let mut ends = self.ends.lock();
        let known = ends.entry(path.to_owned()).or_default();
        *known = end.max(*known);
        Ok(())
    }
}

#[derive(Debug)]
struct SickSegment {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    chart: Arc<Chart>,
}

impl SegmentFile for SickSegment {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.chart.read()?;
        self.file.read(offset, out)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.chart.write(&self.path, offset + bytes.len() as u64)?;
        self.file.write(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.chart.flush()?;
        self.file.flush()
    }

    // In two steps, as on a disk that takes no direct writes: a write that succeeds and a flush that fails.
    fn write_durably(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        // All blocks of a segment were taken from the disk when it was made.
        self.chart.ends.lock().insert(self.path.clone(), u64::MAX);
        self.write(offset, blocks)?;
        self.flush()
    }
}

#[derive(Debug)]
pub(super) struct Sick {
    file: FileBackend,
    path: PathBuf,
    chart: Arc<Chart>,
}

impl StorageBackend for Sick {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.chart.read()?;
        self.chart.wait_to_read();
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.chart.flush()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.chart.write(&self.path, offset + data.len() as u64)?;
        self.file.write(offset, data)
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
