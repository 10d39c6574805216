use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use batoff_index::IndexConfig;
use batoff_types::message::{Count, FromNode, GoAway, GoAwayReason, LeasePolicy, Parents, Position, ToNode};
use batoff_types::{CacheTags, Cursor, Generation, NodeName, Record, Selector};
use batoff_wire::encode_to_node;
use tempfile::TempDir;

use self::control_plane::{ControlPlane, LEASE, Stream, log_id, record, records, reset, task, welcome};
use crate::cache::{Cache, CacheTrouble, Needs, Proof};
use crate::config::ControlSection;
use crate::{DaemonConfig, DaemonHandle};

mod control_plane;
mod several;
mod tls;

fn config(dir: &Path, endpoints: &[&ControlPlane], policy: LeasePolicy) -> DaemonConfig {
    let control = ControlSection {
        endpoints: endpoints.iter().map(|control| format!("http://{}", control.address)).collect(),
        ca: None,
        cert: None,
        key: None,
        server_name: None,
        plaintext: true,
        feeds: crate::config::FeedsSetting::default(),
    };
    let node = NodeName::new("fra1", "edge-1").unwrap();
    DaemonConfig { node, policy, control, state_dir: dir.to_owned(), parents: Vec::new() }
}

fn start(dir: &TempDir, control: &ControlPlane, policy: LeasePolicy) -> DaemonHandle<()> {
    start_with(dir, control, policy, Vec::new())
}

fn start_with(
    dir: &TempDir,
    control: &ControlPlane,
    policy: LeasePolicy,
    caches: Vec<Box<dyn Cache<()>>>,
) -> DaemonHandle<()> {
    DaemonConfig::open::<()>(config(dir.path(), &[control], policy), IndexConfig::default())
        .unwrap()
        .start(caches)
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_new_node_is_reset_and_a_known_one_resumes_where_it_was() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(50).await;
    assert_eq!((stream.hello.position, stream.hello.policy), (None, LeasePolicy::Serve));
    assert_eq!(node.generation(), Generation(2), "everything from before is void");
    stream.send(records(51..=53)).await;
    stream.until_cursor(53).await;
    assert_eq!(node.applied(), Cursor::new(53));
    let instance = stream.hello.instance;
    node.shutdown().await;

    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(0).await;
    let position = Position { log_id: log_id(), cursor: Cursor::new(53), task: Some(task(53)) };
    assert_eq!(stream.hello.position, Some(position));
    assert_ne!(stream.hello.instance, instance, "another run of the daemon");
    assert_eq!(node.generation(), Generation(2));
    let site = node.index().sites().owner("www.example.test").map(ToString::to_string);
    assert_eq!(site.as_deref(), Some("shop"));
    stream.send(records(54..=60)).await;
    stream.until_cursor(60).await;
}

#[tokio::test]
async fn a_gap_ends_the_stream_and_nothing_behind_it_is_applied() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(0).await;
    stream.send(records(1..=2)).await;
    stream.until_cursor(2).await;
    stream.send(ToNode::Records(vec![record(4)])).await;
    stream.until_end().await;
    let mut stream = control.welcome(0).await;
    assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(2));
    assert_eq!(node.applied(), Cursor::new(2));
    // What was sent before comes again without harm.
    stream.send(records(1..=5)).await;
    stream.until_cursor(5).await;
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_until_it_holds() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    assert!(node.ready().unwrap_err().contains("not caught up"));
    let mut stream = control.welcome(0).await;
    for round in 0..5_u64 {
        stream.send(records(round * 2 + 1..=round * 2 + 2)).await;
        stream.until_cursor(round * 2 + 2).await;
        drop(stream);
        stream = control.welcome(0).await;
        assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(round * 2 + 2));
    }
    until(|| node.ready().is_ok()).await;
}

