//! A way between two programs, which a story can hold (what is answered waits until it is let go, and arrives then in its
//! order), and on which it counts the requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A relay on a free loopback port.
pub struct Link {
    address: SocketAddr,
    held: watch::Sender<bool>,
    requests: Arc<AtomicU64>,
}

impl Link {
    /// To `server`, as `host:port`; it ends with the runtime.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (held, server) = (watch::Sender::new(false), server.to_owned());
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        let seen = held.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Either side may go away at any time; the client connects again.
                let (server, seen, counted) = (server.clone(), seen.clone(), Arc::clone(&counted));
                tokio::spawn(async move { drop(relay(client, &server, seen, &counted).await) });
            }
        });
        Self { address, held, requests }
    }

    /// Where the client connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing is answered any more.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Requests of plain HTTP/1.1 that went through, counted by where a packet begins.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What was held arrives.
    pub fn release(&self) {
        self.held.send_replace(false);
    }
}

async fn relay(
    client: TcpStream,
    server: &str,
    mut held: watch::Receiver<bool>,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut chunk).await?;
            let sent = &chunk[..read];
            if sent.starts_with(b"GET ") || sent.starts_with(b"HEAD ") {
                requests.fetch_add(1, Ordering::Relaxed);
            }
            if read == 0 {
                return Ok(());
            }
            to_server.write_all(sent).await?;
        }
    };
    let down = async {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            // An error: the story has ended.
            let _ = held.wait_for(|held| !held).await;
            to_client.write_all(&chunk[..read]).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
