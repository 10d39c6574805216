//! The control plane's end.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use batoff_types::message::FromNode;
use bytes::Bytes;
use http_body::Body;
use tokio_stream::Stream;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

use super::codec::ServerCodec;
use super::{CONNECT_PATH, FROM_NODE_BYTES_MAX, SERVICE_NAME};

/// What a control plane does with a node that connects.
#[tonic::async_trait]
pub trait PurgeStream: Send + Sync + 'static {
    /// Encoded messages to the node ([`encode_to_node`](crate::encode_to_node),
    /// [`records_frame`](crate::records_frame)); an error, or the end, closes the stream.
    type ConnectStream: Stream<Item = Result<Bytes, Status>> + Send + 'static;

    /// Called once a stream. The response's headers go out when this returns, so it must not wait for the `Hello`: the
    /// node may wait for the headers before it sends one.
    ///
    /// A message that cannot be decoded is an error `INVALID_ARGUMENT` of `request`'s stream: pass it on and end.
    async fn connect(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status>;
}

/// A [`PurgeStream`] as a service for tonic's (or any tower) server.
#[derive(Debug)]
pub struct PurgeStreamServer<T> {
    inner: Arc<T>,
}

impl<T> PurgeStreamServer<T> {
    /// Serves `inner`.
    pub fn new(inner: T) -> Self {
        Self::from_arc(Arc::new(inner))
    }

    /// Serves `inner`, which others hold as well.
    pub const fn from_arc(inner: Arc<T>) -> Self {
        Self { inner }
    }
}

impl<T> Clone for PurgeStreamServer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> NamedService for PurgeStreamServer<T> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<T, B> Service<http::Request<B>> for PurgeStreamServer<T>
where
    T: PurgeStream,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != CONNECT_PATH {
            return Box::pin(async { Ok(Status::new(Code::Unimplemented, "").into_http()) });
        }
        let method = Connect(Arc::clone(&self.inner));
        Box::pin(async move {
            let mut grpc = Grpc::new(ServerCodec).max_decoding_message_size(FROM_NODE_BYTES_MAX);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Connect<T>(Arc<T>);

impl<T: PurgeStream> StreamingService<FromNode> for Connect<T> {
    type Response = Bytes;
    type ResponseStream = T::ConnectStream;
    type Future = BoxFuture<Result<Response<T::ConnectStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<FromNode>>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect(request).await })
    }
}