#[tokio::test]
async fn a_go_away_leads_to_the_endpoint_that_it_names() {
    let dir = TempDir::new().unwrap();
    let (mut control, mut other) = (ControlPlane::start().await, ControlPlane::start().await);
    let node = start(&dir, &control, LeasePolicy::Serve);
    let stream = control.welcome(7).await;
    let endpoints = vec!["http://198.51.100.1:7443".into(), format!("http://{}", other.address).into()];
    let go_away =
        GoAway { reason: GoAwayReason::Draining, reconnect_after: Duration::from_millis(1), endpoints };
    stream.send(ToNode::GoAway(go_away)).await;
    let stream = other.welcome(7).await;
    assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(7));
    drop(node);
}

#[tokio::test]
async fn a_strict_node_serves_under_its_lease_and_not_a_moment_longer() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Revalidate);
    assert!(!node.may_serve());
    let mut stream = control.welcome(0).await;
    assert_eq!(stream.hello.policy, LeasePolicy::Revalidate);
    until(|| node.may_serve()).await;
    stream.granting.store(false, Ordering::Relaxed);
    let refused = std::time::Instant::now();
    until(|| !node.may_serve()).await;
    assert!(refused.elapsed() <= LEASE * 20, "a lease that nobody renews ends");
    assert!(node.ready().unwrap_err().contains("lease"));
    stream.granting.store(true, Ordering::Relaxed);
    until(|| node.may_serve()).await;
    stream.send(records(1..=1)).await;
    stream.until_cursor(1).await;
    let fence = node.fence();
    node.shutdown().await;
    assert!(!fence.may_serve(), "a clean stop fences first");
}

#[tokio::test]
async fn a_control_plane_that_was_replaced_is_refused_even_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Revalidate);
    let stream = control.accept(5).await;
    stream.send(ToNode::Welcome(welcome(5, 0))).await;
    stream.send(reset(0)).await;
    until(|| node.may_serve()).await;
    node.shutdown().await;

    let node = start(&dir, &control, LeasePolicy::Revalidate);
    let mut stream = control.accept(4).await;
    stream.send(ToNode::Welcome(welcome(4, 0))).await;
    stream.until_end().await;
    assert!(!node.may_serve());
    let stream = control.accept(6).await;
    stream.send(ToNode::Welcome(welcome(6, 0))).await;
    until(|| node.may_serve()).await;
}

#[tokio::test]
async fn a_reset_amid_a_stream_is_taken_up_with_a_new_table_of_sites() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(0).await;
    stream.send(records(1..=3)).await;
    stream.until_cursor(3).await;
    stream.send(reset(40)).await;
    stream.until_end().await;
    let stream = control.welcome(40).await;
    assert_eq!(stream.hello.position, None, "it stands nowhere until it knows whose each hostname is");
    assert_eq!((node.applied(), node.generation()), (Cursor::new(40), Generation(3)));
}

#[tokio::test]
async fn after_a_restart_a_node_has_caught_up_only_with_what_there_was() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let same = config(dir.path(), &[&control], LeasePolicy::Serve);
    let open = || DaemonConfig::open::<()>(same.clone(), IndexConfig::default()).unwrap();
    let opened = open();
    let standing = opened.standing();
    assert_eq!(standing.log_of(opened.index().begin_fill()), None, "a new node stands nowhere");
    let node = opened.start(Vec::new());
    let mut stream = control.welcome(4).await;
    let old = node.begin_fill();
    assert_eq!(standing.caught_up_log_of(old), Some(log_id()));
    stream.send(reset(9)).await;
    stream.until_end().await;
    assert_eq!(standing.log_of(old), None, "the log may be another one");
    let stream = control.welcome(9).await;
    assert_eq!((node.applied(), standing.log_of(old)), (Cursor::new(9), None), "from before the reset");
    assert_eq!(standing.caught_up_log_of(node.begin_fill()), Some(log_id()));
    node.shutdown().await;
    drop(stream);

    let opened = open();
    let standing = opened.standing();
    assert_eq!(standing.log_of(opened.index().begin_fill()), Some(log_id()));
    let node = opened.start(Vec::new());
    let mut stream = control.accept(1).await;
    stream.send(ToNode::Welcome(welcome(1, 12))).await;
    stream.send(records(10..=11)).await;
    stream.until_cursor(11).await;
    assert_eq!(standing.caught_up_log_of(node.begin_fill()), None, "one is missing");
    stream.send(records(12..=12)).await;
    stream.until_cursor(12).await;
    assert_eq!(standing.caught_up_log_of(node.begin_fill()), Some(log_id()));
}

