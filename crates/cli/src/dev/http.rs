//! As much of an HTTP client as the supervisor needs: one GET a connection, with any `Host`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer of our own programs that has not come after this long is not coming.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Status line and headers of an answer; its body where it was asked for.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// GETs `path` from `address` as a visitor of `host`.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    tokio::time::timeout(ANSWER_TIMEOUT, request(address, host, path))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
}

async fn request(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let driven = tokio::spawn(connection);
    let request = Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::CONNECTION, "close")
        .body(axum::body::Body::empty())
        .map_err(io::Error::other)?;
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    /// Bytes of a body that are read: pages of the origin and health texts are far smaller.
    const BODY_BYTES_MAX: usize = 1024 * 1024;
    let body =
        axum::body::to_bytes(axum::body::Body::new(body), BODY_BYTES_MAX).await.map_err(io::Error::other)?;
    driven.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
