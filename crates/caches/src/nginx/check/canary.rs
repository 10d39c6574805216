use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shared::report::CheckError;

/// The folder of the check's pages, which the fill hop sends to the check's origin.
pub(super) const FOLDER: &str = "/.well-known/batoff-check";

/// How long anything may take that should happen at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A visitor of the check's own pages.
#[derive(Clone, Debug)]
pub(super) struct Canary {
    connect: SocketAddr,
    host: String,
    /// Part of every URL, so that no earlier check is in the way.
    nonce: String,
}

impl Canary {
    pub(super) fn new(connect: SocketAddr, host: &str) -> Self {
        Self { connect, host: host.to_owned(), nonce: format!("{:016x}", rand::random::<u64>()) }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The path of a page.
    pub(super) fn path(&self, page: &str) -> String {
        format!("{FOLDER}/{}/{page}", self.nonce)
    }

    /// The number of the answer; `None` when it is not the check's origin that has answered.
    pub(super) async fn get(&self, page: &str, variant: &str) -> Result<Option<u64>, CheckError> {
        let asked = tokio::time::timeout(PATIENCE * 4, self.ask(page, variant)).await;
        match asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(text) => {
                let number = text.split("number=").nth(1).and_then(|rest| rest.split('\n').next());
                Ok(number.and_then(|number| number.trim().parse().ok()))
            }
            Err(error) => {
                Err(CheckError(format!("nginx does not answer at {} (--connect): {error}", self.connect)))
            }
        }
    }

    async fn ask(&self, page: &str, variant: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.connect).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nX-Batoff-Check: {variant}\r\nConnection: close\r\n\r\n",
            self.path(page),
            self.host
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
