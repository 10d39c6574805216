//! A node's end.

use std::error::Error;

use batoff_types::message::{FromNode, ToNode};
use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use http_body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::{IntoStreamingRequest, Response, Status, Streaming};

use super::codec::ClientCodec;
use super::{CONNECT_PATH, TO_NODE_BYTES_MAX};

/// Opens a node's stream, over a [`tonic::transport::Channel`] or any other HTTP/2 client.
#[derive(Clone, Debug)]
pub struct PurgeStreamClient<T> {
    grpc: Grpc<T>,
}

impl<T> PurgeStreamClient<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    /// Over a connection that knows its endpoint.
    pub fn new(service: T) -> Self {
        Self { grpc: Grpc::new(service).max_decoding_message_size(TO_NODE_BYTES_MAX) }
    }

    /// Over a connection that does not; `origin` is scheme and authority.
    pub fn with_origin(service: T, origin: Uri) -> Self {
        Self { grpc: Grpc::with_origin(service, origin).max_decoding_message_size(TO_NODE_BYTES_MAX) }
    }

    /// Opens the stream. Returns when the server's headers are there, which is before its `Welcome`. No deadline is set:
    /// limit the wait for the `Welcome`, not the stream.
    pub async fn connect(
        &mut self,
        messages: impl IntoStreamingRequest<Message = FromNode>,
    ) -> Result<Response<Streaming<ToNode>>, Status> {
        self.grpc.ready().await.map_err(|error| {
            let error: Box<dyn Error + Send + Sync> = error.into();
            Status::unknown(format!("the connection failed: {error}"))
        })?;
        let path = PathAndQuery::from_static(CONNECT_PATH);
        self.grpc.streaming(messages.into_streaming_request(), path, ClientCodec).await
    }
}
