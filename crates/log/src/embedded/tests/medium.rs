use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::super::medium::{Disk, Medium};

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
    /// The end of what was ever written.
    end: AtomicU64,
    /// A file that takes the place of the store before it is opened the next time.
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

    pub(super) fn swaps_for(&self, path: PathBuf) {
        *self.0.swap.lock() = Some(path);
    }
}

impl Medium for Patient {
    type Backend = Sick;

    fn open(&self, path: &Path) -> io::Result<Sick> {
        if *self.0.ill.lock() == Ill::ReadOnly {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(other) = self.0.swap.lock().take() {
            fs::copy(other, path)?;
        }
        Ok(Sick { file: Disk.open(path)?, chart: Arc::clone(&self.0) })
    }

    fn create(&self, path: &Path) -> io::Result<Sick> {
        Ok(Sick { file: Disk.create(path)?, chart: Arc::clone(&self.0) })
    }
}

#[derive(Debug)]
pub(super) struct Sick {
    file: FileBackend,
    chart: Arc<Chart>,
}

impl Sick {
    fn check(&self, which: impl Fn(Ill) -> Option<(u64, io::ErrorKind)>) -> io::Result<()> {
        let Some((after, kind)) = which(*self.chart.ill.lock()) else { return Ok(()) };
        let before = self.chart.since.fetch_add(1, Ordering::SeqCst);
        let is_over = matches!(*self.chart.ill.lock(), Ill::OneFlush { .. }) && before > after;
        if before < after || is_over { Ok(()) } else { Err(kind.into()) }
    }
}

impl StorageBackend for Sick {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(|ill| (ill == Ill::Reads).then_some((0, io::ErrorKind::Other)))?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check(|ill| match ill {
            Ill::Flushes { after } | Ill::OneFlush { after } => Some((after, io::ErrorKind::Other)),
            _ => None,
        })?;
        let ill = *self.chart.ill.lock();
        assert!(ill != Ill::Panics, "a defect");
        while *self.chart.ill.lock() == Ill::Hangs {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let is_growth = end > self.chart.end.load(Ordering::SeqCst);
        self.check(|ill| match ill {
            Ill::Writes { after } => Some((after, io::ErrorKind::Other)),
            Ill::Full { after } if is_growth => Some((after, io::ErrorKind::StorageFull)),
            Ill::ReadOnly => Some((0, io::ErrorKind::ReadOnlyFilesystem)),
            _ => None,
        })?;
        self.chart.end.fetch_max(end, Ordering::SeqCst);
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
