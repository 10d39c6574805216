//! fanotify: for a daemon with `CAP_SYS_ADMIN`; its queue never runs over.
//!
//! Each folder is marked by itself, as with inotify: a mark on the whole file system would tell what happens outside the
//! cache, too. An event names the folder by a file handle and the file by its name; nginx's names say where they lie, so the
//! handle is not looked at.

use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::fanotify::{EventFFlags, FANOTIFY_METADATA_VERSION, InitFlags, MarkFlags, MaskFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::ReadFlags;
use rustix::io::ioctl_fionread;

use super::news::{BUFFER, End, Event, Interest, Reading, WatchError};
use crate::nginx::name::Named;

/// `struct fanotify_event_metadata`
const METADATA_BYTES: usize = 24;

pub(super) struct Fanotify {
    group: nix::sys::fanotify::Fanotify,
    /// This process, as events name it.
    own: i32,
}

impl Fanotify {
    pub(super) fn open() -> Result<Self, WatchError> {
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS
            | InitFlags::from_bits_retain(libc::FAN_REPORT_DFID_NAME);
        let group = nix::sys::fanotify::Fanotify::init(flags, EventFFlags::O_RDONLY).map_err(|errno| {
            if errno == Errno::EPERM {
                WatchError::NotAllowed
            } else {
                WatchError::NoFanotify("this kernel".into(), errno.into())
            }
        })?;
        Ok(Self { group, own: i32::try_from(std::process::id()).unwrap_or_default() })
    }

    /// Adds a folder that was opened.
    pub(super) fn add(&self, folder: &OwnedFd, told: Interest, path: &Path) -> Result<(), WatchError> {
        let folders = MaskFlags::FAN_CREATE
            | MaskFlags::FAN_MOVED_FROM
            | MaskFlags::FAN_MOVED_TO
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_DELETE_SELF
            | MaskFlags::FAN_MOVE_SELF
            | MaskFlags::FAN_ONDIR;
        let mask = match told {
            Interest::Folders => folders,
            Interest::Files => folders | MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_EVENT_ON_CHILD,
        };
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        self.group.mark(flags, mask, folder, None::<&Path>).map_err(|errno| {
            let (folder, error) = (path.to_owned(), errno.into());
            match errno {
                // No file handles, no identity of the file system, or one that is not the same for all of it.
                Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EXDEV | Errno::EINVAL => {
                    WatchError::NoFanotify(folder, error)
                }
                _ => WatchError::Io(folder, error),
            }
        })
    }

    /// In events.
    pub(super) fn pending(&self) -> usize {
        // The kernel counts the fixed part of each event (fanotify_ioctl). If it ever counts more, this reads on for longer
        // than it need. It does not fail for a group; if it did, one read would have to do.
        let bytes =
            ioctl_fionread(&self.group).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        bytes / METADATA_BYTES + 1
    }

    pub(super) fn read(&self) -> Reading {
        let mut buffer = [0; BUFFER];
        match rustix::io::read(&self.group, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => Reading { events: Vec::new(), end: End::Empty },
            Ok(read) => match parse(&buffer[..read], self.own) {
                Some(events) => Reading { events, end: End::Full },
                None => {
                    let error = std::io::Error::other("the kernel's events cannot be understood");
                    Reading { events: Vec::new(), end: End::Failed(error) }
                }
            },
            Err(errno) => Reading { events: Vec::new(), end: End::Failed(errno.into()) },
        }
    }
}

impl AsFd for Fanotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// The events in what was read (fanotify(7)); `None` when it is something else.
fn parse(mut bytes: &[u8], own: i32) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        // struct fanotify_event_metadata
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let (version, header) = (*bytes.get(4)?, usize::from(u16_at(bytes, 6)?));
        let (mask, pid) = (u64_at(bytes, 8)?, u32_at(bytes, 20)?.cast_signed());
        if version != FANOTIFY_METADATA_VERSION {
            return None;
        }
        let mut infos = bytes.get(header..length)?;
        let mut named = Named::Other;
        while !infos.is_empty() {
            // struct fanotify_event_info_header
            let (kind, length) = (*infos.first()?, usize::from(u16_at(infos, 2)?));
            let info = infos.get(..length).filter(|_| length > 0)?;
            if kind == libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
                named = Named::parse(name(info)?);
            }
            infos = &infos[length..];
        }
        let mut what = ReadFlags::from_bits_retain(u32::try_from(mask & 0xffff_ffff).ok()?);
        if pid == own && what.contains(ReadFlags::DELETE) {
            // What is closed here once its name is gone is no news of a change.
            what -= ReadFlags::CLOSE_WRITE;
        }
        events.push(Event { what, named });
        bytes = bytes.get(length..).filter(|_| length > 0)?;
    }
    Some(events)
}

