//! The log of another store, group by group, into segments of this one.

use std::io;

use super::aligned::{AlignedBytes, BLOCK};
use super::directory::Directory;
use super::first_segment::begin_log;
use super::medium::Medium;
use super::open_error::OpenError;
use super::pace::Pace;
use super::segments::{GROUP_HEAD, GroupHead, Onward, SegmentAppender, SegmentShelf, Spare};

/// A log that is being copied.
pub(super) struct LogCopy<'c, M> {
    medium: &'c M,
    directory: &'c Directory,
    shelf: SegmentShelf,
    appender: SegmentAppender,
    buffer: AlignedBytes,
    spares: u64,
}

impl<'c, M: Medium> LogCopy<'c, M> {
    /// Makes the first segment.
    pub(super) fn begin(
        medium: &'c M,
        directory: &'c Directory,
        lineage: u128,
        onward: Onward,
    ) -> Result<Self, OpenError> {
        let (shelf, appender) = begin_log(medium, directory, Pace::default(), lineage, onward)?;
        Ok(Self { medium, directory, shelf, appender, buffer: AlignedBytes::default(), spares: 0 })
    }

    /// One more group; durable when this returns. `high` before it is that of the group before.
    pub(super) fn append(&mut self, head: GroupHead, frames: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(GROUP_HEAD);
        self.buffer.extend(frames);
        let span = self.buffer.len().next_multiple_of(BLOCK);
        if self.appender.room() < span as u64 {
            self.spares += 1;
            let bytes = Pace::default().bytes_after(self.appender.segment().head.bytes, span);
            let spare = Spare::make(self.medium, &self.directory.spare(self.spares), bytes)?;
            let onward = Onward {
                first_seq: head.first_seq,
                first_group: head.group,
                high: self.appender.segment().high(),
            };
            self.appender = SegmentAppender::begin(self.medium, self.directory, &self.shelf, spare, onward)?;
        }
        self.appender.append(head, &mut self.buffer)
    }
}
