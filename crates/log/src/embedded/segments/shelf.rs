//! The segments, for whoever reads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use batoff_types::{Cursor, Seq, UnixMillis};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::super::aligned::BLOCK;
use super::super::fault::Fault;
use super::super::medium::SegmentFile;
use super::format::{GroupHead, SegmentHead};
use super::frame::LogFrame;
use super::walk::{GroupWalk, WalkStep};
use crate::purge_log::StoredRecord;

/// Bytes of a segment between two places that are remembered: a read walks through so many before its first record.
const MARK_EVERY: u64 = 64 * 1024;

/// Opens a segment to be read. For every read anew: a log has as many files as it likes, and whoever wants to unmount
/// the disk can.
pub(in crate::embedded) type SegmentSource =
    Box<dyn Fn(&Path) -> io::Result<Box<dyn SegmentFile>> + Send + Sync>;

/// The segments of a store, oldest first, without gaps.
pub(in crate::embedded) struct SegmentShelf {
    lineage: u128,
    source: SegmentSource,
    segments: RwLock<Vec<Arc<LogSegment>>>,
    /// How many read all of it: as long as somebody does, none is taken away.
    pins: AtomicUsize,
}

/// Keeps every segment where it is.
pub(in crate::embedded) struct PinnedSegments<'s>(&'s AtomicUsize);

impl Drop for PinnedSegments<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One segment, and what is known of its inside.
#[derive(Debug)]
pub(in crate::embedded) struct LogSegment {
    pub(in crate::embedded) head: SegmentHead,
    pub(in crate::embedded) path: PathBuf,
    /// The newest group that may be read.
    last_group: AtomicU64,
    marks: Mutex<GroupPlaces>,
}

/// Places of groups. They are found by walking, as far as somebody has asked for.
#[derive(Debug)]
struct GroupPlaces {
    places: Vec<GroupPlace>,
    /// Where the walk has come to.
    end: GroupPlace,
}

#[derive(Clone, Copy, Debug)]
struct GroupPlace {
    at: u64,
    group: u64,
    first_seq: u64,
    /// The latest `accepted_at` of all records before it.
    high: UnixMillis,
}

impl LogSegment {
    /// A segment none of whose groups may be read yet.
    pub(in crate::embedded) fn new(head: SegmentHead, path: PathBuf) -> Self {
        let begin = GroupPlace {
            at: BLOCK as u64,
            group: head.first_group,
            first_seq: head.first_seq,
            high: head.high,
        };
        let marks = Mutex::new(GroupPlaces { places: vec![begin], end: begin });
        Self { head, path, last_group: AtomicU64::new(head.first_group - 1), marks }
    }

    /// A group of it stands there.
    pub(in crate::embedded) fn learn(&self, group: &GroupHead, at: u64) {
        self.marks.lock().add(group, at);
    }

    /// A group of it may be read from now on.
    pub(in crate::embedded) fn note(&self, group: &GroupHead, at: u64) {
        self.learn(group, at);
        self.last_group.store(group.group, Ordering::Release);
    }

    /// It is complete: its last group is this one.
    pub(in crate::embedded) fn seal(&self, last_group: u64) {
        self.last_group.store(last_group, Ordering::Release);
    }

    /// The latest `accepted_at` through the last group that is known here.
    pub(in crate::embedded) fn high(&self) -> UnixMillis {
        self.marks.lock().end.high
    }

    /// The newest group that may be read.
    pub(in crate::embedded) fn last_group(&self) -> u64 {
        self.last_group.load(Ordering::Acquire)
    }

    /// Tells `each` of every group from the last place on for which `is_before` holds, with the latest `accepted_at`
    /// before the group, until it has enough.
    fn visit(
        &self,
        source: &SegmentSource,
        is_before: impl Fn(&GroupPlace) -> bool,
        mut each: impl FnMut(&GroupHead, UnixMillis, &[u8]) -> Result<Appetite, Fault>,
    ) -> Result<Appetite, Fault> {
        let file = source(&self.path)?;
        let last_group = self.last_group();
        let (mut from, known) = {
            let marks = self.marks.lock();
            let place = marks.places.partition_point(&is_before).saturating_sub(1);
            (marks.places[place], marks.end.group)
        };
        if known <= last_group {
            // Nobody has walked through it yet: find the places first, once.
            self.walk(&*file, last_group)?;
            let marks = self.marks.lock();
            from = marks.places[marks.places.partition_point(&is_before).saturating_sub(1)];
        }
        let mut walk = GroupWalk::new(&*file, self.head, from.at, from.group);
        let mut high = from.high;
        while walk.group() <= last_group {
            let group = walk.group();
            match walk.step()? {
                WalkStep::Group { head, frames, .. } => {
                    if each(&head, high, frames)? == Appetite::Enough {
                        return Ok(Appetite::Enough);
                    }
                    high = head.high;
                }
                WalkStep::NoGroup { at } => return Err(self.damage(at, group)),
            }
        }
        Ok(Appetite::More)
    }

