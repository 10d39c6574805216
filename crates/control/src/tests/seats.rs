//! A control plane over etcd, and its seat.

use std::time::Duration;

use batoff_log::{Expect, Key, KvEvent, Store, StoreError, Write, system_clock};
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::EtcdServers;
use batoff_types::Replica;
use batoff_types::message::{
    FromNode, GoAwayReason, LeasePolicy, PROTOCOL_VERSION_ALONE, ReplicaAt, ToNode, Whereabouts,
};
use futures_util::StreamExt;
use tonic::Code;

use super::node::{Intro, Node};
use super::plane::{PATIENCE, Plane};

/// A place of its own to look at the seat's row from: what was written to it, in order.
async fn watch_seat(servers: &EtcdServers, key: &str) -> impl AsyncFnMut() -> (u64, bool, bool) + use<> {
    let store = EtcdStore::open(servers.config(system_clock())).await.unwrap();
    let mut watch = store.kv().watch(&Key::from(key));
    async move || {
        let _open = &store;
        loop {
            let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            if let KvEvent::Put { versioned, .. } = event {
                let row: serde_json::Value = serde_json::from_slice(&versioned.value).unwrap();
                let is = |column: &str| row[column].as_bool().unwrap();
                return (row["term"].as_u64().unwrap(), is("waited"), is("released"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_over_etcd_completes_purges_and_a_start_at_the_same_place_waits_for_nobody() {
    let servers = EtcdServers::start(1).await;
    let mut plane = Plane::start_over(&servers.endpoints(), "", None, None).await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let name = node.name.clone();
    node.follow();
    let task = plane.purge("/a").await.task;
    assert_eq!(plane.completed(task).await.nodes.confirmed, 1);
    let term = plane.tracker().term();

    // With the usual time of a seat it would take longer than this.
    tokio::time::timeout(PATIENCE, plane.crash()).await.unwrap();
    assert!(plane.tracker().term() > term);
    let nodes = plane.tracker().nodes();
    assert_eq!((nodes.len(), &nodes[0].node, nodes[0].policy), (1, &name, Some(LeasePolicy::Revalidate)));
    // Strict and silent: fenced once the leases of the last start have run out, and not before.
    let view = plane.completed(plane.purge("/b").await.task).await;
    assert_eq!((view.nodes.total, view.nodes.fenced), (1, 1));
    Node::strict(&plane, "fra1/edge-2").await.follow();
    plane.completed(plane.purge("/c").await.task).await;
    plane.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_at_another_place_waits_and_the_one_before_it_stands_down_and_writes_nothing_more() {
    let servers = EtcdServers::start(1).await;
    let seat = Some(Duration::from_secs(2));
    let first = Plane::start_over(&servers.endpoints(), "", None, seat).await;
    let mut seats = watch_seat(&servers, "seat").await;
    let (term, waited, _) = seats().await;
    assert!(waited, "nobody was there before");
    let mut node = Node::strict(&first, "fra1/edge-1").await;
    let task = first.purge("/a").await.task;

    let second = Plane::start_over(&servers.endpoints(), "", Some(&first), seat).await;
    assert_eq!((seats().await, seats().await), ((term + 1, false, false), (term + 1, true, false)));
    assert_eq!(second.tracker().term().0, term + 1);
    first.services().tenure.lost().await;
    let sent_away = tokio::time::timeout(PATIENCE, async {
        loop {
            if let ToNode::GoAway(away) = node.next().await {
                return away.reason;
            }
        }
    });
    assert_eq!(sent_away.await.unwrap(), GoAwayReason::Draining);

    // It still follows the log, and has something to record of it.
    Node::strict(&second, "fra1/edge-2").await.follow();
    let purge = second.purge("/b").await;
    first.tracker().knows(purge.seq).await;
    assert!(matches!(first.tracker().save().await, Err(StoreError::Invalid(_))));
    second.tracker().save().await.unwrap();
    let intro = node.intro(LeasePolicy::Revalidate);
    Node::connect(&second, intro).await.follow();
    second.completed(task).await;
    second.completed(purge.task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_one_that_was_stopped_in_order_waits_for_nobody_at_any_place() {
    let servers = EtcdServers::start(1).await;
    // Longer than anybody waits here.
    let seat = Some(Duration::from_secs(3_600));
    let mut first = Plane::start_over(&servers.endpoints(), "", None, seat).await;
    let mut seats = watch_seat(&servers, "seat").await;
    let (term, ..) = seats().await;
    let node = Node::strict(&first, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Revalidate);
    node.follow();
    let task = first.purge("/a").await.task;
    first.completed(task).await;
    first.drain().await;
    assert_eq!(seats().await, (term, true, true));

    let endpoints = servers.endpoints();
    let starting = Plane::start_over(&endpoints, "", Some(&first), seat);
    let second = tokio::time::timeout(PATIENCE, starting).await.unwrap();
    assert_eq!(seats().await, (term + 1, true, false));
    // The lease that the first one granted may still run, and is waited for.
    let purge = second.purge("/b").await;
    Node::connect(&second, intro).await.follow();
    second.completed(purge.task).await;
    second.completed(task).await;
}

fn at(replica: u8, endpoint: &str) -> ReplicaAt {
    ReplicaAt { replica: Replica(replica), endpoint: endpoint.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_where_the_control_planes_are_and_when_that_changes() {
    let servers = EtcdServers::start(1).await;
    let advertised = "advertise = 'http://127.0.0.1:7443'";
    let plane = Plane::start_over(&servers.endpoints(), advertised, None, None).await;
    let mut node = Node::connect(&plane, Intro::new("fra1/edge-1", LeasePolicy::Serve)).await;
    let first = at(1, "http://127.0.0.1:7443");
    assert_eq!(
        node.next().await,
        ToNode::Replicas(Whereabouts { replicas: vec![first.clone()] }),
        "right behind the reset"
    );
    let intro = Intro::new("fra1/edge-2", LeasePolicy::Serve);
    let mut older = Node::open(&plane, &intro).await;
    older.say(FromNode::Hello(batoff_types::message::Hello {
        protocol: PROTOCOL_VERSION_ALONE,
        connection: None,
        ..intro.hello()
    }));

    let write = Write::Put { value: r#""http://127.0.0.1:7444""#.into(), ttl: None };
    plane.services().store.kv().cas(&Key::from("replicas/at/2"), Expect::Any, write).await.unwrap();
    let both = Whereabouts { replicas: vec![first, at(2, "http://127.0.0.1:7444")] };
    loop {
        match node.next().await {
            ToNode::Replicas(replicas) => break assert_eq!(replicas, both),
            ToNode::Records(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // It takes a lease for its next message whatever has been said to others.
    older.beat();
    loop {
        match older.next().await {
            ToNode::LeaseGrant(_) => break,
            ToNode::Replicas(replicas) => panic!("a node of version 1 knows no {replicas:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_stops_tells_its_nodes_where_the_others_are() {
    let servers = EtcdServers::start(1).await;
    let advertised = "advertise = 'http://127.0.0.1:7443'";
    let mut plane = Plane::start_over(&servers.endpoints(), advertised, None, None).await;
    let write = Write::Put { value: r#""http://127.0.0.1:7444""#.into(), ttl: None };
    plane.services().store.kv().cas(&Key::from("replicas/at/2"), Expect::Any, write).await.unwrap();
    let mut places = plane.services().places.subscribe();
    places.wait_for(|known| known.replicas.len() == 2).await.unwrap();
    let mut node = Node::connect(&plane, Intro::new("fra1/edge-1", LeasePolicy::Serve)).await;
    let sent_away = async {
        loop {
            if let ToNode::GoAway(away) = node.next().await {
                return away;
            }
        }
    };
    let ((), away) = tokio::join!(plane.drain(), sent_away);
    let elsewhere: Vec<_> = away.endpoints.iter().map(AsRef::as_ref).collect();
    assert_eq!((away.reason, elsewhere), (GoAwayReason::Draining, vec!["http://127.0.0.1:7444"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_lower_number_than_a_known_one_of_the_same_run_is_refused() {
    let plane = Plane::start().await;
    let connect = async |intro: &Intro, number: u64| {
        let mut node = Node::open(&plane, intro).await;
        node.say(FromNode::Hello(batoff_types::message::Hello { connection: Some(number), ..intro.hello() }));
        node.receive().await.map(|message| (node, message.unwrap()))
    };
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let (_five, welcome) = connect(&intro, 5).await.unwrap();
    assert!(matches!(welcome, ToNode::Welcome(_)));
    for late in [4, 5] {
        let refused = connect(&intro, late).await.map(|(_, message)| message).unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
    }
    let (_six, welcome) = connect(&intro, 6).await.unwrap();
    assert!(matches!(welcome, ToNode::Welcome(_)));
    // Another run may have lost its count.
    let (_one, welcome) = connect(&Intro::new("fra1/edge-1", LeasePolicy::Serve), 1).await.unwrap();
    assert!(matches!(welcome, ToNode::Welcome(_)));
}
