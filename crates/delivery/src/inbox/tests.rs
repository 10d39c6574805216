use std::collections::VecDeque;
use std::sync::Arc;

use batoff_types::message::{GoAwayReason, LeaseGrant, ResetReason};
use batoff_types::{Body, LogId, Record, SiteTable, UnixMillis};

use super::feed::{COUNTS_MAX, Phase};
use super::*;

const LOG: LogId = LogId::from_bytes([9; 16]);
const OTHER_LOG: LogId = LogId::from_bytes([8; 16]);

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn task(number: u64) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

fn record(number: u64) -> Record {
    Record {
        seq: seq(number),
        accepted_at: UnixMillis(0),
        task: task(number),
        request_id: Arc::from("r"),
        semantics: 1,
        trace: None,
        body: Body::Unknown,
    }
}

fn records(numbers: std::ops::RangeInclusive<u64>) -> ToNode {
    ToNode::Records(numbers.map(record).collect())
}

fn report(number: u64, objects: u64) -> RecordReport {
    let (in_force_after, evicted_after) = (Duration::from_micros(5), Duration::from_millis(2));
    RecordReport { seq: seq(number), objects, last: true, in_force_after, evicted_after }
}

fn position(cursor: u64) -> Option<Position> {
    Some(Position { log_id: LOG, cursor: Cursor::new(cursor), task: None })
}

fn welcome(log_id: LogId, term: u64, tail: u64) -> ToNode {
    ToNode::Welcome(Welcome {
        log_id,
        term: Term(term),
        tail: Cursor::new(tail),
        lease: Duration::from_secs(1),
        heartbeat_interval: Duration::from_millis(250),
        reconnect_min: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(5),
        sites: SiteTable::default(),
        replica: Replica::ONLY,
        set: ReplicaSet::only(),
    })
}

fn reset(cursor: u64) -> Reset {
    Reset { log_id: LOG, cursor: Cursor::new(cursor), reason: ResetReason::New }
}

fn grant(echo: u64, duration: Duration, term: u64) -> ToNode {
    ToNode::LeaseGrant(LeaseGrant {
        echo: at(echo),
        duration,
        term: Term(term),
        parents_through: None,
        tail: None,
    })
}

/// Milliseconds.
fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

fn inbox(position: Option<Position>) -> Inbox {
    let config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Revalidate);
    Inbox::new(config, InstanceId::from_bytes([1; 16]), position, Term(2))
}

/// Connected at 1,000 ms, welcomed, standing at `cursor`.
fn connected(cursor: u64) -> Inbox {
    let mut inbox = inbox(position(cursor));
    assert_eq!(inbox.hello().position, position(cursor));
    inbox.handle(at(1_000), welcome(LOG, 3, cursor)).unwrap();
    inbox.handle_term_durable(Term(3));
    inbox
}

/// An available node that its control plane may still take for strict, at `cursor`.
fn newly_available(cursor: u64) -> Inbox {
    let config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Serve);
    let mut inbox = Inbox::new(config, InstanceId::from_bytes([1; 16]), position(cursor), Term(2));
    inbox.hello();
    inbox
}

/// Applies whatever waits.
fn apply(inbox: &mut Inbox) {
    while let Some(Received { record, .. }) = inbox.poll_record() {
        inbox.handle_applied(record.seq, record.task, report(record.seq.get(), 0)).unwrap();
    }
}

#[test]
fn a_node_that_turns_available_serves_without_a_lease_once_it_has_caught_up() {
    let mut inbox = newly_available(4);
    inbox.handle(at(1_000), welcome(LOG, 3, 6)).unwrap();
    inbox.handle(at(1_000), records(5..=5)).unwrap();
    apply(&mut inbox);
    assert!(!inbox.wants_to_agree() && !inbox.may_serve(at(1_000)));
    assert_eq!(inbox.vouches_for(), None);
    inbox.handle(at(1_000), records(6..=6)).unwrap();
    apply(&mut inbox);
    assert!(inbox.wants_to_agree() && !inbox.may_serve(at(1_000)), "not before that is durable");
    assert_eq!(inbox.vouches_for(), position(6).map(|at| Position { task: Some(task(6)), ..at }));
    inbox.handle_agreed();
    assert!(inbox.may_serve(at(1_000)) && !inbox.wants_to_agree());
}

