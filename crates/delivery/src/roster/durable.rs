//! When each record became durable, exactly for the newest and coarsely for the rest: how old is what a node has not
//! acknowledged?

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::{Cursor, Moment, Seq};

/// Spans kept at each of the levels. With the finest level's width this reaches back 4 s, past every `grace`; all
/// levels together take at most 450 KiB.
const SPANS_PER_LEVEL: usize = 4_096;
/// Width of a span at each level: records that became durable within it share the moment of the first.
const WIDTHS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(16),
    Duration::from_millis(256),
    Duration::from_secs(4),
    Duration::from_secs(65),
    Duration::from_secs(1_049),
    Duration::from_secs(16_777),
];

/// When each record became durable, exactly for the newest and ever more coarsely for older ones, in bounded memory.
///
/// Where it is coarse it errs on the side of *older*: by at most 1 ms within the last 4 s, by at most 1/256 of the age
/// within two years. A node is thus never thought more up to date than it is.
#[derive(Debug)]
pub(super) struct DurableTimes {
    /// For what was there at the start, and for what is older than the last level.
    origin: Moment,
    tail: Cursor,
    /// The newest spans first; within a level the oldest first.
    levels: [VecDeque<Span>; WIDTHS.len()],
}

/// Records from `first` on, up to the next span's.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Seq,
    at: Moment,
}

impl DurableTimes {
    pub(super) fn new(start: Moment, tail: Cursor) -> Self {
        Self { origin: start, tail, levels: Default::default() }
    }

    pub(super) const fn tail(&self) -> Cursor {
        self.tail
    }

    /// All records up to `tail` are durable. False when that was known.
    pub(super) fn handle_appended(&mut self, now: Moment, tail: Cursor) -> bool {
        if tail <= self.tail {
            return false;
        }
        let span = Span { first: self.tail.next(), at: now };
        self.tail = tail;
        self.add(0, span);
        true
    }

    fn add(&mut self, level: usize, span: Span) {
        let (Some(spans), Some(width)) = (self.levels.get_mut(level), WIDTHS.get(level)) else {
            return; // Older than two years of uptime: known only as older than everything else.
        };
        if spans.back().is_some_and(|last| span.at.since(last.at) < *width) {
            return;
        }
        spans.push_back(span);
        if spans.len() > SPANS_PER_LEVEL
            && let Some(oldest) = spans.pop_front()
        {
            self.add(level + 1, oldest);
        }
    }

    /// When `seq` became durable, or earlier.
    pub(super) fn at(&self, seq: Seq) -> Moment {
        for spans in &self.levels {
            if spans.front().is_some_and(|oldest| seq >= oldest.first) {
                let after = spans.partition_point(|span| span.first <= seq);
                return spans.get(after - 1).map_or(self.origin, |span| span.at);
            }
        }
        self.origin
    }

    /// When the first record after `cursor` became durable; `None` when there is none.
    pub(super) fn oldest_after(&self, cursor: Cursor) -> Option<Moment> {
        (cursor < self.tail).then(|| self.at(cursor.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn what_was_there_at_the_start_is_as_old_as_the_start() {
        let start = Moment::from_micros(500);
        let mut times = DurableTimes::new(start, Cursor::new(10));
        assert_eq!((times.at(seq(3)), times.oldest_after(Cursor::new(10))), (start, None));
        times.handle_appended(Moment::from_micros(9_000), Cursor::new(12));
        assert_eq!(times.oldest_after(Cursor::new(9)), Some(start));
        assert_eq!(times.oldest_after(Cursor::new(10)), Some(Moment::from_micros(9_000)));
        times.handle_appended(Moment::from_micros(99_000), Cursor::new(11));
        assert_eq!(times.tail(), Cursor::new(12), "old news");
    }

    #[test]
    fn records_are_never_younger_than_they_are_and_hardly_older() {
        // Bursts and pauses, long enough to fill several levels.
        let mut times = DurableTimes::new(Moment::ZERO, Cursor::START);
        let mut exact = Vec::new();
        let mut now = Moment::ZERO;
        for step in 0..400_000_u64 {
            now = now
                + Duration::from_micros(match step % 7 {
                    0 => 0,
                    1..=4 => 130,
                    5 => 1_900,
                    _ => 21_000,
                });
            exact.push(now);
            times.handle_appended(now, Cursor::new(exact.len() as u64));
        }
        for (index, real) in exact.iter().enumerate().step_by(97) {
            let told = times.at(seq(index as u64 + 1));
            let age = now.since(*real);
            let allowed = if age < Duration::from_secs(4) { Duration::from_millis(1) } else { age / 200 };
            assert!(told <= *real, "record {index} is told to be younger than it is");
            assert!(
                real.since(told) <= allowed,
                "record {index}, {age:?} old, is told as {:?} older",
                real.since(told)
            );
        }
        let kept: usize = times.levels.iter().map(VecDeque::len).sum();
        assert!(kept <= WIDTHS.len() * SPANS_PER_LEVEL, "I5");
    }
}
