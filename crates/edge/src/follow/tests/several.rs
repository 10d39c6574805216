//! A node and several control planes, each of which does exactly what a story tells it to.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use batoff_index::IndexConfig;
use batoff_types::message::{LeasePolicy, ReplicaAt, Reset, ResetReason, ToNode, Welcome, Whereabouts};
use batoff_types::{Body, Cursor, LogId, Record, Replica, ReplicaSet};
use tempfile::TempDir;
use tonic::Status;

use super::control_plane::{ControlPlane, LEASE, Stream, log_id, record, records, reset, welcome};
use super::{config, until};
use crate::{DaemonConfig, DaemonHandle};

fn set(members: &[u8]) -> ReplicaSet {
    ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
}

/// Three control planes, and what they say of themselves.
struct Cluster {
    planes: Vec<ControlPlane>,
    set: ReplicaSet,
}

impl Cluster {
    async fn start() -> Self {
        let planes =
            vec![ControlPlane::start().await, ControlPlane::start().await, ControlPlane::start().await];
        Self { planes, set: set(&[1, 2, 3]) }
    }

    fn list(&self) -> ToNode {
        let at = |(number, plane): (u8, &ControlPlane)| ReplicaAt {
            replica: Replica(number),
            endpoint: format!("http://{}", plane.address).into(),
        };
        ToNode::Replicas(Whereabouts { replicas: (1..).zip(&self.planes).map(at).collect() })
    }

    fn welcome(&self, replica: u8, tail: u64) -> ToNode {
        ToNode::Welcome(Welcome { replica: Replica(replica), set: self.set.clone(), ..welcome(1, tail) })
    }

    /// The next stream to a replica is welcomed where the node stands; one that stands nowhere is reset to `tail`.
    async fn join(&mut self, replica: u8, tail: u64) -> Stream {
        let stream = self.planes[usize::from(replica) - 1].accept(1).await;
        stream.send(self.welcome(replica, tail)).await;
        if stream.hello.position.is_none() {
            stream.send(reset(tail)).await;
        }
        stream.send(self.list()).await;
        stream
    }

    /// A strict node that was told of one of them is welcomed by all, and holds its leases.
    async fn serving(dir: &TempDir, policy: LeasePolicy) -> (Self, DaemonHandle<()>, [Stream; 3]) {
        let mut cluster = Self::start().await;
        let node = start(dir, &cluster.planes[0], policy);
        let streams = [cluster.join(1, 0).await, cluster.join(2, 0).await, cluster.join(3, 0).await];
        until(|| node.may_serve()).await;
        (cluster, node, streams)
    }
}

fn start(dir: &TempDir, plane: &ControlPlane, policy: LeasePolicy) -> DaemonHandle<()> {
    let config = config(dir.path(), &[plane], policy);
    DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new())
}

