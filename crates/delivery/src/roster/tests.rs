use std::time::Duration;

use batoff_types::InstanceId;
use batoff_types::message::{Hello, Reset, ResetReason};

use super::*;
use crate::Resume;

/// One control plane in a story; times are milliseconds.
struct Story {
    roster: Roster,
    now: Moment,
}

const STRICT: Option<LeasePolicy> = Some(LeasePolicy::Revalidate);
const AVAILABLE: Option<LeasePolicy> = Some(LeasePolicy::Serve);

fn name(node: u8) -> NodeName {
    NodeName::new(if node < 5 { "ams1" } else { "fra1" }, &format!("edge-{node}")).unwrap()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn hello(node: u8, instance: u8, policy: Option<LeasePolicy>) -> Hello {
    Hello {
        node: name(node),
        instance: InstanceId::from_bytes([instance; 16]),
        position: None,
        protocol: 1,
        semantics: 1,
        version: String::new(),
        caches: Vec::new(),
        policy: policy.unwrap_or_default(),
        parents: Vec::new(),
        connection: None,
    }
}

impl Story {
    /// Starts with a log up to `tail` and nodes 1, 2, … registered by the records 1, 2, ….
    fn restart(tail: u64, nodes: &[(u64, Option<LeasePolicy>)], off: Option<Rule>) -> Self {
        let nodes = nodes.iter().enumerate().map(|(index, (confirmed, policy))| RecoveredNode {
            name: name(index as u8 + 1),
            registered: seq(index as u64 + 1),
            confirmed: Cursor::new(*confirmed),
            policy: *policy,
            parents: None,
            removed: false,
        });
        let recovered = Recovered {
            tail: Cursor::new(tail),
            term: Term(3),
            max_lease_granted: Duration::from_secs(1),
            completed: Cursor::START,
            nodes: nodes.collect(),
        };
        let now = Moment::from_micros(5_000_000);
        Self { roster: Roster::with_rules(LeaseTimes::default(), now, recovered, RuleSet { off }), now }
    }

    /// The strict nodes 1 to `nodes`, registered as records, up to date and leased in their instance 1, connection 1;
    /// waits for earlier leases are over.
    fn calm(nodes: u8) -> Self {
        let tail = u64::from(nodes);
        let mut story = Self::restart(tail, &vec![(tail, STRICT); usize::from(nodes)], None);
        story.pass(2_000);
        for node in 1..=nodes {
            story.hello(node, 1, tail, 1);
            assert!(story.beat(node, 1, tail));
        }
        story.roster.poll_completed();
        story
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            self.roster.handle_tick(self.now);
        }
        self.roster.check();
    }

    fn purge(&mut self) -> Seq {
        let seq = self.roster.tail().next();
        self.roster.handle_appended(self.now, Cursor::after(seq));
        seq
    }

    fn hello(&mut self, node: u8, instance: u8, cursor: u64, connection: u64) -> Greeting {
        let resume = Resume::At(Cursor::new(cursor));
        self.roster.handle_hello(self.now, &hello(node, instance, STRICT), &resume, connection).unwrap()
    }

    /// True: with a lease.
    fn beat(&mut self, node: u8, connection: u64, cursor: u64) -> bool {
        let heartbeat = Heartbeat {
            sent_at: Moment::from_micros(77),
            cursor: Cursor::new(cursor),
            index: None,
            fill_in_after: None,
        };
        let grant = self.roster.handle_heartbeat(self.now, &name(node), connection, &heartbeat).unwrap();
        assert_eq!((grant.echo, grant.term), (Moment::from_micros(77), Term(3)));
        !grant.duration.is_zero()
    }

    fn ack(&mut self, node: u8, connection: u64, cursor: u64) -> bool {
        self.roster.handle_ack(self.now, &name(node), connection, Cursor::new(cursor))
    }

    fn watermark(&self) -> u64 {
        self.roster.watermark().get()
    }

    fn view(&self, node: u8) -> NodeView {
        self.roster.node(self.now, &name(node)).unwrap()
    }

    fn state(&self, node: u8) -> NodeState {
        self.view(node).state
    }
}

