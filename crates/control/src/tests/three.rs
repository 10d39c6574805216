//! Three control planes over one etcd, as the program starts them, and nodes that have a stream to each.

use std::path::Path;
use std::time::Duration;

use batoff_log_etcd::testing::EtcdServers;
use batoff_types::message::{FromNode, Hello, LeasePolicy, PROTOCOL_VERSION_ALONE};
use batoff_types::{Replica, ReplicaSet, Seq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Code;

use super::node::{Intro, Node};
use super::plane::{PATIENCE, Plane};
use crate::catalog::{ADMIN_PREFIX, MasterKey, generate};
use crate::init::{forget_master_key, recognise};
use crate::tracker::TaskState;

struct Three {
    servers: EtcdServers,
    /// By its number less one.
    planes: [Option<Plane>; 3],
}

fn lines(replica: usize) -> String {
    format!("id = {replica}\ninitial = [1, 2, 3]\nadvertise = 'http://127.0.0.1:{}'", 7_000 + replica)
}

impl Three {
    /// With those replicas of which it says so.
    async fn start(up: [bool; 3]) -> Self {
        let mut three = Self { servers: EtcdServers::start(1).await, planes: [const { None }; 3] };
        for (replica, up) in (1..).zip(up) {
            if up {
                three.add(replica).await;
            }
        }
        three
    }

    async fn add(&mut self, replica: usize) {
        let other = self.planes.iter().flatten().next();
        let seat = Some(Duration::from_secs(2));
        let plane = Plane::start_over(&self.servers.endpoints(), &lines(replica), other, seat).await;
        self.planes[replica - 1] = Some(plane);
    }

    fn plane(&self, replica: usize) -> &Plane {
        self.planes[replica - 1].as_ref().unwrap()
    }

    fn kill(&mut self, replica: usize) {
        self.planes[replica - 1] = None;
    }

    /// A node with a stream to each that is up, all of which it follows.
    async fn node(&self, intro: &Intro) -> Vec<JoinHandle<()>> {
        let mut streams = Vec::new();
        for plane in self.planes.iter().flatten() {
            streams.push(self.stream(plane, intro).await);
        }
        streams
    }

    async fn stream(&self, plane: &Plane, intro: &Intro) -> JoinHandle<()> {
        let node = Node::connect(plane, intro.clone()).await;
        let welcome = node.welcome.as_ref().unwrap();
        assert_eq!(welcome.replica, plane.services().tenure.replica());
        assert_eq!(welcome.set, ReplicaSet::new([1, 2, 3].map(Replica)).unwrap());
        node.follow()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_complete_while_two_of_three_are_there_whoever_accepts_and_whoever_is_asked() {
    let mut three = Three::start([true; 3]).await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let _streams = three.node(&intro).await;
    for accepts in 1..=3 {
        let task = three.plane(accepts).purge(&format!("/{accepts}")).await.task;
        for answers in 1..=3 {
            three.plane(answers).completed(task).await;
        }
    }

    three.kill(1);
    let task = three.plane(2).purge("/with/two").await.task;
    three.plane(3).completed(task).await;

    // One is no majority. It takes its seat again at its place at once, and completes with the other.
    three.kill(2);
    let open = three.plane(3).purge("/with/one").await.task;
    let waited = three.plane(3).tracker().wait(&super::plane::shop(), open, Duration::from_secs(2)).await;
    assert_ne!(waited.unwrap().unwrap().state, TaskState::Completed);
    let crashed = tokio::time::timeout(PATIENCE, three.planes[2].as_mut().unwrap().crash());
    crashed.await.unwrap();
    three.add(2).await;
    let _streams = three.node(&intro).await;
    three.plane(2).completed(open).await;
    three.plane(3).completed(open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_of_one_control_plane_only_is_refused_by_name() {
    let three = Three::start([true, false, false]).await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let mut node = Node::open(three.plane(1), &intro).await;
    node.say(FromNode::Hello(Hello { protocol: PROTOCOL_VERSION_ALONE, connection: None, ..intro.hello() }));
    let refused = node.receive().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("several control planes (1, 2, 3)"), "{refused}");
}

/// Longer than any test takes; it is taken for half a second.
const FOR_EVER: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fills_in_brings_by_itself_what_nobody_confirms() {
    let three = Three::start([true, true, false]).await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let mut filling = Node::connect(three.plane(1), intro.clone()).await;
    filling.beat_filling_in(FOR_EVER);
    let told = filling.answer().await.tail.expect("one of several says where its log ends");
    assert!(told >= filling.cursor);

    // No heartbeat and no ack comes that would wake the stream.
    let seq = three.plane(2).purge("/a").await.seq;
    filling.receive_through(seq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_after_the_log_was_trimmed_waits_for_nodes_that_it_has_never_met() {
    let mut three = Three::start([true, true, false]).await;
    let [silent, there] =
        ["fra1/edge-1", "fra1/edge-2"].map(|name| Intro::new(name, LeasePolicy::Revalidate));
    for intro in [&silent, &there] {
        for stream in three.node(intro).await {
            stream.abort();
        }
    }
    let _streams = three.node(&there).await;
    let seq = three.plane(1).purge("/a").await.seq;
    for replica in [1, 2] {
        three.plane(replica).streamed(seq).await;
        three.plane(replica).tracker().save().await.unwrap();
    }
    // All that says which nodes there are.
    let store = &three.plane(1).services().store;
    assert_eq!(store.log().trim(seq).await.unwrap(), seq);
    assert!(seq > Seq::FIRST);

    three.add(3).await;
    let nodes = three.plane(3).tracker().nodes();
    let known: Vec<_> = nodes.iter().map(|node| (node.node.to_string(), node.policy)).collect();
    assert_eq!(known, [("fra1/edge-1".to_owned(), None), ("fra1/edge-2".to_owned(), None)]);
}

/// The settings of others that differ from this one's, once they are these.
async fn apart(plane: &Plane, expected: &[(u8, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(of, setting)| (Replica(*of), (*setting).to_owned())).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = plane.tracker().settings_apart();
        if told == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn readiness(plane: &Plane) -> String {
    let mut connection = TcpStream::connect(plane.running().addresses.metrics).await.unwrap();
    connection.write_all(b"GET /readyz HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_not_the_same_on_all_is_told_by_each_until_it_is() {
    let mut three = Three::start([true, true, false]).await;
    for (replica, other) in [(1, 2), (2, 1)] {
        apart(three.plane(replica), &[]).await;
        let heard = three.plane(replica).tracker().replicas().unwrap().replicas;
        let said = heard.iter().find(|one| one.replica == Replica(other)).and_then(|one| one.said.as_ref());
        assert!(said.is_some(), "or nothing would differ");
    }
    assert!(readiness(three.plane(1)).await.ends_with("ready\n"));

    let (file, right) = (three.plane(2).file("admin.token"), three.plane(1).admin_token());
    std::fs::write(&file, generate(ADMIN_PREFIX).as_bytes()).unwrap();
    three.planes[1].as_mut().unwrap().crash().await;
    apart(three.plane(1), &[(2, "admin.token")]).await;
    apart(three.plane(2), &[(1, "admin.token")]).await;
    let ready = readiness(three.plane(1)).await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("admin.token of replica 2 differs"),
        "{ready}"
    );

    std::fs::write(&file, right).unwrap();
    three.planes[1].as_mut().unwrap().crash().await;
    apart(three.plane(1), &[]).await;
    apart(three.plane(2), &[]).await;
    // Of another kind, on a third.
    let lines = format!("{}\n[limits]\nitems_per_minute = 7", lines(3));
    let seat = Some(Duration::from_secs(2));
    let third = Plane::start_over(&three.servers.endpoints(), &lines, three.planes[0].as_ref(), seat).await;
    apart(three.plane(1), &[(3, "limits.items_per_minute")]).await;
    apart(&third, &[(1, "limits.items_per_minute"), (2, "limits.items_per_minute")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_ends_when_the_tokens_of_its_store_are_issued_with_another_master_key() {
    let three = Three::start([true, false, false]).await;
    let failed = three.plane(1).running().failed();
    assert!(tokio::time::timeout(Duration::from_secs(6), failed).await.is_err(), "the key is the store's");
    // As a start with --new-master-key does.
    let kv = three.plane(1).services().store.kv();
    forget_master_key(kv).await.unwrap();
    recognise(Path::new("/elsewhere"), &MasterKey::new([9; 32]), kv).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, three.plane(1).running().failed()).await.expect("it ends");
}
