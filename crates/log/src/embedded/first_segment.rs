//! How a log begins.

use std::sync::Arc;

use super::directory::{Directory, io_error};
use super::medium::{Medium, SegmentAccess};
use super::open_error::OpenError;
use super::pace::Pace;
use super::segments::{LogSegment, Onward, SegmentAppender, SegmentShelf, Spare};

/// Makes the first segment of a log.
pub(super) fn begin_log<M: Medium>(
    medium: &M,
    directory: &Directory,
    pace: Pace,
    lineage: u128,
    onward: Onward,
) -> Result<(SegmentShelf, SegmentAppender), OpenError> {
    let shelf = shelf(medium, lineage, Vec::new());
    let path = directory.spare(0);
    let begin = || {
        let spare = Spare::make(medium, &path, pace.segment_bytes_min)?;
        SegmentAppender::begin(medium, directory, &shelf, spare, onward)
    };
    let appender = begin().map_err(|source| io_error("create", &path, source))?;
    Ok((shelf, appender))
}

/// The segments that there are, to be read from the disk.
pub(super) fn shelf<M: Medium>(medium: &M, lineage: u128, segments: Vec<Arc<LogSegment>>) -> SegmentShelf {
    let medium = medium.clone();
    SegmentShelf::new(lineage, Box::new(move |path| medium.open_segment(path, SegmentAccess::Read)), segments)
}
