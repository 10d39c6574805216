//! What the kernel has to say, whichever way it is asked, and why it may not be asked.

use std::path::PathBuf;
use std::{fmt, io};

use rustix::fs::inotify::ReadFlags;

use crate::nginx::name::Named;

/// Bytes of news read at once.
pub(super) const BUFFER: usize = 64 * 1024;

/// Something that happened to a file, in inotify's bits: fanotify's have the same values. fanotify makes one event of several
/// that follow each other, so more than one bit may be set, in an order that nobody knows.
pub(super) struct Event {
    pub(super) what: ReadFlags,
    pub(super) named: Named,
}

/// What one read of the queue gave.
pub(super) struct Reading {
    pub(super) events: Vec<Event>,
    pub(super) end: End,
}

/// Why a read gave no more.
pub(super) enum End {
    /// There may be more.
    Full,
    /// There is no more.
    Empty,
    Failed(io::Error),
}

/// What is to be told of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// What becomes of the files in it.
    Files,
    /// What becomes of the folders in it: whoever moves or removes a folder does it in the one above.
    Folders,
}

/// Why the directory cannot be watched.
#[derive(Debug)]
pub(in crate::nginx) enum WatchError {
    /// `fs.inotify.max_user_instances`
    Instances,
    /// `fs.inotify.max_user_watches`
    Watches(usize),
    /// No `CAP_SYS_ADMIN`.
    NotAllowed,
    /// A kernel before 5.9, or a file system without file handles.
    NoFanotify(PathBuf, io::Error),
    Io(PathBuf, io::Error),
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances => write!(
                f,
                "this user has no inotify instance left; raise fs.inotify.max_user_instances (sysctl)"
            ),
            Self::Watches(needed) => write!(
                f,
                "{needed} folders are to be watched and this user has not as many inotify watches left; raise \
                 fs.inotify.max_user_watches (sysctl)"
            ),
            Self::NotAllowed => write!(
                f,
                "caches.nginx.watch = \"fanotify\" needs the capability CAP_SYS_ADMIN (AmbientCapabilities= and \
                 CapabilityBoundingSet= in the unit); give it to this daemon, or set \"inotify\""
            ),
            Self::NoFanotify(path, error) => write!(
                f,
                "caches.nginx.watch = \"fanotify\" does not work for {}: {error}; it needs Linux 5.9 and a file system \
                 with file handles, such as ext4, xfs or tmpfs. Set \"inotify\"",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "cannot watch {}: {error}", path.display()),
        }
    }
}
