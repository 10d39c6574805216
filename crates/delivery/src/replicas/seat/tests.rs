use batoff_types::Seq;
use batoff_types::message::{Heartbeat, Hello, LeasePolicy};

use super::*;
use crate::{Recovered, RecoveredNode, ReplicaSet, Resume, Roster, SetHistory, Statements};

/// What the engine holds.
#[derive(Default)]
struct Engine {
    record: Option<SeatRecord>,
    head: u64,
}

impl Engine {
    fn carry_out(&mut self, request: SeatRequest) -> SeatAnswer {
        match request {
            SeatRequest::Read => SeatAnswer::Record(self.record.clone()),
            SeatRequest::Head => SeatAnswer::Head(Cursor::new(self.head)),
            SeatRequest::Replace { expected, new } if expected == self.record => {
                self.record = Some(new);
                SeatAnswer::Replaced
            }
            SeatRequest::Replace { .. } => SeatAnswer::Conflict,
        }
    }
}

/// Milliseconds.
fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

fn process(number: u8, place: Option<&str>, now: Moment) -> Seat {
    let config = SeatConfig {
        replica: Replica(2),
        process: InstanceId::from_bytes([number; 16]),
        place: place.map(Arc::from),
        seat: Duration::from_secs(30),
        term_least: Term(0),
        times: LeaseTimes::default(),
    };
    Seat::new(config, now)
}

/// Asks and answers at once, as long as there is something to ask.
fn settle(seat: &mut Seat, engine: &mut Engine, now: Moment) {
    while let Some(request) = seat.poll_request(now) {
        seat.handle_answer(now, engine.carry_out(request));
    }
}

/// Lets time pass in steps of 100 ms.
fn pass(seat: &mut Seat, engine: &mut Engine, from: u64, to: u64) {
    for now in (from..=to).step_by(100) {
        settle(seat, engine, at(now));
    }
}

/// The wait of the defaults: 30 s, stretched by what two clocks may differ, and the margin.
fn wait() -> Duration {
    LeaseTimes::default().held_for(Duration::from_secs(30))
}

#[test]
fn the_first_process_ever_has_nobody_to_wait_for() {
    let (mut engine, mut seat) = (Engine { record: None, head: 7 }, process(1, None, at(0)));
    settle(&mut seat, &mut engine, at(5));
    assert_eq!((seat.term(), seat.floor()), (Some(Term(1)), Some(Cursor::new(7))));
    assert_eq!(seat.held_until(), at(30_005));
}

#[test]
fn a_successor_elsewhere_waits_until_its_predecessor_has_certainly_stopped() {
    let mut engine = Engine { record: None, head: 7 };
    let mut first = process(1, Some("a"), at(0));
    settle(&mut first, &mut engine, at(0));
    let mut second = process(2, Some("b"), at(0));
    settle(&mut second, &mut engine, at(100));
    assert_eq!((second.term(), second.floor()), (Some(Term(2)), None));
    assert_eq!(second.waits_until(), Some(at(100) + wait()));
    assert!(wait() >= Duration::from_secs(30).mul_f64(1.02) + LeaseTimes::default().margin);
    engine.head = 8;
    pass(&mut second, &mut engine, 200, 30_600);
    assert_eq!(second.floor(), None);
    engine.head = 9;
    pass(&mut second, &mut engine, 30_700, 31_000);
    assert_eq!(second.floor(), Some(Cursor::new(9)), "asked after the wait, and not when it registered");
    assert!(engine.record.is_some_and(|record| record.waited && record.term == Term(2)));
}

#[test]
fn a_successor_in_the_same_place_need_not_wait_as_the_lock_shows_that_its_predecessor_is_gone() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    let mut second = process(2, Some("a"), at(50));
    settle(&mut second, &mut engine, at(50));
    assert_eq!((second.term(), second.floor()), (Some(Term(2)), Some(Cursor::START)));
}

#[test]
fn without_a_lock_nobody_is_known_to_be_gone() {
    let mut engine = Engine::default();
    settle(&mut process(1, None, at(0)), &mut engine, at(0));
    let mut second = process(2, None, at(50));
    settle(&mut second, &mut engine, at(50));
    assert_eq!((second.floor(), second.waits_until()), (None, Some(at(50) + wait())));
}

