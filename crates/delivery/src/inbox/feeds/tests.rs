use std::sync::Arc;

use batoff_types::{Body, LogId, SiteTable, UnixMillis};

use super::*;

mod prompt;

const LOG: LogId = LogId::from_bytes([9; 16]);
const OTHER_LOG: LogId = LogId::from_bytes([8; 16]);

const A: FeedLine = line(1, 1);
const B: FeedLine = line(2, 1);
const C: FeedLine = line(3, 1);

const fn line(replica: u8, connection: u64) -> FeedLine {
    FeedLine { replica: Replica(replica), connection }
}

fn set(members: &[u8]) -> ReplicaSet {
    ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

/// Milliseconds.
fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

fn records(numbers: std::ops::RangeInclusive<u64>) -> ToNode {
    let record = |number: u64| Record {
        seq: seq(number),
        accepted_at: UnixMillis(0),
        task: TaskId::from_bytes(u128::from(number).to_be_bytes()),
        request_id: Arc::from("r"),
        semantics: 1,
        trace: None,
        body: Body::Unknown,
    };
    ToNode::Records(numbers.map(record).collect())
}

fn position(cursor: u64) -> Option<Position> {
    Some(Position { log_id: LOG, cursor: Cursor::new(cursor), task: None })
}

fn welcome(log_id: LogId, tail: u64) -> ToNode {
    ToNode::Welcome(Welcome {
        log_id,
        term: Term(1),
        tail: Cursor::new(tail),
        lease: Duration::from_secs(1),
        heartbeat_interval: Duration::from_millis(250),
        reconnect_min: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(5),
        sites: SiteTable::default(),
        replica: Replica::ONLY,
        set: set(&[1, 2, 3]),
    })
}

fn reset(log_id: LogId, cursor: u64, reason: ResetReason) -> Reset {
    Reset { log_id, cursor: Cursor::new(cursor), reason }
}

fn feeds(policy: LeasePolicy, position: Option<Position>, rule: Option<Rule>) -> Feeds {
    let mut config = InboxConfig::new("fra1/edge-1".parse().unwrap(), policy);
    config.set = set(&[1, 2, 3]);
    if let Some(rule) = rule {
        config = config.without(rule);
    }
    let terms = [1, 2, 3].map(|replica| (Replica(replica), Term(1)));
    Feeds::new(config, InstanceId::from_bytes([1; 16]), position, terms)
}

/// A strict node that stands at `cursor` and is welcomed by three replicas, which know the log through there.
fn connected(cursor: u64) -> Feeds {
    connected_without(cursor, None)
}

fn connected_without(cursor: u64, rule: Option<Rule>) -> Feeds {
    let mut feeds = feeds(LeasePolicy::Revalidate, position(cursor), rule);
    for line in [A, B, C] {
        feeds.hello(line);
        feeds.handle(at(1_000), line, welcome(LOG, cursor)).unwrap();
    }
    feeds
}

/// A heartbeat to a replica, and its answer with a lease of a second.
fn lease(feeds: &mut Feeds, line: FeedLine, sent: u64) {
    feeds.poll_heartbeat(at(sent), line.replica).unwrap();
    let grant = LeaseGrant {
        echo: at(sent),
        duration: Duration::from_secs(1),
        term: Term(1),
        parents_through: None,
        tail: None,
    };
    feeds.handle(at(sent + 5), line, ToNode::LeaseGrant(grant)).unwrap();
}

/// Applies all that is queued; gives their numbers.
fn apply(feeds: &mut Feeds) -> Vec<u64> {
    let mut applied = Vec::new();
    while let Some(Received { record, .. }) = feeds.poll_record() {
        let report = RecordReport {
            seq: record.seq,
            objects: 1,
            last: true,
            in_force_after: Duration::ZERO,
            evicted_after: Duration::ZERO,
        };
        feeds.handle_applied(record.seq, record.task, report).unwrap();
        applied.push(record.seq.get());
    }
    applied
}

#[test]
fn whichever_replica_is_first_brings_a_record_and_the_others_change_nothing() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), B, records(5..=6)).unwrap();
    feeds.handle(at(1_002), A, records(5..=7)).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6, 7]);
    feeds.handle(at(1_003), C, records(5..=7)).unwrap();
    assert_eq!(apply(&mut feeds), [] as [u64; 0]);
}

