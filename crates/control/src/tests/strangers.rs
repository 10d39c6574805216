//! Whoever connects and says nothing, too little or too much.

use std::net::SocketAddr;
use std::time::Duration;

use batoff_types::message::LeasePolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::node::{Intro, Node};
use super::plane::Plane;

/// Longer than anything may be silent, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

async fn ends(what: &str, mut stream: TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "{what} stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listener_keeps_a_connection_that_asks_for_nothing() {
    let plane = Plane::start_with_grpc("hello_timeout_ms = 1000\n").await;
    let at = plane.running().addresses;
    let listeners = [("api", at.api), ("admin", at.admin), ("metrics", at.metrics), ("grpc", at.grpc)];
    let beginnings: [(&str, &[u8]); 4] = [
        ("no byte", b""),
        ("one byte", b"G"),
        ("half a preface", b"PRI * HTTP/2.0\r\n"),
        ("half a head", b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for (listener, address) in listeners {
        for (what, beginning) in beginnings {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            waiting.spawn(async move { ends(&format!("{listener}: {what}"), stream).await });
        }
    }
    // One byte now and then is as little.
    for (listener, address) in listeners {
        waiting.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let sent = async {
                let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
                for byte in head {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            let ended = tokio::time::timeout(PATIENCE, sent).await;
            assert!(ended.is_ok(), "{listener}: a byte now and then keeps it open");
        });
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
}

/// A connection from an address of its own.
async fn from(source: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(to).await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_take_no_handshake_from_a_node() {
    let (authority, plane) = super::tls::secured("hello_timeout_ms = 60000\n").await;
    let grpc = plane.running().addresses.grpc;
    let mut silent = Vec::new();
    for n in 0..600_u16 {
        let [high, low] = (n / 8).to_be_bytes();
        silent.push(from([127, 7, high, low], grpc).await.unwrap());
    }
    let welcome = super::tls::hello_of(&plane, &authority, "fra1/edge-1");
    let welcome = tokio::time::timeout(Duration::from_secs(50), welcome).await;
    assert!(welcome.is_ok_and(|welcome| welcome.is_ok()), "the node was kept out");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_certificate_cannot_hold_the_streams_of_all() {
    let (authority, plane) = super::tls::secured("hello_timeout_ms = 60000\n").await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let mut open = Vec::new();
    loop {
        let channel = super::tls::channel_of(&plane, &authority, "fra1/edge-1").await;
        match channel {
            Ok(channel) => match Node::open_over(channel, &intro).await {
                Ok(node) => open.push(node),
                Err(_) => break,
            },
            Err(_) => break,
        }
        assert!(open.len() < 100, "one certificate has a hundred streams");
    }
    let other = super::tls::hello_of(&plane, &authority, "fra1/edge-2").await;
    assert!(other.is_ok(), "{other:?}");
}
