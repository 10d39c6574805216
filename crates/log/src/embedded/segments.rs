//! The log's own files: what was accepted, in order, and nothing that can be derived from it.
//!
//! ```text
//!  log-…1.seg    | head | group 1 | group 2 |   group 3    |  room that is zero or stale  |
//!                0      4 KiB                               ^ the next group goes here
//!  a group       magic 4 | crc 4 | bytes 4 | records 4 | first seq 8 | group 8 | segment 8 | high 8 | … | frames
//! ```
//!
//! Segments are filled with zeros and flushed before they get their name, so an append changes no metadata: a group is
//! one write and one flush. A block that holds an acknowledged group is never written again, and a group is written only
//! after the one before it was acknowledged. So behind a block that is not a group there can be another group only if
//! something acknowledged was damaged, and a start tells the two apart: damage is refused, and what nobody heard of is
//! written over. The checksums begin with a number drawn for each segment, so that what an older use of the same file
//! has left is nothing.

mod append;
mod format;
mod frame;
mod shelf;
mod spare;
mod walk;

pub(super) use self::append::{LogEnd, Onward, SegmentAppender};
pub(super) use self::format::{GROUP_HEAD, GroupHead, SegmentHead};
pub(super) use self::frame::{FrameKey, LogFrame, put_completions, put_first, put_forgotten, put_record};
pub(super) use self::shelf::{LogSegment, SegmentShelf};
pub(super) use self::spare::Spare;
pub(super) use self::walk::{GroupWalk, WalkStep};
