//! The cache directory: reading, spoiling and removing nginx's files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Levels;
use super::header::{FIRST_READ, Header, SPOILED, TIMES_AT, Times, Unreadable};
use super::name::{FileName, InFlight};

/// No link is followed: the directory belongs to nginx's user, and the daemon may be another.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// The directory of `proxy_cache_path`.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    levels: Levels,
}

/// What a file says.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Readable(Header),
    Unreadable(Unreadable),
}

impl Files {
    pub(super) const fn new(root: PathBuf, levels: Levels) -> Self {
        Self { root, levels }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.levels.folders().iter().map(|folder| self.root.join(folder)).collect()
    }

    /// The folders that hold those folders.
    pub(super) fn folders_above(&self) -> Vec<PathBuf> {
        let folders = self.folders();
        let mut above: Vec<_> = folders
            .iter()
            .flat_map(|folder| folder.ancestors().skip(1))
            .take_while(|_| folders.len() > 1)
            .filter(|folder| folder.starts_with(&self.root))
            .map(Path::to_owned)
            .collect();
        above.sort();
        above.dedup();
        above
    }

    pub(super) fn read(&self, name: FileName) -> io::Result<Found> {
        read(&self.root.join(name.path(self.levels)))
    }

    pub(super) fn read_in_flight(&self, file: &InFlight) -> io::Result<Found> {
        read(&self.root.join(file.path(self.levels)))
    }

    /// Whether the file is there.
    pub(super) fn is_in_flight(&self, file: &InFlight) -> io::Result<bool> {
        Ok(there(fs::symlink_metadata(self.root.join(file.path(self.levels))))?.is_some())
    }

    /// When the file was last written, in milliseconds of the wall clock.
    pub(super) fn written_ms(&self, name: FileName) -> io::Result<u64> {
        let written = fs::symlink_metadata(self.root.join(name.path(self.levels)))?.modified()?;
        let since = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Makes the file unservable where it lies. Whether it was there.
    ///
    /// Its version is overwritten. nginx reads the header at each request, also of a file that a worker has kept open
    /// (`open_file_cache`) and that it would serve until it noticed that the name is gone; it takes no other version than its
    /// own, and fetches the object anew. What is being sent is sent to its end.
    pub(super) fn spoil(&self, name: FileName) -> io::Result<bool> {
        let path = self.root.join(name.path(self.levels));
        let Some(file) = there(OpenOptions::new().write(true).custom_flags(NO_FOLLOW).open(path))? else {
            return Ok(false);
        };
        file.write_all_at(&SPOILED.to_le_bytes(), 0)?;
        Ok(true)
    }

    /// Takes the file's name away and leaves it as it is: a worker that has it open goes on with it.
    pub(super) fn unlink(&self, name: FileName) -> io::Result<()> {
        there(fs::remove_file(self.root.join(name.path(self.levels)))).map(drop)
    }

    /// Removes a file that was spoiled; not one that nginx has put in its place since.
    pub(super) fn remove_spoiled(&self, name: FileName) -> io::Result<()> {
        let path = self.root.join(name.path(self.levels));
        let Some(file) = there(OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(&path))? else {
            return Ok(());
        };
        let mut version = [0; 8];
        let read = fill(&file, &mut version)?;
        if Header::is_spoiled(&version[..read]) {
            there(fs::remove_file(&path))?;
        }
        Ok(())
    }

    /// Makes the file unservable and removes it at once. Whether it was there.
    pub(super) fn remove(&self, name: FileName) -> io::Result<bool> {
        let was_there = self.spoil(name)?;
        self.unlink(name)?;
        Ok(was_there)
    }

    /// Removes a file that is being received: nginx finds nothing to rename, answers the client and stores nothing.
    pub(super) fn remove_in_flight(&self, file: &InFlight) -> io::Result<bool> {
        Ok(there(fs::remove_file(self.root.join(file.path(self.levels))))?.is_some())
    }

    /// Makes the file stale as of `now` (seconds) and gives the mark that was left in it: as long as it stands there,
    /// whoever refreshed the file read it after this. `None` when there is no such file.
    ///
    /// The mark is a changed `last_modified`. nginx refreshes a file in place, after a 304, only if that is what it was
    /// when the request began.
    pub(super) fn make_stale(&self, name: FileName, now: i64) -> io::Result<Option<i64>> {
        let path = self.root.join(name.path(self.levels));
        let options = OpenOptions::new().read(true).write(true).custom_flags(NO_FOLLOW).to_owned();
        let Some(file) = there(options.open(&path))? else { return Ok(None) };
        let mut head = [0; 40];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(mut times) = Times::parse(&head[8..]).filter(|_| head[0] == 5) else { return Ok(None) };
        times.valid = times.valid.min(now - 1);
        // Where there was none (-1) there must still be none that an origin could know: those are before 1970.
        times.last_modified -= 1;
        file.write_all_at(&times.to_bytes(), TIMES_AT)?;
        Ok(Some(times.last_modified))
    }
}

fn read(path: &Path) -> io::Result<Found> {
    let Some(file) = there(OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path))? else {
        return Ok(Found::Nothing);
    };
    let mut first = [0; FIRST_READ];
    let got = fill(&file, &mut first)?;
    match Header::parse(&first[..got]) {
        Ok(header) => Ok(Found::Readable(header)),
        Err(Unreadable::Short(needed)) if needed > got && got == FIRST_READ => {
            let mut all = vec![0; needed];
            let got = fill(&file, &mut all)?;
            Ok(match Header::parse(&all[..got]) {
                Ok(header) => Found::Readable(header),
                Err(unreadable) => Found::Unreadable(unreadable),
            })
        }
        Err(unreadable) => Ok(Found::Unreadable(unreadable)),
    }
}

fn fill(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], got as u64)? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

/// `None` when it is not there: nginx removes files too.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
