//! inotify: for every user, with a queue that runs over (`fs.inotify.max_queued_events`, 16,384 by default).

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::news::{BUFFER, End, Event, Interest, Reading, WatchError};
use crate::nginx::name::Named;

/// More events than the kernel's queue ever holds (it is as long by default): after so many, what was there before is done.
const QUEUE_EVENTS: usize = 16_384;

pub(super) struct Inotify {
    fd: OwnedFd,
    queue_events: usize,
}

impl Inotify {
    pub(super) fn open() -> Result<Self, WatchError> {
        let fd =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|errno| match errno {
                Errno::MFILE => WatchError::Instances,
                errno => WatchError::Io("inotify".into(), errno.into()),
            })?;
        Ok(Self { fd, queue_events: queue_events() })
    }

    /// Adds a folder that was opened.
    pub(super) fn add(
        &self,
        folder: &OwnedFd,
        told: Interest,
        (path, needed): (&Path, usize),
    ) -> Result<(), WatchError> {
        let folders = WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let what = match told {
            Interest::Folders => folders,
            // Not what becomes of a file after its name is gone: nothing can be served from it.
            Interest::Files => folders | WatchFlags::CLOSE_WRITE | WatchFlags::EXCL_UNLINK,
        };
        match inotify::add_watch(&self.fd, format!("/proc/self/fd/{}", folder.as_raw_fd()), what) {
            Ok(_) => Ok(()),
            Err(Errno::NOSPC) => Err(WatchError::Watches(needed)),
            Err(errno) => Err(WatchError::Io(path.to_owned(), errno.into())),
        }
    }

    /// In events.
    pub(super) const fn pending(&self) -> usize {
        self.queue_events
    }

    pub(super) fn read(&self) -> Reading {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut events = Vec::new();
        let end = loop {
            match reader.next() {
                Ok(event) => {
                    let named = event.file_name().map_or(Named::Other, |name| Named::parse(name.to_bytes()));
                    events.push(Event { what: event.events(), named });
                }
                Err(Errno::AGAIN) => break End::Empty,
                Err(errno) => break End::Failed(errno.into()),
            }
            if reader.is_buffer_empty() {
                break End::Full;
            }
        };
        Reading { events, end }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn queue_events() -> usize {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    text.trim().parse().unwrap_or(QUEUE_EVENTS).max(QUEUE_EVENTS) + 1
}