#[test]
fn a_purge_is_completed_by_the_last_ack_and_reported_once() {
    let mut story = Story::calm(3);
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    story.ack(2, 1, purge);
    assert_eq!(story.roster.poll_completed(), None);
    let counts = NodeCounts { total: 3, confirmed: 2, fenced: 0, unreachable: 0 };
    assert_eq!(story.roster.counts_at(seq(purge)), counts);
    assert_eq!(story.roster.late_at(seq(purge)), [LateNode { node: name(3), why: Lateness::Lagging }]);
    story.ack(3, 1, purge);
    let completed = Completed { after: Cursor::new(3), through: Cursor::new(4) };
    assert_eq!(story.roster.poll_completed(), Some(completed));
    assert_eq!(story.roster.poll_completed(), None);
}

#[test]
fn many_purges_are_completed_as_one_range() {
    let mut story = Story::calm(1);
    for _ in 0..1_000 {
        story.purge();
    }
    story.ack(1, 1, 1_001);
    let completed = Completed { after: Cursor::new(1), through: Cursor::new(1_001) };
    assert_eq!(story.roster.poll_completed(), Some(completed));
}

#[test]
fn without_nodes_everything_is_completed_at_once() {
    let mut story = Story::restart(5, &[], None);
    assert_eq!(story.watermark(), 5);
    story.purge();
    assert_eq!(story.watermark(), 6);
}

#[test]
fn a_silent_strict_node_holds_a_purge_up_only_until_its_lease_has_run_out() {
    let mut story = Story::calm(2);
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    story.pass(1_070);
    assert_eq!((story.watermark(), story.state(2)), (2, NodeState::Leased));
    story.pass(2);
    assert_eq!((story.watermark(), story.state(2)), (purge, NodeState::Away));
    assert_eq!(story.roster.counts_at(seq(purge)).fenced, 1);
    assert_eq!(story.roster.leases_lost(), 2, "nobody renewed the other's either");
}

#[test]
fn g1_a_node_that_was_away_gets_no_lease_before_it_has_what_was_completed_without_it() {
    let mut story = Story::calm(2);
    story.pass(1_200);
    story.beat(1, 1, 2);
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    assert_eq!(story.watermark(), purge, "node 2 is away");
    story.hello(2, 1, 2, 2);
    assert_eq!(story.state(2), NodeState::Joining);
    assert!(!story.beat(2, 2, 2));
    assert_eq!(story.view(2).refusal, Some(Refusal::BehindFloor));
    assert!(story.beat(2, 2, purge));
    assert_eq!(story.state(2), NodeState::Leased);
}

#[test]
fn g1_a_joining_node_stays_safe_through_its_floor_and_no_further() {
    let mut story = Story::calm(1);
    story.pass(1_200);
    let over_its_head = story.purge().get();
    story.hello(1, 1, 1, 2);
    let after = story.purge().get();
    assert_eq!(story.watermark(), over_its_head);
    assert_eq!(story.view(1).floor, Cursor::new(over_its_head));
    assert!(story.beat(1, 2, over_its_head), "the last purge is young, it may still come");
    assert_eq!(story.watermark(), over_its_head);
    story.ack(1, 2, after);
    assert_eq!(story.watermark(), after);
}

/// A node joins, acknowledges beyond its floor, dies before it has a lease, and comes back from an older cursor.
fn lease_below_an_earlier_ack(off: Option<Rule>) -> (Story, bool) {
    let mut story = Story::restart(1, &[(1, STRICT)], off);
    story.pass(2_000);
    story.hello(1, 1, 1, 1);
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    story.hello(1, 2, 1, 2);
    let granted = story.beat(1, 2, 1);
    (story, granted)
}

