//! HTTP on a connection of a listener of ours: bounded in time, and drained gracefully.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use crate::gate::Gate;
use crate::listen::accept;
use crate::watched::{Busy, Patience, Watched};

/// How often an HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Requests of one HTTP/2 connection at one time.
const STREAMS_MAX: u32 = 100;

/// How long requests that are being answered may go on once the process drains.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(6);

/// Serves `router` on a plain listener until `draining` is cancelled; then lets requests that are being answered end.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    patience: Patience,
    router: Router,
    draining: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let (socket, peer, admission) = tokio::select! {
            accepted = accept(&listener, &gate, &[]) => accepted,
            () = draining.cancelled() => break,
        };
        let (router, draining) = (router.clone(), draining.clone());
        connections.spawn(async move {
            answer(socket, peer, patience, router, &draining).await;
            drop(admission);
        });
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(DRAIN_PATIENCE, connections.wait()).await;
}

/// Answers the requests of one connection. Each carries a `ConnectInfo<SocketAddr>`.
pub async fn answer<S, A>(
    stream: S,
    peer: SocketAddr,
    patience: Patience,
    app: A,
    draining: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service<::http::Request<Body>, Response = ::http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    A::Future: Send,
{
    let stream = Watched::new(stream, patience);
    let activity = stream.activity();
    let service = tower::service_fn(move |mut request: ::http::Request<Incoming>| {
        let (app, busy) = (app.clone(), activity.begin());
        request.extensions_mut().insert(ConnectInfo(peer));
        async move {
            let answered = app.oneshot(request.map(Body::new)).await;
            answered.map(|response| response.map(|body| BusyBody::new(body, Some(busy))))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // How long a head may take, the stream looks at; a second timer for each request would only cost.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING_EVERY))
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned();
    let mut connection = std::pin::pin!(connection);
    // Errors here are clients that went away, or were too slow.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// An answer's body; the connection is busy until its end.
pub(crate) struct BusyBody<B> {
    body: B,
    _busy: Option<Busy>,
}

impl<B> BusyBody<B> {
    pub(crate) const fn new(body: B, busy: Option<Busy>) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;
    use crate::gate::Limits;
    use crate::listen::ListenersSection;

    async fn from(source: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// The answer to a request; empty when the connection was closed without one.
    async fn ask(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        if stream.write_all(request).await.is_ok() {
            // Reset: it was closed before the request came.
            let _ = stream.read_to_string(&mut answer).await;
        }
        answer
    }

    #[tokio::test]
    async fn an_address_that_holds_all_it_may_keeps_nobody_else_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new("test", Limits { total: 6, each: 4 });
        let router = Router::new().route("/", axum::routing::get(async || "here"));
        let stop = CancellationToken::new();
        let serving =
            tokio::spawn(serve(listener, gate, ListenersSection::default().patience(), router, stop.clone()));
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(from("127.0.0.2", address).await);
        }
        assert_eq!(ask(from("127.0.0.2", address).await).await, "", "closed at once");
        assert!(ask(from("127.0.0.3", address).await).await.ends_with("here"));
        drop(silent);
        stop.cancel();
        serving.await.unwrap();
    }
}