#[test]
fn whoever_replaces_one_that_was_still_waiting_waits_too() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    settle(&mut process(2, Some("b"), at(100)), &mut engine, at(100));
    // In the place of the second, which is gone; the first may still act.
    let mut third = process(3, Some("b"), at(200));
    settle(&mut third, &mut engine, at(200));
    assert_eq!((third.floor(), third.waits_until()), (None, Some(at(200) + wait())));
    pass(&mut third, &mut engine, 300, 31_000);
    assert!(third.floor().is_some());
    let mut fourth = process(4, Some("b"), at(31_100));
    settle(&mut fourth, &mut engine, at(31_100));
    assert!(fourth.floor().is_some(), "the third had finished its wait");
}

#[test]
fn a_successor_of_one_that_was_stopped_in_order_need_not_wait_wherever_it_runs() {
    let mut engine = Engine { record: None, head: 7 };
    let mut first = process(1, Some("a"), at(0));
    settle(&mut first, &mut engine, at(0));
    first.release(at(1_000));
    assert_eq!(first.held_until(), Moment::ZERO, "before anybody is told");
    engine.head = 8;
    settle(&mut first, &mut engine, at(1_000));
    assert!(first.is_released() && !first.is_lost());
    assert_eq!((first.next_timeout(), first.floor(), first.held_until()), (None, None, Moment::ZERO));
    let mut second = process(2, Some("b"), at(1_100));
    settle(&mut second, &mut engine, at(1_100));
    assert_eq!((second.term(), second.floor()), (Some(Term(2)), Some(Cursor::new(8))));
    assert!(engine.record.as_ref().is_some_and(|record| record.waited && !record.released));
    // The word of the first was about itself: whoever comes after the second waits for that one.
    let mut third = process(3, Some("c"), at(1_200));
    settle(&mut third, &mut engine, at(1_200));
    assert_eq!((third.floor(), third.waits_until()), (None, Some(at(1_200) + wait())));
}

#[test]
fn one_that_still_waits_has_nothing_to_release() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    let mut second = process(2, Some("b"), at(100));
    settle(&mut second, &mut engine, at(100));
    second.release(at(200));
    settle(&mut second, &mut engine, at(200));
    assert!(second.is_released() && engine.record.as_ref().is_some_and(|record| !record.released));
    let mut third = process(3, Some("c"), at(300));
    settle(&mut third, &mut engine, at(300));
    assert!(third.floor().is_none() && third.waits_until().is_some());
}

/// Even if a record said so.
#[test]
fn the_word_of_one_that_had_not_waited_spares_nobody_the_wait() {
    let record = SeatRecord {
        term: Term(4),
        process: InstanceId::from_bytes([9; 16]),
        place: None,
        waited: false,
        released: true,
    };
    let mut engine = Engine { record: Some(record), head: 0 };
    let mut seat = process(1, Some("a"), at(0));
    settle(&mut seat, &mut engine, at(0));
    assert_eq!((seat.floor(), seat.waits_until()), (None, Some(at(0) + wait())));
}

#[test]
fn no_answer_makes_one_that_has_released_its_seat_act_again() {
    let mut engine = Engine::default();
    let mut seat = process(1, Some("a"), at(0));
    settle(&mut seat, &mut engine, at(0));
    // A proof is under way.
    let read = seat.poll_request(at(1_000)).unwrap();
    seat.release(at(1_100));
    assert_eq!(seat.poll_request(at(1_100)), None, "one at a time");
    seat.handle_answer(at(1_200), engine.carry_out(read));
    assert_eq!(seat.held_until(), Moment::ZERO);
    // It is written, and nobody hears of that.
    let release = seat.poll_request(at(1_200)).unwrap();
    assert_eq!(engine.carry_out(release), SeatAnswer::Replaced);
    seat.handle_answer(at(1_300), SeatAnswer::Unknown);
    assert!(!seat.is_released());
    settle(&mut seat, &mut engine, at(1_500));
    assert!(seat.is_released() && seat.held_until() == Moment::ZERO);
    assert!(engine.record.as_ref().is_some_and(|record| record.released && record.term == Term(1)));
}

#[test]
fn a_release_that_comes_late_takes_nothing_from_a_successor() {
    let mut engine = Engine::default();
    let mut first = process(1, Some("a"), at(0));
    settle(&mut first, &mut engine, at(0));
    first.release(at(1_000));
    let release = first.poll_request(at(1_000)).unwrap();
    let mut second = process(2, Some("b"), at(1_100));
    settle(&mut second, &mut engine, at(1_100));
    let registered = engine.record.clone();
    first.handle_answer(at(1_200), engine.carry_out(release));
    settle(&mut first, &mut engine, at(1_200));
    assert_eq!((first.is_released(), &engine.record), (true, &registered));
    assert!(second.waits_until().is_some());
}

