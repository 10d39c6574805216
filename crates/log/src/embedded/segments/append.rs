//! The one segment that is written.

use std::fs;
use std::io;
use std::sync::Arc;

use batoff_types::UnixMillis;
use ulid::Ulid;

use super::super::aligned::AlignedBytes;
use super::super::aligned::BLOCK;
use super::super::directory::{Directory, flush_directory};
use super::super::medium::{Medium, SegmentAccess, SegmentFile};
use super::super::names;
use super::format::{GROUP_HEAD, GroupHead, SegmentHead};
use super::shelf::{LogSegment, SegmentShelf};
use super::spare::Spare;
use super::walk::{GroupWalk, WalkStep, is_group_behind};

/// What a segment that is about to be written goes on from.
#[derive(Clone, Copy, Debug)]
pub(in crate::embedded) struct Onward {
    pub(in crate::embedded) first_seq: u64,
    pub(in crate::embedded) first_group: u64,
    pub(in crate::embedded) high: UnixMillis,
}

/// Writes groups to the newest segment.
#[derive(Debug)]
pub(in crate::embedded) struct SegmentAppender {
    file: Box<dyn SegmentFile>,
    segment: Arc<LogSegment>,
    /// Where the next group goes.
    at: u64,
}

/// What was found at the end of the newest segment.
#[derive(Debug)]
pub(in crate::embedded) enum LogEnd {
    /// Nothing behind the last group, or only what nobody heard of.
    At(u64),
    /// The block at `at` is damaged: a group stands behind it.
    Damaged { at: u64, behind: u64 },
}

impl SegmentAppender {
    /// Makes the newest segment of a spare. It gets its name last, so a segment that is found has a sound head.
    pub(in crate::embedded) fn begin<M: Medium>(
        medium: &M,
        directory: &Directory,
        shelf: &SegmentShelf,
        spare: Spare,
        onward: Onward,
    ) -> io::Result<Self> {
        let Onward { first_seq, first_group, high } = onward;
        let (number, lineage) = (shelf.next_number(), shelf.lineage());
        // 64 of an identity's 80 random bits.
        let salt = u128::from(Ulid::generate()) as u64;
        let head = SegmentHead { lineage, number, salt, first_seq, first_group, high, bytes: spare.bytes };
        let mut block = AlignedBytes::zeroed(BLOCK);
        head.write(block.as_mut_slice());
        let file = medium.open_segment(&spare.path, SegmentAccess::Append)?;
        file.write_durably(0, block.as_slice())?;
        let path = directory.path().join(names::segment(number));
        fs::rename(&spare.path, &path)?;
        flush_directory(directory.path())?;
        let segment = Arc::new(LogSegment::new(head, path));
        shelf.push(Arc::clone(&segment));
        Ok(Self { file, segment, at: BLOCK as u64 })
    }

    /// Opens the newest segment again, whose next group goes to `at`.
    pub(in crate::embedded) fn resume<M: Medium>(
        medium: &M,
        segment: Arc<LogSegment>,
        at: u64,
    ) -> io::Result<Self> {
        let file = medium.open_segment(&segment.path, SegmentAccess::Append)?;
        Ok(Self { file, segment, at })
    }

    /// Makes durable what was found in the segment, before anybody is told of it.
    pub(in crate::embedded) fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }

    /// The segment that is written.
    pub(in crate::embedded) fn segment(&self) -> &Arc<LogSegment> {
        &self.segment
    }

    /// Bytes that are left in it.
    pub(in crate::embedded) fn room(&self) -> u64 {
        self.segment.head.bytes.saturating_sub(self.at)
    }

    /// Writes one group, durable when this returns. `group` has room for the head and then the frames; the numbers of
    /// `head` that depend on them are filled in.
    ///
    /// After an error nothing is known of what the disk holds: the segment must be opened and read again.
    pub(in crate::embedded) fn append(
        &mut self,
        mut head: GroupHead,
        group: &mut AlignedBytes,
    ) -> io::Result<()> {
        head.segment = self.segment.head.number;
        head.bytes = u32::try_from(group.len() - GROUP_HEAD).map_err(io::Error::other)?;
        group.resize(head.span());
        head.write(self.segment.head.salt, group.as_mut_slice());
        self.file.write_durably(self.at, group.as_slice())?;
        self.segment.note(&head, self.at);
        self.at += head.span() as u64;
        Ok(())
    }

    /// Walks through the whole segment as the disk has it now, and tells `each` of every group. Does not change where the
    /// next group goes.
    pub(in crate::embedded) fn examine<E>(
        &self,
        failed: impl Fn(io::Error) -> E,
        mut each: impl FnMut(&GroupHead, u64, &[u8]) -> Result<(), E>,
    ) -> Result<LogEnd, E> {
        let head = self.segment.head;
        let mut walk = GroupWalk::whole(&*self.file, head);
        let at = loop {
            match walk.step().map_err(&failed)? {
                WalkStep::Group { head, at, frames } => each(&head, at, frames)?,
                WalkStep::NoGroup { at } => break at,
            }
        };
        Ok(match is_group_behind(&*self.file, &head, at, walk.group()).map_err(failed)? {
            Some(behind) => LogEnd::Damaged { at, behind },
            None => LogEnd::At(at),
        })
    }

    /// The next group goes here.
    pub(in crate::embedded) fn go_on_at(&mut self, at: u64) {
        self.at = at;
    }
}