/// What was on its way to the applier when the stream broke comes back as applied, and counts in the old log.
#[test]
fn a_place_in_another_log_is_not_what_was_to_be_reached() {
    let mut inbox = newly_available(100);
    inbox.handle(at(1_000), welcome(LOG, 3, 102)).unwrap();
    inbox.handle(at(1_000), records(101..=101)).unwrap();
    let under_way = inbox.poll_record().unwrap().record;
    inbox.hello();
    inbox.handle(at(2_000), welcome(OTHER_LOG, 4, 95)).unwrap();
    inbox.handle_applied(under_way.seq, under_way.task, report(101, 0)).unwrap();
    assert!(!inbox.has_caught_up(), "|101 of the old log is not |95 of the new one");
    let reset = Reset { log_id: OTHER_LOG, cursor: Cursor::new(94), reason: ResetReason::ForeignLog };
    inbox.handle(at(2_000), ToNode::Reset(reset.clone())).unwrap();
    inbox.handle_reset_applied(&reset);
    assert!(!inbox.has_caught_up(), "one record is missing");
    inbox.handle(at(2_000), records(95..=95)).unwrap();
    apply(&mut inbox);
    assert!(inbox.has_caught_up());
}

/// The same log, and still a reset: what the numbers say is not known before the position was accepted.
#[test]
fn a_position_counts_only_once_it_was_accepted() {
    let mut inbox = newly_available(9);
    inbox.handle(at(1_000), welcome(LOG, 3, 9)).unwrap();
    assert!(!inbox.has_caught_up());
    inbox.poll_heartbeat(at(1_000)).unwrap();
    inbox.handle(at(1_001), grant(1_000, Duration::ZERO, 3)).unwrap();
    assert!(inbox.has_caught_up());
    inbox.handle(at(1_001), ToNode::Reset(reset(9))).unwrap();
    assert!(!inbox.has_caught_up() && inbox.vouches_for().is_none());
    inbox.handle_reset_applied(&reset(9));
    assert!(inbox.has_caught_up());
}

#[test]
fn only_answers_show_that_a_stream_is_alive() {
    let mut inbox = inbox(position(4));
    inbox.hello();
    assert_eq!(inbox.silent_at(), None, "the shell waits for the Welcome");
    inbox.handle(at(1_000), welcome(LOG, 2, 4)).unwrap();
    assert_eq!(inbox.silent_at(), Some(at(4_000)));
    inbox.handle(at(2_000), records(5..=5)).unwrap();
    assert_eq!(inbox.silent_at(), Some(at(4_000)));
    inbox.poll_heartbeat(at(2_000)).unwrap();
    inbox.handle(at(2_500), grant(2_000, Duration::ZERO, 2)).unwrap();
    assert_eq!(inbox.silent_at(), Some(at(5_500)));
    inbox.handle_not_read(at(6_000));
    assert_eq!(inbox.silent_at(), Some(at(9_000)));
    inbox.hello();
    assert_eq!(inbox.silent_at(), None);
}

/// Applies all that is queued; gives their numbers.
fn apply_all(inbox: &mut Inbox) -> Vec<u64> {
    let mut applied = Vec::new();
    while let Some(Received { record, .. }) = inbox.poll_record() {
        inbox.handle_applied(record.seq, record.task, report(record.seq.get(), 1)).unwrap();
        applied.push(record.seq.get());
    }
    applied
}

#[test]
fn records_are_given_out_in_order_and_acknowledged_once_applied() {
    let mut inbox = connected(4);
    inbox.handle(at(1_001), records(5..=7)).unwrap();
    let first = inbox.poll_record().unwrap();
    assert_eq!((first.record.seq, first.at), (seq(5), at(1_001)));
    assert_eq!(inbox.poll_ack(), None, "received is not applied");
    inbox.handle_applied(seq(5), task(5), report(5, 3)).unwrap();
    assert_eq!(
        inbox.poll_ack(),
        Some(Ack { cursor: Cursor::new(5), reports: vec![report(5, 3)], overflowed: Vec::new() })
    );
    assert_eq!(inbox.poll_ack(), None);
    assert_eq!(apply_all(&mut inbox), [6, 7]);
    let ack = inbox.poll_ack().unwrap();
    assert_eq!((ack.cursor, ack.reports.len()), (Cursor::new(7), 2), "one ack says both");
    let expected = Position { log_id: LOG, cursor: Cursor::new(7), task: Some(task(7)) };
    assert_eq!(inbox.position(), Some(expected));
}

