use std::time::Duration;

use batoff_types::message::{Heartbeat, Hello, LeasePolicy, Reset, ResetReason};
use batoff_types::{InstanceId, LogId, Moment, Seq, Term};

use super::super::{Recovered, RecoveredNode};
use super::*;
use crate::rules::RuleSet;
use crate::{LeaseTimes, Resume};

/// A control plane whose nodes stand on paths; times are milliseconds.
struct Story {
    roster: Roster,
    now: Moment,
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

impl Story {
    fn start(tail: u64, nodes: Vec<RecoveredNode>) -> Self {
        let recovered = Recovered {
            tail: Cursor::new(tail),
            term: Term(1),
            max_lease_granted: Duration::ZERO,
            completed: Cursor::START,
            nodes,
        };
        let now = Moment::from_micros(5_000_000);
        Self { roster: Roster::new(LeaseTimes::default(), now, recovered), now }
    }

    /// These nodes, each with what lies behind it, up to date and leased.
    fn with(nodes: &[(&str, LeasePolicy, &[&str])]) -> Self {
        let mut story = Self::start(0, Vec::new());
        for (at, (node, policy, parents)) in nodes.iter().enumerate() {
            story.register(node);
            let tail = story.roster.tail();
            story.hello(node, *policy, parents, Resume::At(tail), at as u64);
        }
        let tail = story.roster.tail().get();
        for (at, (node, ..)) in nodes.iter().enumerate() {
            assert!(story.beat(node, at as u64, tail));
        }
        story.news();
        story
    }

    fn register(&mut self, node: &str) {
        let seq = self.append();
        self.roster.handle_registered(self.now, &name(node), seq, None);
    }

    fn append(&mut self) -> Seq {
        let seq = self.roster.tail().next();
        self.roster.handle_appended(self.now, Cursor::after(seq));
        seq
    }

    fn hello(&mut self, node: &str, policy: LeasePolicy, parents: &[&str], resume: Resume, connection: u64) {
        let hello = Hello {
            node: name(node),
            instance: InstanceId::from_bytes([1; 16]),
            position: None,
            protocol: 1,
            semantics: 1,
            version: String::new(),
            caches: Vec::new(),
            policy,
            parents: parents.iter().map(|parent| parent.parse().unwrap()).collect(),
            connection: None,
        };
        self.roster.handle_hello(self.now, &hello, &resume, connection).unwrap();
    }

    fn beat(&mut self, node: &str, connection: u64, cursor: u64) -> bool {
        let heartbeat =
            Heartbeat { sent_at: self.now, cursor: Cursor::new(cursor), index: None, fill_in_after: None };
        let grant = self.roster.handle_heartbeat(self.now, &name(node), connection, &heartbeat).unwrap();
        !grant.duration.is_zero()
    }

    fn ack(&mut self, node: &str, connection: u64, cursor: u64) {
        assert!(self.roster.handle_ack(self.now, &name(node), connection, Cursor::new(cursor)));
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            self.roster.handle_tick(self.now);
        }
        self.roster.check();
    }

    /// What is told of the path of `node`: how far, and why not.
    fn path(&mut self, node: &str) -> (u64, String) {
        let place = self.roster.path_of(&name(node)).unwrap();
        let gaps: Vec<_> = place.gaps.iter().map(PathGap::to_string).collect();
        (place.through.get(), gaps.join("; "))
    }

    /// How many paths are elsewhere than was told last.
    fn news(&mut self) -> usize {
        std::iter::from_fn(|| self.roster.poll_path()).count()
    }
}

use LeasePolicy::{Revalidate, Serve};

#[test]
fn a_path_is_where_the_last_of_its_nodes_is() {
    let mut story =
        Story::with(&[("lon1/s1", Serve, &[]), ("lon1/s2", Serve, &[]), ("fra1/e1", Serve, &["lon1"])]);
    assert_eq!(story.path("fra1/e1"), (3, String::new()));
    assert_eq!(story.roster.path_of(&name("lon1/s1")), None, "straight to the origins");
    let purge = story.append().get();
    assert_eq!((story.news(), story.path("fra1/e1").0), (0, 3), "nobody is there yet");
    story.ack("fra1/e1", 2, purge);
    story.ack("lon1/s1", 0, purge);
    assert_eq!((story.news(), story.path("fra1/e1").0), (0, 3), "one of two");
    story.ack("lon1/s2", 1, purge);
    assert_eq!((story.news(), story.path("fra1/e1").0), (1, purge));
    let grant =
        Heartbeat { sent_at: story.now, cursor: Cursor::new(purge), index: None, fill_in_after: None };
    let grant = story.roster.handle_heartbeat(story.now, &name("fra1/e1"), 2, &grant).unwrap();
    assert_eq!(grant.parents_through, Some(Cursor::new(purge)));
}

#[test]
fn a_path_goes_as_far_as_the_origins() {
    let nodes: [(&str, LeasePolicy, &[&str]); 3] =
        [("a/far", Serve, &[]), ("b/near", Serve, &["a/far"]), ("c/edge", Serve, &["b/near"])];
    let mut story = Story::with(&nodes);
    let purge = story.append().get();
    story.ack("b/near", 1, purge);
    assert_eq!(story.path("c/edge").0, 3, "the near one passes on what the far one answers");
    story.ack("a/far", 0, purge);
    assert_eq!(story.path("c/edge").0, purge);

    // A ring counts as a whole.
    let tail = story.roster.tail();
    story.hello("a/far", Serve, &["c/edge"], Resume::At(tail), 9);
    assert_eq!(story.path("c/edge").0, 3, "c/edge itself has not confirmed the purge");
    story.ack("c/edge", 2, purge);
    assert_eq!(story.path("c/edge").0, purge);
}