#[test]
fn a_proof_counts_from_when_it_was_asked_for() {
    let (mut engine, mut seat) = (Engine::default(), process(1, None, at(0)));
    settle(&mut seat, &mut engine, at(0));
    let request = seat.poll_request(at(1_000)).unwrap();
    let answer = engine.carry_out(request);
    assert_eq!(seat.held_until(), at(30_000));
    // It was long on its way, or the process stood still.
    seat.handle_answer(at(20_000), answer);
    assert_eq!(seat.held_until(), at(31_000));
}

#[test]
fn an_engine_out_of_reach_lets_the_seat_run_out_and_nothing_else() {
    let (mut engine, mut seat) = (Engine::default(), process(1, None, at(0)));
    settle(&mut seat, &mut engine, at(0));
    for now in (1_000..60_000).step_by(100) {
        if seat.poll_request(at(now)).is_some() {
            seat.handle_answer(at(now), SeatAnswer::Unknown);
        }
    }
    assert_eq!((seat.held_until(), seat.is_lost()), (at(30_000), false));
    settle(&mut seat, &mut engine, at(61_000));
    assert_eq!((seat.held_until(), seat.floor()), (at(91_000), Some(Cursor::START)));
}

#[test]
fn a_process_that_was_replaced_learns_it_with_its_next_proof_and_ends() {
    let mut engine = Engine::default();
    let mut first = process(1, Some("a"), at(0));
    settle(&mut first, &mut engine, at(0));
    let mut second = process(2, Some("b"), at(100));
    settle(&mut second, &mut engine, at(100));
    settle(&mut first, &mut engine, at(1_100));
    assert!(first.is_lost() && first.term().is_none() && first.floor().is_none());
    assert_eq!((first.poll_request(at(9_000)), first.next_timeout()), (None, None));
    assert_eq!(first.held_until(), at(30_000), "nothing was added");
}

#[test]
fn one_that_is_replaced_while_it_waits_ends_too() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    let mut second = process(2, Some("b"), at(100));
    settle(&mut second, &mut engine, at(100));
    settle(&mut process(3, Some("c"), at(200)), &mut engine, at(200));
    pass(&mut second, &mut engine, 300, 1_500);
    assert!(second.is_lost());
}

#[test]
fn of_two_that_register_at_once_one_reads_again() {
    let mut engine = Engine::default();
    let (mut one, mut other) = (process(1, Some("a"), at(0)), process(2, Some("b"), at(0)));
    for seat in [&mut one, &mut other] {
        let read = seat.poll_request(at(0)).unwrap();
        seat.handle_answer(at(0), engine.carry_out(read));
    }
    settle(&mut one, &mut engine, at(0));
    settle(&mut other, &mut engine, at(1));
    assert_eq!((one.term(), one.floor().is_some()), (Some(Term(1)), true));
    assert_eq!((other.term(), other.floor()), (Some(Term(2)), None));
}

#[test]
fn a_registration_whose_answer_was_lost_is_found_and_counts_as_it_was_made() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    for (place, waits) in [("a", false), ("b", true)] {
        let mut engine = Engine { record: engine.record.clone(), head: 3 };
        let mut seat = process(2, Some(place), at(0));
        let read = seat.poll_request(at(10)).unwrap();
        seat.handle_answer(at(10), engine.carry_out(read));
        let replace = seat.poll_request(at(10)).unwrap();
        engine.carry_out(replace);
        seat.handle_answer(at(20), SeatAnswer::Unknown);
        settle(&mut seat, &mut engine, at(30));
        assert_eq!(seat.term(), None, "it asks again a little later");
        settle(&mut seat, &mut engine, at(300));
        assert_eq!((seat.term(), seat.floor().is_none()), (Some(Term(2)), waits), "{place}");
    }
}

#[test]
fn a_wait_whose_end_was_recorded_without_an_answer_is_over() {
    let mut engine = Engine::default();
    settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
    let mut second = process(2, Some("b"), at(100));
    settle(&mut second, &mut engine, at(100));
    let mut now = 100;
    loop {
        now += 100;
        assert!(now < 40_000);
        let Some(request) = second.poll_request(at(now)) else { continue };
        let ends = matches!(request, SeatRequest::Replace { .. });
        let answer = engine.carry_out(request);
        second.handle_answer(at(now), if ends { SeatAnswer::Unknown } else { answer });
        if ends {
            break;
        }
    }
    pass(&mut second, &mut engine, now, now + 2_000);
    assert!(second.floor().is_some());
}

