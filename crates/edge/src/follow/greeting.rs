//! A connection as the node makes it, and one question that is nobody's: whether the control plane is well. No `Hello` is said
//! and no stream opened, so that nothing is known there of a node that is not this one's daemon.

use std::future::poll_fn;
use std::time::SystemTime;

use http::{Method, Request, header};
use tonic::body::Body;
use tonic::client::GrpcService;

use super::connect::{ConnectError, WELCOME_MAX, connect, in_time};
use crate::config::{ControlSection, Endpoint};
use crate::credentials::NodeCredentials;

/// The question, which every gRPC server that is well answers (`grpc.health.v1`).
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// An empty message: not compressed, no bytes.
const NOTHING: &str = "\0\0\0\0\0";

/// What a control plane said of its clock, and when.
#[derive(Clone, Debug)]
pub struct ControlAnswer {
    /// The `Date` of its answer, as it came; empty when there was none.
    pub date: String,
    /// When it was asked, by this machine's clock.
    pub asked: SystemTime,
    /// When it had answered.
    pub answered: SystemTime,
}

impl ControlAnswer {
    /// Connects as the node does, with its certificate, and asks. That the answer comes shows that each end takes the other's
    /// certificate.
    ///
    /// # Errors
    /// Why the node cannot connect, with the remedy.
    pub async fn ask(control: &ControlSection, endpoint: &Endpoint) -> Result<Self, String> {
        let asking = async {
            let credentials = (!control.plaintext).then(|| NodeCredentials::new(control.clone()));
            let mut channel = in_time(connect(credentials.as_ref(), endpoint, None)).await?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(HEALTH)
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .body(Body::new(NOTHING.to_owned()));
            let request = request.unwrap_or_default();
            let asked = SystemTime::now();
            poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut channel, cx)).await?;
            let response = channel.call(request).await?;
            let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
            let date = date.unwrap_or_default().to_owned();
            Ok::<_, ConnectError>(Self { date, asked, answered: SystemTime::now() })
        };
        match tokio::time::timeout(WELCOME_MAX, asking).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", WELCOME_MAX.as_secs())),
        }
    }
}
