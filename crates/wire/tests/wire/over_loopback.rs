//! Both ends of the service over a real socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use batoff_types::message::{FromNode, Heartbeat, ToNode};
use batoff_types::{Body, Cursor, Moment, Purge, Record, Selector, Seq, TaskId, UnixMillis};
use batoff_wire::grpc::client::PurgeStreamClient;
use batoff_wire::grpc::server::{PurgeStream, PurgeStreamServer};
use batoff_wire::grpc::{CONNECT_PATH, FROM_NODE_BYTES_MAX, SERVICE_NAME};
use batoff_wire::{encode_record, encode_to_node, records_frame};
use bytes::{Buf, BufMut, Bytes};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use super::raw::raw;

/// Answers each heartbeat with as many records as its cursor says.
struct Generous;

#[tonic::async_trait]
impl PurgeStream for Generous {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let answers = request.into_inner().map(|message| match message? {
            FromNode::Heartbeat(heartbeat) => {
                Ok(records_frame(Seq::FIRST, &vec![encode_record(&purge()); heartbeat.cursor.get() as usize]))
            }
            other => Err(Status::failed_precondition(format!("{other:?}"))),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn purge() -> Record {
    Record {
        seq: Seq::FIRST,
        accepted_at: UnixMillis(1),
        task: TaskId::from_bytes([7; 16]),
        request_id: "req-1".into(),
        semantics: 1,
        trace: None,
        body: Body::Purge(Purge {
            site: "shop".parse().unwrap(),
            selectors: vec![Selector::Url(
                format!("https://a.example/{}", "x".repeat(4_000)).parse().unwrap(),
            )],
            soft: false,
        }),
    }
}

fn heartbeat(cursor: u64) -> FromNode {
    FromNode::Heartbeat(Heartbeat {
        sent_at: Moment::ZERO,
        cursor: Cursor::new(cursor),
        index: None,
        fill_in_after: None,
    })
}

async fn serve(service: impl PurgeStream) -> Channel {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = Server::builder().add_service(PurgeStreamServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn encoded_records_arrive_as_records() {
    let mut client = PurgeStreamClient::new(serve(Generous).await);
    let (to_server, messages) = tokio::sync::mpsc::channel(1);
    let mut stream = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
    for count in [1, 0, 512] {
        to_server.send(heartbeat(count)).await.unwrap();
        let Some(ToNode::Records(records)) = stream.message().await.unwrap() else { panic!("no records") };
        assert_eq!(records.len() as u64, count);
        for (record, number) in records.into_iter().zip(1..) {
            assert_eq!(record, Record { seq: Seq::new(number).unwrap(), ..purge() });
        }
    }
    drop(to_server);
    assert_eq!(stream.message().await.unwrap(), None);
}

#[tokio::test]
async fn an_error_of_the_server_reaches_the_client() {
    let mut client = PurgeStreamClient::new(serve(Generous).await);
    let counted = FromNode::Counted(batoff_types::message::Counted { id: 1, ..Default::default() });
    let mut stream = client.connect(tokio_stream::once(counted)).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::FailedPrecondition);
}

/// Sends and receives bytes as they are.
#[derive(Default)]
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// What the server says to one message that is sent as it is.
async fn answer_to(message: Bytes, path: &'static str) -> Result<Option<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(serve(Generous).await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let request = Request::new(tokio_stream::once(message));
    grpc.streaming(request, path, Verbatim).await?.into_inner().message().await
}

#[tokio::test]
async fn a_malformed_message_is_an_invalid_argument_that_names_the_field() {
    for (message, field) in [
        (Bytes::from_static(b"\xff\xff"), "from_node: "),
        (Bytes::new(), "body: "),
        (Bytes::copy_from_slice(raw().bytes(1, raw()).as_ref()), "hello.node: "),
        (Bytes::copy_from_slice(raw().bytes(5, raw().varint(3, 0)).as_ref()), "trouble.stuck: "),
    ] {
        let status = answer_to(message, CONNECT_PATH).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let status = answer_to(vec![0; FROM_NODE_BYTES_MAX + 1].into(), CONNECT_PATH).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn another_method_is_unimplemented() {
    let status = answer_to(Bytes::new(), "/batoff.purge.v1.PurgeStream/Other").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(CONNECT_PATH, format!("/{SERVICE_NAME}/Connect"));
}

/// Greets with a table of very many sites.
struct Large(Bytes);

#[tonic::async_trait]
impl PurgeStream for Large {
    type ConnectStream = tokio_stream::Once<Result<Bytes, Status>>;

    async fn connect(
        &self,
        _: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        Ok(Response::new(tokio_stream::once(Ok(self.0.clone()))))
    }
}

#[tokio::test]
async fn a_welcome_with_two_hundred_thousand_sites_arrives() {
    let welcome = ToNode::Welcome(batoff_types::message::Welcome {
        log_id: batoff_types::LogId::from_bytes([7; 16]),
        term: batoff_types::Term(1),
        tail: Cursor::START,
        lease: std::time::Duration::from_secs(1),
        heartbeat_interval: std::time::Duration::from_millis(250),
        reconnect_min: std::time::Duration::ZERO,
        reconnect_max: std::time::Duration::ZERO,
        sites: {
            let mut sites = batoff_types::SiteTable::default();
            for i in 0..200_000 {
                let names = [format!("site-{i}.customers.example").parse().unwrap()];
                sites.set(&format!("site-{i}").parse().unwrap(), Some(&names));
            }
            sites
        },
        replica: batoff_types::Replica::ONLY,
        set: batoff_types::ReplicaSet::only(),
    });
    let encoded = encode_to_node(&welcome);
    assert!(encoded.len() > 4 << 20, "over gRPC's usual limit: {}", encoded.len());

    let mut client = PurgeStreamClient::new(serve(Large(encoded)).await);
    let mut stream = client.connect(tokio_stream::once(heartbeat(0))).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap() == Some(welcome));
}
