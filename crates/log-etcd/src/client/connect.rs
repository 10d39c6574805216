//! One endpoint and the connection to it.

use std::time::Duration;

use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::call_error::EtcdError;
use crate::config::EtcdTls;
use crate::open_error::EtcdOpenError;

/// How long making a connection may take, the hand-shake of TLS included.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);

/// How often a connection that is in use is checked. etcd closes one that pings more often than every five seconds
/// (`--grpc-keepalive-min-time`); that a member is frozen shows earlier, by the time that a call takes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);

/// How long the answer to such a check may take.
const KEEP_ALIVE_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes in flight on a stream before the sender waits: with less, groups of records would wait for acknowledgements.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// One endpoint, and the connection to it if there is one.
pub(super) struct EtcdEndpoint {
    url: String,
    endpoint: Endpoint,
    connection: Mutex<Option<EtcdConnection>>,
}

/// A connection, and how to say on it who is calling.
#[derive(Clone)]
pub(super) struct EtcdConnection {
    pub(super) channel: Channel,
    pub(super) token: Option<MetadataValue<Ascii>>,
    number: u64,
}

impl EtcdEndpoint {
    pub(super) fn new(url: &str, tls: Option<&EtcdTls>) -> Result<Self, EtcdOpenError> {
        let invalid = |why: String| EtcdOpenError::Endpoint { url: url.to_owned(), why };
        let wants_tls = match url.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return Err(invalid("it must begin with http:// or https://".to_owned())),
        };
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| invalid(error.to_string()))?
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIME_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(4 * STREAM_WINDOW_BYTES);
        match (tls, wants_tls) {
            (Some(tls), true) => {
                let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
                if let Some((certificate, key)) = &tls.client_pem {
                    config = config.identity(Identity::from_pem(certificate, key));
                }
                endpoint = endpoint.tls_config(config).map_err(|error| invalid(chain(&error)))?;
            }
            (None, true) => {
                return Err(invalid(
                    "https needs the certificate authority that signed its certificate".to_owned(),
                ));
            }
            (Some(_), false) => {
                return Err(invalid(
                    "certificates are configured, so it must begin with https://".to_owned(),
                ));
            }
            (None, false) => {}
        }
        Ok(Self { url: url.to_owned(), endpoint, connection: Mutex::new(None) })
    }

    pub(super) fn unconnected(&self) -> Self {
        Self { url: self.url.clone(), endpoint: self.endpoint.clone(), connection: Mutex::new(None) }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The connection, or a new one; `sign_in` gives the token for a new one.
    pub(super) async fn connection<Fut>(
        &self,
        sign_in: impl FnOnce(Channel) -> Fut,
    ) -> Result<EtcdConnection, EtcdError>
    where
        Fut: Future<Output = Result<Option<MetadataValue<Ascii>>, EtcdError>>,
    {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref() {
            return Ok(connection.clone());
        }
        // The limit of the endpoint is for TCP alone.
        let channel = match tokio::time::timeout(CONNECT_TIME_MAX, self.endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(EtcdError::NotDone(format!("{}: {}", self.url, chain(&error)))),
            Err(_) => return Err(EtcdError::NotDone(format!("{} takes no connection", self.url))),
        };
        let token = sign_in(channel.clone()).await?;
        let connection = EtcdConnection { channel, token, number: rand::random() };
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// The next call makes a new connection, unless somebody has made one.
    pub(super) fn forget(&self, connection: &EtcdConnection) {
        // Whoever holds the lock is making a new one.
        if let Ok(mut held) = self.connection.try_lock()
            && held.as_ref().is_some_and(|other| other.number == connection.number)
        {
            *held = None;
        }
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}
