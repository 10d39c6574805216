//! The smallest HTTP client that lets a test write, and read, exactly the bytes it means.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::described::{Description, RealAnswer};

/// No reply takes longer; a test that waits for one that never comes ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub to: SocketAddr,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub token: Option<String>,
    pub secret: String,
    pub timestamp: Option<String>,
    pub signature: Option<String>,
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A JSON body.
    pub fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").bytes(body.as_bytes())
    }

    pub fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn no_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// Signs with another secret than the token's.
    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = secret.to_owned();
        self
    }

    /// Signs as if it were this time.
    pub fn timestamp(mut self, timestamp: &str) -> Self {
        self.timestamp = Some(timestamp.to_owned());
        self
    }

    /// Sends this in place of the right signature.
    pub fn signature(mut self, signature: &str) -> Self {
        self.signature = Some(signature.to_owned());
        self
    }

    /// The right signature, as the contract describes it.
    pub fn right_signature(&self) -> String {
        let hash = hex::encode(Sha256::digest(&self.body));
        let timestamp = self.timestamp.as_deref().unwrap_or_default();
        let mut text = format!("{timestamp}\n{}\n{}\n{hash}", self.method, self.target);
        let keys = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"));
        let keys: Vec<_> = keys.map(|(_, value)| value.as_str()).collect();
        if !keys.is_empty() {
            text.push_str(&format!("\n{}", keys.join(", ")));
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    /// Everything up to the body.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: api.batoff.test\r\n", self.method, self.target);
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        if let Some(token) = &self.token {
            line("Authorization", &format!("Bearer {token}"));
        }
        line("X-Batoff-Timestamp", self.timestamp.as_deref().unwrap_or_default());
        line("X-Batoff-Signature", self.signature.as_ref().unwrap_or(&self.right_signature()));
        for (name, value) in &self.headers {
            line(name, value);
        }
        let has_length = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !has_length {
            line("Content-Length", &self.body.len().to_string());
        }
        head.push_str("Connection: close\r\n\r\n");
        head
    }

    pub async fn send(&self) -> Reply {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.write_all(self.head().as_bytes()).await.unwrap();
        stream.write_all(&self.body).await.unwrap();
        let reply = Reply::read(&mut stream, self.method == "HEAD").await;
        self.compare(&reply);
        reply
    }

    /// Whatever a test is about: the answer is one that the description knows.
    fn compare(&self, reply: &Reply) {
        static DESCRIPTION: LazyLock<Value> =
            LazyLock::new(|| serde_json::to_value(batoff_control::api::description()).unwrap());
        let answer = RealAnswer {
            method: &self.method,
            target: &self.target,
            status: reply.status,
            headers: reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            body: &reply.body,
        };
        Description(&DESCRIPTION).compare(&answer).unwrap();
    }

    /// Sends, and leaves the reply to be read bit by bit.
    pub async fn open(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.write_all(self.head().as_bytes()).await.unwrap();
        stream.write_all(&self.body).await.unwrap();
        stream
    }
}

/// A reply that was read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads a reply with a `Content-Length`, or to the end of the connection.
    pub async fn read(stream: &mut TcpStream, head_only: bool) -> Self {
        tokio::time::timeout(PATIENCE, Self::read_patiently(stream, head_only))
            .await
            .expect("no reply in time")
    }

    async fn read_patiently(stream: &mut TcpStream, head_only: bool) -> Self {
        let mut raw = Vec::new();
        loop {
            if let Some(reply) = Self::parse(&raw)
                && (head_only || reply.is_whole())
            {
                return reply;
            }
            let mut chunk = [0; 16 * 1024];
            let read =
                stream.read(&mut chunk).await.expect("the connection broke before the reply was whole");
            if read == 0 {
                return Self::parse(&raw).expect("the connection ended before there was a reply");
            }
            raw.extend_from_slice(&chunk[..read]);
        }
    }

    fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self { status, headers, body: raw[end + 4..].to_vec() })
    }

    fn is_whole(&self) -> bool {
        let length = self.header("content-length").and_then(|length| length.parse().ok());
        length.is_some_and(|length: usize| self.body.len() >= length)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The `task_id` of an accepted submission.
    #[track_caller]
    pub fn task(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        self.json()["task_id"].as_str().unwrap().to_owned()
    }
}