#[test]
fn g1_a_lease_is_not_granted_below_an_earlier_ack() {
    let (mut story, granted) = lease_below_an_earlier_ack(None);
    assert!(!granted);
    assert_eq!(story.watermark(), 2, "acks are never taken back");
    assert_eq!(story.view(1).refusal, Some(Refusal::BehindConfirmed));
    assert!(story.beat(1, 2, 2));
    // What the rule is for: without it the node serves what is completed.
    let (story, granted) = lease_below_an_earlier_ack(Some(Rule::Confirmed));
    assert!(granted && story.view(1).cursor < story.roster.watermark());
}

#[test]
fn g1_after_a_start_a_lease_needs_the_recovered_tail() {
    let mut story = Story::restart(10, &[(4, STRICT)], None);
    story.hello(1, 1, 7, 1);
    assert!(!story.beat(1, 1, 7), "8 to 10 may have been completed by the predecessor");
    assert_eq!(story.view(1).refusal, Some(Refusal::BehindFloor));
    assert!(story.beat(1, 1, 10));
}

#[test]
fn after_a_start_nothing_is_completed_before_the_longest_old_lease_has_run_out() {
    let mut story = Story::restart(10, &[(4, STRICT), (9, STRICT)], None);
    assert_eq!((story.watermark(), story.state(1)), (4, NodeState::Unknown));
    story.pass(1_070);
    assert_eq!(story.watermark(), 4);
    story.pass(2);
    assert_eq!((story.watermark(), story.state(1)), (10, NodeState::Away));
    assert_eq!(story.roster.leases_lost(), 0, "none that this start has granted");
}

#[test]
fn after_a_start_acks_of_an_incarnation_count_when_no_other_can_have_a_lease() {
    let mut story = Story::restart(10, &[(4, STRICT)], None);
    story.hello(1, 1, 10, 1);
    assert!(story.beat(1, 1, 10), "it may serve at once");
    assert_eq!(story.watermark(), 4, "another process of that name may still serve by an old lease");
    assert_eq!(story.roster.late_at(seq(9)), [LateNode { node: name(1), why: Lateness::Held }]);
    for _ in 0..11 {
        story.pass(100);
        story.beat(1, 1, 10);
    }
    assert_eq!(story.watermark(), 10);
}

#[test]
fn g2_a_node_that_does_not_get_on_loses_its_lease() {
    let mut story = Story::calm(2);
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    for _ in 0..7 {
        story.pass(100);
        assert!(story.beat(2, 1, 2));
    }
    story.pass(1);
    assert!(!story.beat(2, 1, 2));
    assert_eq!(story.view(2).refusal, Some(Refusal::TooSlow));
    assert_eq!((story.state(2), story.watermark()), (NodeState::Leased, 2), "what it has runs on");
    story.pass(1_072);
    assert_eq!((story.state(2), story.watermark()), (NodeState::Away, purge));
    assert!(story.beat(2, 1, purge), "and it is back as soon as it has caught up");
}

#[test]
fn g3_a_joining_node_that_does_not_get_on_is_not_waited_for() {
    let mut story = Story::calm(1);
    story.pass(1_200);
    story.hello(1, 1, 1, 2);
    let purge = story.purge().get();
    story.pass(700);
    assert_eq!((story.state(1), story.watermark()), (NodeState::Joining, 1));
    story.pass(1);
    assert_eq!((story.state(1), story.watermark()), (NodeState::Away, purge));
    // Nor does it get back to joining by being alive.
    story.ack(1, 2, 1);
    assert_eq!(story.state(1), NodeState::Away);
    let next = story.purge().get();
    assert_eq!(story.watermark(), next);
}

#[test]
fn g4_acks_of_a_new_incarnation_do_not_complete_what_the_old_one_may_serve() {
    let mut story = Story::calm(1);
    let purge = story.purge().get();
    story.hello(1, 2, 1, 2);
    assert!(!story.beat(1, 2, purge), "the old one may serve");
    assert_eq!(story.view(1).refusal, Some(Refusal::OtherInstance));
    assert_eq!(story.watermark(), 1);
    assert!(story.view(1).held);
    story.pass(1_071);
    assert_eq!(story.watermark(), purge);
    assert!(!story.view(1).held);
    assert!(story.beat(1, 2, purge));
}

