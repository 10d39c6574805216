use batoff_types::message::{FromNode, ToNode};
use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::{decode_from_node, decode_to_node, encode_from_node};

/// The control plane's end: messages of nodes in, encoded messages out.
#[derive(Clone, Copy, Default)]
pub struct ServerCodec;

/// A node's end.
#[derive(Clone, Copy, Default)]
pub struct ClientCodec;

#[derive(Clone, Copy)]
pub struct Encoded;
#[derive(Clone, Copy)]
pub struct FromNodes;
#[derive(Clone, Copy)]
pub struct ToNodes;

impl Codec for ServerCodec {
    type Encode = Bytes;
    type Decode = FromNode;
    type Encoder = Encoded;
    type Decoder = FromNodes;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> FromNodes {
        FromNodes
    }
}

impl Codec for ClientCodec {
    type Encode = FromNode;
    type Decode = ToNode;
    type Encoder = FromNodes;
    type Decoder = ToNodes;

    fn encoder(&mut self) -> FromNodes {
        FromNodes
    }

    fn decoder(&mut self) -> ToNodes {
        ToNodes
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Encoder for FromNodes {
    type Item = FromNode;
    type Error = Status;

    fn encode(&mut self, item: FromNode, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(encode_from_node(&item));
        Ok(())
    }
}

impl Decoder for FromNodes {
    type Item = FromNode;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<FromNode>, Status> {
        Ok(Some(decode_from_node(&src.copy_to_bytes(src.remaining()))?))
    }
}

impl Decoder for ToNodes {
    type Item = ToNode;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<ToNode>, Status> {
        Ok(Some(decode_to_node(&src.copy_to_bytes(src.remaining()))?))
    }
}