    fn walk(&self, file: &dyn SegmentFile, last_group: u64) -> Result<(), Fault> {
        let end = self.marks.lock().end;
        let mut walk = GroupWalk::new(file, self.head, end.at, end.group);
        while walk.group() <= last_group {
            let group = walk.group();
            match walk.step()? {
                WalkStep::Group { head, at, .. } => self.marks.lock().add(&head, at),
                WalkStep::NoGroup { at } => return Err(self.damage(at, group)),
            }
        }
        Ok(())
    }

    /// What is wrong when group `group` is not at `at`.
    pub(in crate::embedded) fn damage(&self, at: u64, group: u64) -> Fault {
        Fault::Damaged(format!(
            "{} at byte {at}: what stands there is not group {group}",
            self.path.display()
        ))
    }
}

impl GroupPlaces {
    /// Groups that are known already, and those after one that is not, change nothing.
    fn add(&mut self, group: &GroupHead, at: u64) {
        if group.group != self.end.group {
            return;
        }
        if at >= self.places.last().map_or(0, |last| last.at) + MARK_EVERY {
            self.places.push(self.end);
        }
        self.end = GroupPlace {
            at: at + group.span() as u64,
            group: group.group + 1,
            first_seq: group.first_seq + u64::from(group.records),
            high: group.high,
        };
    }
}

/// Whether a reader wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appetite {
    More,
    Enough,
}

impl SegmentShelf {
    pub(in crate::embedded) fn new(
        lineage: u128,
        source: SegmentSource,
        segments: Vec<Arc<LogSegment>>,
    ) -> Self {
        Self { lineage, source, segments: RwLock::new(segments), pins: AtomicUsize::new(0) }
    }

    pub(in crate::embedded) fn lineage(&self) -> u128 {
        self.lineage
    }

    /// The number of the segment that follows the newest.
    pub(in crate::embedded) fn next_number(&self) -> u64 {
        self.segments.read().last().map_or(1, |last| last.head.number + 1)
    }

    /// A segment that follows the newest.
    pub(in crate::embedded) fn push(&self, segment: Arc<LogSegment>) {
        self.segments.write().push(segment);
    }

    /// Takes the oldest segments away that hold nothing but records before `first` and groups through `group`; never the
    /// newest. They are deleted by whoever gets them.
    pub(in crate::embedded) fn take_old(&self, first: Seq, group: u64) -> Vec<Arc<LogSegment>> {
        let mut segments = self.segments.write();
        if self.is_pinned() {
            return Vec::new();
        }
        let old = segments
            .windows(2)
            .take_while(|pair| pair[1].head.first_seq <= first.get() && pair[1].head.first_group <= group + 1)
            .count();
        segments.drain(..old).collect()
    }

    /// Whether a segment could go if the checkpoint stood further on.
    pub(in crate::embedded) fn waits_for_checkpoint(&self, first: Seq) -> bool {
        !self.is_pinned()
            && self.segments.read().get(1).is_some_and(|second| second.head.first_seq <= first.get())
    }