#[test]
fn g4_a_crashing_daemon_does_not_hold_a_purge_up_for_longer_than_one_lease() {
    let mut story = Story::calm(1);
    let purge = story.purge().get();
    for instance in 2..40 {
        story.hello(1, instance, purge - 1, u64::from(instance));
        assert!(!story.beat(1, u64::from(instance), purge) || instance > 27);
        story.pass(40);
        if instance == 27 {
            assert_eq!(story.watermark(), 1);
        }
    }
    assert_eq!(story.watermark(), purge);
}

#[test]
fn g4_a_daemon_that_crashes_once_a_second_holds_no_purge_up_for_longer_than_one_lease() {
    let mut story = Story::calm(1);
    let mut instance = 1;
    for round in 0..20 {
        let purge = story.purge().get();
        for slice in 0..15 {
            if (round * 15 + slice) % 10 == 0 {
                instance += 1;
                story.hello(1, instance, purge - 1, u64::from(instance));
            }
            story.beat(1, u64::from(instance), purge);
            story.pass(100);
        }
        assert_eq!(story.watermark(), purge, "a second and a half later");
    }
}

/// Whether a daemon that takes the place of another one, up to date, gets a lease beside the other's.
fn two_leases_at_once(off: Option<Rule>) -> bool {
    let mut story = Story::calm(1);
    story.roster.rules = RuleSet { off };
    story.hello(1, 2, 1, 2);
    story.beat(1, 2, 1)
}

#[test]
fn g4_two_incarnations_never_hold_leases_at_the_same_time() {
    assert!(!two_leases_at_once(None));
    assert!(two_leases_at_once(Some(Rule::OneLease)), "without the rule");
}

#[test]
fn g4_of_many_incarnations_at_once_none_gets_a_lease_beside_another() {
    let mut story = Story::calm(1);
    for instance in 2..9 {
        story.hello(1, instance, 1, u64::from(instance));
        assert!(!story.beat(1, u64::from(instance), 1));
    }
    story.pass(1_072);
    assert!(story.beat(1, 8, 1));
}

#[test]
fn g4_after_a_start_of_the_control_plane_a_node_goes_on_without_a_break() {
    let mut story = Story::restart(1, &[(1, STRICT)], None);
    story.hello(1, 1, 1, 1);
    assert!(story.beat(1, 1, 1), "whoever held a lease before, it ends with the wait after the start");
}

#[test]
fn a_control_plane_that_stood_still_grants_nothing_until_it_knows_that_the_log_is_still_its_own() {
    let mut story = Story::calm(1);
    story.now = story.now + STOOD_STILL_MAX + Duration::from_micros(1);
    let tail = story.roster.tail().get();
    assert!(!story.beat(1, 1, tail), "a successor may have started meanwhile");
    assert_eq!(story.view(1).refusal, Some(Refusal::StoodStill));
    let noticed = story.roster.stood_still().expect("it noticed");

    story.now = story.now + STOOD_STILL_MAX * 2;
    assert!(!story.beat(1, 1, tail));
    story.roster.handle_still_ours(noticed);
    assert!(!story.beat(1, 1, tail), "what was asked before the second time says nothing of it");
    let noticed = story.roster.stood_still().expect("it noticed again");
    story.roster.handle_still_ours(noticed);
    assert!(story.beat(1, 1, tail));
}

/// A Welcome is what tells a node that it counts as one that goes on serving. A successor that started in between counts
/// it as it was known before, and completes purges without it.
#[test]
fn a_control_plane_that_stood_still_welcomes_nobody_until_it_knows_that_the_log_is_still_its_own() {
    let mut story = Story::calm(1);
    story.now = story.now + STOOD_STILL_MAX + Duration::from_micros(1);
    let resume = Resume::At(Cursor::new(1));
    let hello = hello(1, 2, AVAILABLE);
    let refused = story.roster.handle_hello(story.now, &hello, &resume, 2);
    assert_eq!(refused, Err(HelloRefused::Unsure));
    let noticed = story.roster.stood_still().expect("it noticed");
    story.roster.handle_still_ours(noticed);
    assert!(story.roster.handle_hello(story.now, &hello, &resume, 2).is_ok());
    assert_eq!(story.roster.unsaved_word(&name(1)), Some(&Word::said_by(&hello)));
}

