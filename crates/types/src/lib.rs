//! The nouns of Batoff Purge.
//!
//! Everything here is plain data: what a customer asks for ([`Purge`], [`Selector`]), how the things it names are
//! written in one normal form ([`PurgeUrl`], [`UrlPrefix`], [`Tag`], [`Hostname`]), where a record stands in the one
//! order ([`Seq`], [`Cursor`], [`LogId`]), and what the two ends of a node's stream say to each other ([`message`]).
//!
//! **Invariants, by what is absent:** no async, no clock, no disk, no protobuf, no HTTP. A value that exists is valid:
//! parsing happens at the rim, and inside the type is the proof.
//!
//! [`Selector::matches`] is the specification of what a purge hits; every index and cache is tested against it.

mod invisible;
pub mod message;
mod moment;
mod name;
mod position;
mod record;
mod replicas;
mod selector;
mod site_table;
mod tag;
mod trace;
mod url;

pub use self::invisible::invisible;
pub use self::moment::{Moment, UnixMillis};
pub use self::name::{
    HOSTNAME_BYTES_MAX, HostPattern, Hostname, InvalidName, NodeName, PARENTS_MAX, Parent, SiteId,
};
pub use self::position::{Cursor, FillToken, Generation, InstanceId, InvalidUlid, LogId, Seq, TaskId, Term};
pub use self::record::{Body, Record, SiteChange, SiteLimits};
pub use self::replicas::{InvalidSet, REPLICAS_MAX, Replica, ReplicaSet};
pub use self::selector::{Object, Purge, Selector, SelectorKind};
pub use self::site_table::SiteTable;
pub use self::tag::{
    CacheTags, InvalidTag, TAG_BYTES_MAX, TAGS_PER_RESPONSE_LIMIT, TAGS_PER_RESPONSE_MAX, Tag,
};
pub use self::trace::{CallersTrace, InvalidTraceParent, TraceParent};
pub use self::url::{InvalidUrl, PurgeUrl, Scheme, URL_BYTES_MAX, UrlPrefix};

/// The version of the semantics that this build understands: the set of selectors, the kinds of record, and the URL
/// normaliser. A record names the lowest version that understands it; a node below that applies the record as
/// *everything* for its site, never as something narrower. [`Body::semantics`] says which a record needs. What a new one
/// makes of the state files of nodes that ran the one before is decided, and explained, in `state_dir/codec.rs` of
/// `batoff-edge`.
pub const SEMANTICS_VERSION: u32 = 3;
