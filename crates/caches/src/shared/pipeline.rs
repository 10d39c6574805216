//! Many small requests over one kept connection, without waiting for each answer.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

/// Requests that are on their way at one time. Their answers fit into the buffers of any server and of the socket, so
/// neither side waits for the other to read.
const WINDOW: usize = 50;

/// For connecting, and for the answers of one window. A server that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that an answer to a purge may take before its body, and its body.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where a cache listens: `host:port`, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(String),
    /// An absolute path.
    Unix(PathBuf),
}

/// The answer to one request. Its body is read and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Values may hold any byte but control characters (RFC 9110, 5.5); older caches write Latin-1.
    headers: Vec<(String, Vec<u8>)>,
}

/// A connection that is made when it is needed, kept while it lasts, and made anew when the server has dropped it.
#[derive(Debug)]
pub struct Pipeline {
    address: Address,
    connection: Option<Connection>,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

struct Connection(BufReader<Box<dyn Duplex>>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Reply {
    /// The first header of that name, whatever its case; `None` also when it is no UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All headers that are ones.
    pub fn headers(&self) -> ::http::HeaderMap {
        let valid = |(name, value): &(String, Vec<u8>)| {
            let name = ::http::HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, ::http::HeaderValue::from_bytes(value).ok()?))
        };
        let mut headers = ::http::HeaderMap::new();
        for (name, value) in self.headers.iter().filter_map(valid) {
            headers.append(name, value);
        }
        headers
    }

    /// What a header that is a list says (RFC 9110, 5.6.1), over all its lines, in lower case.
    fn list(&self, name: &str) -> Vec<String> {
        let lines = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let members = lines.flat_map(|(_, value)| value.split(|byte| *byte == b','));
        members.map(|member| String::from_utf8_lossy(member.trim_ascii()).to_ascii_lowercase()).collect()
    }

    /// Whether it is followed by another answer to the same request (RFC 9110, 15.2).
    const fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Where its body ends (RFC 9112, 6.3).
    fn framing(&self) -> io::Result<Framing> {
        if matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::Bytes(0));
        }
        if let Some(coding) = self.list("transfer-encoding").last() {
            return Ok(if coding == "chunked" { Framing::Chunks } else { Framing::Close });
        }
        let mut lengths = self.list("content-length");
        lengths.dedup();
        match lengths.as_slice() {
            [] => Ok(Framing::Close),
            [length] => match length.parse() {
                Ok(length) => Ok(Framing::Bytes(length)),
                Err(_) => Err(not_understood("has a Content-Length that is no number")),
            },
            _ => Err(not_understood("has two lengths")),
        }
    }
}

/// How the end of a body is found.
enum Framing {
    Bytes(u64),
    Chunks,
    /// The server closes.
    Close,
}

/// The connection that it came on is not used again, so that no later answer is taken for another.
fn not_understood(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer to a purge {what}"))
}

impl Pipeline {
    /// Not connected yet.
    pub const fn new(address: Address) -> Self {
        Self { address, connection: None }
    }

    /// Where it connects, for messages.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Sends all the requests, in their order, and gives as many answers. They must be idempotent: those that a dropped
    /// connection leaves unanswered are sent again.
    pub async fn send(&mut self, requests: &[Vec<u8>]) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(requests.len());
        while replies.len() < requests.len() {
            let before = replies.len();
            let fresh = self.connection.is_none();
            let window = &requests[before..requests.len().min(before + WINDOW)];
            let sent = match tokio::time::timeout(PATIENCE, self.window(window, &mut replies)).await {
                Ok(sent) => sent,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
            };
            if let Err(error) = sent {
                self.connection = None;
                // A kept connection may have been dropped since it was used last, and any after an answer.
                if fresh && replies.len() == before {
                    return Err(error);
                }
            }
        }
        Ok(replies)
    }

    async fn window(&mut self, requests: &[Vec<u8>], replies: &mut Vec<Reply>) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(Connection::open(&self.address).await?),
        };
        connection.0.get_mut().write_all(&requests.concat()).await?;
        for _ in requests {
            let (reply, last) = connection.reply().await?;
            replies.push(reply);
            if last {
                self.connection = None;
                break;
            }
        }
        Ok(())
    }
}