#[test]
fn a_node_is_welcomed_once_what_it_says_is_durable_and_was_in_time() {
    let mut story = Story::calm(1);
    let hello = hello(1, 2, AVAILABLE);
    story.roster.handle_hello(story.now, &hello, &Resume::At(Cursor::new(1)), 2).unwrap();
    let may = |story: &mut Story| story.roster.may_welcome(story.now, &name(1), 2);
    assert_eq!(may(&mut story), Err(HelloRefused::Unsaved));
    let other = Word { policy: LeasePolicy::Revalidate, parents: Vec::new() };
    story.roster.handle_word_saved(&name(1), other);
    assert_eq!(may(&mut story), Err(HelloRefused::Unsaved), "that is what it said before");
    story.roster.handle_word_saved(&name(1), Word::said_by(&hello));
    assert_eq!(may(&mut story), Ok(()));
    assert_eq!(story.roster.may_welcome(story.now, &name(1), 1), Err(HelloRefused::Late));
    // Whoever stood still may have written too late for its successor.
    story.now = story.now + STOOD_STILL_MAX + Duration::from_micros(1);
    assert_eq!(may(&mut story), Err(HelloRefused::Unsure));
}

#[test]
fn a_hello_that_was_long_on_its_way_is_not_believed() {
    let mut story = Story::calm(1);
    let resume = Resume::At(Cursor::new(1));
    story.roster.handle_hello(story.now, &hello(1, 3, AVAILABLE), &resume, 9).unwrap();
    let late = story.roster.handle_hello(story.now, &hello(1, 2, STRICT), &resume, 8);
    assert_eq!(late, Err(HelloRefused::Late));
    let view = story.roster.node(story.now, &name(1)).unwrap();
    assert_eq!((view.policy, view.instance), (AVAILABLE, Some(InstanceId::from_bytes([3; 16]))));
}

#[test]
fn what_is_confirmed_is_saved_only_as_far_as_every_incarnation_is() {
    let mut story = Story::calm(1);
    let saved = |story: &mut Story| {
        story.roster.confirmed_to_save(story.now).map(|(_, cursor)| cursor.get()).collect::<Vec<_>>()
    };
    story.beat(1, 1, story.roster.tail().get());
    let before = saved(&mut story);
    let purge = story.purge().get();
    story.hello(1, 2, 2, purge - 1);
    story.ack(1, 2, purge);
    assert_eq!(saved(&mut story), before, "the first run's lease may serve what this one has purged");
    story.pass(2_000);
    assert_eq!(saved(&mut story), [purge]);
}

#[test]
fn a_short_pause_costs_no_lease() {
    let mut story = Story::calm(1);
    story.now = story.now + STOOD_STILL_MAX;
    assert!(story.beat(1, 1, story.roster.tail().get()));
}

#[test]
fn a_name_seen_from_two_live_instances_is_an_alert_and_a_restart_is_not() {
    let mut story = Story::calm(1);
    story.hello(1, 2, 1, 2);
    assert_eq!(story.roster.poll_event(), None);
    story.hello(1, 1, 1, 3);
    assert_eq!(story.roster.poll_event(), Some(RosterEvent::TwoInstances { node: name(1) }));
    story.hello(1, 2, 1, 4);
    assert_eq!(story.roster.poll_event(), None, "once is enough");
}

#[test]
fn what_a_replaced_connection_says_is_ignored() {
    let mut story = Story::calm(1);
    let purge = story.purge().get();
    assert_eq!(story.hello(1, 1, 1, 2).replaced, Some(1));
    assert!(!story.ack(1, 1, purge));
    let heartbeat =
        Heartbeat { sent_at: Moment::ZERO, cursor: Cursor::new(purge), index: None, fill_in_after: None };
    assert_eq!(story.roster.handle_heartbeat(story.now, &name(1), 1, &heartbeat), None);
    story.roster.handle_disconnected(story.now, &name(1), 1);
    assert!(story.view(1).connected);
    assert_eq!(story.watermark(), 1);
}

