//! The cache directory: reading, spoiling and removing nginx's files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, OFlags, flock, fstat, statat};

use self::beneath::Plain;
pub(super) use self::folder_id::FolderId;
use super::config::Levels;
use super::header::{FIRST_READ, FileHeader, HeaderError, SPOILED, STALE, TIMES_AT};
use super::name::{FileName, InFlight};

mod beneath;
mod folder_id;

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
    Readable(FileHeader),
    HeaderError(HeaderError),
    /// A link or the like: whoever made it is not nginx.
    Odd,
}

/// What became of a file that was to be made unservable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// It was not there.
    Nothing,
    Done,
    /// It is none of nginx's files, and nothing was written to it.
    Odd,
}

/// What became of a file that was to turn stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staled {
    /// It was not there, or says nothing.
    Nothing,
    /// As long as this mark stands in it, whoever refreshed it read it after this.
    Marked(i64),
    /// It must not be served stale (RFC 9111, 5.2.2.2 and 5.2.2.8), so it has to go.
    MustGo,
}

impl Files {
    pub(super) const fn new(root: PathBuf, levels: Levels) -> Self {
        Self { root, levels }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folders that hold files, as they are called below the directory.
    pub(super) fn folders(&self) -> Vec<String> {
        self.levels.folders().into_iter().map(|folder| folder.trim_end_matches('/').to_owned()).collect()
    }

    /// The folders that hold those folders.
    pub(super) fn folders_above(&self) -> Vec<String> {
        let folders = self.folders();
        if folders.len() <= 1 {
            return Vec::new();
        }
        let above = |folder: &String| -> Vec<String> {
            let ends = folder.char_indices().filter(|(_, letter)| *letter == '/').map(|(at, _)| at);
            ends.chain([0]).map(|end| folder[..end].to_owned()).collect()
        };
        let mut above: Vec<_> = folders.iter().flat_map(above).collect();
        above.sort();
        above.dedup();
        above
    }

    /// Opens a folder; with an empty name the directory itself.
    pub(super) fn folder(&self, name: &str) -> io::Result<OwnedFd> {
        beneath::folder(&self.root, name).map_err(|error| {
            let path = self.root.join(name);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })
    }

    /// Whether the places of these folders are still what stands at the path.
    pub(super) fn are_there(&self, folders: &[(String, FolderId)]) -> bool {
        let Ok(root) = beneath::root(&self.root) else { return false };
        folders.iter().all(|(name, place)| FolderId::at(&root, name).is_ok_and(|now| now == *place))
    }

    pub(super) fn read(&self, name: FileName) -> io::Result<Found> {
        self.read_at(&name.path(self.levels))
    }

    pub(super) fn read_in_flight(&self, file: &InFlight) -> io::Result<Found> {
        self.read_at(&file.path(self.levels))
    }

    fn read_at(&self, path: &str) -> io::Result<Found> {
        match beneath::plain(&self.root, path, OFlags::RDONLY)? {
            Plain::File(file) => read(&file),
            Plain::Nothing => Ok(Found::Nothing),
            Plain::Odd => Ok(Found::Odd),
        }
    }

    /// Whether the file is there.
    pub(super) fn is_in_flight(&self, file: &InFlight) -> io::Result<bool> {
        let root = beneath::root(&self.root)?;
        Ok(there(statat(&root, file.path(self.levels), AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into))?
            .is_some())
    }

    /// When the file was last written, in milliseconds of the wall clock; `None` when it is gone.
    pub(super) fn written_ms(&self, name: FileName) -> io::Result<Option<u64>> {
        let Plain::File(file) = beneath::plain(&self.root, &name.path(self.levels), OFlags::RDONLY)? else {
            return Ok(None);
        };
        let about = fstat(&file)?;
        let seconds = u64::try_from(about.st_mtime).unwrap_or(0);
        let millis = about.st_mtime_nsec / 1_000_000;
        Ok(Some(seconds.saturating_mul(1_000).saturating_add(millis)))
    }

    /// Makes the file unservable where it lies.
    ///
    /// Its version is overwritten. nginx reads the header at each request, also of a file that a worker has kept open
    /// (`open_file_cache`) and that it would serve until it noticed that the name is gone; it takes no other version than its
    /// own, and fetches the object anew. What is being sent is sent to its end.
    pub(super) fn spoil(&self, name: FileName) -> io::Result<Spoilt> {
        match beneath::plain(&self.root, &name.path(self.levels), OFlags::RDWR)? {
            Plain::File(file) => {
                file.write_all_at(&SPOILED.to_le_bytes(), 0)?;
                Ok(Spoilt::Done)
            }
            Plain::Nothing => Ok(Spoilt::Nothing),
            Plain::Odd => Ok(Spoilt::Odd),
        }
    }

    /// As [`Files::spoil`], if the file is stale as of `now` (seconds).
    pub(super) fn spoil_stale(&self, name: FileName, now: i64) -> io::Result<Spoilt> {
        let opened = beneath::plain(&self.root, &name.path(self.levels), OFlags::RDWR)?;
        let Plain::File(file) = opened else { return Ok(Spoilt::Nothing) };
        match read(&file)? {
            Found::Readable(header) if header.times.valid < now => {
                file.write_all_at(&SPOILED.to_le_bytes(), 0)?;
                Ok(Spoilt::Done)
            }
            _ => Ok(Spoilt::Nothing),
        }
    }

    /// Keeps every other daemon from this directory, as long as what this gives is held: two would undo each other's work.
    pub(super) fn lock(&self) -> io::Result<OwnedFd> {
        let folder = self.folder("")?;
        flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        Ok(folder)
    }

    /// Takes the file's name away and leaves it as it is: a worker that has it open goes on with it.
    pub(super) fn unlink(&self, name: FileName) -> io::Result<()> {
        beneath::unlink(&self.root, &name.path(self.levels)).map(drop)
    }

    /// Removes a file that was spoiled; not one that nginx has put in its place since.
    pub(super) fn remove_spoiled(&self, name: FileName) -> io::Result<()> {
        let path = name.path(self.levels);
        let Plain::File(file) = beneath::plain(&self.root, &path, OFlags::RDONLY)? else { return Ok(()) };
        let mut version = [0; 8];
        let read = fill(&file, &mut version)?;
        if FileHeader::is_spoiled(&version[..read]) {
            beneath::unlink(&self.root, &path)?;
        }
        Ok(())
    }

    /// Makes the file unservable and removes it at once. Whether it was there.
    pub(super) fn remove(&self, name: FileName) -> io::Result<bool> {
        let was_there = self.spoil(name)? != Spoilt::Nothing;
        self.unlink(name)?;
        Ok(was_there)
    }

    /// Removes a file that is being received: nginx finds nothing to rename, answers the client and stores nothing.
    pub(super) fn remove_in_flight(&self, file: &InFlight) -> io::Result<bool> {
        beneath::unlink(&self.root, &file.path(self.levels))
    }

    /// Makes the file stale as of `now` (seconds).
    ///
    /// It expired in the first second of 1970: no clock that is put back makes it fresh. How much longer it may be served
    /// stale is counted from there, too. The mark is a changed `last_modified`: nginx refreshes a file in place, after a
    /// 304, only if that is what it was when the request began.
    pub(super) fn make_stale(&self, name: FileName, now: i64) -> io::Result<Staled> {
        let opened = beneath::plain(&self.root, &name.path(self.levels), OFlags::RDWR)?;
        let Plain::File(file) = opened else { return Ok(Staled::Nothing) };
        let Found::Readable(header) = read(&file)? else { return Ok(Staled::Nothing) };
        if header.must_revalidate {
            return Ok(Staled::MustGo);
        }
        let mut times = header.times;
        let expired = times.valid.min(now - 1);
        for more in [&mut times.updating, &mut times.error] {
            if *more > 0 {
                *more = more.saturating_add(expired.saturating_sub(STALE));
            }
        }
        times.valid = STALE;
        // Where there was none (-1) there must still be none that an origin could know: those are before 1970.
        times.last_modified -= 1;
        file.write_all_at(&times.to_bytes(), TIMES_AT)?;
        Ok(Staled::Marked(times.last_modified))
    }
}

fn read(file: &File) -> io::Result<Found> {
    let mut first = [0; FIRST_READ];
    let got = fill(file, &mut first)?;
    match FileHeader::parse(&first[..got]) {
        Ok(header) => Ok(Found::Readable(header)),
        Err(HeaderError::Short(needed)) if needed > got && got == FIRST_READ => {
            let mut all = vec![0; needed];
            let got = fill(file, &mut all)?;
            Ok(match FileHeader::parse(&all[..got]) {
                Ok(header) => Found::Readable(header),
                Err(unreadable) => Found::HeaderError(unreadable),
            })
        }
        Err(unreadable) => Ok(Found::HeaderError(unreadable)),
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

#[cfg(test)]
mod tests;
