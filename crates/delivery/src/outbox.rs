//! The control plane's end of one node's stream: how far it was sent, how far it has acknowledged, what may be sent next. A
//! position, and never a queue of records.

mod recent_tails;

use std::time::Duration;

use batoff_types::{Cursor, Moment, Seq};

pub use self::recent_tails::{FILL_IN_MAX, RecentTails};
use crate::Resume;

/// What one message, and one stream, may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Records in one message, at most. More wait for the next message.
    pub records: u64,
    /// Bytes of encoded records in one message, at most, unless a single record is larger. The shell, which has the
    /// bytes, keeps this one.
    pub bytes: usize,
    /// Records sent and not yet acknowledged, at most. A node that does not acknowledge is sent nothing more, and what
    /// lies for it in buffers stays bounded (I5).
    pub in_flight: u64,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { records: 512, bytes: 256 * 1024, in_flight: 65_536 }
    }
}

/// Which records go into the next message: all from `first` through `last`, or fewer if they are too many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToSend {
    /// The first record.
    pub first: Seq,
    /// The last record, not before `first`.
    pub last: Seq,
}

/// The node said something that cannot be; its stream is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It acknowledged what it was never sent.
    #[error("the node acknowledged through {acked}, but was sent records only through {sent}")]
    AckBeyondSent {
        /// What it acknowledged.
        acked: Cursor,
        /// What it was sent.
        sent: Cursor,
    },
}

/// The control plane's end of one node's stream: how far it was sent, and how far it has acknowledged.
///
/// Nothing is queued here. A node that reads slowly costs these few words and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Where the stream began; what lies before was acknowledged on another stream, or is covered by a reset.
    base: Cursor,
    sent: Cursor,
    acked: Cursor,
    /// It only fills in, this long after a record became known.
    fill_in_after: Option<Duration>,
}

impl Outbox {
    /// For a stream on which `Welcome`, and then the reset if there is one, are sent first.
    pub fn new(resume: &Resume, limits: OutboxLimits) -> Self {
        let base = resume.cursor();
        let acked = match resume {
            Resume::At(cursor) => *cursor,
            Resume::Reset(_) => Cursor::START,
        };
        Self { limits, base, sent: base, acked, fill_in_after: None }
    }

    /// The node wants records at once (`None`), or only those that it has not confirmed so long after they became known,
    /// since others send them at once. At most [`FILL_IN_MAX`]. What a stream begins with is "at once".
    pub fn handle_pace(&mut self, fill_in_after: Option<Duration>) {
        self.fill_in_after = fill_in_after.map(|after| after.min(FILL_IN_MAX));
    }

    /// Through where this stream may send, of a log that reaches to `tail`: for [`Outbox::poll_range`].
    pub fn reach(&self, now: Moment, tails: &RecentTails, tail: Cursor) -> Cursor {
        self.fill_in_after.map_or(tail, |after| tails.known_for(now, after).min(tail))
    }

    /// When the next record is to be filled in that is held back at `now`, unless the node confirms it before; `None`: none
    /// is held back.
    pub fn fills_in_at(&self, now: Moment, tails: &RecentTails) -> Option<Moment> {
        tails.known_for_at(self.sent, self.fill_in_after?).filter(|at| *at > now)
    }

    /// Whether it only fills in.
    pub const fn fills_in(&self) -> bool {
        self.fill_in_after.is_some()
    }

    /// What to send next when the log reaches to `tail`; `None` when there is nothing, or too much is in flight.
    pub fn poll_range(&self, tail: Cursor) -> Option<ToSend> {
        let waiting = tail.get().saturating_sub(self.sent.get());
        let in_flight = self.sent.get().saturating_sub(self.acked.max(self.base).get());
        let count = waiting.min(self.limits.records).min(self.limits.in_flight.saturating_sub(in_flight));
        let last = Cursor::new(self.sent.get() + count).last()?;
        (count > 0).then(|| ToSend { first: self.sent.next(), last })
    }

    /// The records through `through` were handed to the stream.
    pub fn handle_sent(&mut self, through: Seq) {
        debug_assert!(!self.sent.covers(through), "I3: {through:?} was sent before {}", self.sent);
        self.sent = self.sent.max(Cursor::after(through));
    }

    /// An ack or heartbeat came. Acks are cumulative: an older or repeated one changes nothing.
    pub fn handle_ack(&mut self, cursor: Cursor) -> Result<(), ProtocolError> {
        if cursor > self.sent {
            return Err(ProtocolError::AckBeyondSent { acked: cursor, sent: self.sent });
        }
        self.acked = self.acked.max(cursor);
        Ok(())
    }

    /// The node has everything before this place, from other replicas: it need not be sent. Where there are any, each ack
    /// is to be told here before it goes to [`Outbox::handle_ack`].
    pub fn handle_known(&mut self, cursor: Cursor) {
        self.sent = self.sent.max(cursor);
    }

    /// Everything before this place was sent, or is known to be there.
    pub const fn sent(&self) -> Cursor {
        self.sent
    }

    /// Everything before this place was acknowledged on this stream; [`Cursor::START`] until a reset is acknowledged.
    pub const fn acked(&self) -> Cursor {
        self.acked
    }

    /// The limits it was made with.
    pub const fn limits(&self) -> &OutboxLimits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::LogId;
    use batoff_types::message::{Reset, ResetReason};

    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn outbox(at: u64, limits: OutboxLimits) -> Outbox {
        Outbox::new(&Resume::At(Cursor::new(at)), limits)
    }