#[test]
fn a_gap_ends_the_connection_and_loses_nothing() {
    let mut inbox = connected(4);
    inbox.handle(at(1_001), records(5..=5)).unwrap();
    let gap = InboxError::Gap { expected: seq(6), got: seq(7) };
    assert_eq!(inbox.handle(at(1_002), records(7..=7)), Err(gap));
    assert!(inbox.handle(at(1_003), records(6..=6)).is_err(), "nothing more on this stream");
    assert_eq!(inbox.next_heartbeat_at(), None);
    assert_eq!(inbox.hello().position, position(4));
    inbox.handle(at(1_004), welcome(LOG, 3, 7)).unwrap();
    inbox.handle(at(1_005), records(5..=7)).unwrap();
    assert_eq!(apply_all(&mut inbox), [5, 6, 7]);
}

#[test]
fn records_at_or_below_the_cursor_are_ignored() {
    let mut inbox = connected(4);
    inbox.handle(at(1_001), records(2..=6)).unwrap();
    inbox.handle(at(1_001), records(3..=4)).unwrap();
    assert_eq!(apply_all(&mut inbox), [5, 6]);
}

#[test]
fn a_new_connection_forgets_what_was_not_polled_and_repeats_nothing_that_was() {
    let mut inbox = connected(4);
    inbox.handle(at(1_001), records(5..=8)).unwrap();
    let in_hand = inbox.poll_record().unwrap().record;
    assert_eq!(inbox.hello().position, position(4), "5 is not applied yet");
    inbox.handle(at(1_002), welcome(LOG, 3, 8)).unwrap();
    inbox.handle(at(1_003), records(5..=8)).unwrap();
    inbox.handle_applied(in_hand.seq, in_hand.task, report(5, 1)).unwrap();
    assert_eq!(apply_all(&mut inbox), [6, 7, 8]);
}

#[test]
fn the_cursor_never_skips_a_record() {
    let mut inbox = connected(4);
    inbox.handle(at(1_001), records(5..=6)).unwrap();
    inbox.poll_record();
    inbox.poll_record();
    let skipped = inbox.handle_applied(seq(6), task(6), report(6, 1));
    assert_eq!(skipped, Err(OutOfOrder { expected: seq(5), got: seq(6) }));
    assert_eq!(inbox.cursor(), Cursor::new(4));
    inbox.handle_applied(seq(5), task(5), report(5, 1)).unwrap();
    inbox.handle_applied(seq(5), task(5), report(5, 1)).unwrap();
    assert_eq!(inbox.cursor(), Cursor::new(5));
}

#[test]
fn a_full_queue_asks_to_stop_reading() {
    let mut config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Serve);
    (config.queue_records, config.queue_bytes) = (3, 1 << 20);
    let mut inbox = Inbox::new(config.clone(), InstanceId::from_bytes([1; 16]), position(0), Term(0));
    inbox.hello();
    inbox.handle(at(0), welcome(LOG, 1, 9)).unwrap();
    inbox.handle(at(0), records(1..=2)).unwrap();
    assert!(inbox.wants_more());
    inbox.handle(at(0), records(3..=4)).unwrap();
    assert!(!inbox.wants_more());
    inbox.poll_record();
    inbox.poll_record();
    assert!(inbox.wants_more());
    // The same by weight.
    (config.queue_records, config.queue_bytes) = (100, 1_000);
    let mut inbox = Inbox::new(config, InstanceId::from_bytes([1; 16]), position(0), Term(0));
    inbox.hello();
    inbox.handle(at(0), welcome(LOG, 1, 99)).unwrap();
    inbox.handle(at(0), records(1..=20)).unwrap();
    assert!(!inbox.wants_more());
    apply_all(&mut inbox);
    assert!(inbox.wants_more());
}

