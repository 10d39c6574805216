//! One attempt to open a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use batoff_program::handshake::{HandshakeTrouble, OurEnd};
use batoff_types::message::{FromNode, Hello, ToNode};
use batoff_wire::grpc::client::PurgeStreamClient;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::config::{ConfigError, Endpoint};
use crate::credentials::NodeCredentials;

/// For the TCP connection and the TLS handshake. A held packet must not hold the node.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// From `Hello` to `Welcome`. A control plane that takes longer than this is not there; another may be.
pub(super) const WELCOME_MAX: Duration = Duration::from_secs(5);

/// How often an idle connection is tried, and how long an answer may take.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(3);

/// Messages on their way to the control plane. When they are all taken it does not read, and heartbeats wait.
const OUTGOING_MESSAGES: usize = 64;

/// Makes a connection of a prepared endpoint by other means than TCP: for a network that is simulated.
pub type Dial = Arc<dyn Fn(tonic::transport::Endpoint) -> Dialing + Send + Sync>;

/// A [`Dial`] under way.
pub type Dialing = Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send>>;

/// What comes on a stream: `None` when the control plane has closed it, and after that nothing.
pub(super) type FromControl =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<Option<ToNode>, tonic::Status>> + Send>>;

/// An open stream, before its `Welcome`.
pub(super) struct Stream {
    pub(super) outgoing: mpsc::Sender<FromNode>,
    pub(super) incoming: FromControl,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Credentials(#[from] ConfigError),
    #[error("cannot connect: {}", told(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("no connection within {} s", CONNECT_MAX.as_secs())]
    ConnectTimedOut,
    #[error("no answer to Hello within {} s", WELCOME_MAX.as_secs())]
    WelcomeTimedOut,
    #[error("the control plane refused the stream: {}", refusal(.0))]
    Refused(#[from] Box<tonic::Status>),
}

/// Connects and says `hello`. The certificates are read from their files each time, so a renewed one is used at once;
/// without `credentials` in plain text.
pub(super) async fn open(
    credentials: Option<&NodeCredentials>,
    endpoint: &Endpoint,
    dial: Option<&Dial>,
    hello: Hello,
) -> Result<Stream, ConnectError> {
    let channel = in_time(connect(credentials, endpoint, dial)).await?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
    // There is room: the channel is new.
    let _ = outgoing.try_send(FromNode::Hello(hello));
    let mut client = PurgeStreamClient::new(channel);
    let connecting = client.connect(ReceiverStream::new(messages));
    let response = tokio::time::timeout(WELCOME_MAX, connecting)
        .await
        .map_err(|_| ConnectError::WelcomeTimedOut)?
        .map_err(Box::new)?;
    let incoming = response.into_inner().map(|message| message.map(Some)).chain(tokio_stream::once(Ok(None)));
    Ok(Stream { outgoing, incoming: Box::pin(incoming) })
}

/// A connection, or that it takes too long.
pub(super) async fn in_time(
    connecting: impl Future<Output = Result<Channel, ConnectError>>,
) -> Result<Channel, ConnectError> {
    tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(|_| ConnectError::ConnectTimedOut)?
}

pub(super) async fn connect(
    credentials: Option<&NodeCredentials>,
    endpoint: &Endpoint,
    dial: Option<&Dial>,
) -> Result<Channel, ConnectError> {
    // No time-out on the stream itself: it is meant to last.
    let mut builder = Channel::builder(endpoint.uri().clone())
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .keep_alive_while_idle(true);
    if let Some(credentials) = credentials {
        builder = builder.tls_config(credentials.tls()?)?;
    }
    Ok(match dial {
        Some(dial) => dial(builder).await?,
        None => builder.connect().await?,
    })
}

/// tonic says "transport error" and keeps the reason in the sources.
fn told(error: &tonic::transport::Error) -> String {
    if let Some(trouble) = HandshakeTrouble::find(error, OurEnd::Client) {
        return trouble.to_string();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// With TLS 1.3 a certificate that the server refuses shows up only here; and when its reason is lost on the way, as a
/// stream that ended for none.
pub(super) fn refusal(status: &tonic::Status) -> String {
    if let Some(trouble) = HandshakeTrouble::find(status, OurEnd::Client) {
        return trouble.to_string();
    }
    let hint = match status.code() {
        tonic::Code::Cancelled | tonic::Code::Unknown => {
            " (when the connection is closed right after the handshake, this node's certificate was refused)"
        }
        _ => "",
    };
    format!("{:?}: {}{hint}", status.code(), status.message())
}
