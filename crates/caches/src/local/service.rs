//! The gRPC service on the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use batoff_index::Verdict as Judged;
use batoff_program::gate::{Admission, Gate, Limits};
use batoff_program::grpc::TellActivity;
use batoff_program::watched::{Patience, Watched};
use batoff_wire::local::pb::local_server::{Local, LocalServer};
use batoff_wire::local::pb::lookup_reply::State;
use batoff_wire::local::{MESSAGE_BYTES_MAX, OBJECTS_PER_MESSAGE_MAX, pb};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use super::declared::Declared;
use super::object::Name;
use super::{figures, watch};
use crate::Surroundings;

/// Calls and streams on one connection.
const STREAMS_MAX: u32 = 4_096;

/// Connections at one time.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Of them, of one process.
const OF_PROCESS_MAX: usize = 64;

/// The longest wait for a connection. Between two fills it may be idle for long, and beginning anew costs little.
const PATIENCE: Patience = Patience {
    first_byte: None,
    head: Duration::from_secs(10),
    idle: Duration::from_secs(600),
    write: Duration::from_secs(30),
};

/// Serves the API until `stop`.
pub async fn serve(listener: UnixListener, members: Arc<Declared>, stop: CancellationToken) {
    let api = LocalServer::new(Api { members })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let places = Gate::new("local API", Limits { total: CONNECTIONS_MAX, each: OF_PROCESS_MAX });
    let connections = UnixListenerStream::new(listener).filter_map(move |accepted| match accepted {
        Ok(socket) => Peer::admit(socket, &places).map(Ok),
        Err(error) => Some(Err(error)),
    });
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .layer(TellActivity::<UdsConnectInfo>::new())
        .add_service(api)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        // Every cache loses its session by this, and so its right to serve.
        tracing::error!(%error, "the local API has ended");
    }
}

/// A connection, counted for as long as it lives.
struct Peer {
    socket: UnixStream,
    _admission: Admission<i32>,
}

impl Peer {
    fn admit(socket: UnixStream, places: &Arc<Gate<i32>>) -> Option<Watched<Self>> {
        let process = socket.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
        match places.admit(&process) {
            Ok(admission) => Some(Watched::new(Self { socket, _admission: admission }, PATIENCE)),
            Err(full) => {
                tracing::warn!(process, %full, "a connection to the local API was closed at once");
                None
            }
        }
    }
}

impl Connected for Peer {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

struct Api {
    members: Arc<Declared>,
}

#[tonic::async_trait]
impl Local for Api {
    type WatchStream = ReceiverStream<Result<pb::ToCache, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::FromCache>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let sent = watch::start(Arc::clone(&self.members), request.into_inner());
        Ok(Response::new(ReceiverStream::new(sent)))
    }

    async fn begin_fill(
        &self,
        _: Request<pb::BeginFillRequest>,
    ) -> Result<Response<pb::BeginFillReply>, Status> {
        if self.members.around.stop.is_cancelled() {
            return Err(Status::unavailable("the daemon is stopping"));
        }
        let Surroundings { index, path, .. } = &*self.members.around;
        let token = Some(path.token(index.begin_fill()).into());
        Ok(Response::new(pb::BeginFillReply { token }))
    }

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Result<Response<pb::CommitReply>, Status> {
        let pb::CommitRequest { session, object } = request.into_inner();
        let (owner, session) = self.members.session(session)?;
        let object = object.ok_or_else(|| Status::invalid_argument("object: missing"))?;
        let registered = self.members.register(&session, &object)?;
        figures::commit(owner.name(), registered.verdict);
        Ok(Response::new(pb::CommitReply {
            verdict: registered.verdict.into(),
            ignored_tags: u32::try_from(registered.ignored_tags).unwrap_or(u32::MAX),
        }))
    }

    async fn gone(&self, request: Request<pb::GoneRequest>) -> Result<Response<pb::GoneReply>, Status> {
        let pb::GoneRequest { session, objects } = request.into_inner();
        let (_, session) = self.members.session(session)?;
        if objects.len() > OBJECTS_PER_MESSAGE_MAX {
            let message = format!("objects: at most {OBJECTS_PER_MESSAGE_MAX}, not {}", objects.len());
            return Err(Status::invalid_argument(message));
        }
        let names: Result<Vec<_>, _> =
            objects.iter().map(|object| Name::parse(&session, &object.url, &object.handle)).collect();
        for name in names? {
            let index = &self.members.around.index;
            let removed = index.remove_if(&name.url, name.variant(), |locator, _| name.is_at(locator));
            session.count_out(u64::from(removed.is_some()));
        }
        Ok(Response::new(pb::GoneReply {}))
    }

    async fn lookup(&self, request: Request<pb::LookupRequest>) -> Result<Response<pb::LookupReply>, Status> {
        let pb::LookupRequest { session, url, handle } = request.into_inner();
        let (owner, session) = self.members.session(session)?;
        let name = Name::parse(&session, &url, &handle)?;
        // The lease before the verdict: it must not be newer than what is in force here.
        let serve_until = owner.lease(&self.members.around);
        let state = match self.members.around.index.lookup(&name.url, name.variant()) {
            None => State::Unknown,
            Some((Judged::Fresh, _)) => State::Fresh,
            Some((Judged::Stale, _)) => State::Stale,
            Some((Judged::Gone, _)) => State::Gone,
        };
        Ok(Response::new(pb::LookupReply { state: state.into(), serve_until }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let instance = self.members.instance.to_bytes().to_vec().into();
        Ok(Response::new(pb::StatusReply { instance, caches: self.members.status() }))
    }
}