#[tokio::test]
async fn a_fill_counts_from_where_the_parents_are_as_far_as_that_was_told() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let parents = vec!["lon1".parse().unwrap(), "fra1/shield-1".parse().unwrap()];
    let child = DaemonConfig { parents, ..config(dir.path(), &[&control], LeasePolicy::Serve) };
    let node = DaemonConfig::open::<()>(child, IndexConfig::default()).unwrap().start(Vec::new());
    let token = || node.begin_fill().applied.get();
    let mut stream = control.welcome(4).await;
    assert_eq!(stream.hello.parents.len(), 2);
    stream.send(records(5..=6)).await;
    stream.until_cursor(6).await;
    assert_eq!((node.applied().get(), token()), (6, 0), "nothing was said of the parents");

    *stream.parents_through.lock() = Some(5);
    until(|| token() == 5).await;
    *stream.parents_through.lock() = Some(9);
    let (through, why) = (Cursor::new(9), String::new());
    stream.send(ToNode::Parents(Parents { through, why })).await;
    until(|| token() == 6).await;
    stream.send(records(7..=7)).await;
    until(|| token() == 7).await;

    drop(stream);
    let stream = control.accept(1).await;
    assert_eq!(token(), 7, "it stays true when the stream ends");
    stream.send(ToNode::Welcome(welcome(1, 7))).await;
    until(|| token() == 0).await;
    *stream.parents_through.lock() = Some(7);
    until(|| token() == 7).await;

    let generation = node.generation();
    drop(stream);
    let stream = control.accept(1).await;
    stream.answering.store(false, Ordering::Relaxed);
    stream.send(ToNode::Welcome(welcome(1, 9))).await;
    stream.send(reset(9)).await;
    until(|| node.generation() > generation).await;
    assert_eq!((node.applied().get(), token()), (9, 0), "that was a place in another order");
    *stream.parents_through.lock() = Some(9);
    stream.answering.store(true, Ordering::Relaxed);
    until(|| token() == 9).await;
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(0).await;
    stream.answering.store(false, Ordering::Relaxed);
    stream.until_end().await;
    control.welcome(0).await;
    drop(node);
}

#[tokio::test]
async fn records_alone_are_no_sign_of_life() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let stream = control.welcome(0).await;
    stream.answering.store(false, Ordering::Relaxed);
    // As a control plane might that was frozen or cut off in one direction: what it had sent goes on arriving.
    let outgoing = stream.outgoing.clone();
    let flowing = tokio::spawn(async move {
        for seq in 1.. {
            if outgoing.send(Ok(encode_to_node(&records(seq..=seq)))).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    control.accept(1).await;
    flowing.abort();
    drop((node, stream));
}

#[tokio::test]
async fn a_count_is_answered_beside_the_records() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let mut stream = control.welcome(0).await;
    for n in 0..3 {
        let entry = batoff_index::Entry {
            url: format!("https://www.example.test/{n}").parse().unwrap(),
            variant: batoff_index::Variant::MAIN,
            tags: CacheTags::parse([&b"t"[..]]),
            token: node.begin_fill(),
            locator: (),
        };
        node.index().insert(entry).unwrap();
    }
    let selectors = vec![
        Selector::Tag("t".parse().unwrap()),
        Selector::Url("https://www.example.test/1".parse().unwrap()),
        Selector::Tag("u".parse().unwrap()),
    ];
    stream
        .send(ToNode::Count(Count { id: 9, site: "shop".parse().unwrap(), selectors, answer_within: None }))
        .await;
    loop {
        if let FromNode::Counted(counted) = stream.next().await.unwrap() {
            assert_eq!((counted.id, counted.objects), (9, vec![3, 1, 0]));
            break;
        }
    }
}

/// A cache that never answers, and one that always fails.
struct Broken {
    hangs: bool,
}

#[async_trait]
impl Cache<()> for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn purge(&self, _: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        self.flush().await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(CacheTrouble("no route to host".to_owned()))
    }
}

