//! What a group is made of: `length 4 | kind 1 | …`. Numbers are little-endian. A change here is a new `layout::FORMAT`.
//!
//! A frame says what was decided, not what was asked for: a task's row only if it is the first one's, and only those keys
//! that were stored. So reading them again needs nothing but what was read before.

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};

use super::super::aligned::AlignedBytes;
use super::super::rows::SeenKey;

const RECORD: u8 = 1;
const FIRST: u8 = 2;
const COMPLETIONS: u8 = 3;
const FORGOTTEN: u8 = 4;

/// Of a record: it has a task, whose row was new.
const HAS_TASK: u8 = 1;
/// Of a record: the task's meta is the body.
const META_IS_BODY: u8 = 2;

/// Bytes of a frame before its content.
const FRAME_HEAD: usize = 5;

/// What happened, as it stands in the log.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::embedded) enum LogFrame<'a> {
    /// A record was accepted; its number follows from those before it.
    Record {
        accepted_at: UnixMillis,
        body: &'a [u8],
        /// Its row, if the task was not known.
        task: Option<FrameTask<'a>>,
        /// The keys that were stored with it.
        keys: Vec<FrameKey>,
    },
    /// The log begins here now.
    First(Seq),
    /// What became of the tasks of these records.
    Completions(Vec<(u64, &'a [u8])>),
    /// The tasks of these records were forgotten.
    Forgotten(Vec<u64>),
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::embedded) struct FrameTask<'a> {
    pub(in crate::embedded) site: SiteId,
    pub(in crate::embedded) task: TaskId,
    pub(in crate::embedded) meta: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::embedded) struct FrameKey {
    pub(in crate::embedded) key: [u8; 32],
    pub(in crate::embedded) seen: SeenKey,
}

/// A record; `task` with its meta, if its row is new; `keys` of which each is stored under the record's number.
pub(in crate::embedded) fn put_record(
    out: &mut AlignedBytes,
    accepted_at: UnixMillis,
    body: &[u8],
    task: Option<(&SiteId, TaskId, &[u8])>,
    keys: &[([u8; 32], SeenKey)],
) {
    framed(out, RECORD, |out| {
        let is_same = task.is_some_and(|(_, _, meta)| meta == body);
        let flags = (if task.is_some() { HAS_TASK } else { 0 }) | (if is_same { META_IS_BODY } else { 0 });
        out.extend(&accepted_at.0.to_le_bytes());
        out.extend(&[flags]);
        put_bytes(out, body);
        if let Some((site, task, meta)) = task {
            out.extend(&task.to_bytes());
            put_bytes(out, site.as_str().as_bytes());
            if !is_same {
                put_bytes(out, meta);
            }
        }
        put_count(out, keys.len());
        for (key, seen) in keys {
            out.extend(key);
            out.extend(&seen.to_row());
        }
    });
}

pub(in crate::embedded) fn put_first(out: &mut AlignedBytes, first: Seq) {
    framed(out, FIRST, |out| out.extend(&first.get().to_le_bytes()));
}

pub(in crate::embedded) fn put_completions<'a>(
    out: &mut AlignedBytes,
    rows: impl ExactSizeIterator<Item = (u64, &'a [u8])>,
) {
    framed(out, COMPLETIONS, |out| {
        put_count(out, rows.len());
        for (seq, completion) in rows {
            out.extend(&seq.to_le_bytes());
            put_bytes(out, completion);
        }
    });
}

pub(in crate::embedded) fn put_forgotten(out: &mut AlignedBytes, seqs: &[u64]) {
    framed(out, FORGOTTEN, |out| {
        put_count(out, seqs.len());
        for seq in seqs {
            out.extend(&seq.to_le_bytes());
        }
    });
}

fn framed(out: &mut AlignedBytes, kind: u8, content: impl FnOnce(&mut AlignedBytes)) {
    let begin = out.len();
    out.extend(&[0, 0, 0, 0, kind]);
    content(out);
    let length = narrow(out.len() - begin - FRAME_HEAD);
    out.as_mut_slice()[begin..begin + 4].copy_from_slice(&length);
}

fn put_bytes(out: &mut AlignedBytes, bytes: &[u8]) {
    out.extend(&narrow(bytes.len()));
    out.extend(bytes);
}