    #[test]
    fn a_stream_is_sent_everything_after_its_resume_point_in_bounded_messages() {
        let mut outbox = outbox(10, OutboxLimits { records: 4, ..OutboxLimits::default() });
        assert_eq!(outbox.poll_range(Cursor::new(10)), None);
        assert_eq!(outbox.poll_range(Cursor::new(12)), Some(ToSend { first: seq(11), last: seq(12) }));
        assert_eq!(outbox.poll_range(Cursor::new(99)), Some(ToSend { first: seq(11), last: seq(14) }));
        outbox.handle_sent(seq(13));
        assert_eq!(outbox.poll_range(Cursor::new(99)), Some(ToSend { first: seq(14), last: seq(17) }));
    }

    #[test]
    fn a_node_that_does_not_acknowledge_is_sent_a_bounded_number_of_records() {
        let mut outbox = outbox(0, OutboxLimits { records: 4, in_flight: 6, ..OutboxLimits::default() });
        outbox.handle_sent(seq(4));
        assert_eq!(outbox.poll_range(Cursor::new(99)), Some(ToSend { first: seq(5), last: seq(6) }));
        outbox.handle_sent(seq(6));
        assert_eq!(outbox.poll_range(Cursor::new(99)), None);
        outbox.handle_ack(Cursor::new(1)).unwrap();
        assert_eq!(outbox.poll_range(Cursor::new(99)), Some(ToSend { first: seq(7), last: seq(7) }));
    }

    #[test]
    fn an_ack_beyond_what_was_sent_is_a_protocol_error_and_an_old_one_is_nothing() {
        let mut outbox = outbox(5, OutboxLimits::default());
        outbox.handle_sent(seq(7));
        outbox.handle_ack(Cursor::new(7)).unwrap();
        outbox.handle_ack(Cursor::new(6)).unwrap();
        assert_eq!(outbox.acked(), Cursor::new(7));
        let beyond = ProtocolError::AckBeyondSent { acked: Cursor::new(8), sent: Cursor::new(7) };
        assert_eq!(outbox.handle_ack(Cursor::new(8)), Err(beyond));
    }

    #[test]
    fn what_a_node_has_from_another_replica_is_not_sent_again() {
        let mut outbox = outbox(5, OutboxLimits::default());
        outbox.handle_known(Cursor::new(9));
        outbox.handle_ack(Cursor::new(9)).unwrap();
        assert_eq!(outbox.poll_range(Cursor::new(8)), None, "this one is behind the node");
        assert_eq!(outbox.poll_range(Cursor::new(10)), Some(ToSend { first: seq(10), last: seq(10) }));
    }

    #[test]
    fn a_stream_that_fills_in_sends_only_what_the_node_still_has_not_confirmed() {
        let (mut outbox, mut tails) = (outbox(4, OutboxLimits::default()), RecentTails::new(Cursor::new(4)));
        let at = |millis: u64| Moment::from_micros(millis * 1_000);
        let tail = Cursor::new(6);
        tails.handle_tail(at(1_000), Cursor::new(5));
        tails.handle_tail(at(1_100), tail);
        assert_eq!(outbox.reach(at(1_100), &tails, tail), tail, "at once");
        assert_eq!(outbox.fills_in_at(at(1_100), &tails), None);
        outbox.handle_pace(Some(Duration::from_millis(150)));
        assert_eq!(outbox.poll_range(outbox.reach(at(1_149), &tails, tail)), None);
        assert_eq!(outbox.fills_in_at(at(1_149), &tails), Some(at(1_150)));
        let due = outbox.poll_range(outbox.reach(at(1_150), &tails, tail));
        assert_eq!(due, Some(ToSend { first: seq(5), last: seq(5) }));
        // Others brought both.
        outbox.handle_known(Cursor::new(6));
        outbox.handle_ack(Cursor::new(6)).unwrap();
        assert_eq!(outbox.poll_range(outbox.reach(at(9_000), &tails, tail)), None);
        assert_eq!(outbox.fills_in_at(at(1_150), &tails), None);
        // Both of them have gone silent.
        tails.handle_tail(at(2_000), Cursor::new(8));
        let due = outbox.poll_range(outbox.reach(at(2_150), &tails, Cursor::new(8)));
        assert_eq!(due, Some(ToSend { first: seq(7), last: seq(8) }));
        outbox.handle_pace(None);
        assert_eq!(outbox.reach(at(2_001), &tails, Cursor::new(8)), Cursor::new(8));
    }

    #[test]
    fn no_stream_is_held_back_for_long_and_what_is_old_is_sent_at_once() {
        let (mut outbox, mut tails) = (outbox(1, OutboxLimits::default()), RecentTails::new(Cursor::new(4)));
        outbox.handle_pace(Some(Duration::from_secs(3_600)));
        let old = outbox.poll_range(outbox.reach(Moment::ZERO, &tails, Cursor::new(4)));
        assert_eq!(
            old,
            Some(ToSend { first: seq(2), last: seq(4) }),
            "a node that comes back is behind anyway"
        );
        tails.handle_tail(Moment::ZERO, Cursor::new(5));
        assert_eq!(outbox.reach(Moment::ZERO + FILL_IN_MAX, &tails, Cursor::new(5)), Cursor::new(5));
    }

    #[test]
    fn after_a_reset_nothing_counts_as_acknowledged_but_records_flow() {
        let reset = Reset {
            log_id: LogId::from_bytes([1; 16]),
            cursor: Cursor::new(100_000),
            reason: ResetReason::New,
        };
        let outbox = Outbox::new(&Resume::Reset(reset), OutboxLimits::default());
        assert_eq!(outbox.acked(), Cursor::START);
        let next = ToSend { first: seq(100_001), last: seq(100_002) };
        assert_eq!(outbox.poll_range(Cursor::new(100_002)), Some(next));
    }
}