#[test]
fn a_gap_that_another_replica_has_filled_is_none() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), B, records(5..=7)).unwrap();
    feeds.handle(at(1_002), A, records(8..=8)).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6, 7, 8]);
    let gap = InboxError::Gap { expected: seq(9), got: seq(10) };
    assert_eq!(feeds.handle(at(1_003), A, records(10..=10)), Err(gap));
    assert!(feeds.is_void(A.replica) && !feeds.is_void(B.replica), "the others go on");
    feeds.handle(at(1_004), B, records(8..=10)).unwrap();
    assert_eq!(apply(&mut feeds), [9, 10]);
}

#[test]
fn a_new_connection_forgets_nothing_while_another_replica_sends() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), B, records(5..=6)).unwrap();
    feeds.hello(line(1, 2));
    feeds.handle(at(1_002), B, records(7..=7)).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6, 7]);
}

#[test]
fn a_node_serves_while_leases_of_a_majority_run() {
    let mut feeds = connected(4);
    lease(&mut feeds, A, 1_000);
    assert_eq!(feeds.lease().valid_until(), Moment::ZERO, "one of three");
    lease(&mut feeds, B, 1_300);
    assert_eq!(feeds.lease().valid_until(), at(2_000), "both of two run until the first ends");
    lease(&mut feeds, C, 1_200);
    assert_eq!(feeds.lease().valid_until(), at(2_200), "then two of three still run");
    lease(&mut feeds, A, 1_900);
    assert_eq!(feeds.lease().valid_until(), at(2_300));
    assert!(feeds.may_serve(at(2_299)) && !feeds.may_serve(at(2_300)));

    let mut alone = connected_without(4, Some(Rule::LeaseMajority));
    lease(&mut alone, A, 1_000);
    assert!(alone.may_serve(at(1_999)), "without the rule");
}

#[test]
fn a_lease_counts_only_if_its_replica_is_in_the_set_where_the_node_stands() {
    for (rule, early) in [(None, false), (Some(Rule::SetAtCursor), true)] {
        let mut feeds = connected_without(4, rule);
        for learner in [line(4, 1), line(5, 1)] {
            feeds.hello(learner);
            feeds.handle(at(1_000), learner, welcome(LOG, 4)).unwrap();
            feeds.handle_term_durable(learner.replica, Term(1));
            lease(&mut feeds, learner, 1_000);
        }
        assert!(!feeds.may_serve(at(1_100)));
        feeds.handle(at(1_001), A, records(5..=5)).unwrap();
        feeds.handle_set(seq(5), set(&[3, 4, 5]));
        assert_eq!(feeds.may_serve(at(1_100)), early, "the record is not applied");
        apply(&mut feeds);
        assert!(feeds.may_serve(at(1_100)));
        assert_eq!(feeds.set(), &set(&[3, 4, 5]));
    }
}

#[test]
fn an_available_node_agrees_with_each_set_anew() {
    for (rule, serves) in [(None, false), (Some(Rule::AgreedWithSet), true)] {
        let mut feeds = feeds(LeasePolicy::Serve, position(4), rule);
        for line in [A, B] {
            feeds.hello(line);
            feeds.handle(at(1_000), line, welcome(LOG, 4)).unwrap();
        }
        feeds.handle(at(1_001), A, records(5..=5)).unwrap();
        feeds.handle(at(1_001), B, records(5..=5)).unwrap();
        assert!(feeds.wants_to_agree() && !feeds.may_serve(at(1_001)), "until then it may count as strict");
        feeds.handle_agreed();
        assert!(feeds.may_serve(at(9_000)));
        feeds.handle_set(seq(5), set(&[3, 4]));
        assert!(feeds.may_serve(at(9_000)), "the record is not applied");
        apply(&mut feeds);
        assert_eq!(feeds.may_serve(at(9_000)), serves, "those two may take it for a strict node");
        for line in [C, line(4, 1)] {
            assert!(!feeds.wants_to_agree() || rule.is_some());
            feeds.hello(line);
            feeds.handle(at(1_002), line, welcome(LOG, 5)).unwrap();
            feeds.handle(at(1_002), line, records(6..=6)).unwrap();
        }
        assert_eq!(feeds.wants_to_agree(), !serves);
        feeds.handle_agreed();
        assert!(feeds.may_serve(at(9_000)));
    }
}

