use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::nginx::files::Files;

/// What appears in the cache directory.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    pub(super) fn of(files: &Files) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        for folder in files.folders() {
            match inotify::add_watch(
                &inotify,
                files.root().join(folder),
                WatchFlags::CREATE | WatchFlags::MOVED_TO,
            ) {
                // Not made yet by a daemon that has not run here: then nothing of it is looked at.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Self(inotify))
    }

    /// The names since this was last asked.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => names.extend(event.file_name().map(|name| name.to_bytes().to_vec())),
                Err(Errno::AGAIN) => return Ok(names),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
