//! What people are shown of a node, a record and its lateness, and the names of all that in metrics and the admin API.

use std::time::Duration;

use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, InstanceId, Moment, NodeName};

/// Where a node stands with its lease, as the control plane knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// The control plane has just started; a lease of its predecessor may be running.
    Unknown,
    /// Has no lease.
    Away,
    /// Has no lease yet; connected, and catching up with what was completed without it.
    Joining,
    /// May serve.
    Leased,
}

impl NodeState {
    /// All states, in the order of a node's life.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Away, Self::Joining, Self::Leased];

    /// The state's name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Away => "away",
            Self::Joining => "joining",
            Self::Leased => "leased",
        }
    }
}

/// Why the last heartbeat was answered without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Records were declared completed while it had no lease, and it has not applied them yet (G1).
    BehindFloor,
    /// An earlier incarnation acknowledged more than this one has applied (G1).
    BehindConfirmed,
    /// Its oldest unacknowledged record is older than `grace` (G2).
    TooSlow,
    /// The lease of an earlier run of its daemon has not run out yet (G4); over in about a second.
    OtherInstance,
    /// It is being decommissioned.
    Removed,
    /// The control plane stood still for a while, and does not know yet whether it was replaced meanwhile.
    StoodStill,
    /// The control plane has not been able to show for so long that its seat is its own that another may have taken it.
    Unseated,
}

impl Refusal {
    /// The reason's name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BehindFloor => "behind_floor",
            Self::BehindConfirmed => "behind_confirmed",
            Self::TooSlow => "too_slow",
            Self::OtherInstance => "other_instance",
            Self::Removed => "removed",
            Self::StoodStill => "stood_still",
            Self::Unseated => "unseated",
        }
    }
}

/// All that is known of one node, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Its registration: it counts for records after this place.
    pub registered: Cursor,
    /// Its lease.
    pub state: NodeState,
    /// What it does without a lease; `None` until it has said so.
    pub policy: Option<LeasePolicy>,
    /// Whether it has a stream.
    pub connected: bool,
    /// The run of its daemon that connected last.
    pub instance: Option<InstanceId>,
    /// How far the present stream is.
    pub cursor: Cursor,
    /// The furthest it ever acknowledged.
    pub confirmed: Cursor,
    /// What it must have applied before it gets a lease.
    pub floor: Cursor,
    /// Records of the log that it has not acknowledged.
    pub lag_records: u64,
    /// How long the oldest of them has been durable; zero when there is none. After a start of the control plane
    /// counted from the start.
    pub lag: Duration,
    /// How long its lease still runs as the control plane counts it: at least as long as on the node.
    pub lease_remaining: Duration,
    /// Since when it certainly has no lease, by this process's clock; `None` while one runs or may run.
    pub lease_over: Option<Moment>,
    /// Why it has no lease, if its last heartbeat was refused one.
    pub refusal: Option<Refusal>,
    /// Whether acks of its present incarnation wait for the lease of an earlier one to run out (G4), or for leases of
    /// an earlier control plane.
    pub held: bool,
    /// Whether it is being decommissioned.
    pub removing: bool,
}

impl NodeView {
    /// Whether it has said that it stops serving without a lease.
    pub fn is_strict(&self) -> bool {
        self.policy == Some(LeasePolicy::Revalidate)
    }

    /// Whether it certainly has no lease.
    pub fn has_no_lease(&self) -> bool {
        matches!(self.state, NodeState::Away | NodeState::Joining)
    }
}

/// How many nodes stand how with one record. What is in none of the last three is still expected to acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Nodes that were registered before the record.
    pub total: u32,
    /// Nodes that have acknowledged it.
    pub confirmed: u32,
    /// Strict nodes that have not, and have no lease: they cannot serve what it purged.
    pub fenced: u32,
    /// Available nodes that have not, and have no lease or no stream: they may go on serving what it purged.
    pub unreachable: u32,
}

/// A node that a record does not wait for, because it cannot serve what was purged until it has caught up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencedNode {
    /// Which node.
    pub node: NodeName,
    /// Since when it has no lease.
    pub since: Moment,
}

/// A node that a record waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateNode {
    /// Which node.
    pub node: NodeName,
    /// What it waits for.
    pub why: Lateness,
}

/// What the completion of a record waits for on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lateness {
    /// An available node (or one of unknown policy) without a lease or a stream, which may go on serving.
    Unreachable,
    /// No stream, but its lease may still run; over in about a second.
    LeaseRuns,
    /// It is connected and has not acknowledged yet.
    Lagging,
    /// It has acknowledged, but an earlier incarnation's lease may still run, or one of an earlier control plane; over in about a second.
    Held,
}

impl Lateness {
    /// The reason's name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::LeaseRuns => "lease_runs",
            Self::Lagging => "lagging",
            Self::Held => "held",
        }
    }
}