    /// Keeps all segments there are until the result is dropped. What has no use any more goes with a later checkpoint.
    pub(in crate::embedded) fn pin(&self) -> PinnedSegments<'_> {
        // Not while some are being taken away.
        let _segments = self.segments.read();
        self.pins.fetch_add(1, Ordering::AcqRel);
        PinnedSegments(&self.pins)
    }

    fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Head of the oldest segment.
    pub(in crate::embedded) fn oldest(&self) -> Result<SegmentHead, Fault> {
        let oldest = self.segments.read().first().map(|segment| segment.head);
        oldest.ok_or_else(|| Fault::Io("the log has no segment".to_owned()))
    }

    /// Tells `each` of every group that may be read, from the first on, until it returns `false`.
    pub(in crate::embedded) fn groups(
        &self,
        mut each: impl FnMut(&GroupHead, &[u8]) -> bool,
    ) -> Result<(), Fault> {
        let segments = self.segments.read().clone();
        for segment in segments {
            let visited = segment.visit(
                &self.source,
                |_| false,
                |head, _, frames| Ok(if each(head, frames) { Appetite::More } else { Appetite::Enough }),
            )?;
            if visited == Appetite::Enough {
                break;
            }
        }
        Ok(())
    }

    /// Whether the segment has not been taken away.
    fn has(&self, segment: &LogSegment) -> bool {
        self.segments.read().first().is_some_and(|first| first.head.number <= segment.head.number)
    }

    /// The last segment for which `is_before` holds, or the oldest.
    fn last_before(&self, is_before: impl Fn(&SegmentHead) -> bool) -> Result<Arc<LogSegment>, Fault> {
        let segments = self.segments.read();
        let place = segments.partition_point(|segment| is_before(&segment.head)).saturating_sub(1);
        segments.get(place).cloned().ok_or_else(|| Fault::Io("the log has no segment".to_owned()))
    }

    /// Records from `from` through `tail`: at most `max_items`, and no more after `max_bytes`; `None` when the segment went
    /// away meanwhile, so that it must be looked again where the log begins.
    pub(in crate::embedded) fn records(
        &self,
        from: Seq,
        tail: Cursor,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Option<Vec<StoredRecord>>, Fault> {
        let mut found = RecordPage { records: Vec::new(), next: from, bytes: 0, max_items, max_bytes };
        while tail.covers(found.next) {
            let before = found.next;
            let segment = self.last_before(|head| head.first_seq <= before.get())?;
            let is_before = |mark: &GroupPlace| mark.first_seq <= before.get();
            let mut visit = || {
                segment.visit(&self.source, is_before, |head, _, frames| {
                    found.take(&segment, head, frames, tail)
                })
            };
            match visit() {
                Ok(Appetite::Enough) => break,
                Ok(Appetite::More) => {}
                Err(_) if !self.has(&segment) => return Ok(None),
                Err(fault) => return Err(fault),
            }
            if found.next == before {
                return Err(Fault::Damaged(format!(
                    "{}: record {before} is missing",
                    segment.path.display()
                )));
            }
        }
        Ok(Some(found.records))
    }

    /// The first record accepted at or after `at`, trimmed or not; `None` if there is none, or its segment went away
    /// meanwhile.
    pub(in crate::embedded) fn first_since(&self, at: UnixMillis) -> Result<Option<Seq>, Fault> {
        // The latest time up to each record only rises, so the first record with one of `at` or later was accepted then.
        let segment = self.last_before(|head| head.high < at)?;
        let mut found = None;
        let visited = segment.visit(
            &self.source,
            |mark| mark.high < at,
            |head, mut high, frames| {
                if head.records == 0 || head.high < at {
                    return Ok(Appetite::More);
                }
                let mut seq = head.first_seq;
                for_each_record(&segment, head, frames, |accepted_at, _| {
                    high = high.max(accepted_at);
                    let is_it = high >= at;
                    if is_it {
                        found = Seq::new(seq);
                    }
                    seq += 1;
                    if is_it { Appetite::Enough } else { Appetite::More }
                })
            },
        );
        match visited {
            Err(_) if !self.has(&segment) => Ok(None),
            visited => visited.map(|_| found),
        }
    }
}

/// Records of a page so far.
struct RecordPage {
    records: Vec<StoredRecord>,
    next: Seq,
    bytes: usize,
    max_items: usize,
    max_bytes: usize,
}

impl RecordPage {
    fn take(
        &mut self,
        segment: &LogSegment,
        head: &GroupHead,
        frames: &[u8],
        tail: Cursor,
    ) -> Result<Appetite, Fault> {
        if head.first_seq + u64::from(head.records) <= self.next.get() {
            return Ok(Appetite::More);
        }
        let mut number = head.first_seq;
        for_each_record(segment, head, frames, |accepted_at, body| {
            let seq = number;
            number += 1;
            if seq < self.next.get() {
                return Appetite::More;
            }
            let is_too_much = self.bytes + body.len() > self.max_bytes && !self.records.is_empty();
            if !tail.covers(self.next) || is_too_much {
                return Appetite::Enough;
            }
            self.bytes += body.len();
            let body = Bytes::copy_from_slice(body);
            self.records.push(StoredRecord { seq: self.next, accepted_at, body });
            self.next = self.next.next();
            if self.records.len() >= self.max_items { Appetite::Enough } else { Appetite::More }
        })
    }
}

fn for_each_record(
    segment: &LogSegment,
    head: &GroupHead,
    mut frames: &[u8],
    mut each: impl FnMut(UnixMillis, &[u8]) -> Appetite,
) -> Result<Appetite, Fault> {
    while !frames.is_empty() {
        let (frame, rest) = LogFrame::read(frames).ok_or_else(|| {
            Fault::Damaged(format!("{}: group {} cannot be read", segment.path.display(), head.group))
        })?;
        if let LogFrame::Record { accepted_at, body, .. } = frame
            && each(accepted_at, body) == Appetite::Enough
        {
            return Ok(Appetite::Enough);
        }
        frames = rest;
    }
    Ok(Appetite::More)
}