#[test]
fn a_reset_node_gets_no_lease_before_it_has_acknowledged_the_reset() {
    let mut story = Story::calm(1);
    let purge = story.purge().get();
    let reset = Reset {
        log_id: batoff_types::LogId::from_bytes([1; 16]),
        cursor: Cursor::new(purge),
        reason: ResetReason::New,
    };
    story.roster.handle_hello(story.now, &hello(1, 1, STRICT), &Resume::Reset(reset), 2).unwrap();
    assert!(!story.beat(1, 2, 0));
    assert_eq!(story.watermark(), 1);
    assert!(story.beat(1, 2, purge));
}

#[test]
fn a_joining_node_whose_stream_ends_or_falls_silent_is_away() {
    let mut story = Story::calm(2);
    story.pass(1_200);
    for node in [1, 2] {
        story.hello(node, 1, 2, 2);
        assert_eq!(story.state(node), NodeState::Joining);
    }
    story.roster.handle_disconnected(story.now, &name(1), 2);
    assert_eq!((story.state(1), story.state(2)), (NodeState::Away, NodeState::Joining));
    story.pass(1_200);
    assert_eq!(story.state(2), NodeState::Away);
}

#[test]
fn an_available_node_that_is_away_makes_a_purge_partial_and_then_completed() {
    let mut story = Story::restart(2, &[(2, STRICT), (2, AVAILABLE)], None);
    story.pass(2_000);
    story.hello(1, 1, 2, 1);
    story.beat(1, 1, 2);
    let purge = story.purge();
    story.ack(1, 1, purge.get());
    story.pass(1_999);
    assert!(!story.roster.is_partial(story.now, purge), "not yet");
    story.pass(1);
    assert!(story.roster.is_partial(story.now, purge));
    let counts = NodeCounts { total: 2, confirmed: 1, fenced: 0, unreachable: 1 };
    assert_eq!(story.roster.counts_at(purge), counts);
    assert_eq!(story.roster.late_at(purge), [LateNode { node: name(2), why: Lateness::Unreachable }]);
    let resume = Resume::At(Cursor::new(2));
    story.roster.handle_hello(story.now, &hello(2, 1, AVAILABLE), &resume, 1).unwrap();
    story.ack(2, 1, purge.get());
    assert!(!story.roster.is_partial(story.now, purge));
    assert_eq!(story.watermark(), purge.get());
}

#[test]
fn a_node_of_unknown_policy_counts_as_available() {
    let mut story = Story::restart(5, &[(1, None)], None);
    story.pass(3_000);
    assert_eq!((story.watermark(), story.state(1)), (1, NodeState::Away));
    // It says that it is strict: without a lease it serves nothing.
    story.hello(1, 1, 1, 1);
    assert!(story.roster.unsaved_word(&name(1)).is_some());
    assert_eq!(story.watermark(), 5);
}

#[test]
fn a_strict_node_that_becomes_available_counts_as_such_at_once_and_takes_nothing_back() {
    let mut story = Story::calm(1);
    story.pass(1_200);
    let fenced = story.purge().get();
    assert_eq!(story.watermark(), fenced);
    let resume = Resume::At(Cursor::new(1));
    story.roster.handle_hello(story.now, &hello(1, 2, AVAILABLE), &resume, 2).unwrap();
    assert!(story.roster.unsaved_word(&name(1)).is_some());
    story.purge();
    story.roster.handle_disconnected(story.now, &name(1), 2);
    story.pass(3_000);
    assert_eq!(story.watermark(), fenced);
}

