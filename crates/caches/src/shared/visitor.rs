//! A visitor of a cache, for the checks: reads one page again and again.

use super::pipeline::{Address, Pipeline, Reply};
use super::report::CheckError;

/// Where a cache is looked at as a visitor sees it, and with which page.
#[derive(Clone, Debug, clap::Args)]
pub struct VisitArgs {
    /// Where the cache listens for visitors, in plain HTTP: host:port.
    #[arg(long, value_name = "ADDRESS")]
    pub connect: String,
    /// The hostname to ask for: one of the site's.
    #[arg(long, value_name = "HOSTNAME")]
    pub host: String,
    /// Path and query of a page there that may be cached. It is purged, and fetched anew, a few times.
    #[arg(long, default_value = "/", value_name = "TARGET")]
    pub page: String,
}

/// Somebody who reads one page.
pub(crate) struct Visitor {
    pipeline: Pipeline,
    host: String,
    page: String,
}

impl Visitor {
    pub(crate) fn new(args: &VisitArgs) -> Result<Self, CheckError> {
        let address: Address =
            args.connect.parse().map_err(|error| CheckError(format!("--connect: {error}")))?;
        Ok(Self { pipeline: Pipeline::new(address), host: args.host.clone(), page: args.page.clone() })
    }

    /// `GET`
    pub(crate) async fn read(&mut self) -> Result<Reply, CheckError> {
        self.ask("GET").await
    }

    /// `GET` with one more header line.
    pub(crate) async fn read_with(&mut self, line: &str) -> Result<Reply, CheckError> {
        self.send("GET", &format!("{line}\r\n")).await
    }

    /// `GET` of the same page from another hostname.
    pub(crate) async fn read_as(&mut self, host: &str) -> Result<Reply, CheckError> {
        self.send_to(host, "GET", "").await
    }

    /// Any method.
    pub(crate) async fn ask(&mut self, method: &str) -> Result<Reply, CheckError> {
        self.send(method, "").await
    }

    async fn send(&mut self, method: &str, lines: &str) -> Result<Reply, CheckError> {
        let host = self.host.clone();
        self.send_to(&host, method, lines).await
    }

    async fn send_to(&mut self, host: &str, method: &str, lines: &str) -> Result<Reply, CheckError> {
        let request = format!("{method} {} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n", self.page);
        let replies = self.pipeline.send(&[request.into_bytes()]).await;
        let address = self.pipeline.address();
        let replies =
            replies.map_err(|error| CheckError(format!("no visitor is served at {address}: {error}")))?;
        replies.into_iter().next().ok_or_else(|| CheckError(format!("{address} does not answer")))
    }

    /// The page's URL in normal form.
    pub(crate) fn url(&self) -> Result<batoff_types::PurgeUrl, CheckError> {
        let url = batoff_types::PurgeUrl::of_request(batoff_types::Scheme::Https, &self.host, &self.page);
        url.map_err(|error| CheckError(format!("--host and --page: {error}")))
    }
}
