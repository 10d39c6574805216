//! The local API of a node, `batoff.edge.v1`: the generated messages, client and server, and the [`page`].
//!
//! Both ends of it are ours (`batoff-edge`, `batoff-edge-client`) and small, so here the generated structs are used as
//! they are. What they mean stands in `proto/batoff/edge/v1/local.proto`.

pub mod page;

/// The generated code.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated from the contract, which documents it"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/batoff.edge.v1.rs"));
}

/// The longest message that either end takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Objects in one message, at most.
pub const OBJECTS_PER_MESSAGE_MAX: usize = 1_000;

/// The longest handle, in bytes.
pub const HANDLE_BYTES_MAX: usize = 128;

impl From<batoff_types::FillToken> for pb::FillToken {
    fn from(token: batoff_types::FillToken) -> Self {
        Self { generation: token.generation.0, applied: token.applied.get() }
    }
}

impl From<pb::FillToken> for batoff_types::FillToken {
    fn from(token: pb::FillToken) -> Self {
        Self {
            generation: batoff_types::Generation(token.generation),
            applied: batoff_types::Cursor::new(token.applied),
        }
    }
}