fn put_count(out: &mut AlignedBytes, count: usize) {
    out.extend(&narrow(count));
}

/// No frame is longer than a batch, which is bounded far below 4 GiB.
fn narrow(len: usize) -> [u8; 4] {
    debug_assert!(len <= u32::MAX as usize, "a batch is bounded");
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

impl<'a> LogFrame<'a> {
    /// The frame that `bytes` begins with, and what follows it; `None` when there is none that was written so.
    pub(in crate::embedded) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut head = Reader(bytes);
        let (length, kind) = (head.count()?, head.take(1)?[0]);
        let content = head.take(length)?;
        let rest = head.0;
        let mut content = Reader(content);
        let frame = match kind {
            RECORD => content.record()?,
            FIRST => Self::First(Seq::new(content.number()?)?),
            COMPLETIONS => {
                let count = content.count()?;
                let row = |_| Some((content.number()?, content.bytes()?));
                Self::Completions((0..count).map(row).collect::<Option<_>>()?)
            }
            FORGOTTEN => {
                let count = content.count()?;
                Self::Forgotten((0..count).map(|_| content.number()).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        content.0.is_empty().then_some((frame, rest))
    }
}

/// Takes what was put.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count()?;
        self.take(len)
    }

    fn record(&mut self) -> Option<LogFrame<'a>> {
        let accepted_at = UnixMillis(self.number()?);
        let flags = self.take(1)?[0];
        let body = self.bytes()?;
        let task = if flags & HAS_TASK == 0 {
            None
        } else {
            let task = TaskId::from_bytes(self.take(16)?.try_into().ok()?);
            let site = std::str::from_utf8(self.bytes()?).ok()?.parse().ok()?;
            let meta = if flags & META_IS_BODY == 0 { self.bytes()? } else { body };
            Some(FrameTask { site, task, meta })
        };
        let count = self.count()?;
        let key = |_| {
            let key = self.take(32)?.try_into().ok()?;
            Some(FrameKey { key, seen: SeenKey::from_row(self.take(72)?.try_into().ok()?) })
        };
        let keys = (0..count).map(key).collect::<Option<_>>()?;
        Some(LogFrame::Record { accepted_at, body, task, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_put_and_none_when_it_is_cut() {
        let site: SiteId = "shop".parse().unwrap();
        let (task, key) = (TaskId::from_bytes([7; 16]), [9; 32]);
        let seen =
            SeenKey { seq: 3, task, body_hash: [1; 32], first_at: UnixMillis(5), expires_at: UnixMillis(6) };
        let mut out = AlignedBytes::default();
        put_record(&mut out, UnixMillis(1), b"body", Some((&site, task, b"meta")), &[(key, seen)]);
        put_record(&mut out, UnixMillis(2), b"same", Some((&site, task, b"same")), &[]);
        put_record(&mut out, UnixMillis(3), b"", None, &[]);
        put_first(&mut out, Seq::new(8).unwrap());
        put_completions(&mut out, [(4, &b"done"[..]), (5, b"")].into_iter());
        put_forgotten(&mut out, &[6, 7]);
        let of = |meta| Some(FrameTask { site: Clone::clone(&site), task, meta });
        let expected = [
            LogFrame::Record {
                accepted_at: UnixMillis(1),
                body: b"body",
                task: of(b"meta"),
                keys: vec![FrameKey { key, seen }],
            },
            LogFrame::Record { accepted_at: UnixMillis(2), body: b"same", task: of(b"same"), keys: vec![] },
            LogFrame::Record { accepted_at: UnixMillis(3), body: b"", task: None, keys: vec![] },
            LogFrame::First(Seq::new(8).unwrap()),
            LogFrame::Completions(vec![(4, b"done"), (5, b"")]),
            LogFrame::Forgotten(vec![6, 7]),
        ];
        let mut rest = out.as_slice();
        for frame in expected {
            let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize + FRAME_HEAD;
            assert_eq!(LogFrame::read(&rest[..length - 1]), None);
            let (read, left) = LogFrame::read(rest).unwrap();
            assert_eq!(read, frame);
            rest = left;
        }
        assert!(rest.is_empty());
        assert_eq!(LogFrame::read(rest), None);
    }
}
