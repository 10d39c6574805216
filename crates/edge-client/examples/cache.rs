//! A caching HTTP proxy of one file that registers what it stores with the daemon of its node.
//!
//! Memory only, `GET` only, one connection a request; no `Vary`, and what turned stale is not served. With a daemon that has
//! `[caches.local.caches] web = "page"`:
//!
//! ```sh
//! cargo run -p batoff-edge-client --example cache -- 127.0.0.1:8095 127.0.0.1:8000 /run/batoff-edge/local.sock
//! curl -i -H 'Host: www.example.test' http://127.0.0.1:8095/
//! ```

#![allow(clippy::unwrap_used, reason = "an example")]

use std::collections::HashMap;
use std::sync::Arc;

use batoff_edge_client::{Committed, Config, EdgeClient, Evicted, Filled, Held, Objects};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What was registered, and the whole answer of the origin.
type Stored = (Held, Arc<[u8]>);

/// By URL.
#[derive(Default)]
struct Store(Mutex<HashMap<String, Stored>>);

impl Objects for Store {
    fn evict(&self, object: &Evicted) {
        self.0.lock().retain(|_, (held, _)| held.object.handle != object.handle);
    }

    fn turn_stale(&self, object: &Evicted) {
        let mut all = self.0.lock();
        let hit = all.values_mut().find(|(held, _)| held.object.handle == object.handle);
        if let Some((held, _)) = hit {
            held.stale = true;
        }
    }

    fn clear(&self) {
        self.0.lock().clear();
    }

    fn held(&self) -> Box<dyn Iterator<Item = Held> + Send> {
        let all: Vec<_> = self.0.lock().values().map(|(held, _)| held.clone()).collect();
        Box::new(all.into_iter())
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, socket] = args.as_slice() else {
        eprintln!("usage: cache LISTEN ORIGIN SOCKET");
        std::process::exit(64);
    };
    let store = Arc::new(Store::default());
    let config = Config { socket: socket.into(), ..Config::new("web") };
    let client = EdgeClient::start(config, Arc::clone(&store))?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (visitor, _) = listener.accept().await?;
        let (store, client, origin) = (Arc::clone(&store), client.clone(), origin.clone());
        // A visitor who goes away is no error of ours.
        tokio::spawn(async move { drop(serve(visitor, &store, &client, &origin).await) });
    }
}

async fn serve(visitor: TcpStream, store: &Store, client: &EdgeClient, origin: &str) -> std::io::Result<()> {
    let mut visitor = BufReader::new(visitor);
    let Some((target, host)) = read_request(&mut visitor).await? else { return Ok(()) };
    let url = format!("http://{host}{target}");

    let fresh = |(held, answer): &Stored| (!held.stale).then(|| Arc::clone(answer));
    let cached = store.0.lock().get(&url).and_then(fresh);
    // The last question of a hit.
    if let Some(answer) = cached
        && client.may_serve()
    {
        return visitor.write_all(&answer).await;
    }

    // The token is taken before the request goes to the origin.
    let token = client.fill_token();
    let answer: Arc<[u8]> = fetch(origin, &target, &host).await?.into();
    visitor.write_all(&answer).await?;
    visitor.shutdown().await?;
    if let Some(token) = token
        && answer.starts_with(b"HTTP/1.1 200")
    {
        let cache_tag = header_lines(&answer, "cache-tag");
        let object =
            Filled { url: url.clone(), handle: client.new_handle(), cache_tag, tags_cut: false, token };
        let held = Held { object: object.clone(), stale: false };
        let keep = |committed| {
            let held = Held { stale: committed == Committed::Stale, ..held };
            store.0.lock().insert(url.clone(), (held, answer))
        };
        let mut before = None;
        // What the daemon refuses is not kept, and what it cannot be asked about neither.
        let _ = client.commit(object, |committed| before = keep(committed)).await;
        if let Some((before, _)) = before {
            let _ = client.gone(vec![(url, before.object.handle)]).await;
        }
    }
    Ok(())
}

/// Target and host of a request.
async fn read_request(visitor: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, String)>> {
    let (mut target, mut host) = (String::new(), String::new());
    for (number, line) in read_head(visitor).await?.lines().enumerate() {
        if number == 0 {
            line.split(' ').nth(1).unwrap_or("/").clone_into(&mut target);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            host = value.trim().to_ascii_lowercase();
        }
    }
    Ok((!target.is_empty()).then_some((target, host)))
}

async fn read_head(from: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = String::new();
    while from.read_line(&mut head).await? > 2 {}
    Ok(head)
}

/// The whole answer, ready to be sent as it is.
async fn fetch(origin: &str, target: &str, host: &str) -> std::io::Result<Vec<u8>> {
    let mut origin = BufReader::new(TcpStream::connect(origin).await?);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    origin.write_all(request.as_bytes()).await?;
    let head = read_head(&mut origin).await?;
    let length = header_lines(head.as_bytes(), "content-length").first().map(|length| length.to_vec());
    let length = length.and_then(|length| String::from_utf8(length).ok()?.parse().ok());
    let mut body = Vec::new();
    origin.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body).await?;
    let head = head.trim_end().replace("\r\nConnection: keep-alive", "");
    Ok([format!("{head}\r\nConnection: close\r\n\r\n").as_bytes(), &body].concat())
}

/// The values of a header's lines.
fn header_lines(answer: &[u8], wanted: &str) -> Vec<Vec<u8>> {
    let head =
        answer.split(|&byte| byte == b'\n').map(|line| line.trim_ascii()).take_while(|line| !line.is_empty());
    let values = head.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(wanted.as_bytes()).then(|| value[1..].trim_ascii().to_vec())
    });
    values.collect()
}