/// The name in a `struct fanotify_event_info_fid`: after header and identity of the file system (8 bytes) a file handle,
/// whose first word says how long it is, then the name with a zero after it.
fn name(info: &[u8]) -> Option<&[u8]> {
    const HANDLE: usize = 4 + 8;
    let length = usize::try_from(u32_at(info, HANDLE)?).ok()?;
    let name = info.get(HANDLE + 8 + length..)?;
    name.split(|&byte| byte == 0).next()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as the kernel lays it out.
    fn event(mask: u64, pid: i32, name: &str) -> Vec<u8> {
        let mut info = vec![libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 0, 0, 0];
        info.extend_from_slice(&[7; 8]);
        info.extend_from_slice(&12_u32.to_ne_bytes());
        info.extend_from_slice(&1_i32.to_ne_bytes());
        info.extend_from_slice(&[9; 12]);
        info.extend_from_slice(name.as_bytes());
        info.resize((info.len() + 4) & !3, 0);
        let length = u16::try_from(info.len()).unwrap();
        info[2..4].copy_from_slice(&length.to_ne_bytes());
        let mut bytes = (24 + u32::from(length)).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[FANOTIFY_METADATA_VERSION, 0]);
        bytes.extend_from_slice(&24_u16.to_ne_bytes());
        bytes.extend_from_slice(&mask.to_ne_bytes());
        bytes.extend_from_slice(&libc::FAN_NOFD.to_ne_bytes());
        bytes.extend_from_slice(&pid.to_ne_bytes());
        bytes.extend_from_slice(&info);
        bytes
    }

    const NAME: &str = "b7f54b2df7773722d382f4809d65084f";

    #[test]
    fn names_and_what_happened_are_read() {
        let mut bytes = event(libc::FAN_MOVED_TO | libc::FAN_CLOSE_WRITE, 7, NAME);
        bytes.extend(event(libc::FAN_CREATE, 7, &format!("{NAME}.0000000012")));
        bytes.extend(event(libc::FAN_DELETE_SELF | libc::FAN_ONDIR, 7, "."));
        let events = parse(&bytes, 1).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].what, ReadFlags::MOVED_TO | ReadFlags::CLOSE_WRITE);
        assert!(matches!(events[0].named, Named::Object(name) if name.to_string() == NAME));
        assert_eq!(events[1].what, ReadFlags::CREATE);
        assert!(matches!(events[1].named, Named::InFlight(_)));
        assert_eq!(events[2].what, ReadFlags::DELETE_SELF | ReadFlags::ISDIR);
        assert_eq!(events[2].named, Named::Other);
        let over = &event(libc::FAN_Q_OVERFLOW, 0, "")[..24];
        let over = [&24_u32.to_ne_bytes(), &over[4..]].concat();
        assert_eq!(parse(&over, 1).unwrap()[0].what, ReadFlags::QUEUE_OVERFLOW);
    }

    #[test]
    fn what_is_removed_here_is_one_piece_of_news() {
        let removed = event(libc::FAN_DELETE | libc::FAN_CLOSE_WRITE, 7, NAME);
        assert_eq!(parse(&removed, 7).unwrap()[0].what, ReadFlags::DELETE);
        assert_eq!(parse(&removed, 8).unwrap()[0].what, ReadFlags::DELETE | ReadFlags::CLOSE_WRITE);
        let written = event(libc::FAN_CLOSE_WRITE, 7, NAME);
        assert_eq!(parse(&written, 7).unwrap()[0].what, ReadFlags::CLOSE_WRITE);
    }

    #[test]
    fn what_is_cut_off_or_of_another_version_is_not_guessed_at() {
        let whole = event(libc::FAN_DELETE, 7, NAME);
        for end in 1..whole.len() {
            assert!(parse(&whole[..end], 1).is_none(), "{end}");
        }
        let mut other = whole;
        other[4] += 1;
        assert!(parse(&other, 1).is_none());
    }
}
