use batoff_types::message::{FromNode, GoAwayReason, Heartbeat, LeasePolicy, ResetReason, ToNode};
use batoff_types::{Cursor, LogId, Moment, Replica, ReplicaSet};
use tonic::Code;

use super::node::{Intro, Node};
use super::plane::Plane;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_of_one_node_the_newer_wins() {
    let plane = Plane::start().await;
    let mut older = Node::strict(&plane, "fra1/edge-1").await;
    let mut newer = Node::connect(&plane, older.intro(LeasePolicy::Revalidate)).await;
    newer.lease().await;
    loop {
        match older.receive().await {
            Ok(Some(ToNode::GoAway(away))) => {
                assert_eq!(away.reason, GoAwayReason::Replaced);
                break;
            }
            Ok(Some(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let accepted = plane.purge("/a").await;
    newer.receive_through(accepted.seq).await;
    newer.ack(&[]);
    assert_eq!(plane.completed(accepted.task).await.nodes.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hello_of_a_stream_that_was_opened_earlier_changes_nothing_when_it_comes_late() {
    let plane = Plane::start().await;
    let dead = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let mut late = Node::open(&plane, &dead).await;
    let mut alive = Node::available(&plane, "fra1/edge-1").await;
    late.say(FromNode::Hello(dead.hello()));
    assert_eq!(late.end().await.unwrap_err().code(), Code::Aborted);
    alive.lease().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_where_this_log_has_nothing_is_reset() {
    let plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let good = node.intro(LeasePolicy::Revalidate);
    drop(node);
    let position = good.position.unwrap();
    let elsewhere = LogId::from_bytes([9; 16]);
    for (position, reason) in [
        (batoff_types::message::Position { cursor: Cursor::new(1_000), ..position }, ResetReason::BeyondTail),
        (batoff_types::message::Position { log_id: elsewhere, ..position }, ResetReason::ForeignLog),
        (
            batoff_types::message::Position { task: Some(plane.services().ids.next()), ..position },
            ResetReason::RecordDiffers,
        ),
    ] {
        let mut node = Node::connect(&plane, Intro { position: Some(position), ..good.clone() }).await;
        let reset = node.reset().await;
        assert_eq!((reset.reason, reset.cursor), (reason, plane.tail()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_stream_with_invalid_argument() {
    let plane = Plane::start().await;
    let status = raw(&plane, &[b"\x00\x00\x00\x00\x03\xff\xff\xff"]).await;
    assert_eq!(status, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_begin_with_hello_or_breaks_the_rules_is_ended() {
    let plane = Plane::start().await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let mut node = Node::open(&plane, &intro).await;
    node.beat();
    assert_eq!(node.end().await.unwrap_err().code(), Code::InvalidArgument);

    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    node.say(FromNode::Hello(intro.hello()));
    assert_eq!(node.end().await.unwrap_err().code(), Code::InvalidArgument);

    let mut node = Node::strict(&plane, "fra1/edge-2").await;
    let cursor = Cursor::new(plane.tail().get() + 1);
    node.say(FromNode::Heartbeat(Heartbeat {
        sent_at: Moment::ZERO,
        cursor,
        index: None,
        fill_in_after: None,
    }));
    let status = node.end().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("acknowledged"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_nothing_is_not_waited_for() {
    let plane = Plane::start_with_grpc("hello_timeout_ms = 200\n").await;
    let mut node = Node::open(&plane, &Intro::new("fra1/edge-1", LeasePolicy::Serve)).await;
    assert_eq!(node.end().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_the_protocol_is_refused_in_words() {
    let plane = Plane::start().await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let mut node = Node::open(&plane, &intro).await;
    let mut hello = intro.hello();
    hello.protocol += 1;
    node.say(FromNode::Hello(hello));
    let status = node.end().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("up to date"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_of_no_other_control_planes_is_served_by_one_that_is_alone() {
    let plane = Plane::start().await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let mut node = Node::open(&plane, &intro).await;
    let mut hello = intro.hello();
    (hello.protocol, hello.semantics, hello.connection) = (1, 2, None);
    node.say(FromNode::Hello(hello));
    let ToNode::Welcome(welcome) = node.next().await else { panic!("no Welcome") };
    assert_eq!((welcome.replica, welcome.set), (Replica::ONLY, ReplicaSet::only()));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_sends_every_node_away() {
    let mut plane = Plane::start().await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    plane.drain().await;
    loop {
        match node.next().await {
            ToNode::GoAway(away) => {
                assert_eq!(away.reason, GoAwayReason::Draining);
                break;
            }
            other => assert!(matches!(other, ToNode::LeaseGrant(_)), "{other:?}"),
        }
    }
}

/// Sends raw gRPC frames as a node would, and returns the status that the stream ends with.
async fn raw(plane: &Plane, frames: &[&'static [u8]]) -> Code {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let address = plane.running().addresses.grpc;
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let frames: Vec<Result<Frame<bytes::Bytes>, std::convert::Infallible>> =
        frames.iter().map(|bytes| Ok(Frame::data(bytes::Bytes::from_static(bytes)))).collect();
    let request = http::Request::post(format!("http://{address}{}", batoff_wire::grpc::CONNECT_PATH))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(tokio_stream::iter(frames)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let headers = response.headers().clone();
    let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or(headers);
    Code::from_bytes(trailers["grpc-status"].as_bytes())
}