#[test]
fn heartbeats_keep_their_interval_and_double_as_acks() {
    let mut inbox = connected(4);
    inbox.handle(at(1_000), records(5..=5)).unwrap();
    apply_all(&mut inbox);
    inbox.poll_ack();
    let first = Heartbeat { sent_at: at(1_000), cursor: Cursor::new(5), index: None, fill_in_after: None };
    assert_eq!(inbox.poll_heartbeat(at(1_000)), Some(first));
    assert_eq!(inbox.poll_heartbeat(at(1_249)), None);
    assert_eq!(inbox.next_heartbeat_at(), Some(at(1_250)));
    // One that wakes late sends one, not all that it missed.
    assert!(inbox.poll_heartbeat(at(9_000)).is_some());
    assert_eq!(inbox.next_heartbeat_at(), Some(at(9_250)));
    inbox.handle(at(9_001), records(6..=6)).unwrap();
    let record = inbox.poll_record().unwrap().record;
    inbox.handle_applied(record.seq, record.task, report(6, 0)).unwrap();
    inbox.poll_ack();
    inbox.poll_heartbeat(at(9_250));
    assert_eq!(inbox.poll_ack(), None);
}

#[test]
fn a_lease_counts_from_the_heartbeat_and_outlives_a_connection() {
    let mut inbox = connected(4);
    inbox.poll_heartbeat(at(1_000));
    inbox.handle(at(1_200), grant(1_000, Duration::from_secs(1), 3)).unwrap();
    assert!(inbox.lease().may_serve(at(1_999)) && !inbox.lease().may_serve(at(2_000)));
    inbox.hello();
    assert!(inbox.lease().may_serve(at(1_999)));
}

#[test]
fn a_lease_for_a_heartbeat_that_was_never_sent_is_refused() {
    let mut inbox = connected(4);
    inbox.poll_heartbeat(at(1_000));
    let refused = inbox.handle(at(1_001), grant(1_001, Duration::from_secs(1), 3));
    assert!(matches!(refused, Err(InboxError::Unexpected(_))), "{refused:?}");
    assert_eq!(inbox.lease().valid_until(), Moment::ZERO);
}

#[test]
fn a_lower_term_is_refused_in_welcome_and_in_a_grant() {
    let mut inbox = inbox(position(4));
    inbox.hello();
    let lower = InboxError::LowerTerm { given: Term(1), seen: Term(2) };
    assert_eq!(inbox.handle(at(0), welcome(LOG, 1, 4)), Err(lower));
    inbox.hello();
    inbox.handle(at(0), welcome(LOG, 7, 4)).unwrap();
    assert_eq!(inbox.max_term(), Term(7));
    inbox.poll_heartbeat(at(0));
    let lower = InboxError::LowerTerm { given: Term(6), seen: Term(7) };
    assert_eq!(inbox.handle(at(1), grant(0, Duration::from_secs(1), 6)), Err(lower));
    assert_eq!(inbox.lease().valid_until(), Moment::ZERO);
}

#[test]
fn a_refused_node_asks_again_as_soon_as_it_has_caught_up() {
    let mut inbox = connected(4);
    inbox.poll_heartbeat(at(1_000));
    inbox.handle(at(1_010), grant(1_000, Duration::ZERO, 3)).unwrap();
    assert_eq!(inbox.next_heartbeat_at(), Some(at(1_250)));
    inbox.handle(at(1_020), records(5..=5)).unwrap();
    apply_all(&mut inbox);
    assert_eq!(inbox.next_heartbeat_at(), Some(Moment::from_micros(1_062_500)));
}

#[test]
fn a_reset_takes_the_lease_and_everything_pending_and_is_acknowledged_when_done() {
    let mut inbox = connected(4);
    inbox.poll_heartbeat(at(1_000));
    inbox.handle(at(1_001), grant(1_000, Duration::from_secs(1), 3)).unwrap();
    inbox.handle(at(1_002), records(5..=6)).unwrap();
    let in_hand = inbox.poll_record().unwrap().record;
    inbox.handle(at(1_003), ToNode::Reset(reset(90))).unwrap();
    assert!(!inbox.lease().may_serve(at(1_003)));
    inbox.handle(at(1_004), records(91..=91)).unwrap();
    let reset = inbox.poll_reset().unwrap();
    assert_eq!(inbox.poll_record(), None, "first everything has to go");
    inbox.handle_applied(in_hand.seq, in_hand.task, report(5, 1)).unwrap();
    assert_eq!((inbox.position(), inbox.poll_ack()), (None, None));
    inbox.handle_reset_applied(&reset);
    assert_eq!(
        inbox.poll_ack(),
        Some(Ack { cursor: Cursor::new(90), reports: Vec::new(), overflowed: Vec::new() })
    );
    assert_eq!(apply_all(&mut inbox), [91]);
}

