//! A control plane that does exactly what a story tells it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_types::message::{FromNode, Hello, LeaseGrant, Reset, ResetReason, ToNode, Welcome};
use batoff_types::{
    Body, Cursor, LogId, NodeName, Record, Replica, ReplicaSet, Seq, SiteTable, TaskId, Term, UnixMillis,
};
use batoff_wire::encode_to_node;
use batoff_wire::grpc::server::{PurgeStream, PurgeStreamServer};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

pub const LEASE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);

pub struct ControlPlane {
    pub address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Incoming>,
}

type Outgoing = mpsc::Sender<Result<Bytes, Status>>;
type Incoming = (Streaming<FromNode>, Outgoing);

struct Accepting(mpsc::UnboundedSender<Incoming>);

#[tonic::async_trait]
impl PurgeStream for Accepting {
    type ConnectStream = ReceiverStream<Result<Bytes, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, messages) = mpsc::channel(1_024);
        self.0.send((request.into_inner(), outgoing)).ok();
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// One stream, after its `Hello`.
pub struct Stream {
    pub hello: Hello,
    pub outgoing: Outgoing,
    seen: mpsc::UnboundedReceiver<FromNode>,
    /// Whether heartbeats are answered with a lease.
    pub granting: Arc<AtomicBool>,
    /// Whether heartbeats are answered at all.
    pub answering: Arc<AtomicBool>,
    /// What leases say of the parents.
    pub parents_through: Arc<Mutex<Option<u64>>>,
}

impl ControlPlane {
    pub async fn start() -> Self {
        Self::with_tls(None).await
    }

    pub async fn with_tls(tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, streams) = mpsc::unbounded_channel();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server.add_service(PurgeStreamServer::new(Accepting(accepted)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, streams }
    }

    /// Streams that nobody has accepted yet are never answered.
    pub fn ignore_pending(&mut self) {
        while self.streams.try_recv().is_ok() {}
    }

    /// The next stream and its `Hello`; nothing is answered yet.
    pub async fn accept(&mut self, term: u64) -> Stream {
        let (mut incoming, outgoing) =
            tokio::time::timeout(PATIENCE, self.streams.recv()).await.expect("a stream").unwrap();
        let Some(FromNode::Hello(hello)) = incoming.message().await.unwrap() else {
            panic!("Hello comes first")
        };
        let (tell, seen) = mpsc::unbounded_channel();
        let (granting, answering) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let (grants, answers, replies) = (granting.clone(), answering.clone(), outgoing.clone());
        let parents = Arc::new(Mutex::new(None::<u64>));
        let parents_through = Arc::clone(&parents);
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let FromNode::Heartbeat(heartbeat) = &message
                    && answers.load(Ordering::Relaxed)
                {
                    let duration = if grants.load(Ordering::Relaxed) { LEASE } else { Duration::ZERO };
                    let grant = LeaseGrant {
                        echo: heartbeat.sent_at,
                        duration,
                        term: Term(term),
                        parents_through: parents_through.lock().map(Cursor::new),
                        tail: None,
                    };
                    replies.send(Ok(encode_to_node(&ToNode::LeaseGrant(grant)))).await.ok();
                }
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        Stream { hello, outgoing, seen, granting, answering, parents_through: parents }
    }

    /// Accepts a node and welcomes it where it stands; a node that stands nowhere is reset to `cursor`.
    pub async fn welcome(&mut self, cursor: u64) -> Stream {
        let mut stream = self.accept(1).await;
        let stands_at = stream.hello.position.map_or(0, |position| position.cursor.get());
        stream.send(ToNode::Welcome(welcome(1, cursor.max(stands_at)))).await;
        if stream.hello.position.is_none() {
            stream.send(reset(cursor)).await;
            // An ack: heartbeats of a node that stands nowhere look like those of one that stands at the start.
            while !matches!(stream.next().await, Some(FromNode::Ack(ack)) if ack.cursor == Cursor::new(cursor))
            {
            }
        }
        stream
    }
}

impl Stream {
    pub async fn send(&self, message: ToNode) {
        self.outgoing.send(Ok(encode_to_node(&message))).await.unwrap();
    }

    /// The next message, heartbeats among them; `None` at the stream's end.
    pub async fn next(&mut self) -> Option<FromNode> {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("a message or the end")
    }

    /// Reads until the node says that it stands at `cursor`.
    pub async fn until_cursor(&mut self, cursor: u64) {
        loop {
            let said = match self.next().await.expect("the stream goes on") {
                FromNode::Ack(ack) => ack.cursor,
                FromNode::Heartbeat(heartbeat) => heartbeat.cursor,
                _ => continue,
            };
            assert!(said <= Cursor::new(cursor), "{said} is beyond what was sent");
            if said == Cursor::new(cursor) {
                return;
            }
        }
    }

    /// Reads until a heartbeat says whether this stream is to bring records at once.
    pub async fn until_told(&mut self, at_once: bool) {
        loop {
            if let FromNode::Heartbeat(heartbeat) = self.next().await.expect("the stream goes on")
                && heartbeat.fill_in_after.is_none() == at_once
            {
                return;
            }
        }
    }

    /// Reads until the node ends the stream.
    pub async fn until_end(&mut self) {
        while self.next().await.is_some() {}
    }
}

pub fn welcome(term: u64, tail: u64) -> Welcome {
    Welcome {
        log_id: log_id(),
        term: Term(term),
        tail: Cursor::new(tail),
        lease: LEASE,
        heartbeat_interval: Duration::from_millis(20),
        reconnect_min: Duration::from_millis(1),
        reconnect_max: Duration::from_millis(20),
        sites: {
            let mut sites = SiteTable::default();
            sites.set(&"shop".parse().unwrap(), Some(&["www.example.test".parse().unwrap()]));
            sites
        },
        replica: Replica::ONLY,
        set: ReplicaSet::only(),
    }
}

pub fn reset(cursor: u64) -> ToNode {
    ToNode::Reset(Reset { log_id: log_id(), cursor: Cursor::new(cursor), reason: ResetReason::New })
}

pub fn records(range: std::ops::RangeInclusive<u64>) -> ToNode {
    ToNode::Records(range.map(record).collect())
}

pub fn record(seq: u64) -> Record {
    Record {
        seq: Seq::new(seq).unwrap(),
        accepted_at: UnixMillis(1),
        task: task(seq),
        request_id: "test".into(),
        semantics: 1,
        trace: None,
        body: Body::NodeRegistered(NodeName::new("fra1", "other").unwrap()),
    }
}

pub fn task(seq: u64) -> TaskId {
    TaskId::from_bytes([u8::try_from(seq % 251).unwrap(); 16])
}

pub fn log_id() -> LogId {
    LogId::from_bytes([5; 16])
}
