use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::origin::{Origin, Plan};
use crate::rig::{HOST, Rig, Setup, tag, url};

fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

#[tokio::test]
async fn a_confirmation_that_began_before_a_purge_brings_nothing_back() {
    let rig = Rig::start().await;
    let gate = gate();
    let plan =
        Plan::page("old").confirming("\"1\"").header("cache-control", "max-age=0").header("cache-tag", "t");
    rig.origin.plan("/a", plan.clone());
    rig.get("/a").await;
    rig.origin.plan("/a", plan.header("cache-control", "max-age=3600").held_before_header(&gate));
    let visitor = rig.get_later("/a");
    rig.origin.until_asked("/a", 2).await;
    rig.purge(tag("t")).await;
    rig.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(visitor.await.unwrap().told(), ("EXPIRED", "old"), "it asked before the purge");
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert_eq!((rig.store.len(), rig.index.stats().entries), (1, 1));
}

#[tokio::test]
async fn a_background_fetch_that_began_before_a_purge_is_not_stored() {
    let rig = Rig::start().await;
    let gate = gate();
    rig.origin.plan("/a", Plan::page("old"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan::page("older than the purge").held_before_header(&gate));
    rig.soft_purge(url("/a")).await;
    assert_eq!(rig.get("/a").await.told(), ("STALE", "old"));
    rig.origin.until_asked("/a", 2).await;
    rig.purge(url("/a")).await;
    rig.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(rig.get("/a").await.told(), ("HIT", "new"));
}

#[tokio::test]
async fn an_error_of_the_origin_does_not_bring_a_purged_page_back() {
    let rig = Rig::start().await;
    let control = "max-age=0, stale-if-error=600";
    let gate = gate();
    rig.origin.plan("/a", Plan::page("old").header("cache-control", control));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") });
    assert_eq!(rig.get("/a").await.told(), ("STALE", "old"), "what the origin asked for");
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") }.held_before_header(&gate));
    let visitor = rig.get_later("/a");
    rig.origin.until_asked("/a", 3).await;
    rig.purge(url("/a")).await;
    gate.add_permits(1);
    let answer = visitor.await.unwrap();
    assert_eq!((answer.status, answer.text()), (503, "down"));
}

#[tokio::test]
async fn a_stale_answer_in_place_of_a_broken_one_says_that_the_connection_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut origin = Origin::default();
    origin.address = Some(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4_096]).await.unwrap(), 0);
        let page = "HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-if-error=600\r\nContent-Length: 3\r\n\
                    Connection: close\r\n\r\nold";
        stream.write_all(page.as_bytes()).await.unwrap();
        drop(stream);
        loop {
            drop(listener.accept().await);
        }
    });
    let rig = Rig::with(Setup { origin: Some(origin), ..Setup::default() }).await;
    assert_eq!(rig.get("/a").await.told(), ("MISS", "old"));
    let request = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut visitor = TcpStream::connect(rig.proxy).await.unwrap();
    visitor.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("x-cache: stale") && answer.contains("connection: close"), "{answer}");
}