#[test]
fn a_node_does_not_say_its_cursor_before_it_knows_that_it_is_believed() {
    // Its log has the same identity and as many records, but another last one: a copy of a volume that went its own
    // way. A heartbeat with that cursor would be taken for an ack of the reset that is on its way.
    let mut inbox = connected(50);
    let blind = inbox.poll_heartbeat(at(1_000)).unwrap();
    assert_eq!(blind.cursor, Cursor::START);
    inbox.handle(at(1_001), ToNode::Reset(reset(50))).unwrap();
    assert_eq!(inbox.poll_heartbeat(at(1_250)).unwrap().cursor, Cursor::START);
    // Nor does a lease that was granted all the same come into force.
    inbox.handle(at(1_260), grant(1_250, Duration::from_secs(1), 3)).unwrap();
    assert!(!inbox.lease().may_serve(at(1_261)));
    let reset = inbox.poll_reset().unwrap();
    inbox.handle_reset_applied(&reset);
    assert_eq!(inbox.poll_ack().unwrap().cursor, Cursor::new(50));
    assert_eq!(inbox.poll_heartbeat(at(1_500)).unwrap().cursor, Cursor::new(50));
}

#[test]
fn an_accepted_position_is_said_in_the_next_heartbeat() {
    let mut inbox = connected(50);
    inbox.poll_heartbeat(at(1_000));
    assert!(!inbox.is_following());
    inbox.handle(at(1_001), grant(1_000, Duration::from_secs(1), 3)).unwrap();
    assert!(inbox.is_following() && inbox.lease().may_serve(at(1_002)));
    assert_eq!(inbox.poll_heartbeat(at(1_250)).unwrap().cursor, Cursor::new(50));
}

#[test]
fn a_node_that_stands_nowhere_takes_nothing_but_a_reset() {
    for (ours, log, tail) in [(None, LOG, 9), (position(4), OTHER_LOG, 9), (position(10), LOG, 9)] {
        let mut inbox = inbox(ours);
        inbox.hello();
        inbox.handle(at(0), welcome(log, 3, tail)).unwrap();
        assert!(inbox.handle(at(0), records(1..=1)).is_err(), "{ours:?}");
        assert_eq!(inbox.cursor(), ours.map_or(Cursor::START, |ours| ours.cursor), "nothing was applied");
    }
}

#[test]
fn a_reset_that_a_new_connection_overtook_is_not_taken_for_the_new_one() {
    let mut inbox = inbox(None);
    inbox.hello();
    inbox.handle(at(0), welcome(LOG, 3, 9)).unwrap();
    inbox.handle(at(0), ToNode::Reset(reset(9))).unwrap();
    let old = inbox.poll_reset().unwrap();
    assert_eq!(inbox.hello().position, None, "half of it may be gone");
    inbox.handle_reset_applied(&old);
    assert_eq!(inbox.position(), None);
    inbox.handle(at(1), welcome(LOG, 3, 12)).unwrap();
    inbox.handle(at(1), ToNode::Reset(reset(12))).unwrap();
    inbox.handle_reset_applied(&old);
    assert_eq!(inbox.position(), None);
    let new = inbox.poll_reset().unwrap();
    inbox.handle_reset_applied(&new);
    assert_eq!(inbox.position(), position(12));
}

