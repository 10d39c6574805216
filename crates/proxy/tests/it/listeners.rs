//! Visitors that say nothing, or not enough.

use std::time::{Duration, Instant};

use batoff_program::listen::ListenersSection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::origin::Plan;
use crate::rig::{HOST, Rig, Setup};

/// Longer than any deadline here, and shorter than pingora's own.
const PATIENCE: Duration = Duration::from_secs(20);

async fn rig(listeners: ListenersSection) -> Rig {
    let rig = Rig::with(Setup { listeners, ..Setup::default() }).await;
    rig.origin.plan("/a", Plan::page("a"));
    rig
}

fn impatient() -> ListenersSection {
    ListenersSection { first_byte_ms: 1_000, header_ms: 1_000, idle_ms: 1_000, ..ListenersSection::default() }
}

/// Until the proxy has closed it; what it said before.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // Reset or closed: both give the place back.
    assert!(closed.is_ok(), "the proxy keeps a silent connection");
    said
}

#[tokio::test]
async fn a_visitor_who_says_nothing_or_half_a_header_is_sent_away() {
    let rig = rig(impatient()).await;
    for half in ["", "G", "GET /a HTTP/1.1\r\nHost: ", "GET /a HTTP/1.1\r\nHost: a.test\r\n"] {
        let mut stream = TcpStream::connect(rig.proxy).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        assert_eq!(until_closed(&mut stream).await, b"", "{half:?}");
    }
    assert_eq!(rig.get("/a").await.status, 200);
}

#[tokio::test]
async fn a_header_that_trickles_is_cut_off() {
    let rig = rig(impatient()).await;
    let stream = TcpStream::connect(rig.proxy).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let since = Instant::now();
    let trickle = tokio::spawn(async move {
        for byte in std::iter::repeat_n(*b"x", 400).flatten() {
            let byte = [byte];
            if write.write_all(&byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    read.read_to_end(&mut said).await.ok();
    assert!(since.elapsed() < PATIENCE, "each byte bought it more time");
    trickle.abort();
}

#[tokio::test]
async fn a_connection_that_is_idle_after_an_answer_is_closed() {
    let rig = rig(impatient()).await;
    let mut stream = TcpStream::connect(rig.proxy).await.unwrap();
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: {HOST}\r\nKeep-Alive: timeout=9999\r\nConnection: keep-alive\r\n\r\n"
    );
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\na") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it is kept for the next request");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn a_slow_answer_is_no_silence_of_the_visitor() {
    let rig = rig(impatient()).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    rig.origin.plan("/slow", Plan::page("slow").held_before_header(&gate));
    let visitor = rig.get_later("/slow");
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    gate.add_permits(1);
    assert_eq!(visitor.await.unwrap().text(), "slow");
}

#[tokio::test]
async fn one_address_does_not_take_the_places_of_all() {
    let listeners = ListenersSection {
        connections_max: 8,
        connections_per_address_max: 3,
        ..ListenersSection::default()
    };
    let rig = rig(listeners).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(rig.proxy).await.unwrap());
    }
    let mut fourth = TcpStream::connect(rig.proxy).await.unwrap();
    assert_eq!(until_closed(&mut fourth).await, b"");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(rig.proxy).await.unwrap();
    let request = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    other.write_all(request.as_bytes()).await.unwrap();
    assert!(until_closed(&mut other).await.starts_with(b"HTTP/1.1 200"));
    drop(silent);
    // The places come back as the proxy sees that they are free.
    let since = Instant::now();
    loop {
        let mut again = TcpStream::connect(rig.proxy).await.unwrap();
        again.write_all(request.as_bytes()).await.ok();
        if until_closed(&mut again).await.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
