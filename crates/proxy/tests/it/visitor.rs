//! A visitor that sees every byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn x_cache(&self) -> &str {
        self.header("x-cache").unwrap_or("none")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// `X-Cache` and body, which is what most stories are about.
    pub fn told(&self) -> (&str, &str) {
        (self.x_cache(), self.text())
    }
}

/// An answer on its way.
pub struct Coming {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Coming {
    /// Reads until the header and so much of the body is here.
    pub async fn until_body_has(&mut self, part: &str) {
        let has = |bytes: &[u8]| bytes.windows(part.len()).any(|window| window == part.as_bytes());
        while !has(&self.bytes) {
            assert_ne!(self.stream.read_buf(&mut self.bytes).await.unwrap(), 0, "the answer ended early");
        }
    }

    pub async fn rest(mut self) -> Answer {
        self.stream.read_to_end(&mut self.bytes).await.unwrap();
        parse(&self.bytes)
    }
}

pub async fn ask(proxy: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    begin(proxy, method, target, headers).await.rest().await
}

pub async fn begin(proxy: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Coming {
    send(proxy, method, target, headers, "").await
}

pub async fn send(
    proxy: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Coming {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        request.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.unwrap();
    Coming { stream, bytes: Vec::new() }
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked")
        && !body.is_empty()
    {
        body = unchunk(&body);
    }
    Answer { status, headers, body }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk");
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + length]);
        bytes = &bytes[line + 4 + length..];
    }
}
