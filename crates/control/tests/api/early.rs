//! Refusals that are known before the client has sent all: the reply comes early, and the client gets to read it.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::checks::check;
use crate::client::Reply;
use crate::rig::Rig;

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_client_that_writes_six_mebibytes_first_reads_its_413() {
    let rig = Rig::start().await;
    let request = rig.post(&" ".repeat(6 * MIB));
    check("announced", &request.send().await, 413, "body_too_large");

    let mut stream = TcpStream::connect(request.to).await.unwrap();
    let chunked = rig.post("").header("Transfer-Encoding", "chunked");
    stream.write_all(chunked.head().as_bytes()).await.unwrap();
    for _ in 0..6 {
        stream.write_all(format!("{MIB:x}\r\n{}\r\n", " ".repeat(MIB)).as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    check("chunked", &Reply::read(&mut stream, false).await, 413, "body_too_large");
}

#[tokio::test]
async fn the_413_comes_before_the_body_is_sent() {
    let rig = Rig::start().await;
    let announced = rig.post("").header("Content-Length", &(2 * MIB).to_string());
    let mut stream = TcpStream::connect(announced.to).await.unwrap();
    stream.write_all(announced.head().as_bytes()).await.unwrap();
    check("announced", &Reply::read(&mut stream, false).await, 413, "body_too_large");

    let chunked = rig.post("").header("Transfer-Encoding", "chunked");
    let mut stream = TcpStream::connect(chunked.to).await.unwrap();
    stream.write_all(chunked.head().as_bytes()).await.unwrap();
    stream.write_all(format!("{:x}\r\n{}", 3 * MIB, " ".repeat(MIB + 1)).as_bytes()).await.unwrap();
    check("in the middle", &Reply::read(&mut stream, false).await, 413, "body_too_large");
}

#[tokio::test]
async fn a_client_without_a_token_reads_why_though_it_writes_on() {
    let rig = Rig::start().await;
    let big = " ".repeat(5 * MIB);
    check("no token", &rig.post(&big).no_token().send().await, 401, "invalid_token");
    check("no route", &rig.request("POST", "/v1/nowhere").json(&big).send().await, 404, "not_found");
    check(
        "no method",
        &rig.request("PUT", "/v1/sites/shop/purge").json(&big).send().await,
        405,
        "method_not_allowed",
    );
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_not_asked_for_what_is_refused() {
    let rig = Rig::start().await;
    let request =
        rig.post("").header("Content-Length", &(2 * MIB).to_string()).header("Expect", "100-continue");
    let mut stream = TcpStream::connect(request.to).await.unwrap();
    stream.write_all(request.head().as_bytes()).await.unwrap();
    check("too large", &Reply::read(&mut stream, false).await, 413, "body_too_large");

    let body = r#"{"tags":["a"]}"#;
    let fine = rig.post(body).header("Expect", "100-continue");
    let mut stream = TcpStream::connect(fine.to).await.unwrap();
    stream.write_all(fine.head().as_bytes()).await.unwrap();
    let asked = {
        let mut interim = [0; 25];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut interim).await.unwrap();
        String::from_utf8_lossy(&interim).into_owned()
    };
    assert!(asked.starts_with("HTTP/1.1 100 Continue"), "{asked}");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream, false).await.status, 202);
}

#[tokio::test]
async fn a_body_of_exactly_one_mebibyte_is_read() {
    let rig = Rig::start().await;
    let mut body = r#"{"tags":["a"]}"#.to_owned();
    body.push_str(&" ".repeat(MIB - body.len()));
    assert_eq!(rig.post(&body).send().await.status, 202);
}