#[test]
fn a_node_counts_for_what_comes_after_its_registration() {
    let mut story = Story::calm(1);
    let before = story.purge();
    let registration = story.purge();
    story.roster.handle_registered(story.now, &name(7), registration, STRICT);
    let after = story.purge();
    assert_eq!(story.roster.counts_at(before).total, 1);
    assert_eq!(story.roster.counts_at(after), NodeCounts { total: 2, fenced: 1, ..NodeCounts::default() });
    assert_eq!(story.roster.counts_by_pop(after).keys().copied().collect::<Vec<_>>(), ["ams1", "fra1"]);
    story.ack(1, 1, after.get());
    assert_eq!(story.watermark(), after.get(), "it has no lease yet");
    story.hello(7, 1, before.get(), 9);
    assert!(!story.beat(7, 9, before.get()), "its registration comes after that");
    assert!(story.beat(7, 9, after.get()));
}

#[test]
fn a_node_must_be_registered_before_it_says_hello() {
    let mut story = Story::calm(1);
    let resume = Resume::At(Cursor::START);
    let refused = story.roster.handle_hello(story.now, &hello(7, 1, STRICT), &resume, 1);
    assert_eq!(refused, Err(HelloRefused::Unregistered));
}

#[test]
fn a_removed_node_counts_until_its_lease_has_run_out() {
    let mut story = Story::calm(2);
    story.pass(500);
    assert!(story.beat(1, 1, 2));
    story.roster.handle_removed(story.now, &name(2));
    let purge = story.purge().get();
    story.ack(1, 1, purge);
    assert!(!story.beat(2, 1, 2), "no more leases");
    let refused = story.roster.handle_hello(story.now, &hello(2, 1, STRICT), &Resume::At(Cursor::START), 5);
    assert_eq!(refused, Err(HelloRefused::Removed));
    story.pass(560);
    assert_eq!(story.watermark(), 2);
    story.pass(600);
    assert_eq!(story.watermark(), purge);
    assert_eq!(
        story.roster.poll_event(),
        Some(RosterEvent::Removed { node: name(2), confirmed: Cursor::new(2) })
    );
    assert_eq!(story.roster.len(), 1);
    // The place in the roster is used again.
    let registration = story.purge();
    story.roster.handle_registered(story.now, &name(2), registration, STRICT);
    assert_eq!(story.roster.len(), 2);
}

#[test]
fn a_removal_can_be_called_off_by_admitting_the_node_again() {
    let mut story = Story::calm(1);
    story.roster.handle_removed(story.now, &name(1));
    let registration = story.purge();
    story.roster.handle_registered(story.now, &name(1), registration, STRICT);
    story.pass(3_000);
    assert_eq!((story.roster.len(), story.roster.poll_event()), (1, None));
}

#[test]
fn a_node_that_was_removed_before_a_start_counts_until_old_leases_have_run_out() {
    let recovered = Recovered {
        tail: Cursor::new(9),
        term: Term(3),
        max_lease_granted: Duration::from_secs(1),
        completed: Cursor::new(3),
        nodes: vec![RecoveredNode {
            name: name(1),
            registered: seq(1),
            confirmed: Cursor::new(4),
            policy: AVAILABLE,
            parents: None,
            removed: true,
        }],
    };
    let mut roster = Roster::new(LeaseTimes::default(), Moment::ZERO, recovered);
    assert_eq!(roster.poll_completed(), Some(Completed { after: Cursor::new(3), through: Cursor::new(4) }));
    roster.handle_tick(Moment::from_micros(1_070_000));
    assert_eq!(roster.poll_completed(), None);
    roster.handle_tick(Moment::from_micros(1_071_000));
    assert_eq!(roster.poll_completed(), Some(Completed { after: Cursor::new(4), through: Cursor::new(9) }));
    assert!(roster.is_empty());
}

#[test]
fn a_longer_lease_of_an_earlier_configuration_is_waited_for() {
    let recovered = Recovered {
        tail: Cursor::new(9),
        term: Term(3),
        max_lease_granted: Duration::from_secs(10),
        completed: Cursor::START,
        nodes: vec![RecoveredNode {
            name: name(1),
            registered: seq(1),
            confirmed: Cursor::new(4),
            policy: STRICT,
            parents: None,
            removed: false,
        }],
    };
    let mut roster = Roster::new(LeaseTimes::default(), Moment::ZERO, recovered);
    roster.handle_tick(Moment::from_micros(10_000_000));
    assert_eq!(roster.watermark(), Cursor::new(4));
    roster.handle_tick(roster.waiting_until() + STEP);
    assert_eq!(roster.watermark(), Cursor::new(9));
}