#[test]
fn one_replica_alone_resets_nobody() {
    let mut feeds = connected(4);
    lease(&mut feeds, A, 1_000);
    lease(&mut feeds, B, 1_000);
    feeds.handle(at(1_001), C, ToNode::Reset(reset(OTHER_LOG, 2, ResetReason::ForeignLog))).unwrap();
    assert_eq!((feeds.poll_reset(), feeds.position()), (None, position(4)));
    feeds.handle(at(1_001), C, records(3..=9)).unwrap();
    assert_eq!(feeds.queued(), 0, "those follow another place");
    lease(&mut feeds, C, 1_100);
    assert!(feeds.may_serve(at(1_999)) && !feeds.may_serve(at(2_000)), "its leases are of another log");
    feeds.handle(at(1_002), A, records(5..=5)).unwrap();
    assert_eq!(apply(&mut feeds), [5]);
}

#[test]
fn a_majority_resets_the_node_to_the_furthest_place_that_it_names() {
    let mut feeds = connected(4);
    lease(&mut feeds, A, 1_000);
    lease(&mut feeds, B, 1_000);
    feeds.handle(at(1_001), A, records(5..=5)).unwrap();
    feeds.handle(at(1_001), C, ToNode::Reset(reset(OTHER_LOG, 7, ResetReason::ForeignLog))).unwrap();
    feeds.handle(at(1_002), A, ToNode::Reset(reset(OTHER_LOG, 6, ResetReason::ForeignLog))).unwrap();
    assert!(!feeds.may_serve(at(1_002)) && feeds.position().is_none());
    let obeyed = feeds.poll_reset().unwrap();
    assert_eq!((obeyed.log_id, obeyed.cursor), (OTHER_LOG, Cursor::new(7)));
    assert_eq!(feeds.reset_from(), Some(C.replica));
    assert!(feeds.is_void(B.replica) && !feeds.is_void(A.replica), "what B was told is no longer so");
    feeds.handle(at(1_003), A, records(7..=8)).unwrap();
    assert_eq!(apply(&mut feeds), [] as [u64; 0], "first everything has to go");
    feeds.handle_reset_applied(&obeyed);
    assert_eq!(apply(&mut feeds), [8]);
    feeds.hello(line(2, 2));
    feeds.handle(at(1_004), line(2, 2), welcome(OTHER_LOG, 8)).unwrap();
    lease(&mut feeds, line(2, 2), 1_300);
    lease(&mut feeds, A, 1_300);
    assert!(feeds.may_serve(at(1_400)));
}

/// It had already sent what comes after that place, and nobody kept it.
#[test]
fn a_node_is_not_put_to_a_place_after_which_it_has_missed_something() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), C, ToNode::Reset(reset(OTHER_LOG, 7, ResetReason::ForeignLog))).unwrap();
    feeds.handle(at(1_002), C, records(8..=9)).unwrap();
    feeds.handle(at(1_003), A, ToNode::Reset(reset(OTHER_LOG, 6, ResetReason::ForeignLog))).unwrap();
    let obeyed = feeds.poll_reset().unwrap();
    assert_eq!((obeyed.cursor, feeds.reset_from()), (Cursor::new(6), Some(A.replica)));
    assert!(feeds.is_void(C.replica));
    feeds.handle(at(1_004), A, records(7..=10)).unwrap();
    feeds.handle_reset_applied(&obeyed);
    assert_eq!(apply(&mut feeds), [7, 8, 9, 10]);
}

#[test]
fn without_the_rule_one_replica_resets_a_node() {
    let mut feeds = connected_without(4, Some(Rule::ResetMajority));
    feeds.handle(at(1_001), C, ToNode::Reset(reset(OTHER_LOG, 2, ResetReason::ForeignLog))).unwrap();
    assert!(feeds.poll_reset().is_some());
}

/// The first one does: there is nothing to lose.
#[test]
fn a_node_that_stands_nowhere_is_put_somewhere_by_any_replica() {
    let mut feeds = feeds(LeasePolicy::Revalidate, None, None);
    for line in [A, B, C] {
        feeds.hello(line);
        feeds.handle(at(1_000), line, welcome(LOG, 9)).unwrap();
    }
    feeds.handle(at(1_001), A, ToNode::Reset(reset(LOG, 8, ResetReason::New))).unwrap();
    let first = feeds.poll_reset().unwrap();
    feeds.handle(at(1_001), B, ToNode::Reset(reset(LOG, 7, ResetReason::New))).unwrap();
    feeds.handle(at(1_001), C, ToNode::Reset(reset(LOG, 9, ResetReason::New))).unwrap();
    assert_eq!(feeds.poll_reset(), None, "one is under way");
    assert!(!feeds.is_void(B.replica) && feeds.is_void(C.replica), "C begins beyond it, and is told anew");
    feeds.handle(at(1_002), B, records(8..=9)).unwrap();
    feeds.handle_reset_applied(&first);
    assert!(feeds.is_following(A.replica) && feeds.is_following(B.replica));
    assert_eq!(apply(&mut feeds), [9]);
    // Too late for the first place; where the node stands now is said by the next Hello.
    feeds.hello(line(3, 2));
    assert_eq!(feeds.line(C.replica), line(3, 2));
}

