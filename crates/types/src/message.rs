//! What the two ends of a node's stream say to each other, as plain data. `proto/` says how it looks on the wire.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Cursor, InstanceId, LogId, Moment, NodeName, Parent, Record, Replica, ReplicaSet, Selector, Seq, SiteId,
    SiteTable, TaskId, Term,
};

/// The version of the protocol that this build speaks: which kinds of message there are, and their order. Neither end
/// sends a kind of message that the other's version does not have.
///
/// | version | what came with it |
/// | --- | --- |
/// | 1 | everything of a control plane that is alone |
/// | 2 | several control planes: [`Hello::connection`], [`Welcome::replica`], [`Welcome::set`], [`ToNode::Replicas`] |
pub const PROTOCOL_VERSION: u32 = 2;

/// The oldest version that this build serves and follows, as long as the control plane is alone: a node below
/// [`PROTOCOL_VERSION`] knows nothing of majorities.
pub const PROTOCOL_VERSION_ALONE: u32 = 1;

/// From a node to the control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum FromNode {
    /// Always the first message of a stream, and only the first.
    Hello(Hello),
    /// Sent at the interval that `Welcome` named; doubles as an ack.
    Heartbeat(Heartbeat),
    /// Something was applied.
    Ack(Ack),
    /// The answer to a [`Count`].
    Counted(Counted),
    /// A cache is in the way.
    Trouble(Trouble),
}

/// Who connects, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The name, which must be the certificate's.
    pub node: NodeName,
    /// This run of the daemon.
    pub instance: InstanceId,
    /// Where it stands, when it stands anywhere.
    pub position: Option<Position>,
    /// The version of the protocol it speaks ([`PROTOCOL_VERSION`]).
    pub protocol: u32,
    /// The version of the semantics it understands ([`crate::SEMANTICS_VERSION`]).
    pub semantics: u32,
    /// The daemon's version, for people.
    pub version: String,
    /// The caches it drives, by name, for people.
    pub caches: Vec<String>,
    /// What it does when its lease ends.
    pub policy: LeasePolicy,
    /// The caches between its own and the origins; none: it fetches from the origins themselves.
    pub parents: Vec<Parent>,
    /// The number of this stream: higher than that of each before it from this node to the same replica, by any run of its
    /// daemon. `None` from a node that speaks version 1 of the protocol.
    pub connection: Option<u64>,
}

/// A cursor, said so that it can be checked: in which log, and which record stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub log_id: LogId,
    /// The place.
    pub cursor: Cursor,
    /// The task of the record right before the place; `None` at the start of the log and after a reset.
    pub task: Option<TaskId>,
}

/// What a node does with its cached objects when it has no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LeasePolicy {
    /// Goes on serving (an *available* node); while it is away, purges are `partial` rather than `completed`.
    #[default]
    Serve,
    /// Serves an object only after the origin has confirmed it (a *strict* node).
    Revalidate,
}

/// I am here, this is my clock, and this is how far I am.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The node's clock when it sent this; echoed in the [`LeaseGrant`].
    pub sent_at: Moment,
    /// Everything before this place can no longer be served here.
    pub cursor: Cursor,
    /// How large the node's index is, when that is news to whoever is at the other end.
    pub index: Option<IndexSize>,
    /// This stream need not bring records at once, since others do: only those that are not confirmed so long after they
    /// became known. `None`: at once. Not read by a control plane that is alone.
    pub fill_in_after: Option<Duration>,
}

/// How large a node's index is. A figure for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSize {
    /// Cached objects that are registered, each variant one.
    pub objects: u64,
    /// Memory that it takes, in bytes.
    pub bytes: u64,
}

/// Everything before `cursor` can no longer be served from any cache of this node. Cumulative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The place reached.
    pub cursor: Cursor,
    /// What became of single records; may also follow later, for records whose objects were still being swept.
    pub reports: Vec<RecordReport>,
    /// Sites whose figure has risen since it was last told on this stream; on a new stream all that have one. At most
    /// [`OVERFLOWED_AT_ONCE_MAX`]; the others follow.
    pub overflowed: Vec<Overflowed>,
}

/// Sites in one [`Ack`] of which is told how many objects overflowed.
pub const OVERFLOWED_AT_ONCE_MAX: usize = 256;

/// Sites of which one node tells how many objects overflowed. Of further ones only its own metric and log speak.
pub const OVERFLOWED_SITES_MAX: usize = 4_096;

/// Objects of a site that came with more tags than it allows, or with malformed ones. A figure for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflowed {
    /// Whose they are.
    pub site: SiteId,
    /// How many came since the node's daemon started.
    pub objects: u64,
    /// From when the last of them came until this was sent.
    pub since: Duration,
}

