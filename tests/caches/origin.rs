//! An origin whose answers are numbered, and which can be stopped in the middle of one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Enough that no cache keeps the whole answer in a buffer and waits with storing until it has seen the end.
const HELD_BODY_BYTES: usize = 256 * 1024;

/// An origin on a free loopback port. Each answer to `GET` carries the number of the request for that URL, counted from
/// 1, so whether an answer came from a cache is never a matter of what a cache says about itself.
#[derive(Clone)]
pub struct Origin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By host and target.
    requests: HashMap<(String, String), u64>,
    /// By the beginning of the target; the longest wins.
    pages: Vec<(String, Page)>,
    holds: HashMap<String, Arc<HeldInner>>,
}

/// What a page is like.
#[derive(Clone, Debug)]
pub struct Page {
    /// `Cache-Tag`; empty: none.
    pub tags: String,
    /// `Vary`; empty: none.
    pub vary: &'static str,
    /// `max-age`, in seconds.
    pub max_age: u32,
    /// Has an `ETag`, and confirms it with a 304: it never changes.
    pub constant: bool,
    /// The status and its reason.
    pub status: &'static str,
    /// More lines of the header, each with its end of line; `Cache-Control` among them takes the place of `max_age`.
    pub more: String,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            tags: String::new(),
            vary: "",
            max_age: 3_600,
            constant: false,
            status: "200 OK",
            more: String::new(),
        }
    }
}

impl Page {
    /// A page with tags.
    pub fn tagged(tags: &str) -> Self {
        Self { tags: tags.to_owned(), ..Self::default() }
    }

    /// A page that has a variant for each language.
    pub fn in_languages() -> Self {
        Self { vary: "Accept-Language", ..Self::default() }
    }
}

/// Where an answer is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has been read; nothing has been sent.
    Header,
    /// The header and half of the body have been sent.
    Body,
}

/// The next answer for one URL, which stops and waits.
pub struct Held {
    inner: Arc<HeldInner>,
}

struct HeldInner {
    phase: Phase,
    reached: Notify,
    released: Notify,
}

impl Held {
    /// Waits until the request has come so far.
    pub async fn reached(&self) {
        let waited = tokio::time::timeout(batoff_tests::PATIENCE, self.inner.reached.notified()).await;
        waited.expect("the held request reaches the origin");
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.inner.released.notify_one();
    }
}

impl Origin {
    /// Starts it; it ends with the runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let origin = Self { address, state: Arc::default() };
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let origin = served.clone();
                // A cache that goes away in the middle is part of the game.
                tokio::spawn(async move { drop(origin.serve(stream).await) });
            }
        });
        origin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says what pages are like whose target begins so.
    pub fn page(&self, beginning: &str, page: Page) {
        let mut state = self.state.lock();
        state.pages.retain(|(known, _)| known != beginning);
        state.pages.push((beginning.to_owned(), page));
        state.pages.sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
    }

    /// How often it was asked for a target of a host.
    pub fn requests(&self, host: &str, target: &str) -> u64 {
        let key = (host.to_owned(), target.to_owned());
        self.state.lock().requests.get(&key).copied().unwrap_or(0)
    }

    /// Stops the next answer for a target.
    pub fn hold(&self, target: &str, phase: Phase) -> Held {
        let inner = Arc::new(HeldInner { phase, reached: Notify::new(), released: Notify::new() });
        self.state.lock().holds.insert(target.to_owned(), Arc::clone(&inner));
        Held { inner }
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(request) = Request::read(&mut stream).await? {
            let (number, page, held) = self.count(&request);
            if let Some(held) = held.as_ref().filter(|held| held.phase == Phase::Header) {
                held.wait().await;
            }
            if page.constant && request.conditional {
                let mut answer =
                    "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=3600\r\n".to_owned();
                if !page.tags.is_empty() {
                    answer.push_str(&format!("Cache-Tag: {}\r\n", page.tags));
                }
                answer.push_str("\r\n");
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
                continue;
            }
            let size = if held.is_some() { HELD_BODY_BYTES } else { 0 };
            let Request { host, body, .. } = &request;
            let body = format!("number={number}\nhost={host}\nasked={body}\n{}", "x".repeat(size));
            let mut answer = format!(
                "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}",
                page.status,
                body.len(),
                page.more,
            );
            if !page.more.contains("Cache-Control:") {
                answer.push_str(&format!("Cache-Control: max-age={}\r\n", page.max_age));
            }
            if !page.tags.is_empty() {
                answer.push_str(&format!("Cache-Tag: {}\r\n", page.tags));
            }
            if !page.vary.is_empty() {
                answer.push_str(&format!("Vary: {}\r\n", page.vary));
            }
            if page.constant {
                answer.push_str("ETag: \"1\"\r\n");
            }
            answer.push_str("\r\n");
            stream.write_all(answer.as_bytes()).await?;
            if request.method != "HEAD" {
                let (first, second) = body.split_at(body.len() / 2);
                stream.write_all(first.as_bytes()).await?;
                if let Some(held) = held.filter(|held| held.phase == Phase::Body) {
                    stream.flush().await?;
                    held.wait().await;
                }
                stream.write_all(second.as_bytes()).await?;
            }
            stream.flush().await?;
        }
        Ok(())
    }

    fn count(&self, request: &Request) -> (u64, Page, Option<Arc<HeldInner>>) {
        let mut state = self.state.lock();
        let key = (request.host.clone(), request.target.clone());
        let number = state.requests.entry(key).or_default();
        *number += 1;
        let number = *number;
        let page = state.pages.iter().find(|(beginning, _)| request.target.starts_with(beginning));
        let page = page.map(|(_, page)| page.clone()).unwrap_or_default();
        (number, page, state.holds.remove(&request.target))
    }
}

impl HeldInner {
    async fn wait(&self) {
        self.reached.notify_one();
        // For ever would keep a failed test from ending.
        drop(tokio::time::timeout(Duration::from_secs(120), self.released.notified()).await);
    }
}

struct Request {
    method: String,
    target: String,
    host: String,
    body: String,
    /// Asks only whether what it has is still right.
    conditional: bool,
}

impl Request {
    /// `None` when the connection has ended.
    async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request =
            Self { method, target, host: String::new(), body: String::new(), conditional: false };
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "host" => value.trim().clone_into(&mut request.host),
                "if-none-match" => request.conditional = true,
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => is_chunked = true,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        while is_chunked {
            let mut size = String::new();
            stream.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            // With the end of line behind it.
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            body.extend_from_slice(&chunk[..size]);
            is_chunked = size > 0;
        }
        request.body = String::from_utf8_lossy(&body).into_owned();
        Ok(Some(request))
    }
}