#[test]
fn messages_out_of_their_place_are_refused() {
    let check = |prepare: fn(&mut Inbox), message: ToNode| {
        let mut inbox = inbox(position(4));
        prepare(&mut inbox);
        let outcome = inbox.handle(at(5), message);
        assert!(matches!(outcome, Err(InboxError::Unexpected(_))), "{outcome:?}");
    };
    let hello = |inbox: &mut Inbox| {
        inbox.hello();
    };
    let welcomed = |inbox: &mut Inbox| {
        inbox.hello();
        inbox.handle(at(0), welcome(LOG, 3, 4)).unwrap();
    };
    let resetting = |inbox: &mut Inbox| {
        inbox.hello();
        inbox.handle(at(0), welcome(LOG, 3, 4)).unwrap();
        inbox.handle(at(0), ToNode::Reset(reset(9))).unwrap();
    };
    check(|_| (), welcome(LOG, 3, 4));
    check(hello, records(5..=5));
    check(hello, ToNode::Reset(reset(9)));
    check(welcomed, welcome(LOG, 3, 4));
    check(welcomed, grant(0, Duration::from_secs(1), 3));
    check(resetting, ToNode::Reset(reset(9)));
}

#[test]
fn questions_and_farewells_reach_the_shell() {
    let mut inbox = connected(4);
    for id in 0..COUNTS_MAX as u64 + 1 {
        let count = Count { id, site: "demo".parse().unwrap(), selectors: Vec::new(), answer_within: None };
        inbox.handle(at(1_001), ToNode::Count(count)).unwrap();
    }
    assert_eq!(inbox.poll_count().map(|count| count.id), Some(1), "the oldest gave way");
    let farewell =
        GoAway { reason: GoAwayReason::Draining, reconnect_after: Duration::ZERO, endpoints: Vec::new() };
    inbox.handle(at(1_002), ToNode::GoAway(farewell.clone())).unwrap();
    assert_eq!(inbox.poll_go_away(), Some(farewell));
    assert!(inbox.poll_welcome().is_some());
    inbox.hello();
    assert_eq!(inbox.poll_count(), None);
    assert_eq!(inbox.poll_welcome(), None);
}

#[test]
fn reports_are_added_up_sent_in_bounded_acks_and_bounded_while_they_wait() {
    let mut inbox = connected(0);
    inbox.handle(at(1_001), records(1..=600)).unwrap();
    apply_all(&mut inbox);
    inbox.handle_report(report(1, 41));
    let first = inbox.poll_ack().unwrap();
    assert_eq!((first.cursor, first.reports.len(), first.reports[0].objects), (Cursor::new(600), 512, 42));
    let second = inbox.poll_ack().unwrap();
    assert_eq!((second.cursor, second.reports.len()), (Cursor::new(600), 88));
    assert_eq!(inbox.poll_ack(), None);
    // Late ones, for objects that were still being swept.
    inbox.handle_report(report(3, 5));
    inbox.handle_report(report(601, 5));
    assert_eq!(inbox.poll_ack().unwrap().reports, [report(3, 5)], "601 is not applied");
    inbox.handle(at(1_002), records(601..=9_000)).unwrap();
    apply_all(&mut inbox);
    assert_eq!(inbox.reports_dropped(), 8_400 - 8_192);
}

