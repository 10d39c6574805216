use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use batoff_tests::Customer;
use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What one run of a load measured.
pub struct Load {
    /// From the first byte to the last answer.
    pub elapsed: Duration,
    /// Answers.
    pub requests: usize,
    /// From the first byte of a request to the last of its answer, in microseconds.
    pub latency: Histogram<u64>,
}

impl Load {
    /// Sends requests over `connections` connections, each one after the other's answer. Every answer must have `status`.
    pub async fn drive(
        address: &str,
        requests: Vec<Vec<u8>>,
        connections: usize,
        status: u16,
    ) -> anyhow::Result<Self> {
        let total = requests.len();
        let mut shares: Vec<Vec<Vec<u8>>> = (0..connections).map(|_| Vec::new()).collect();
        for (number, request) in requests.into_iter().enumerate() {
            shares[number % connections].push(request);
        }
        let mut open = Vec::new();
        for share in shares {
            let stream =
                TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
            stream.set_nodelay(true)?;
            open.push((stream, share));
        }
        let begun = Instant::now();
        let tasks: Vec<_> =
            open.into_iter().map(|(stream, share)| tokio::spawn(one(stream, share, status))).collect();
        let mut latency = crate::micros();
        for task in tasks {
            latency.add(task.await??)?;
        }
        Ok(Self { elapsed: begun.elapsed(), requests: total, latency })
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

async fn one(stream: TcpStream, requests: Vec<Vec<u8>>, status: u16) -> anyhow::Result<Histogram<u64>> {
    let mut caller = Caller::over(stream);
    let mut latency = crate::micros();
    for request in requests {
        let begun = Instant::now();
        let (answered, body) = caller.call(&request).await?;
        if answered != status {
            bail!("answered {answered}: {}", String::from_utf8_lossy(body));
        }
        latency.saturating_record(u64::try_from(begun.elapsed().as_micros())?);
    }
    Ok(latency)
}

/// A connection that asks one thing after the other, and looks at no more of an answer than it must.
pub struct Caller {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Caller {
    /// To `host:port`.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream), line: String::new(), body: Vec::new() }
    }

    /// Sends a request as it is; status and body of its answer, which must have a `Content-Length`.
    pub async fn call(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        let Self { stream, line, body } = self;
        stream.write_all(request).await?;
        line.clear();
        stream.read_line(line).await?;
        let status =
            line.split(' ').nth(1).with_context(|| format!("not a status line: {line:?}"))?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(line).await? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        stream.read_exact(body).await?;
        Ok((status, body))
    }
}

/// Signed submissions of one URL each, as the bytes that go over the wire.
pub fn prepared(customer: &Customer, host: &str, numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let path = format!("/v1/sites/{}/purge", customer.site);
    let request = |number| {
        let body = format!(r#"{{"urls":["https://www.example.com/articles/{number}/headline.html"]}}"#);
        let timestamp = Customer::timestamp();
        let signature = customer.signature(&timestamp, "POST", &path, body.as_bytes(), None);
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nX-Batoff-Timestamp: {timestamp}\r\n\
             X-Batoff-Signature: {signature}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            customer.token,
            body.len()
        )
        .into_bytes()
    };
    numbers.map(request).collect()
}