#[test]
fn an_answer_to_a_hello_that_said_nowhere_is_void_once_the_node_stands_somewhere() {
    let mut feeds = feeds(LeasePolicy::Revalidate, None, None);
    for line in [A, B] {
        feeds.hello(line);
        feeds.handle(at(1_000), line, welcome(LOG, 9)).unwrap();
    }
    feeds.handle(at(1_001), A, ToNode::Reset(reset(LOG, 9, ResetReason::New))).unwrap();
    let first = feeds.poll_reset().unwrap();
    feeds.handle_reset_applied(&first);
    feeds.handle(at(1_002), B, ToNode::Reset(reset(LOG, 9, ResetReason::New))).unwrap();
    assert!(feeds.is_void(B.replica) && feeds.poll_reset().is_none());
}

#[test]
fn what_one_replica_has_trimmed_another_may_still_bring() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), C, ToNode::Reset(reset(LOG, 6, ResetReason::Trimmed))).unwrap();
    assert!(!feeds.is_void(C.replica));
    feeds.handle(at(1_002), A, records(5..=6)).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6]);
    assert!(feeds.is_void(C.replica), "a new connection resumes where the node is now");
}

/// The set where the node stands may be gone.
#[test]
fn what_is_trimmed_and_nobody_else_can_bring_is_lost() {
    let mut feeds = connected(4);
    feeds.handle(at(1_000), A, records(5..=5)).unwrap();
    feeds.handle(at(1_001), C, ToNode::Reset(reset(LOG, 8, ResetReason::Trimmed))).unwrap();
    feeds.handle_disconnected(B);
    assert_eq!(feeds.poll_reset(), None, "A may still bring it");
    feeds.handle_disconnected(line(1, 0));
    assert_eq!(feeds.poll_reset(), None, "that was another connection");
    feeds.handle_disconnected(A);
    assert_eq!(feeds.poll_reset().map(|reset| reset.cursor), Some(Cursor::new(8)));
    // But another log needs a majority, whoever is left.
    let mut feeds = connected(4);
    feeds.handle(at(1_001), C, ToNode::Reset(reset(OTHER_LOG, 8, ResetReason::ForeignLog))).unwrap();
    feeds.handle_disconnected(A);
    feeds.handle_disconnected(B);
    assert_eq!(feeds.poll_reset(), None);
}

#[test]
fn what_comes_on_an_earlier_connection_is_dropped() {
    for (rule, dropped) in [(None, true), (Some(Rule::PresentConnection), false)] {
        let mut feeds = connected_without(4, rule);
        feeds.hello(line(1, 2));
        feeds.handle(at(1_001), line(1, 2), welcome(LOG, 4)).unwrap();
        feeds.handle(at(1_002), A, records(5..=5)).unwrap();
        assert_eq!(apply(&mut feeds).is_empty(), dropped);
    }
}

#[test]
fn every_replica_is_told_how_far_the_node_is_and_what_happened_on_the_way() {
    let mut feeds = connected(4);
    for line in [A, B] {
        feeds.handle(at(1_001), line, records(5..=6)).unwrap();
    }
    apply(&mut feeds);
    let (first, second) = (feeds.poll_ack(A.replica).unwrap(), feeds.poll_ack(B.replica).unwrap());
    assert_eq!((first.cursor, second.cursor), (Cursor::new(6), Cursor::new(6)));
    assert_eq!((first.reports.len(), second.reports.len()), (2, 2));
    assert_eq!((feeds.poll_ack(A.replica), feeds.poll_ack(B.replica)), (None, None));
    assert_eq!(feeds.poll_ack(C.replica), None, "it has not accepted the position yet");
    assert_eq!(feeds.poll_heartbeat(at(1_001), C.replica).unwrap().cursor, Cursor::START);
    assert_eq!(feeds.poll_heartbeat(at(1_001), A.replica).unwrap().cursor, Cursor::new(6));
}