/// A cache with a defect.
struct Defective;

#[async_trait]
impl Cache<()> for Defective {
    fn name(&self) -> &str {
        "defective"
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        panic!("a defect")
    }
}

#[tokio::test]
async fn a_panic_while_applying_says_that_the_process_must_end() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start_with(&dir, &control, LeasePolicy::Serve, vec![Box::new(Defective)]);
    let vital = node.vital();
    assert!(!vital.has_failed());
    let stream = control.accept(1).await;
    stream.send(ToNode::Welcome(welcome(1, 5))).await;
    stream.send(reset(5)).await;
    vital.failed().await;
}

#[tokio::test]
async fn heartbeats_go_on_while_a_cache_hangs_and_nothing_is_acked_for_it() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start_with(&dir, &control, LeasePolicy::Serve, vec![Box::new(Broken { hangs: true })]);
    let mut stream = control.accept(1).await;
    assert_eq!(stream.hello.caches, ["broken"]);
    stream.send(ToNode::Welcome(welcome(1, 5))).await;
    stream.send(reset(5)).await;
    for _ in 0..20 {
        match stream.next().await.unwrap() {
            FromNode::Heartbeat(heartbeat) => assert_eq!(heartbeat.cursor, Cursor::START),
            other => panic!("{other:?}"),
        }
    }
    assert!(node.ready().is_err());
}

#[tokio::test]
async fn each_control_plane_hears_how_large_the_index_is() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Serve);
    let first_size = async |stream: &mut Stream| loop {
        if let FromNode::Heartbeat(heartbeat) = stream.next().await.unwrap() {
            return heartbeat.index;
        }
    };
    let mut stream = control.accept(1).await;
    stream.send(ToNode::Welcome(welcome(1, 5))).await;
    stream.send(reset(5)).await;
    let size = first_size(&mut stream).await.unwrap();
    assert_eq!(size.objects, 0);
    assert_eq!(first_size(&mut stream).await, None, "it is told once");
    until(|| node.applied() == Cursor::new(5)).await;
    let entry = batoff_index::Entry {
        url: "https://www.example.test/1".parse().unwrap(),
        variant: batoff_index::Variant::MAIN,
        tags: CacheTags::parse([&b"t"[..]]),
        token: node.begin_fill(),
        locator: (),
    };
    node.index().insert(entry).unwrap();
    drop(stream);
    let mut stream = control.accept(1).await;
    stream.send(ToNode::Welcome(welcome(1, 5))).await;
    let grown = first_size(&mut stream).await.unwrap();
    assert!(grown.objects == 1 && grown.bytes > size.bytes, "{size:?} {grown:?}");
}

#[tokio::test]
async fn the_control_plane_hears_which_cache_is_in_the_way_again_after_a_reconnect() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start_with(&dir, &control, LeasePolicy::Serve, vec![Box::new(Broken { hangs: false })]);
    for _ in 0..2 {
        let mut stream = control.accept(1).await;
        stream.send(ToNode::Welcome(welcome(1, 5))).await;
        stream.send(reset(5)).await;
        loop {
            if let FromNode::Trouble(trouble) = stream.next().await.unwrap() {
                assert_eq!(
                    (trouble.cache.as_str(), trouble.message.as_str()),
                    ("broken", "no route to host")
                );
                break;
            }
        }
    }
    drop(node);
}
