//! How much the store does at once.

use super::aligned::BLOCK;

/// How large segments become, and how often checkpoints are made. The usual ones, but in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes of a segment of a small log.
    pub(super) segment_bytes_min: u64,
    /// Bytes of a segment of a log that has grown. A trim gives room back by whole segments, so up to so many bytes of
    /// trimmed records stay on the disk.
    pub(super) segment_bytes_max: u64,
    /// Changes of tasks, or half as many keys, after which a checkpoint is made: what a start after a crash has to read
    /// and memory has to hold, up to three times. One takes a fraction of a second, in which appends go on.
    pub(super) checkpoint_rows: usize,
    /// Bytes of such changes after which one is made.
    pub(super) checkpoint_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            segment_bytes_min: 1024 * 1024,
            segment_bytes_max: 64 * 1024 * 1024,
            checkpoint_rows: 65_536,
            checkpoint_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Pace {
    /// Bytes of the segment that follows one of `before` bytes and has room for a group of `span` bytes.
    pub(super) fn bytes_after(&self, before: u64, span: usize) -> u64 {
        let usual = (2 * before).clamp(self.segment_bytes_min, self.segment_bytes_max);
        usual.max((span + BLOCK) as u64)
    }
}
