//! The newest records, encoded once for all nodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{Outbox, RecentTails};
use batoff_types::{Cursor, Moment, Seq};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// Frames kept joined. Nodes that follow live stand at one of very few places, so the same frame goes to most of them.
const FRAMES_MAX: usize = 8;

/// The newest records, encoded once and shared by all streams. It holds no list of streams: each has a position of its
/// own and asks. A stream that has fallen out of the tail reads from the log until it has caught up. One that only fills in,
/// as its node has others that send at once, gets what has been there for as long as the node said.
pub struct Hub {
    inner: Mutex<Newest>,
    tail: watch::Sender<Cursor>,
    /// Through where streams may send: the tail as it was when the last round began.
    round: watch::Sender<Cursor>,
    /// Since when there was something in a round, for streams that fill in.
    recent: Mutex<RecentTails>,
    /// The times in there count from here.
    origin: Instant,
    records_max: usize,
    bytes_max: usize,
}

struct Newest {
    /// The place before the first kept record.
    start: Cursor,
    records: VecDeque<Bytes>,
    bytes: usize,
    frames: VecDeque<Frame>,
}

/// A complete `Records` message, ready for the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first record in it.
    pub first: Seq,
    /// The last record in it.
    pub last: Seq,
    /// The encoded message.
    pub bytes: Bytes,
}

impl Hub {
    /// An empty tail at `start`, of at most `records_max` records and `bytes_max` bytes (whichever is reached first).
    pub fn new(start: Cursor, records_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Newest { start, records: VecDeque::new(), bytes: 0, frames: VecDeque::new() }),
            tail: watch::Sender::new(start),
            round: watch::Sender::new(start),
            recent: Mutex::new(RecentTails::new(start)),
            origin: Instant::now(),
            records_max,
            bytes_max,
        })
    }

    /// The place after the newest record.
    pub fn tail(&self) -> Cursor {
        *self.tail.borrow()
    }

    /// The place after the newest record that streams may send.
    pub fn round(&self) -> Cursor {
        *self.round.borrow()
    }

    /// Through where a stream may send: what is in a round, and if it fills in, what has been there for long enough.
    pub fn reach(&self, outbox: &Outbox) -> Cursor {
        let round = self.round();
        if outbox.fills_in() { outbox.reach(self.now(), &self.recent.lock(), round) } else { round }
    }

    /// How long until a stream that fills in may send what it holds back; `None`: it holds nothing back.
    pub fn fills_in(&self, outbox: &Outbox) -> Option<Duration> {
        let now = self.now();
        let at = outbox.fills_in().then(|| outbox.fills_in_at(now, &self.recent.lock()))??;
        Some(at.since(now))
    }

    fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Tells when a round begins.
    pub fn subscribe(&self) -> watch::Receiver<Cursor> {
        self.round.subscribe()
    }

    /// Tells when the tail moves.
    pub(crate) fn watch_tail(&self) -> watch::Receiver<Cursor> {
        self.tail.subscribe()
    }

    /// Wakes every stream once, for all that has come since the last round; none when nothing has.
    pub(crate) fn begin_round(&self) {
        let tail = self.tail();
        self.recent.lock().handle_tail(self.now(), tail);
        self.round.send_if_modified(|round| tail > std::mem::replace(round, tail));
    }

    /// Takes over the next records, which follow the tail without a gap. Streams are woken by the next round.
    pub fn push(&self, records: impl IntoIterator<Item = Bytes>) {
        let tail = {
            let mut inner = self.inner.lock();
            for record in records {
                inner.bytes += record.len();
                inner.records.push_back(record);
            }
            while inner.records.len() > self.records_max || inner.bytes > self.bytes_max {
                let Some(oldest) = inner.records.pop_front() else { break };
                inner.bytes -= oldest.len();
                inner.start = Cursor::after(inner.start.next());
            }
            Cursor::new(inner.start.get() + inner.records.len() as u64)
        };
        self.tail.send_replace(tail);
    }

    /// The records from `first` through `last`, or fewer if they are more than `bytes_max` bytes (but at least one);
    /// `None` when `first` is no longer, or not yet, in the tail.
    pub fn frame(&self, first: Seq, last: Seq, bytes_max: usize) -> Option<Frame> {
        let mut inner = self.inner.lock();
        let skip = first.get().checked_sub(inner.start.next().get())?;
        let skip = usize::try_from(skip).ok().filter(|skip| *skip < inner.records.len())?;
        let asked =
            usize::try_from(last.get().saturating_sub(first.get())).unwrap_or(usize::MAX).saturating_add(1);
        let count = fitting(inner.records.iter().skip(skip).take(asked).map(Bytes::len), bytes_max);
        let last = Seq::new(first.get() + count as u64 - 1)?;
        if let Some(frame) = inner.frames.iter().find(|frame| frame.first == first && frame.last == last) {
            return Some(frame.clone());
        }
        let bytes = batoff_wire::records_frame(first, inner.records.iter().skip(skip).take(count));
        let frame = Frame { first, last, bytes };
        if inner.frames.len() == FRAMES_MAX {
            inner.frames.pop_front();
        }
        inner.frames.push_back(frame.clone());
        Some(frame)
    }
}

