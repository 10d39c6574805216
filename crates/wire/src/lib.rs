//! How the nouns look on the wire.
//!
//! `proto/batoff/purge/v1/purge.proto` is the contract between control plane and nodes; the structs generated from it
//! stop at this crate. Everything else sees [`batoff_types`] on one side and bytes on the other.
//!
//! A [`Record`](batoff_types::Record) is encoded once ([`encode_record`]). The same bytes are the purge log's payload
//! and, joined by [`records_frame`], what every node is sent.
//!
//! **Invariant: never narrower.** Whatever a record says that this build does not understand is decoded as a purge of
//! more, never of less: an unknown selector as everything for the site, an unknown kind of record as a flush
//! ([`decode_record`] has the list).
//!
//! `proto/batoff/edge/v1/local.proto` is the contract between a daemon and the caches on its node ([`local`]).
//!
//! It is not: behaviour. What the messages mean to each end is `batoff-delivery`.

mod error;
mod field;
mod from_node;
pub mod grpc;
pub mod local;
mod record;
mod selector;
mod to_node;

pub use self::error::{Problem, WireError};
pub use self::from_node::{decode_from_node, encode_from_node};
pub use self::record::{
    Requester, RequesterIdentity, decode_record, decode_requested, encode_record, encode_requested,
};
pub use self::to_node::{decode_to_node, encode_to_node, records_frame};

/// The generated messages.
mod pb {
    include!(concat!(env!("OUT_DIR"), "/batoff.purge.v1.rs"));
}
