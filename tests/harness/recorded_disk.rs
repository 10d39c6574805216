use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::{Dice, scratch};

/// What a disk keeps whole when the power goes: a sector, in bytes.
const SECTOR: usize = 512;

/// The one file's name.
const IMAGE: &str = "image";

/// How long the kernel may believe what it was told about the file, which never changes.
const FOREVER: Duration = Duration::from_secs(3_600);

/// A disk that remembers every write and every flush in their order, so that it can be had as it would have been after a
/// power cut at any moment. To the kernel it is one file, which a loop device makes a disk of; only inside
/// [`isolated()`](crate::isolated()).
///
/// ```text
///  moment     0   1   2   3   4   5   6
///             | W | W | F | W | W | F |
///                         ^- cut at 5: the first two are kept, the next two are at the disk's mercy
/// ```
pub struct RecordedDisk {
    platter: Arc<Mutex<Platter>>,
    folder: tempfile::TempDir,
    _session: BackgroundSession,
}

/// What a power cut does to what was written since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It had reached the disk.
    Nothing,
    /// It is gone.
    Unflushed,
    /// Some of it is gone, sector by sector, in no order.
    SomeUnflushed,
}

struct Platter {
    now: Vec<u8>,
    /// Since moment 0.
    events: Vec<Event>,
}

enum Event {
    Write {
        offset: usize,
        data: Box<[u8]>,
        /// What was there before it.
        before: Box<[u8]>,
    },
    Flush,
}

impl RecordedDisk {
    /// A disk of so many bytes, all zero.
    pub fn new(bytes: usize) -> Self {
        Self::holding(vec![0; bytes])
    }

    /// A disk that holds what another one did.
    pub fn holding(image: Vec<u8>) -> Self {
        let bytes = image.len();
        let platter = Platter { now: image, events: Vec::new() };
        let platter = Arc::new(Mutex::new(platter));
        let folder = scratch();
        let disk = OneFile { platter: Arc::clone(&platter), bytes };
        let session =
            fuser::spawn_mount(disk, folder.path(), &fuser::Config::default()).expect("a FUSE mount");
        Self { platter, folder, _session: session }
    }

    /// The file that is the disk.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join(IMAGE)
    }

    /// Forgets how it came to be as it is: this is moment 0.
    pub fn begin(&self) {
        self.platter().events.clear();
    }

    /// Now: how many writes and flushes there were.
    pub fn moment(&self) -> usize {
        self.platter().events.len()
    }

    /// How many of them were flushes.
    pub fn flushes(&self) -> usize {
        self.platter().events.iter().filter(|event| matches!(event, Event::Flush)).count()
    }

    /// What the disk holds after a power cut at `moment`.
    pub fn after_cut(&self, moment: usize, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let platter = self.platter();
        let flushed = platter.events[..moment].iter().rposition(|event| matches!(event, Event::Flush));
        let flushed = flushed.unwrap_or(0);
        let mut image = platter.now.clone();
        // What may be gone was never there; then some of it was.
        for event in platter.events[flushed..].iter().rev() {
            if let Event::Write { offset, before, .. } = event {
                image[*offset..offset + before.len()].copy_from_slice(before);
            }
        }
        if loss == Loss::Unflushed {
            return image;
        }
        for event in &platter.events[flushed..moment] {
            let Event::Write { offset, data, .. } = event else { continue };
            for (sector, part) in data.chunks(SECTOR).enumerate() {
                if loss == Loss::Nothing || dice.one_in(2) {
                    let at = offset + sector * SECTOR;
                    image[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
        image
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nobody panicked")
    }
}

/// The file system with one file.
struct OneFile {
    platter: Arc<Mutex<Platter>>,
    bytes: usize,
}

const FILE: INodeNo = INodeNo(2);

impl OneFile {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nobody panicked")
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        let size = if is_file { self.bytes as u64 } else { 0 };
        FileAttr {
            ino,
            size,
            blocks: size / SECTOR as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == IMAGE {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Times are of no interest, and the size of a disk does not change.
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let from = usize::try_from(offset).unwrap_or(self.bytes).min(self.bytes);
        let to = (from + size as usize).min(self.bytes);
        reply.data(&self.platter().now[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let offset = usize::try_from(offset).unwrap_or(self.bytes);
        let mut platter = self.platter();
        let Some(place) = platter.now.get_mut(offset..).and_then(|rest| rest.get_mut(..data.len())) else {
            return reply.error(Errno::ENOSPC);
        };
        let before: Box<[u8]> = (&*place).into();
        place.copy_from_slice(data);
        platter.events.push(Event::Write { offset, data: data.into(), before });
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A file handle is closed; that is no flush of the disk.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.platter().events.push(Event::Flush);
        reply.ok();
    }
}