/// How many of the sizes fit, at least one.
pub(crate) fn fitting(sizes: impl Iterator<Item = usize>, bytes_max: usize) -> usize {
    let mut sum = 0usize;
    let fit = sizes
        .take_while(|size| {
            sum = sum.saturating_add(*size);
            sum <= bytes_max
        })
        .count();
    fit.max(1)
}

#[cfg(test)]
mod tests {
    use batoff_delivery::{OutboxLimits, Resume};

    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn records(count: usize) -> impl Iterator<Item = Bytes> {
        (0..count).map(|n| Bytes::from(vec![n as u8; 10]))
    }

    #[test]
    fn the_tail_keeps_the_newest_records_and_says_what_it_no_longer_has() {
        let hub = Hub::new(Cursor::new(100), 4, 1_000);
        hub.push(records(6));
        assert_eq!(hub.tail(), Cursor::new(106));
        assert_eq!(hub.frame(seq(102), seq(106), 1_000), None);
        assert_eq!(hub.frame(seq(107), seq(107), 1_000), None);
        let frame = hub.frame(seq(103), seq(200), 1_000).unwrap();
        assert_eq!((frame.first, frame.last), (seq(103), seq(106)));
    }

    #[test]
    fn a_frame_holds_what_fits_and_at_least_one_record() {
        let hub = Hub::new(Cursor::START, 10, 1_000);
        hub.push(records(5));
        assert_eq!(hub.frame(seq(1), seq(5), 25).unwrap().last, seq(2));
        assert_eq!(hub.frame(seq(1), seq(5), 1).unwrap().last, seq(1));
        assert_eq!(hub.frame(seq(4), seq(4), 1_000).unwrap().last, seq(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_fills_in_may_send_what_has_been_in_a_round_for_long_enough() {
        const WAIT: Duration = Duration::from_millis(150);
        let hub = Hub::new(Cursor::new(4), 10, 1_000);
        let mut outbox = Outbox::new(&Resume::At(Cursor::new(4)), OutboxLimits::default());
        hub.push(records(2));
        assert_eq!(hub.reach(&outbox), Cursor::new(4), "a record waits for its round");
        hub.begin_round();
        assert_eq!((hub.reach(&outbox), hub.fills_in(&outbox)), (Cursor::new(6), None));
        outbox.handle_pace(Some(WAIT));
        assert_eq!((hub.reach(&outbox), hub.fills_in(&outbox)), (Cursor::new(4), Some(WAIT)));
        tokio::time::advance(WAIT).await;
        assert_eq!((hub.reach(&outbox), hub.fills_in(&outbox)), (Cursor::new(6), None));
    }

    #[test]
    fn bytes_bound_the_tail_too() {
        let hub = Hub::new(Cursor::START, 1_000, 35);
        hub.push(records(10));
        assert_eq!(hub.frame(seq(7), seq(7), 1), None);
        assert!(hub.frame(seq(8), seq(8), 1).is_some());
    }
}
