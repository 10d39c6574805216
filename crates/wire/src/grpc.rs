//! The gRPC service `batoff.purge.v1.PurgeStream`.
//!
//! Written by hand rather than generated, so that the server sends [`Bytes`](bytes::Bytes) that were encoded once for
//! all nodes, and both ends otherwise deal in [`batoff_types::message`]. What cannot be decoded ends the receiving
//! stream with `INVALID_ARGUMENT` and the name of the field. Nothing is compressed.

pub mod client;
mod codec;
pub mod server;

/// The service's full name, as in its path and in the health service.
pub const SERVICE_NAME: &str = "batoff.purge.v1.PurgeStream";

/// The path of its only method.
pub const CONNECT_PATH: &str = "/batoff.purge.v1.PurgeStream/Connect";

/// The longest message that a server takes, in bytes; a longer one ends the stream with `OUT_OF_RANGE`. A node's longest
/// is an ack: 4 MiB are more than 100,000 reports.
pub const FROM_NODE_BYTES_MAX: usize = 4 << 20;

/// The longest message that a client takes, in bytes; a longer one ends the stream with `OUT_OF_RANGE`. Records stay
/// below 2 MiB. The longest is a `Welcome`, which holds all hostnames of all sites: 64 MiB are about two million names,
/// beyond which no node could connect.
pub const TO_NODE_BYTES_MAX: usize = 64 << 20;
