//! The nodes' end: gRPC over mutual TLS, one task and one position a node.

mod accept;
mod connection;
mod identity;
mod outgoing;
mod parents;
mod permitted;
mod replicas;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use batoff_program::gate::{Gate, Limits};
use batoff_program::grpc::TellActivity;
use batoff_types::NodeName;
use batoff_types::message::FromNode;
use batoff_wire::grpc::server::{PurgeStream, PurgeStreamServer};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use self::accept::Doors;
use self::connection::Connection;
use self::identity::PeerIdentity;
use crate::metrics;
use crate::service::Services;
use crate::tls::Tls;

/// Messages handed to a node's HTTP/2 stream and not yet taken by it. A node that reads slowly holds up only itself.
const OUT_MAX: usize = 2;

/// How long the server waits for streams to end after their `GoAway` before it closes their connections.
const FAREWELL: Duration = Duration::from_secs(3);

/// Streams of one node at one time: it has one, and for a moment a few when it connects again and again.
const STREAMS_OF_NODE_MAX: usize = 8;

/// Calls on one connection at one time: a stream, and a question of health.
const CALLS_MAX: u32 = 8;

/// The gRPC service.
pub(crate) struct NodeService {
    services: Arc<Services>,
    next_connection: AtomicU64,
    streams: Arc<AtomicUsize>,
    of_node: Arc<Gate<NodeName>>,
}

#[tonic::async_trait]
impl PurgeStream for NodeService {
    type ConnectStream = ReceiverStream<Result<Bytes, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.services.draining.is_cancelled() {
            return Err(Status::unavailable("this control plane is stopping"));
        }
        let permit = StreamPermit::take(&self.streams, self.services.config.limits.node_connections)
            .ok_or_else(|| Status::resource_exhausted("too many streams; see limits.node_connections"))?;
        let identity = identity::of(&request, self.services.config.grpc.plaintext)?;
        let of_node = match &identity {
            PeerIdentity::Certified(node, ..) => Some(
                self.of_node
                    .admit(node)
                    .map_err(|full| Status::resource_exhausted(format!("streams of this node: {full}")))?,
            ),
            PeerIdentity::Believed => None,
        };
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let (out, stream) = mpsc::channel(OUT_MAX);
        let services = Arc::clone(&self.services);
        let inbound = request.into_inner();
        tokio::spawn(async move {
            Connection::new(services, id, out).run(identity, inbound).await;
            drop((permit, of_node));
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl NodeService {
    fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            // Never 0, and never the same twice.
            next_connection: AtomicU64::new(1),
            streams: Arc::default(),
            of_node: Gate::new("streams of a node", Limits { total: usize::MAX, each: STREAMS_OF_NODE_MAX }),
        }
    }
}

/// One of the streams that may be open.
struct StreamPermit(Arc<AtomicUsize>);

impl StreamPermit {
    fn take(streams: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        if streams.fetch_add(1, Ordering::Relaxed) >= max {
            streams.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        metrics::connections(1.0);
        Some(Self(Arc::clone(streams)))
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::connections(-1.0);
    }
}

/// Serves nodes on `listener` until the process drains, on `threads`, of which there is at least one.
pub async fn serve(
    services: Arc<Services>,
    listener: TcpListener,
    gate: Arc<Gate<IpAddr>>,
    tls: Option<Arc<Tls>>,
    threads: &[Handle],
) -> Result<(), tonic::transport::Error> {
    let draining = services.draining.clone();
    let hello = Duration::from_millis(services.config.grpc.hello_timeout_ms);
    match tls {
        Some(tls) => {
            let (doors, incoming) = Doors::to(threads);
            let accepting = accept::tls(listener, gate, tls, hello, draining, doors);
            serve_on(services, threads, accepting, incoming).await
        }
        None => {
            let (doors, incoming) = Doors::to(threads);
            let accepting = accept::plain(listener, gate, hello, draining, doors);
            serve_on(services, threads, accepting, incoming).await
        }
    }
}

/// A server on each thread, and beside them what accepts for all. Ends with the first of them that fails.
async fn serve_on<S, IO>(
    services: Arc<Services>,
    threads: &[Handle],
    accepting: impl Future<Output = ()> + Send + 'static,
    incoming: Vec<S>,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<accept::Incoming<IO>>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    IO::ConnectInfo: Sync,
{
    let service = Arc::new(NodeService::new(services));
    let mut serving = JoinSet::new();
    for (thread, incoming) in threads.iter().zip(incoming) {
        serving.spawn_on(serve_accepted(Arc::clone(&service), incoming), thread);
    }
    serving.spawn(async move {
        accepting.await;
        Ok(())
    });
    while let Some(ended) = serving.join_next().await {
        match ended {
            Ok(ended) => ended?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Its thread has ended, and so does the process.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Serves nodes on connections that were accepted elsewhere, until the process drains.
pub async fn serve_incoming<S, IO>(
    services: Arc<Services>,
    incoming: S,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
{
    let hello = Duration::from_millis(services.config.grpc.hello_timeout_ms);
    let incoming = incoming.map(move |io| io.map(|io| accept::elsewhere(io, None, hello)));
    serve_accepted(Arc::new(NodeService::new(services)), incoming).await
}

async fn serve_accepted<S, IO>(service: Arc<NodeService>, incoming: S) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<accept::Incoming<IO>>>,
    IO: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<PurgeStreamServer<NodeService>>().await;
    let draining = service.services.draining.clone();
    let config = &service.services.config.grpc;
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(config.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(config.keepalive_timeout_ms)))
        .max_concurrent_streams(CALLS_MAX)
        .layer(TellActivity::<IO::ConnectInfo>::new())
        .add_service(health_service)
        .add_service(PurgeStreamServer::from_arc(service));

    let farewell = {
        let draining = draining.clone();
        async move {
            draining.cancelled().await;
            health.set_not_serving::<PurgeStreamServer<NodeService>>().await;
        }
    };
    let late = async {
        draining.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        outcome = router.serve_with_incoming_shutdown(incoming, farewell) => outcome,
        // Connections whose nodes do not go are closed with the server.
        () = late => Ok(()),
    }
}
