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
    let mut stream = BufReader::new(stream);
    let mut latency = crate::micros();
    let mut body = Vec::new();
    let mut line = String::new();
    for request in requests {
        let begun = Instant::now();
        stream.write_all(&request).await?;
        line.clear();
        stream.read_line(&mut line).await?;
        let answered = line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        if answered != Some(status) {
            bail!("answered {answered:?}: {}", String::from_utf8_lossy(&body));
        }
        latency.saturating_record(u64::try_from(begun.elapsed().as_micros())?);
    }
    Ok(latency)
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