#[test]
fn a_node_has_caught_up_when_it_has_applied_what_a_majority_welcomed_it_to() {
    let mut feeds = feeds(LeasePolicy::Serve, position(4), None);
    for (line, tail) in [(A, 4), (B, 6), (C, 7)] {
        feeds.hello(line);
        feeds.handle(at(1_000), line, welcome(LOG, tail)).unwrap();
        feeds.handle(at(1_000), line, records(5..=5)).unwrap();
    }
    apply(&mut feeds);
    assert!(!feeds.has_caught_up(), "A is behind, and says little");
    feeds.handle(at(1_001), B, records(6..=6)).unwrap();
    apply(&mut feeds);
    assert!(feeds.wants_to_agree() && !feeds.may_serve(at(1_001)));
    feeds.handle_agreed();
    assert!(feeds.may_serve(at(1_001)));
}

#[test]
fn of_the_parents_counts_what_a_majority_says() {
    let mut config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Revalidate);
    config.set = set(&[1, 2, 3]);
    config.parents = vec!["lon1".parse().unwrap()];
    let mut feeds = Feeds::new(config, InstanceId::from_bytes([1; 16]), position(4), []);
    for (line, through, expected) in [(A, 9, 0), (B, 3, 3), (C, 7, 7)] {
        feeds.hello(line);
        feeds.handle(at(1_000), line, welcome(LOG, 9)).unwrap();
        let told = Parents { through: Cursor::new(through), why: String::new() };
        feeds.handle(at(1_001), line, ToNode::Parents(told)).unwrap();
        assert_eq!(feeds.parents().through.get(), expected);
    }
}

fn welcome_of(replica: u8, term: u64, tail: u64, members: &[u8]) -> Welcome {
    let ToNode::Welcome(welcome) = welcome(LOG, tail) else { panic!("no Welcome") };
    Welcome { replica: Replica(replica), term: Term(term), set: set(members), ..welcome }
}

#[test]
fn a_stream_becomes_that_of_a_replica_when_one_has_welcomed_it() {
    let mut feeds = feeds(LeasePolicy::Revalidate, position(4), None);
    let (hello, early) = feeds.greet(7);
    assert_eq!((hello.connection, hello.position), (Some(7), position(4)));
    let (_, late) = feeds.greet(8);
    let (_, replaced) = feeds.greet(9);
    let three = welcome_of(2, 1, 4, &[1, 2, 3]);
    assert_eq!(feeds.handle_welcomed(at(1_000), late, three.clone()), Ok(line(2, 8)));
    assert!(feeds.poll_welcome(Replica(2)).is_some());
    let overtaken = feeds.handle_welcomed(at(1_001), early, three);
    assert!(matches!(overtaken, Err(InboxError::Outdated(_))), "{overtaken:?}");
    let frozen = feeds.handle_welcomed(at(1_002), replaced, welcome_of(2, 0, 4, &[1, 2, 3]));
    assert_eq!(frozen, Err(InboxError::LowerTerm { given: Term(0), seen: Term(1) }));
    assert_eq!(
        (feeds.line(Replica(2)), feeds.is_void(Replica(2))),
        (line(2, 8), false),
        "the good one goes on"
    );
    feeds.handle(at(1_003), line(2, 8), records(5..=5)).unwrap();
    assert_eq!(apply(&mut feeds), [5]);
}

#[test]
fn what_was_said_before_everything_was_dropped_is_not_taken_for_a_place_in_the_new_order() {
    let mut feeds = connected(4);
    feeds.handle_disconnected(C);
    let (_, said) = feeds.greet(9);
    for line in [A, B] {
        feeds.handle(at(1_001), line, ToNode::Reset(reset(OTHER_LOG, 2, ResetReason::ForeignLog))).unwrap();
    }
    assert!(feeds.is_resetting());
    let wipe = feeds.poll_reset().unwrap();
    let late = feeds.handle_welcomed(at(1_002), said, welcome_of(3, 1, 9, &[1, 2, 3]));
    assert!(matches!(late, Err(InboxError::Outdated(_))), "{late:?}");
    feeds.handle_reset_applied(&wipe);
    assert!(!feeds.is_resetting());
    let (hello, said) = feeds.greet(10);
    assert_eq!(hello.position.unwrap().log_id, OTHER_LOG);
    feeds.handle_welcomed(at(1_003), said, welcome_of(3, 1, 9, &[1, 2, 3])).unwrap();
}

