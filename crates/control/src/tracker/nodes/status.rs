//! A node as the operator sees it.

use std::time::Duration;

use batoff_delivery::NodeState;
use batoff_types::message::{IndexSize, LeasePolicy, Parents};
use batoff_types::{Cursor, InstanceId, NodeName, Parent, Seq, UnixMillis};

use super::concerns::Concern;

/// A node as the operator sees it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Whether it was removed; its name is blocked.
    pub removed: bool,
    /// What it may do as far as is known here.
    pub state: NodeState,
    /// What it does without a lease; `None` until it has said so.
    pub policy: Option<LeasePolicy>,
    /// Whether it has a stream.
    pub connected: bool,
    /// The run of its daemon that connected last.
    pub instance: Option<InstanceId>,
    /// The furthest it has acknowledged.
    pub cursor: Cursor,
    /// Records that it has not acknowledged.
    pub lag_records: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// How long its lease still runs.
    pub lease_remaining: Duration,
    /// Since when it has none.
    pub lease_over: Option<UnixMillis>,
    /// Why its last heartbeat was answered without a lease.
    pub refusal: Option<&'static str>,
    /// When its last heartbeat came.
    pub heard_at: Option<UnixMillis>,
    /// Its daemon's version; empty until it has said so.
    pub version: String,
    /// The semantics that it understands.
    pub semantics: Option<u32>,
    /// How large its index is; `None` until it has said so on its present stream, or the last.
    pub index_size: Option<IndexSize>,
    /// The caches that it drives.
    pub caches: Vec<String>,
    /// When the certificate ends that it showed last.
    pub certificate_until: Option<UnixMillis>,
    /// Why it is late or has no lease, if it is or has not.
    pub concern: Option<Concern>,
    /// Caches in the way.
    pub troubles: Vec<TroubleView>,
    /// The caches between its own and the origins; empty as long as it has not said so.
    pub parents: Vec<Parent>,
    /// How far those are; `None` without any.
    pub path: Option<Parents>,
}

/// A cache that cannot be reached or refuses.
#[derive(Clone, Debug)]
pub struct TroubleView {
    /// Which.
    pub cache: String,
    /// What it said.
    pub message: String,
    /// The record that waits behind it.
    pub stuck: Option<Seq>,
    /// Since when it is in trouble, as far as this process knows.
    pub since: UnixMillis,
}

/// Objects of a site that came to the nodes with more tags than it allows, or with malformed ones: as far as the nodes have
/// told since this process started, each of what it has met since its daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagOverflow {
    /// Summed over the nodes.
    pub objects: u64,
    /// How many nodes have met any.
    pub nodes: u32,
    /// When the last one came, to whichever node.
    pub last_at: Option<UnixMillis>,
}

/// Why a node may not be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveRefused {
    /// No such node, or removed already.
    Unknown,
    /// An available node that has not confirmed everything may go on serving what was purged; only by force.
    Unconfirmed,
}