#[test]
fn a_parent_that_is_fenced_is_at_the_tail_and_one_that_serves_on_is_where_it_was() {
    for (policy, away, back) in [(Revalidate, 4, 4), (Serve, 2, 3)] {
        let mut story = Story::with(&[("lon1/s1", policy, &[]), ("fra1/e1", policy, &["lon1/s1"])]);
        story.roster.handle_disconnected(story.now, &name("lon1/s1"), 0);
        story.append();
        assert_eq!(story.path("fra1/e1").0, 2, "its lease may run");
        story.pass(1_100);
        story.append();
        assert_eq!(story.path("fra1/e1").0, away, "{policy:?}");
        // Back again, and behind: it may not serve before its floor, which is no less than what was told.
        story.hello("lon1/s1", policy, &[], Resume::At(Cursor::new(3)), 7);
        story.append();
        assert_eq!(story.path("fra1/e1").0, back, "{policy:?}");
    }
}

#[test]
fn what_is_not_known_counts_as_nowhere_and_says_so() {
    let mut story = Story::with(&[("fra1/e1", Serve, &["lon1", "nyc1/s1"])]);
    let (through, why) = story.path("fra1/e1");
    assert_eq!(through, 0);
    assert!(
        why.contains("no node is registered in lon1") && why.contains("nyc1/s1 is not registered"),
        "{why}"
    );
    story.register("lon1/s1");
    story.register("nyc1/s1");
    let (through, why) = story.path("fra1/e1");
    assert_eq!(through, 0, "registered, and never heard of: its cache may hold anything");
    assert!(why.contains("has not confirmed anything") && why.contains("has not said"), "{why}");
    let tail = story.roster.tail();
    let reset =
        Resume::Reset(Reset { log_id: LogId::from_bytes([1; 16]), cursor: tail, reason: ResetReason::New });
    story.hello("lon1/s1", Serve, &[], reset, 5);
    story.hello("nyc1/s1", Serve, &[], Resume::At(tail), 6);
    assert_eq!(story.path("fra1/e1").0, 0, "the reset is not applied");
    story.ack("lon1/s1", 5, tail.get());
    assert_eq!(story.path("fra1/e1"), (tail.get(), String::new()));

    story.roster.handle_removed(story.now, &name("lon1/s1"));
    assert_eq!(story.news(), 1);
    assert_eq!(story.path("fra1/e1"), (0, "lon1/s1 is not registered".to_owned()));
    story.pass(2_500);
    assert_eq!(story.path("fra1/e1"), (0, "no node is registered in lon1".to_owned()));
}

#[test]
fn after_a_start_of_the_control_plane_counts_what_was_recorded() {
    let node = |node: &str, confirmed: u64, parents: Option<&[&str]>| RecoveredNode {
        name: name(node),
        registered: Seq::FIRST,
        confirmed: Cursor::new(confirmed),
        policy: Some(Revalidate),
        parents: parents.map(|parents| parents.iter().map(|parent| parent.parse().unwrap()).collect()),
        removed: false,
    };
    let nodes = |behind| {
        vec![node("a/far", 7, Some(&[])), node("b/near", 9, behind), node("c/edge", 9, Some(&["b/near"]))]
    };
    let mut story = Story::start(9, nodes(Some(&["a/far"])));
    assert_eq!(story.path("c/edge"), (7, String::new()));
    let mut story = Story::start(9, nodes(None));
    assert_eq!(story.path("c/edge"), (0, "b/near has not said what lies behind it".to_owned()));
    let mut story = Story::start(9, vec![node("b/near", 1, Some(&[])), node("c/edge", 9, Some(&["b/near"]))]);
    assert_eq!(story.path("c/edge").0, 0, "the place of a registration is no ack");
}

#[test]
fn a_thousand_nodes_with_the_same_parents_cost_what_one_does() {
    let mut story = Story::with(&[("lon1/s1", Serve, &[])]);
    for child in 0..1_000 {
        let child = format!("fra1/e{child}");
        story.register(&child);
        let tail = story.roster.tail();
        story.hello(&child, Serve, &["lon1/s1"], Resume::At(tail), 2_000);
    }
    story.news();
    assert_eq!(story.roster.paths.by_parents.len(), 1);
    let purge = story.append().get();
    story.ack("lon1/s1", 0, purge);
    assert_eq!(story.news(), 1);
    story.roster.handle_removed(story.now, &name("fra1/e1"));
    story.pass(2_500);
    assert_eq!(story.roster.paths.by_parents.values().map(|path| path.users).sum::<usize>(), 999);
}

#[test]
fn a_path_that_ends_at_the_parents_is_noticed() {
    let nodes: [(&str, LeasePolicy, &[&str]); 3] =
        [("a/far", Serve, &[]), ("b/near", Serve, &["a/far"]), ("c/edge", Serve, &["b/near"])];
    let mut story = Story::with(&nodes);
    story.roster.rules = RuleSet { off: Some(Rule::WholePath) };
    story.roster.redraw_paths();
    let purge = story.append().get();
    story.ack("b/near", 1, purge);
    assert_eq!(story.path("c/edge").0, purge, "without the rule");
}
