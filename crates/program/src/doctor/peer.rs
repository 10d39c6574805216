//! What another machine says of its clock: the `Date` of whatever it answers to one request, which changes nothing there.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::clock::PeerTime;

/// How long a connection, the question and each part of the answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of an answer in which its head has ended.
const HEAD_MAX: usize = 16 * 1024;

/// Why a peer has told no time.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody accepts a connection there.
    #[error("{0}")]
    Unreachable(io::Error),
    /// Somebody does, and says nothing that helps.
    #[error("{0}")]
    Silent(io::Error),
}

/// Connects to an `http://` or `https://` endpoint and asks it for `path`. `tls`: for `https://`.
///
/// # Errors
/// It cannot be reached, or does not answer in HTTP.
pub fn ask(endpoint: &http::Uri, path: &str, tls: Option<Arc<ClientConfig>>) -> Result<PeerTime, PeerError> {
    let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_secure = endpoint.scheme_str() == Some("https");
    let port = endpoint.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = connect(host, port).map_err(PeerError::Unreachable)?;
    let asked = SystemTime::now();
    let head = match tls.filter(|_| is_secure) {
        None if is_secure => Err(io::Error::other("its certificate cannot be judged")),
        None => exchange(stream, host, path),
        Some(tls) => secured(stream, host, tls).and_then(|stream| exchange(stream, host, path)),
    };
    let head = head.map_err(PeerError::Silent)?;
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    });
    Ok(PeerTime { date: date.unwrap_or_default(), asked, answered: SystemTime::now() })
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn secured(
    stream: TcpStream,
    host: &str,
    tls: Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(tls, name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// The head of the answer.
fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut head = Vec::new();
    let mut part = [0; 1_024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_MAX {
        match stream.read(&mut part)? {
            0 => break,
            read => head.extend_from_slice(&part[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.starts_with("HTTP/") {
        Ok(head)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "what it answers is not HTTP"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_peer_is_asked_for_its_date_and_one_that_tells_none_is_no_error() {
        for (answer, date) in [
            (
                "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\ndate: in the body\r\n", ""),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let read = stream.read(&mut [0; 512]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                read
            });
            let said = ask(&endpoint, "/version", None).unwrap();
            assert!(server.join().unwrap() > 0);
            assert_eq!(said.date, date);
        }
    }

    #[test]
    fn nobody_and_somebody_else_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        assert!(matches!(ask(&endpoint, "/", None), Err(PeerError::Silent(_))), "it never answers");
        drop(listener);
        assert!(matches!(ask(&endpoint, "/", None), Err(PeerError::Unreachable(_))));
    }
}
