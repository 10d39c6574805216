//! The origin that the check answers for, so that it knows whether an answer came from the cache.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::canary::FOLDER;

/// Enough that nginx has written a part of it before it has the rest.
const LONG_BODY: usize = 256 * 1024;

/// Tags of 8 bytes, for 16 KB of them.
const LONG_TAGS: usize = 2_000;

/// Answers for the origin: each answer has a number, counted by URL. Pages named `header…` and `body…` stop there until
/// they are let go.
#[derive(Debug)]
pub(super) struct Origin {
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    requests: Mutex<HashMap<String, u64>>,
    go_on: Semaphore,
}

impl Origin {
    pub(super) async fn start(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let shared = Arc::new(Shared { requests: Mutex::default(), go_on: Semaphore::new(0) });
        let served = Arc::clone(&shared);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&served);
                // What became of it is seen at the other end.
                tokio::spawn(async move { drop(shared.serve(stream).await) });
            }
        });
        Ok(Self { shared, serving })
    }

    /// The requests for a path.
    pub(super) fn requests(&self, path: &str) -> u64 {
        self.shared.requests.lock().get(path).copied().unwrap_or(0)
    }

    /// One answer that stops is let go.
    pub(super) fn let_go(&self, answers: usize) {
        self.shared.go_on.add_permits(answers);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut request = String::new();
            if stream.read_line(&mut request).await? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 2 {
                line.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            if !path.starts_with(FOLDER) {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
                continue;
            }
            self.answer(&path, &mut stream).await?;
        }
    }

    async fn answer(&self, path: &str, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
        let number = {
            let mut requests = self.requests.lock();
            let number = requests.entry(path.to_owned()).or_default();
            *number += 1;
            *number
        };
        let page = path.rsplit('/').next().unwrap_or_default();
        if page.starts_with("header") {
            self.stop().await;
        }
        let body = format!("number={number}\n");
        let rest = if page.starts_with("body") { LONG_BODY } else { 0 };
        let vary = if page.starts_with("vary") { "Vary: X-Batoff-Check\r\n" } else { "" };
        if page.starts_with("gone") && number > 1 {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        }
        let more = if page.starts_with("long") { LONG_TAGS } else { 0 };
        let tags: String = (0..more).map(|n| format!(",t{n:06}")).collect();
        // The stamp is forged: the fill hop has to hide it.
        let header = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=300\r\nCache-Tag: batoff-check{tags}\r\n\
             X-Fill-Gen: /forged/0000000000000000-1-1\r\n{vary}Content-Length: {}\r\n\r\n",
            body.len() + rest
        );
        stream.write_all(header.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        if rest > 0 {
            stream.write_all(&vec![b'x'; rest / 2]).await?;
            stream.flush().await?;
            self.stop().await;
            stream.write_all(&vec![b'x'; rest - rest / 2]).await?;
        }
        stream.flush().await
    }

    async fn stop(&self) {
        if let Ok(permit) = self.go_on.acquire().await {
            permit.forget();
        }
    }
}
