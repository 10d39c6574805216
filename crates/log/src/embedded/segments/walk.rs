//! From group to group through a segment.

use std::io;

use super::super::aligned::BLOCK;
use super::super::medium::SegmentFile;
use super::format::{GROUP_HEAD, GroupHead, SegmentHead};

/// Bytes read at once: many small groups, or the beginning of a large one.
const WINDOW: usize = 256 * 1024;

/// What stands at a place of a segment.
#[derive(Debug)]
pub(in crate::embedded) enum WalkStep<'w> {
    /// The group that was expected here.
    Group { head: GroupHead, at: u64, frames: &'w [u8] },
    /// Something else; nothing behind it was looked at.
    NoGroup { at: u64 },
}

/// Reads a segment's groups one after the other.
pub(in crate::embedded) struct GroupWalk<'f> {
    file: &'f dyn SegmentFile,
    head: SegmentHead,
    /// Where the next group is expected, and its number.
    at: u64,
    group: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'f> GroupWalk<'f> {
    /// From the group `group` on, which begins at `at`.
    pub(in crate::embedded) fn new(
        file: &'f dyn SegmentFile,
        head: SegmentHead,
        at: u64,
        group: u64,
    ) -> Self {
        Self { file, head, at, group, window: Vec::new(), window_at: at }
    }

    /// From its first group on.
    pub(in crate::embedded) fn whole(file: &'f dyn SegmentFile, head: SegmentHead) -> Self {
        Self::new(file, head, BLOCK as u64, head.first_group)
    }

    /// The number that the next group must have.
    pub(in crate::embedded) fn group(&self) -> u64 {
        self.group
    }

    pub(in crate::embedded) fn step(&mut self) -> io::Result<WalkStep<'_>> {
        let (at, group) = (self.at, self.group);
        let no_group = Ok(WalkStep::NoGroup { at });
        let claimed = GroupHead::claim(self.bytes(at, GROUP_HEAD)?);
        let Some(head) = claimed.filter(|head| fits(head, &self.head, at) && head.group == group) else {
            return no_group;
        };
        let salt = self.head.salt;
        self.bytes(at, head.span())?;
        let found = self.window_from(at, head.span());
        if !head.is_sound(salt, found) {
            return no_group;
        }
        self.at = at + head.span() as u64;
        self.group += 1;
        let frames = &self.window_from(at, head.span())[GROUP_HEAD..GROUP_HEAD + head.bytes as usize];
        Ok(WalkStep::Group { head, at, frames })
    }

    /// The bytes `at..at + len` of the file, as far as it has them.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let is_there = at >= self.window_at && at + len as u64 <= self.window_at + self.window.len() as u64;
        if !is_there {
            let left = usize::try_from(self.head.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
            self.window.resize(len.max(WINDOW).min(left), 0);
            self.window_at = at;
            self.file.read(at, &mut self.window)?;
        }
        Ok(self.window_from(at, len))
    }

    fn window_from(&self, at: u64, len: usize) -> &[u8] {
        let from = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        let from = from.min(self.window.len());
        &self.window[from..self.window.len().min(from.saturating_add(len))]
    }
}

/// Whether a group of this size can stand there.
fn fits(head: &GroupHead, segment: &SegmentHead, at: u64) -> bool {
    head.segment == segment.number && at + head.span() as u64 <= segment.bytes
}

/// Whether any block behind `at` begins a group of this segment, which only an acknowledged one can be if the group at
/// `at` was acknowledged before it: then what stands at `at` is damaged. The place of such a group.
pub(in crate::embedded) fn is_group_behind(
    file: &dyn SegmentFile,
    segment: &SegmentHead,
    at: u64,
    group: u64,
) -> io::Result<Option<u64>> {
    let mut window = vec![0; 16 * WINDOW];
    let mut from = at + BLOCK as u64;
    while from < segment.bytes {
        let len = usize::try_from(segment.bytes - from).map_or(window.len(), |left| left.min(window.len()));
        file.read(from, &mut window[..len])?;
        for block in (0..len).step_by(BLOCK) {
            let begin = from + block as u64;
            let Some(head) = GroupHead::claim(&window[block..len]) else { continue };
            if head.group <= group || !fits(&head, segment, begin) {
                continue;
            }
            let mut whole = vec![0; head.span()];
            file.read(begin, &mut whole)?;
            if head.is_sound(segment.salt, &whole) {
                return Ok(Some(begin));
            }
        }
        from += len as u64;
    }
    Ok(None)
}
