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

/// The longest header line, and the longest body, of an answer to a purge.
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
    headers: Vec<(String, String)>,
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
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers that are ones.
    pub fn headers(&self) -> ::http::HeaderMap {
        let valid = |(name, value): &(String, String)| {
            let name = ::http::HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, ::http::HeaderValue::from_str(value).ok()?))
        };
        let mut headers = ::http::HeaderMap::new();
        for (name, value) in self.headers.iter().filter_map(valid) {
            headers.append(name, value);
        }
        headers
    }
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

    /// One answer, and whether the server closes behind it.
    async fn reply(&mut self) -> io::Result<(Reply, bool)> {
        let line = self.line().await?;
        let status =
            line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        let Some(status) = status else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1"));
        };
        let mut reply = Reply { status, headers: Vec::new() };
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            reply.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let is =
            |name: &str, value: &str| reply.header(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let mut last = is("connection", "close") || line.starts_with("HTTP/1.0");
        if is("transfer-encoding", "chunked") {
            self.skip_chunks().await?;
        } else if let Some(length) = reply.header("content-length").and_then(|length| length.parse().ok()) {
            self.skip(length).await?;
        } else if !matches!(status, 100..=199 | 204 | 304) {
            tokio::io::copy(&mut (&mut self.0).take(ANSWER_BYTES_MAX), &mut tokio::io::sink()).await?;
            last = true;
        }
        Ok((reply, last))
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if (&mut self.0).take(ANSWER_BYTES_MAX).read_line(&mut line).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    async fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer to a purge is over 1 MiB"));
        }
        let skipped = tokio::io::copy(&mut (&mut self.0).take(bytes), &mut tokio::io::sink()).await?;
        if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
            match size {
                Some(0) => break,
                Some(size) => self.skip(size + 2).await?,
                None => return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk has no size")),
            }
        }
        while !self.line().await?.is_empty() {}
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
    async fn server(answer: &'static str, per_connection: usize) -> Address {
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
                    let _ = stream.get_mut().write_all(answer.as_bytes()).await;
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
