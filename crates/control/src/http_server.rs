//! An HTTP listener of ours: plain or TLS, bounded, and drained gracefully.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use axum::Extension;
use axum::body::Body;
use axum::response::Response;
use batoff_program::gate::Gate;
use batoff_program::http::{self, DRAIN_PATIENCE};
use batoff_program::listen;
use batoff_program::watched::Patience;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::handshakes::Handshakes;
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
}

/// Serves `app` on `listener` until `draining` is cancelled; then lets requests that are being answered end. Every
/// request carries a `ConnectInfo<SocketAddr>`, and those of a client that has shown a certificate its [`PeerCertificate`].
pub async fn serve<A>(listener: TcpListener, how: Listening, app: A, draining: CancellationToken)
where
    A: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    A::Future: Send,
{
    let Listening { gate, patience, proxies, tls } = how;
    let tls = tls.map(|tls| (tls, Handshakes::new(gate.name())));
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let (socket, peer, admission) = tokio::select! {
            accepted = listen::accept(&listener, &gate, &proxies) => accepted,
            () = draining.cancelled() => break,
        };
        let (tls, app, draining) = (tls.clone(), app.clone(), draining.clone());
        connections.spawn(async move {
            match tls {
                None => http::answer(socket, peer, patience, app, &draining).await,
                Some((tls, handshakes)) => {
                    let shaking = handshakes.shake(&tls, socket, peer.ip(), HANDSHAKE_PATIENCE);
                    if let Some(Some(stream)) = draining.run_until_cancelled(shaking).await {
                        let shown = stream.get_ref().1.peer_certificates();
                        match shown.and_then(|chain| PeerCertificate::read(chain.first()?)) {
                            Some(certificate) => {
                                let app = Extension(certificate).layer(app);
                                http::answer(stream, peer, patience, app, &draining).await;
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