/// A strict node that is registered by the first record, as a replica knows it that has read through `tail`, when what an
/// earlier process granted has run out.
fn replica(tail: u64, now: u64) -> Roster {
    let node = RecoveredNode {
        name: "fra1/edge-1".parse().unwrap(),
        registered: Seq::FIRST,
        confirmed: Cursor::START,
        policy: Some(LeasePolicy::Revalidate),
        parents: Some(Vec::new()),
        removed: false,
    };
    let recovered = Recovered {
        tail: Cursor::new(tail),
        term: Term(1),
        max_lease_granted: Duration::from_secs(1),
        completed: Cursor::START,
        nodes: vec![node],
    };
    let mut roster = Roster::new(LeaseTimes::default(), at(now - 2_000), recovered);
    for later in (now - 2_000..=now).step_by(500) {
        roster.handle_tick(at(later));
    }
    roster
}

/// A process of that node, numbered as its connection, connects at `cursor` and asks for a lease. True: it gets one.
fn is_leased_as(roster: &mut Roster, node: &str, number: u8, cursor: u64, now: u64) -> bool {
    let hello = Hello {
        node: node.parse().unwrap(),
        instance: InstanceId::from_bytes([number; 16]),
        position: None,
        protocol: 1,
        semantics: 1,
        version: String::new(),
        caches: Vec::new(),
        policy: LeasePolicy::Revalidate,
        parents: Vec::new(),
        connection: None,
    };
    let (connection, cursor) = (u64::from(number), Cursor::new(cursor));
    roster.handle_hello(at(now), &hello, &Resume::At(cursor), connection).unwrap();
    let heartbeat = Heartbeat { sent_at: at(now), cursor, index: None, fill_in_after: None };
    let grant = roster.handle_heartbeat(at(now), &hello.node, connection, &heartbeat).unwrap();
    !grant.duration.is_zero()
}

fn is_leased(roster: &mut Roster, number: u8, cursor: u64, now: u64) -> bool {
    is_leased_as(roster, "fra1/edge-1", number, cursor, now)
}

/// Replica 1 has two processes. The first one reads record 11 and is then cut off from the engine; the second registers
/// before that record, and has to wait. The node acknowledges the record to the first process and to replica 2, which
/// completes it; then it dies, and comes back with an older state to the second process, and to replica 3, which has not
/// heard of the record.
#[test]
fn where_the_log_ends_is_asked_after_the_wait() {
    for (rule, serves_what_was_purged) in [(None, false), (Some(Rule::HeadAfterWait), true)] {
        let mut engine = Engine { record: None, head: 10 };
        settle(&mut process(1, Some("a"), at(0)), &mut engine, at(0));
        let mut second = process(2, Some("b"), at(100));
        if let Some(rule) = rule {
            second = second.without(rule);
        }
        settle(&mut second, &mut engine, at(100));

        let (mut one, mut two, mut three) = (replica(10, 5_000), replica(10, 5_000), replica(10, 5_000));
        engine.head = 11;
        for knows in [&mut one, &mut two] {
            knows.handle_appended(at(5_000), Cursor::new(11));
            assert!(is_leased(knows, 1, 11, 5_001));
        }
        let set = ReplicaSet::new([1, 2, 3].map(Replica)).unwrap();
        let mut statements =
            Statements::new(SetHistory::new(Cursor::START, set), Cursor::new(11), Cursor::START);
        statements.handle_stated(Replica(1), one.statement(at(5_002)).unwrap());
        statements.handle_stated(Replica(2), two.statement(at(5_002)).unwrap());
        assert_eq!(statements.completed(), Cursor::new(11));

        pass(&mut second, &mut engine, 5_100, 31_000);
        (5_000..=31_000).step_by(500).for_each(|now| three.handle_tick(at(now)));
        let mut successor = replica(second.floor().unwrap().get(), 31_000);
        assert!(is_leased(&mut three, 2, 10, 31_000), "replica 3 alone does no harm");
        assert_eq!(is_leased(&mut successor, 2, 10, 31_000), serves_what_was_purged);
    }
}

#[test]
fn a_node_gets_its_first_lease_at_its_registration_and_not_before() {
    let mut roster = replica(4, 5_000);
    let (node, seq) = ("fra1/edge-2".parse().unwrap(), Seq::new(5).unwrap());
    roster.handle_registered(at(5_000), &node, seq, Some(LeasePolicy::Revalidate));
    roster.handle_appended(at(5_000), Cursor::after(seq));
    assert!(!is_leased_as(&mut roster, "fra1/edge-2", 1, 4, 5_001));
    assert!(is_leased_as(&mut roster, "fra1/edge-2", 2, 5, 5_002));
}
