//! When records were handed to one node's stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Cursor, Moment, Seq, UnixMillis};
use parking_lot::Mutex;

use super::mailbox::Mailbox;

/// Messages of records that are remembered until the node has acknowledged them. Of a node that is further behind the
/// oldest are forgotten: when they were sent is then not shown.
const MESSAGES_MAX: usize = 128;

/// What is sent within so much time counts as sent together, with the first of it.
const TOGETHER: Duration = Duration::from_millis(1);

/// What the tracker is given of a node's stream.
#[derive(Clone, Debug)]
pub(crate) struct NodeLink {
    /// The way to it.
    pub mailbox: Mailbox,
    /// When it was handed records.
    pub sent: Arc<SentTimes>,
    /// When the certificate ends that was shown; `None` without one.
    pub certificate_until: Option<UnixMillis>,
}

/// When records were handed to one node's stream. The stream writes it, on its own and under a lock that nobody else
/// waits for; whoever makes out a purge's way reads it.
#[derive(Debug)]
pub(crate) struct SentTimes(Mutex<SentMessages>);

#[derive(Debug)]
struct SentMessages {
    /// Of what was sent before this place it is not known when.
    from: Cursor,
    messages: VecDeque<(Cursor, Moment)>,
}

impl SentTimes {
    /// Of a stream that goes on after this place.
    pub(crate) fn new(from: Cursor) -> Self {
        Self(Mutex::new(SentMessages { from, messages: VecDeque::new() }))
    }

    /// Everything through this record is sent.
    pub(in crate::tracker) fn record(&self, now: Moment, through: Seq) {
        let mut recent = self.0.lock();
        let through = Cursor::after(through);
        if let Some((last, at)) = recent.messages.back_mut()
            && now.since(*at) < TOGETHER
        {
            *last = through;
            return;
        }
        if recent.messages.len() == MESSAGES_MAX {
            recent.forget_oldest();
        }
        recent.messages.push_back((through, now));
    }

    /// When the record was sent, if it was and that is still known.
    pub(in crate::tracker) fn at(&self, seq: Seq) -> Option<Moment> {
        let recent = self.0.lock();
        if recent.from.covers(seq) {
            return None;
        }
        let place = recent.messages.partition_point(|(through, _)| !through.covers(seq));
        recent.messages.get(place).map(|(_, at)| *at)
    }

    /// Nobody will ask for what stands before this place.
    pub(in crate::tracker) fn forget(&self, before: Cursor) {
        let mut recent = self.0.lock();
        while recent.messages.front().is_some_and(|(through, _)| *through <= before) {
            recent.forget_oldest();
        }
    }
}

impl SentMessages {
    fn forget_oldest(&mut self) {
        if let Some((through, _)) = self.messages.pop_front() {
            self.from = through;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1_000)
    }

    #[test]
    fn each_record_has_the_time_of_the_message_that_held_it() {
        let sent = SentTimes::new(Cursor::new(10));
        sent.record(at(5), seq(12));
        sent.record(at(9), seq(15));
        assert_eq!(
            [10, 11, 12, 13, 15, 16].map(|number| sent.at(seq(number))),
            [None, Some(at(5)), Some(at(5)), Some(at(9)), Some(at(9)), None]
        );
        sent.forget(Cursor::new(12));
        assert_eq!((sent.at(seq(12)), sent.at(seq(13))), (None, Some(at(9))));
    }

    #[test]
    fn of_too_much_the_oldest_is_not_known_and_what_went_out_together_is_one() {
        let sent = SentTimes::new(Cursor::START);
        for number in 1..=MESSAGES_MAX as u64 + 1 {
            sent.record(at(10 * number), seq(number));
        }
        assert_eq!((sent.at(seq(1)), sent.at(seq(2))), (None, Some(at(20))));
        let last = 10 * (MESSAGES_MAX as u64 + 1);
        sent.record(at(last) + Duration::from_micros(500), seq(1_000));
        assert_eq!((sent.at(seq(2)), sent.at(seq(1_000))), (Some(at(20)), Some(at(last))));
    }
}