#[tokio::test]
async fn a_strict_node_serves_while_a_majority_grants_leases() {
    let dir = TempDir::new().unwrap();
    let mut cluster = Cluster::start().await;
    let node = start(&dir, &cluster.planes[0], LeasePolicy::Revalidate);
    let one = cluster.join(1, 0).await;
    // One of three is none.
    let alone = Instant::now();
    while alone.elapsed() < LEASE {
        assert!(!node.may_serve());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        node.ready().unwrap_err().contains("streams to 1 of the control planes 1, 2, 3, and 2 are needed")
    );
    let two = cluster.join(2, 0).await;
    until(|| node.may_serve()).await;
    let three = cluster.join(3, 0).await;
    until(|| node.ready().is_ok()).await;

    three.granting.store(false, Ordering::Relaxed);
    three.answering.store(false, Ordering::Relaxed);
    let dead = Instant::now();
    while dead.elapsed() < LEASE * 3 {
        assert!(node.may_serve(), "two of three go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    two.granting.store(false, Ordering::Relaxed);
    until(|| !node.may_serve()).await;
    two.granting.store(true, Ordering::Relaxed);
    until(|| node.may_serve()).await;
    drop(one);
}

#[tokio::test]
async fn the_first_to_bring_a_record_is_enough_and_each_hears_how_far_the_node_is() {
    let dir = TempDir::new().unwrap();
    let (_cluster, node, [mut one, mut two, mut three]) =
        Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    two.send(records(1..=2)).await;
    for stream in [&mut one, &mut two, &mut three] {
        stream.until_cursor(2).await;
    }
    one.send(records(1..=3)).await;
    three.send(records(1..=4)).await;
    for stream in [&mut one, &mut two, &mut three] {
        stream.until_cursor(4).await;
    }
    assert_eq!(node.applied(), Cursor::new(4));
    // A gap ends that stream alone.
    two.send(records(6..=6)).await;
    two.until_end().await;
    three.send(records(5..=5)).await;
    one.until_cursor(5).await;
}

#[tokio::test]
async fn one_control_plane_alone_does_not_make_a_node_drop_everything() {
    let dir = TempDir::new().unwrap();
    let (mut cluster, node, [mut one, two, three]) = Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    one.send(records(1..=3)).await;
    one.until_cursor(3).await;
    let generation = node.generation();
    drop(three);
    let other_log = LogId::from_bytes([6; 16]);
    let foreign = |cluster: &Cluster, replica| {
        let ToNode::Welcome(known) = cluster.welcome(replica, 7) else { panic!("no Welcome") };
        ToNode::Welcome(Welcome { log_id: other_log, ..known })
    };
    let wipe =
        ToNode::Reset(Reset { log_id: other_log, cursor: Cursor::new(7), reason: ResetReason::ForeignLog });
    let three = cluster.planes[2].accept(1).await;
    assert_eq!(three.hello.position.unwrap().cursor, Cursor::new(3));
    three.send(foreign(&cluster, 3)).await;
    three.send(wipe.clone()).await;
    one.send(records(4..=4)).await;
    one.until_cursor(4).await;
    assert_eq!((node.generation(), node.applied()), (generation, Cursor::new(4)));
    assert!(node.may_serve(), "by the other two");

    drop(two);
    let mut two = cluster.planes[1].accept(1).await;
    two.send(foreign(&cluster, 2)).await;
    two.send(wipe).await;
    until(|| node.generation() > generation).await;
    two.until_cursor(7).await;
    assert_eq!(node.applied(), Cursor::new(7), "a majority is believed");
    let site = node.index().sites().owner("www.example.test").map(ToString::to_string);
    assert_eq!(site.as_deref(), Some("shop"));
    one.until_end().await;
    let one = cluster.planes[0].accept(1).await;
    let stands = one.hello.position.unwrap();
    assert_eq!((stands.log_id, stands.cursor), (other_log, Cursor::new(7)));
}

#[tokio::test]
async fn a_restarted_node_finds_the_others_while_the_one_it_was_told_of_is_dead() {
    let dir = TempDir::new().unwrap();
    let (mut cluster, node, [mut one, two, three]) = Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    one.send(records(1..=3)).await;
    one.until_cursor(3).await;
    let numbers = [&one, &two, &three].map(|stream| stream.hello.connection);
    node.shutdown().await;
    drop((one, two, three));
    cluster.planes.iter_mut().for_each(ControlPlane::ignore_pending);

    let dead = ControlPlane::start().await;
    let first = std::mem::replace(&mut cluster.planes[0], dead);
    let node = start(&dir, &first, LeasePolicy::Revalidate);
    drop(first);
    let two = cluster.join(2, 3).await;
    let three = cluster.join(3, 3).await;
    for stream in [&two, &three] {
        assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(3));
        assert!(numbers.iter().all(|number| *number < stream.hello.connection), "of a later run");
    }
    until(|| node.may_serve()).await;
}

#[tokio::test]
async fn a_control_plane_that_moves_is_followed_and_one_that_nobody_lists_is_left() {
    let dir = TempDir::new().unwrap();
    let (mut cluster, node, [mut one, mut two, mut three]) =
        Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    let elsewhere = ControlPlane::start().await;
    let before = std::mem::replace(&mut cluster.planes[1], elsewhere);
    // It knows best where it is.
    two.send(cluster.list()).await;
    two.until_end().await;
    let mut two = cluster.join(2, 0).await;
    drop(before);

    let smaller = Body::ReplicaSet(set(&[1, 2]));
    one.send(ToNode::Records(vec![Record { body: smaller, semantics: 3, ..record(1) }])).await;
    two.until_cursor(1).await;
    one.until_cursor(1).await;
    let _retired = cluster.planes.pop();
    one.send(cluster.list()).await;
    three.send(cluster.list()).await;
    three.until_end().await;
    until(|| node.may_serve()).await;
}

#[tokio::test]
async fn a_change_of_the_set_counts_from_its_record_on_and_an_available_node_agrees_anew() {
    let dir = TempDir::new().unwrap();
    let mark = || std::fs::read_to_string(dir.path().join("serves-without-lease")).ok();
    let mut cluster = Cluster { set: ReplicaSet::only(), ..Cluster::start().await };
    let node = start(&dir, &cluster.planes[0], LeasePolicy::Serve);
    let mut one = cluster.join(1, 0).await;
    until(|| mark() == Some(String::new())).await;
    one.granting.store(false, Ordering::Relaxed);
    tokio::time::sleep(LEASE * 2).await;
    assert!(node.may_serve(), "it is known to serve without a lease");

    let larger = Body::ReplicaSet(set(&[1, 2, 3]));
    one.send(ToNode::Records(vec![Record { body: larger, semantics: 3, ..record(1) }])).await;
    one.until_cursor(1).await;
    assert_eq!(mark(), None);
    assert!(!node.may_serve(), "the others may take it for one that stops");
    cluster.set = set(&[1, 2, 3]);
    let two = cluster.join(2, 1).await;
    until(|| mark() == Some("1 2 3".to_owned())).await;
    assert!(node.may_serve());
    node.shutdown().await;
    drop((one, two));

    let node = start(&dir, &cluster.planes[0], LeasePolicy::Serve);
    assert!(node.may_serve(), "it has agreed with those that count where it stands");
}

#[tokio::test]
async fn a_control_plane_that_knows_of_no_others_is_spoken_to_as_before() {
    let dir = TempDir::new().unwrap();
    let mut control = ControlPlane::start().await;
    let node = start(&dir, &control, LeasePolicy::Revalidate);
    for _ in 0..2 {
        let mut newer = control.accept(1).await;
        assert_eq!(newer.hello.protocol, 2);
        assert!(newer.hello.connection.is_some());
        newer
            .outgoing
            .send(Err(Status::failed_precondition("bring the older one up to date")))
            .await
            .unwrap();
        newer.until_end().await;
        let mut stream = control.welcome(3).await;
        assert_eq!((stream.hello.protocol, stream.hello.connection), (1, None));
        until(|| node.may_serve()).await;
        stream.send(records(4..=4)).await;
        stream.until_cursor(4).await;
    }
}

#[tokio::test]
async fn a_node_that_stored_no_set_is_told_by_whoever_accepts_its_place() {
    let dir = TempDir::new().unwrap();
    let mut cluster = Cluster { set: ReplicaSet::only(), ..Cluster::start().await };
    let node = start(&dir, &cluster.planes[0], LeasePolicy::Revalidate);
    let mut one = cluster.join(1, 0).await;
    one.send(records(1..=3)).await;
    one.until_cursor(3).await;
    node.shutdown().await;
    drop(one);
    // As a build left it that knew of one control plane, and took the change of the set for a flush.
    let state = crate::state_dir::StateDir::open(dir.path(), &"fra1/edge-1".parse().unwrap()).unwrap();
    let mut stored = state.stored.unwrap();
    assert_eq!(stored.position.unwrap().log_id, log_id());
    stored.known.set = None;
    stored.known.endpoints.clear();
    cluster.planes.iter_mut().for_each(ControlPlane::ignore_pending);
    state.state.save(&stored).unwrap();
    drop(state.state);

    cluster.set = set(&[1, 2, 3]);
    let node = start(&dir, &cluster.planes[0], LeasePolicy::Revalidate);
    let _one = cluster.join(1, 3).await;
    let alone = Instant::now();
    while alone.elapsed() < LEASE {
        assert!(!node.may_serve(), "its lease is one of three");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _two = cluster.join(2, 3).await;
    until(|| node.may_serve()).await;
}

#[tokio::test]
async fn an_endpoint_where_another_answers_costs_nobody_a_lease_for_long() {
    let dir = TempDir::new().unwrap();
    let mut cluster = Cluster { set: set(&[1, 2]), ..Cluster::start().await };
    cluster.planes.truncate(2);
    let right = std::mem::replace(&mut cluster.planes[1], ControlPlane::start().await);
    let node = start(&dir, &cluster.planes[0], LeasePolicy::Revalidate);
    let mut first = cluster.join(1, 0).await;
    // What should be replica 2 is replica 1.
    let second = cluster.planes[1].accept(1).await;
    second.send(cluster.welcome(1, 0)).await;
    first.until_end().await;
    assert!(second.hello.connection > first.hello.connection, "the later one stays");
    // Who is really there says so at last.
    cluster.planes[1] = right;
    second.send(cluster.list()).await;
    let two = cluster.join(2, 0).await;
    until(|| node.may_serve()).await;
    drop((second, two));
}

#[tokio::test]
async fn a_node_that_nobody_answers_looks_at_its_configured_endpoints_again() {
    let dir = TempDir::new().unwrap();
    let (mut cluster, node, streams) = Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    node.shutdown().await;
    drop(streams);
    // They have all moved.
    for plane in &mut cluster.planes {
        *plane = ControlPlane::start().await;
    }
    let dead: Vec<_> = std::iter::repeat_with(|| "http://127.0.0.1:1".into()).take(3).collect();
    let state = crate::state_dir::StateDir::open(dir.path(), &"fra1/edge-1".parse().unwrap()).unwrap();
    let mut stored = state.stored.unwrap();
    stored.known.endpoints = (1..=3).map(Replica).zip(dead).collect();
    state.state.save(&stored).unwrap();
    drop(state.state);
    let node = start(&dir, &cluster.planes[2], LeasePolicy::Revalidate);
    let _three = cluster.join(3, 0).await;
    let _one = cluster.join(1, 0).await;
    until(|| node.may_serve()).await;
}

#[tokio::test]
async fn two_streams_are_asked_to_bring_records_at_once_and_each_that_ends_is_replaced() {
    let dir = TempDir::new().unwrap();
    let (mut cluster, node, mut streams) = Cluster::serving(&dir, LeasePolicy::Revalidate).await;
    // Whichever it is: each node has an order of its own.
    let [one, two, three] = &mut streams;
    let fills_in = tokio::select! {
        () = one.until_told(false) => 0,
        () = two.until_told(false) => 1,
        () = three.until_told(false) => 2,
    };
    let prompt: Vec<usize> = (0..3).filter(|number| *number != fills_in).collect();
    for number in &prompt {
        streams[*number].until_told(true).await;
    }
    let gone = prompt[0];
    let [one, two, three] = streams;
    let mut streams = [Some(one), Some(two), Some(three)];
    streams[gone] = None;
    streams[fills_in].as_mut().unwrap().until_told(true).await;
    let replica = u8::try_from(gone + 1).unwrap();
    let mut again = cluster.join(replica, 0).await;
    again.until_told(false).await;
    // Its own record is as good as anybody's.
    again.send(records(1..=1)).await;
    again.until_cursor(1).await;
    assert_eq!(node.applied(), Cursor::new(1));
}