#[test]
fn a_view_tells_lag_in_records_and_in_time() {
    let mut story = Story::calm(1);
    story.purge();
    story.pass(300);
    story.purge();
    story.pass(200);
    let view = story.view(1);
    assert_eq!((view.lag_records, view.lag), (2, Duration::from_millis(500)));
    story.ack(1, 1, 2);
    let view = story.view(1);
    assert_eq!((view.lag_records, view.lag), (1, Duration::from_millis(200)));
    assert!(view.lease_remaining > Duration::from_millis(500));
    assert_eq!(story.roster.count_by_state().map(|(_, count)| count), [0, 0, 0, 1]);
    assert_eq!(story.roster.confirmed_by_all(), Cursor::new(2));
}

#[test]
fn the_next_timeout_is_never_later_than_what_time_brings() {
    let mut story = Story::calm(1);
    let purge = story.purge().get();
    let mut looks = 0;
    while story.watermark() < purge {
        story.now = story.roster.next_timeout().unwrap();
        story.roster.handle_tick(story.now);
        looks += 1;
    }
    assert!(looks < 5, "{looks}");
    assert_eq!(story.now.as_micros(), 7_000_000 + 1_070_202 + 1);
}

#[test]
fn when_its_seat_has_run_out_a_process_grants_and_states_nothing() {
    for (off, grants, states) in [
        (None, false, false),
        (Some(Rule::SeatGrants), true, false),
        (Some(Rule::SeatStatements), false, true),
    ] {
        let mut story = Story::restart(1, &[(1, STRICT)], off);
        story.pass(2_000);
        story.hello(1, 1, 1, 1);
        story.roster.handle_seated(story.now + Duration::from_secs(1));
        assert!(story.beat(1, 1, 1));
        assert_eq!(story.roster.statement(story.now), Some(Cursor::new(1)));
        story.pass(1_000);
        assert_eq!(story.beat(1, 1, 1), grants, "{off:?}");
        assert_eq!(story.roster.statement(story.now).is_some(), states, "{off:?}");
        assert_eq!(story.view(1).refusal, (!grants).then_some(Refusal::Unseated));
        story.roster.handle_seated(story.now + Duration::from_secs(1));
        assert!(story.beat(1, 1, 1) && story.roster.statement(story.now).is_some());
    }
}

#[test]
fn a_process_that_stood_still_states_nothing_until_it_knows_that_it_was_not_replaced() {
    let mut story = Story::calm(1);
    story.now = story.now + STOOD_STILL_MAX + Duration::from_millis(1);
    assert_eq!(story.roster.statement(story.now), None);
    story.roster.handle_still_ours(story.now);
    assert_eq!(story.roster.statement(story.now), Some(Cursor::new(1)));
}

/// Another replica was faster to send it.
#[test]
fn a_node_may_be_ahead_of_what_a_control_plane_knows_of_the_log() {
    let mut story = Story::calm(1);
    assert!(story.ack(1, 1, 3));
    assert!(story.beat(1, 1, 3));
    assert_eq!((story.watermark(), story.view(1).lag_records), (1, 0));
    story.purge();
    story.purge();
    assert_eq!(story.watermark(), 3, "without a further word of it");
    story.purge();
    assert_eq!(story.watermark(), 3);
}

/// Its ack says what an incarnation has that is gone.
#[test]
fn an_ack_on_a_connection_that_was_replaced_is_not_counted() {
    for off in [None, Some(Rule::PresentConnection)] {
        let mut story = Story::restart(1, &[(1, AVAILABLE)], off);
        story.pass(2_000);
        story.hello(1, 1, 1, 1);
        let purge = story.purge().get();
        story.hello(1, 2, 1, 2);
        assert!(!story.ack(1, 1, purge));
        assert_eq!(story.view(1).confirmed.get(), if off.is_none() { 1 } else { purge });
    }
}
