//! Opening what lies below the cache directory without following a link. The directory belongs to nginx's user; the daemon
//! may be another, with more rights, and must not lend them.
//!
//! The directory is opened anew each time: held open, it could not be unmounted.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, unlinkat};
use rustix::io::Errno;

/// What is found under the name of a file.
#[derive(Debug)]
pub(super) enum Plain {
    File(File),
    Nothing,
    /// A link, a pipe, a device, a folder, or a file that has another name, too: none of nginx's.
    Odd,
}

/// The directory itself. Links above it are the operator's.
pub(super) fn root(root: &Path) -> io::Result<OwnedFd> {
    Ok(open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A folder below it; with an empty name the directory itself.
pub(super) fn folder(above: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    if name.is_empty() {
        return Ok(open(above, flags | OFlags::CLOEXEC, Mode::empty())?);
    }
    beneath(&root(above)?, name, flags, Mode::empty()).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::new(io::ErrorKind::NotADirectory, "a link"),
        _ => error,
    })
}

/// Opens a file if it is one, for reading or writing.
pub(super) fn plain(above: &Path, name: &str, flags: OFlags) -> io::Result<Plain> {
    let root = root(above)?;
    let opened = match beneath(&root, name, flags | OFlags::NONBLOCK, Mode::empty()) {
        Ok(opened) => opened,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Ok(Plain::Nothing),
                // A pipe that nobody reads, a socket, a folder.
                Some(Errno::NXIO | Errno::ISDIR | Errno::OPNOTSUPP) => Ok(Plain::Odd),
                // This name, or a folder's above it: then the files of that folder cannot be looked after.
                Some(Errno::LOOP) => {
                    let (folder, _) = split(name);
                    beneath(&root, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                        .map(|_| Plain::Odd)
                }
                _ => Err(error),
            };
        }
    };
    let about = fstat(&opened)?;
    match (FileType::from_raw_mode(about.st_mode), about.st_nlink) {
        (FileType::RegularFile, 0) => Ok(Plain::Nothing),
        (FileType::RegularFile, 1) => Ok(Plain::File(opened.into())),
        _ => Ok(Plain::Odd),
    }
}

/// Takes a name away, whatever it stands for; a folder's stays. Whether it was there.
pub(super) fn unlink(above: &Path, name: &str) -> io::Result<bool> {
    let (folder, file) = split(name);
    let folder = match beneath(&root(above)?, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match unlinkat(&folder, file, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a name below `root`.
pub(super) fn beneath(root: impl AsFd, name: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let name = if name.is_empty() { "." } else { name };
    let name = CString::new(name).map_err(io::Error::other)?;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // openat2 takes nothing else together with O_PATH.
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NOCTTY };
    openat2(root, &name, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).map_err(|errno| {
        match errno {
            Errno::NOSYS => io::Error::new(
                io::ErrorKind::Unsupported,
                "openat2 is missing: it came with Linux 5.6, and a unit's RestrictSUIDSGID=true takes it away",
            ),
            errno => errno.into(),
        }
    })
}

/// The folder and the file that a path ends in.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}