impl Connection {
    async fn open(address: &Address) -> io::Result<Self> {
        let stream: Box<dyn Duplex> = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(Self(BufReader::new(stream)))
    }

    /// One answer, and whether the server closes behind it. Interim answers are passed over.
    async fn reply(&mut self) -> io::Result<(Reply, bool)> {
        let mut room = ANSWER_BYTES_MAX;
        loop {
            let (reply, is_old) = self.head(&mut room).await?;
            if reply.is_interim() {
                continue;
            }
            let framing = reply.framing()?;
            let closes = is_old || reply.list("connection").iter().any(|option| option == "close");
            match framing {
                Framing::Bytes(bytes) => self.skip(bytes).await?,
                Framing::Chunks => self.skip_chunks(&mut room).await?,
                Framing::Close => {
                    tokio::io::copy(&mut (&mut self.0).take(ANSWER_BYTES_MAX), &mut tokio::io::sink())
                        .await?;
                    return Ok((reply, true));
                }
            }
            return Ok((reply, closes));
        }
    }

    /// What comes before a body, and whether it is HTTP/1.0.
    async fn head(&mut self, room: &mut u64) -> io::Result<(Reply, bool)> {
        let line = self.line(room).await?;
        let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status =
            status.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| code.parse().ok());
        let Some(status) = status else { return Err(not_understood("is not HTTP/1.1")) };
        let is_old = line.starts_with(b"HTTP/1.0");
        let mut reply = Reply { status, headers: Vec::new() };
        loop {
            let line = self.line(room).await?;
            if line.is_empty() {
                return Ok((reply, is_old));
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                // The rest of a value that was folded (RFC 9112, 5.2); nobody looks at such a one.
                continue;
            }
            let Some(at) = line.iter().position(|byte| *byte == b':') else {
                return Err(not_understood("has a header without a colon"));
            };
            let name = String::from_utf8_lossy(&line[..at]).into_owned();
            reply.headers.push((name, line[at + 1..].trim_ascii().to_vec()));
        }
    }

    /// A line without its end.
    async fn line(&mut self, room: &mut u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(*room).read_until(b'\n', &mut line).await?;
        *room -= read as u64;
        if line.last() != Some(&b'\n') {
            return Err(if *room == 0 {
                not_understood("has more than 1 MiB before its body")
            } else {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
            });
        }
        line.truncate(line.trim_ascii_end().len());
        Ok(line)
    }

    async fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > ANSWER_BYTES_MAX {
            return Err(not_understood("is over 1 MiB"));
        }
        let skipped = tokio::io::copy(&mut (&mut self.0).take(bytes), &mut tokio::io::sink()).await?;
        if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn skip_chunks(&mut self, room: &mut u64) -> io::Result<()> {
        loop {
            let line = self.line(room).await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
            match size {
                Some(0) => break,
                Some(size) => self.skip(size.saturating_add(2)).await?,
                None => return Err(not_understood("has a chunk without a size")),
            }
        }
        while !self.line(room).await?.is_empty() {}
        Ok(())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!("{text:?} is neither host:port nor the absolute path of a Unix socket")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers whole requests with `answer`, and closes each connection after `per_connection` of them.
    async fn server(answer: impl Into<Vec<u8>>, per_connection: usize) -> Address {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                for _ in 0..per_connection {
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            break;
                        }
                    }
                    let _ = stream.get_mut().write_all(&answer).await;
                }
            }
        });
        Address::Tcp(address)
    }

    fn purges(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| format!("PURGE /{n} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()).collect()
    }

    #[tokio::test]
    async fn every_request_gets_its_answer_however_often_the_server_closes() {
        for answer in [
            "HTTP/1.1 200 Purged\r\nContent-Length: 2\r\nX-Count:  7 \r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Count: 7\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX-Count: 7\r\n\r\n",
        ] {
            for per_connection in [1, 7, 50, 1_000] {
                let mut pipeline = Pipeline::new(server(answer, per_connection).await);
                for count in [1, 120, 3] {
                    let replies = pipeline.send(&purges(count)).await.unwrap();
                    assert_eq!(replies.len(), count, "{answer:?} {per_connection}");
                    assert!(replies.iter().all(|reply| reply.header("x-count") == Some("7")));
                }
            }
        }
    }

    #[tokio::test]
    async fn an_answer_is_understood_as_the_standard_has_it() {
        for answer in [
            // obs-text, RFC 9110, 5.5
            &b"HTTP/1.1 200 \xd3\xf1\xef\xe5\xf5\r\nX-Served-By: caf\xe9\xff\r\nContent-Length: 0\r\nX-Count: 7\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n\tb: c\r\nContent-Length: 0\r\nX-Count: 7\r\n\r\n",
            // Interim ones come before the answer, RFC 9110, 15.2
            b"HTTP/1.1 103 Early Hints\r\nX-Count: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Count: 7\r\n\r\n",
            // The length of a body that does not come, RFC 9110, 8.6
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nX-Count: 7\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: x, Chunked\r\nX-Count: 7\r\n\r\n1\r\na\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nX-Count: 7\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\nX-Count: 7\r\n\r\n",
        ] {
            for per_connection in [1, 1_000] {
                let mut pipeline = Pipeline::new(server(answer, per_connection).await);
                for count in [1, 60] {
                    let sent = tokio::time::timeout(PATIENCE / 2, pipeline.send(&purges(count))).await;
                    let replies = sent.expect("it does not wait for what does not come").unwrap();
                    assert_eq!(replies.len(), count, "{}", answer.escape_ascii());
                    assert!(replies.iter().all(|reply| reply.header("x-count") == Some("7")), "{replies:?}");
                }
            }
        }
    }

    /// What the server says on its first connection, and what on each after that.
    async fn first_then(first: &'static [u8], then: &'static [u8]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let answer = if kept.is_empty() { first } else { then };
                let mut stream = listener.accept().await.unwrap().0;
                let mut some = [0; 4_096];
                let _ = stream.read(&mut some).await;
                let _ = stream.write_all(answer).await;
                kept.push(stream);
            }
        });
        Address::Tcp(address)
    }

    #[tokio::test]
    async fn an_answer_that_is_not_understood_is_named_and_the_next_try_has_a_connection_of_its_own() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for (bad, words) in [
            (&b"SSH-2.0\r\n"[..], "is not HTTP/1.1"),
            (b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n", "without a colon"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n", "no number"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "two lengths"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\xff\r\n", "without a size"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "over 1 MiB"),
        ] {
            let mut pipeline = Pipeline::new(first_then(bad, good).await);
            let error = pipeline.send(&purges(1)).await.unwrap_err();
            assert!(error.to_string().contains(words), "{}: {error}", bad.escape_ascii());
            assert_eq!(pipeline.send(&purges(1)).await.unwrap()[0].status, 200, "{}", bad.escape_ascii());
        }
        let mut endless = Pipeline::new(server(vec![b'x'; 2 << 20], 1).await);
        let error = endless.send(&purges(1)).await.unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_or_no_http_is_an_error() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut nobody = Pipeline::new(Address::Tcp(port.to_string()));
        assert!(nobody.send(&purges(1)).await.is_err());
        let mut other = Pipeline::new(server("SSH-2.0\r\n", 1).await);
        assert_eq!(other.send(&purges(1)).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_address_is_a_port_or_a_path() {
        assert_eq!("/run/x.sock".parse(), Ok(Address::Unix("/run/x.sock".into())));
        assert_eq!("[::1]:80".parse(), Ok(Address::Tcp("[::1]:80".to_owned())));
        assert!("localhost".parse::<Address>().is_err() && ":80".parse::<Address>().is_err());
    }
}