/// What one record did on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordReport {
    /// Which record.
    pub seq: Seq,
    /// Objects made unservable (soft: stale) since the last report on this record; each variant counts one.
    pub objects: u64,
    /// Whether no more will be reported on this record.
    pub last: bool,
    /// From receipt until the rule was in force.
    pub in_force_after: Duration,
    /// From receipt until the objects were out of the caches, as far as this report goes.
    pub evicted_after: Duration,
}

/// The answer to a [`Count`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The question's id.
    pub id: u64,
    /// Objects a selector, in the question's order; none at all when they cannot be counted.
    pub objects: Vec<u64>,
    /// The caches that find their objects by their own means: why they cannot.
    pub uncounted: Vec<String>,
}

/// A cache that cannot be reached or refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which cache.
    pub cache: String,
    /// What it said; empty when the trouble is over.
    pub message: String,
    /// The record that waits behind it.
    pub stuck: Option<Seq>,
}

/// From the control plane to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum ToNode {
    /// Always the first message.
    Welcome(Welcome),
    /// Records in their order, without a gap.
    Records(Vec<Record>),
    /// The answer to a heartbeat.
    LeaseGrant(LeaseGrant),
    /// What lies between your cursor and here cannot be given to you: drop everything.
    Reset(Reset),
    /// How many objects would these hit?
    Count(Count),
    /// The stream is about to end.
    GoAway(GoAway),
    /// The parents that your `Hello` names are somewhere else. Sent to no node that names none.
    Parents(Parents),
    /// The control planes, and where they are. Sent to no node that speaks version 1 of the protocol.
    Replicas(Whereabouts),
}

/// What a node needs to know before its first record.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// The log that is followed.
    pub log_id: LogId,
    /// The control plane's term.
    pub term: Term,
    /// The place after the last durable record, now.
    pub tail: Cursor,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often a heartbeat is expected.
    pub heartbeat_interval: Duration,
    /// The shortest delay before a reconnect.
    pub reconnect_min: Duration,
    /// The longest delay before a reconnect.
    pub reconnect_max: Duration,
    /// Whose each hostname is, as of the place that the stream resumes from (after a [`Reset`]: of its place).
    pub sites: SiteTable,
    /// Who speaks.
    pub replica: Replica,
    /// The control planes that count at the place that the stream resumes from (after a [`Reset`]: at its place).
    pub set: ReplicaSet,
}

/// A lease, or why there is none now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The heartbeat's `sent_at`; the lease counts from there.
    pub echo: Moment,
    /// How long; zero when no lease is granted now.
    pub duration: Duration,
    /// The granting control plane's term.
    pub term: Term,
    /// As in [`Parents`]; `None` for a node that names no parents, and from a control plane that knows of none.
    pub parents_through: Option<Cursor>,
    /// Where the log ends as far as this control plane has read it; `None` from one that is alone.
    pub tail: Option<Cursor>,
}

/// How far the nodes between a node and the origins are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parents {
    /// Nothing that was purged before this place can be served by any of them any more, as far as is known.
    pub through: Cursor,
    /// Why it is not known, for people; empty when it is.
    pub why: String,
}

/// The control planes, and where nodes reach them: all of them each time, learners among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Each at most once; one that has not said where it is, is missing.
    pub replicas: Vec<ReplicaAt>,
}

/// Where nodes reach a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAt {
    /// Which.
    pub replica: Replica,
    /// `https://host:port`, not checked.
    pub endpoint: Arc<str>,
}

/// Drop everything, and go on from `cursor` in `log_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The log to follow from now on.
    pub log_id: LogId,
    /// The place to go on from.
    pub cursor: Cursor,
    /// Why, for people.
    pub reason: ResetReason,
}

/// Why a node is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The node stands nowhere yet.
    New,
    /// It stands in another log.
    ForeignLog,
    /// What it needs next has been trimmed.
    Trimmed,
    /// It claims to be beyond the tail.
    BeyondTail,
    /// Another record stands where it stands.
    RecordDiffers,
    /// A reason that this build does not know; the reset is as binding.
    Other,
}

impl ResetReason {
    /// The reason's name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::ForeignLog => "foreign_log",
            Self::Trimmed => "trimmed",
            Self::BeyondTail => "beyond_tail",
            Self::RecordDiffers => "record_differs",
            Self::Other => "other",
        }
    }
}

/// How many objects would these selectors hit? Answered from the index, without touching the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The question's id, for the answer.
    pub id: u64,
    /// Whose objects.
    pub site: SiteId,
    /// What to count, each by itself.
    pub selectors: Vec<Selector>,
    /// How long somebody waits for the answer; after that none is needed.
    pub answer_within: Option<Duration>,
}

/// The stream is about to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// How long to wait before connecting again.
    pub reconnect_after: Duration,
    /// Where else to connect; empty: where you like.
    pub endpoints: Vec<Arc<str>>,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoAwayReason {
    /// The control plane is stopping.
    Draining,
    /// A newer connection has the same identity.
    Replaced,
    /// The node was decommissioned.
    Removed,
    /// The node broke the protocol.
    Protocol,
}