#[test]
fn a_reset_that_cannot_be_carried_out_is_asked_for_anew() {
    let mut feeds = connected(4);
    for line in [A, B] {
        feeds.handle(at(1_001), line, ToNode::Reset(reset(OTHER_LOG, 2, ResetReason::ForeignLog))).unwrap();
    }
    feeds.poll_reset().unwrap();
    feeds.handle_reset_refused();
    assert!([A, B, C].iter().all(|line| feeds.is_void(line.replica)) && !feeds.is_resetting());
    let (hello, said) = feeds.greet(5);
    assert_eq!(hello.position, None, "nothing is claimed meanwhile");
    let line = feeds.handle_welcomed(at(1_002), said, welcome_of(1, 1, 4, &[1, 2, 3])).unwrap();
    feeds.handle(at(1_003), line, ToNode::Reset(reset(LOG, 4, ResetReason::New))).unwrap();
    assert_eq!(feeds.poll_reset(), Some(reset(LOG, 4, ResetReason::New)));
}

#[test]
fn whoever_may_still_have_what_is_trimmed_is_waited_for() {
    let mut feeds = feeds(LeasePolicy::Revalidate, position(4), None);
    let (_, first) = feeds.greet(1);
    feeds.handle_awaited(2);
    let line = feeds.handle_welcomed(at(1_000), first, welcome_of(1, 1, 9, &[1, 2, 3])).unwrap();
    feeds.handle_awaited(1);
    feeds.handle(at(1_001), line, ToNode::Reset(reset(LOG, 9, ResetReason::Trimmed))).unwrap();
    assert_eq!(feeds.poll_reset(), None);
    feeds.handle_awaited(0);
    assert!(feeds.poll_reset().is_some(), "nobody is left who has it");
}

#[test]
fn the_set_comes_with_the_place_the_reset_or_the_record() {
    // Stored by a build that knew of one control plane only.
    let mut config = InboxConfig::new("fra1/edge-1".parse().unwrap(), LeasePolicy::Revalidate);
    config.set_is_known = false;
    let mut feeds = Feeds::new(config, InstanceId::from_bytes([1; 16]), position(4), [(Replica(1), Term(1))]);
    let (_, said) = feeds.greet(1);
    let one = feeds.handle_welcomed(at(1_000), said, welcome_of(1, 1, 4, &[1, 2, 3])).unwrap();
    assert!(!feeds.knows_set(), "it may not accept the node's place");
    lease(&mut feeds, one, 1_000);
    assert_eq!((feeds.knows_set(), feeds.set()), (true, &set(&[1, 2, 3])));
    assert!(!feeds.may_serve(at(1_010)), "one lease of three");

    let ToNode::Records(mut changed) = records(5..=6) else { panic!("no records") };
    changed[0].body = Body::ReplicaSet(set(&[1]));
    feeds.handle(at(1_011), one, ToNode::Records(changed)).unwrap();
    assert!(feeds.concerns(Replica(3)) && !feeds.may_serve(at(1_012)));
    assert_eq!(apply(&mut feeds), [5, 6]);
    assert!(!feeds.concerns(Replica(3)) && feeds.may_serve(at(1_012)), "from the record on");

    feeds.handle_disconnected(one);
    let (_, said) = feeds.greet(2);
    let one = feeds.handle_welcomed(at(1_013), said, welcome_of(1, 1, 4, &[1, 4])).unwrap();
    feeds.handle(at(1_014), one, ToNode::Reset(reset(LOG, 4, ResetReason::BeyondTail))).unwrap();
    assert!(feeds.poll_reset().is_some(), "it is the only one that counts");
    assert_eq!(feeds.set(), &set(&[1, 4]), "as of where the reset puts the node");
}

#[test]
fn it_is_known_who_brings_records_first_and_how_far_the_others_are_behind() {
    let mut feeds = connected(4);
    feeds.handle(at(1_001), B, records(5..=7)).unwrap();
    feeds.handle(at(1_031), A, records(5..=6)).unwrap();
    let arrivals = |first, millis| Arrivals { first, filled_in: 0, behind: Duration::from_millis(millis) };
    assert_eq!(feeds.arrivals(B.replica), arrivals(3, 0));
    assert_eq!(feeds.arrivals(A.replica), arrivals(0, 30));
    feeds.handle(at(1_040), A, records(7..=8)).unwrap();
    assert_eq!(feeds.arrivals(A.replica), arrivals(1, 0));
}