/// What may happen to an inbox, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The control plane sends some records from where its stream is, or, wrongly, from somewhere else.
    Send {
        count: u64,
        astray: i64,
    },
    /// The shell takes some records.
    Take(usize),
    /// The shell reports some of those it took.
    Apply(usize),
    Reconnect,
    Reset(u64),
    FinishReset,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        6 => (1..6_u64).prop_map(|count| Step::Send { count, astray: 0 }),
        1 => (1..6_u64, -4..4_i64).prop_map(|(count, astray)| Step::Send { count, astray }),
        4 => (1..5_usize).prop_map(Step::Take),
        4 => (1..5_usize).prop_map(Step::Apply),
        2 => Just(Step::Reconnect),
        1 => (1..40_u64).prop_map(Step::Reset),
        2 => Just(Step::FinishReset),
    ]
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_shell_gets_each_record_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut inbox = connected(0);
        // The next record of the stream, what the shell holds, the last it was given, and a reset under way.
        let (mut next, mut held, mut given) = (1_u64, VecDeque::new(), 0_u64);
        let mut pending: Option<Reset> = None;
        for step in steps {
            let before = inbox.cursor();
            match step {
                Step::Send { count, astray } => {
                    let first = next.saturating_add_signed(astray).max(1);
                    match inbox.handle(at(2_000), records(first..=first + count - 1)) {
                        Ok(()) => next = next.max(first + count),
                        Err(_) => proptest::prop_assert!(astray > 0 || inbox.feeds.phase(ONLY) == Phase::Silent),
                    }
                }
                Step::Take(count) => {
                    for _ in 0..count {
                        let Some(received) = inbox.poll_record() else { break };
                        proptest::prop_assert_eq!(received.record.seq.get(), given + 1);
                        given += 1;
                        held.push_back(received.record);
                    }
                }
                Step::Apply(count) => {
                    for record in held.drain(..count.min(held.len())) {
                        inbox.handle_applied(record.seq, record.task, report(record.seq.get(), 0)).unwrap();
                    }
                    proptest::prop_assert!(inbox.cursor() >= before, "I3");
                }
                Step::Reconnect => {
                    let hello = inbox.hello();
                    inbox.handle(at(2_000), welcome(LOG, 3, 1_000)).unwrap();
                    match hello.position {
                        Some(position) => next = position.cursor.get() + 1,
                        None => {
                            let reset = reset(given.max(next));
                            inbox.handle(at(2_000), ToNode::Reset(reset.clone())).unwrap();
                            (next, given) = (reset.cursor.get() + 1, reset.cursor.get());
                            held.clear();
                            pending = Some(reset);
                        }
                    }
                }
                Step::Reset(ahead) => {
                    let reset = reset(next + ahead);
                    if inbox.handle(at(2_000), ToNode::Reset(reset.clone())).is_ok() {
                        (next, given) = (reset.cursor.get() + 1, reset.cursor.get());
                        held.clear();
                        pending = Some(reset);
                        proptest::prop_assert_eq!(inbox.position(), None);
                    }
                }
                Step::FinishReset => {
                    if let Some(reset) = pending.take() {
                        inbox.handle_reset_applied(&reset);
                    }
                }
            }
            let ack = inbox.poll_ack();
            proptest::prop_assert!(ack.is_none_or(|ack| ack.cursor == inbox.cursor()));
            proptest::prop_assert!(inbox.cursor().get() <= given);
        }
    }
}

fn told(through: u64) -> ToNode {
    ToNode::Parents(Parents { through: Cursor::new(through), why: String::new() })
}

#[test]
fn what_is_said_of_the_parents_counts_in_the_order_that_is_followed() {
    let mut config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Revalidate);
    config.parents = vec!["lon1".parse().unwrap()];
    let mut inbox = Inbox::new(config, InstanceId::from_bytes([1; 16]), position(4), Term(2));
    let through = |inbox: &Inbox| inbox.parents().through.get();
    assert_eq!(inbox.hello().parents.len(), 1);
    inbox.handle(at(1_000), welcome(LOG, 3, 9)).unwrap();
    assert_eq!(through(&inbox), 0, "nothing was said");
    inbox.handle(at(1_001), told(8)).unwrap();
    assert_eq!(through(&inbox), 8);
    inbox.poll_heartbeat(at(1_002)).unwrap();
    inbox.handle(at(1_003), grant(1_000_002, Duration::ZERO, 3)).unwrap_err();
    inbox.hello();
    assert_eq!(through(&inbox), 8, "it stays true when the stream ends");
    inbox.handle(at(1_010), welcome(LOG, 3, 9)).unwrap();
    inbox.poll_heartbeat(at(1_011)).unwrap();
    inbox.handle(at(1_012), grant(1_011, Duration::ZERO, 3)).unwrap();
    assert_eq!(through(&inbox), 0, "a control plane that does not know of parents");
    inbox.handle(at(1_013), told(9)).unwrap();
    assert_eq!(through(&inbox), 9);

    inbox.handle(at(1_014), ToNode::Reset(reset(2))).unwrap();
    assert_eq!(through(&inbox), 0, "a place in another order");
    inbox.handle(at(1_015), told(2)).unwrap();
    assert_eq!(through(&inbox), 0, "which is still the order of what is cached");
    inbox.handle_reset_applied(&reset(2));
    inbox.handle(at(1_016), told(2)).unwrap();
    assert_eq!(through(&inbox), 2);
}
