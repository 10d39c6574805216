//! An HTTP listener of ours: plain or TLS, bounded, and drained gracefully.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, StatusCode};
use axum::Extension;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use batoff_program::gate::Gate;
use batoff_program::http::{self, DRAIN_PATIENCE};
use batoff_program::listen;
use batoff_program::watched::Patience;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::handshakes::Handshakes;
use crate::metrics;
use crate::revoked::RevokedList;
use crate::tls::{PeerCertificate, Tls};

/// Time for a TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// How a listener is served.
pub struct Listening {
    /// Its connections.
    pub gate: Arc<Gate<IpAddr>>,
    /// How long each of them is waited for.
    pub patience: Patience,
    /// Proxies of ours, whose connections are not limited: each speaks for many clients.
    pub proxies: Vec<IpAddr>,
    /// Its certificates; without them it speaks plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Certificates of clients that are not believed any more.
    pub revoked: watch::Receiver<Arc<RevokedList>>,
}

/// Serves `app` on `listener` until `draining` is cancelled; then lets requests that are being answered end. Every
/// request carries a `ConnectInfo<SocketAddr>`, and those of a client that has shown a certificate its [`PeerCertificate`]. With one that
/// is revoked each request is answered with 403; connections that are open when that happens are ended.
pub async fn serve<A>(listener: TcpListener, how: Listening, app: A, draining: CancellationToken)
where
    A: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    A::Future: Send,
{
    let Listening { gate, patience, proxies, tls, revoked } = how;
    let tls = tls.map(|tls| (tls, Handshakes::new(gate.name())));
    let name = gate.name();
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let (socket, peer, admission) = tokio::select! {
            accepted = listen::accept(&listener, &gate, &proxies) => accepted,
            () = draining.cancelled() => break,
        };
        let (tls, app, draining, mut revoked) = (tls.clone(), app.clone(), draining.clone(), revoked.clone());
        connections.spawn(async move {
            match tls {
                None => http::answer(socket, peer, patience, app, &draining).await,
                Some((tls, handshakes)) => {
                    let shaking = handshakes.shake(&tls, socket, peer.ip(), HANDSHAKE_PATIENCE);
                    if let Some(Some(stream)) = draining.run_until_cancelled(shaking).await {
                        let shown = stream.get_ref().1.peer_certificates();
                        match shown.and_then(|chain| PeerCertificate::read(chain.first()?)) {
                            Some(certificate) => {
                                let line = revoked.borrow_and_update().revokes_client(&certificate);
                                if let Some(line) = line {
                                    refused(name, &line, peer);
                                    let app = turn_away(line);
                                    return http::answer(stream, peer, patience, app, &draining).await;
                                }
                                let app = Extension(certificate.clone()).layer(app);
                                tokio::select! {
                                    () = http::answer(stream, peer, patience, app, &draining) => {}
                                    line = revocation(&mut revoked, &certificate) => refused(name, &line, peer),
                                }
                            }
                            None => http::answer(stream, peer, patience, app, &draining).await,
                        }
                    }
                }
            }
            drop(admission);
        });
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(DRAIN_PATIENCE, connections.wait()).await;
}

fn refused(listener: &'static str, line: &str, peer: SocketAddr) {
    metrics::revoked_refused(listener);
    tracing::warn!(listener, %peer, line, "a client's certificate is revoked: it is not let in");
}

/// The line by which a certificate comes to be revoked, when it does.
async fn revocation(
    revoked: &mut watch::Receiver<Arc<RevokedList>>,
    certificate: &PeerCertificate,
) -> String {
    while revoked.changed().await.is_ok() {
        if let Some(line) = revoked.borrow_and_update().revokes_client(certificate) {
            return line;
        }
    }
    std::future::pending().await
}

/// Answers everything with the reason.
fn turn_away(
    line: String,
) -> impl Service<
    Request<Body>,
    Response = Response,
    Error = Infallible,
    Future = std::future::Ready<Result<Response, Infallible>>,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |_: Request<Body>| {
        let reason = format!("this certificate was revoked (`{line}` in grpc.revoked): issue another one\n");
        std::future::ready(Ok((StatusCode::FORBIDDEN, reason).into_response()))
    })
}
