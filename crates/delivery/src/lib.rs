//! Who has what, and who may serve: both ends of the delivery protocol as state machines.
//!
//! - [`Outbox`]: the control plane's end of one node's stream, a position and nothing else.
//! - [`Feeds`]: the node's end of its streams to all control planes: records in order, cursor, acks, heartbeats, and the
//!   node's [`Lease`]; [`Inbox`]: the same where one control plane is alone.
//! - [`Roster`]: all registered nodes with cursors and leases, and the watermark that says what is completed.
//! - [`judge_hello`]: where a stream resumes, or why the node must drop everything.
//! - [`Seat`], [`Statements`]: what each of several control planes beside one log needs, and what makes them one.
//!
//! **Invariants, by what is absent:** no socket, no clock, no async, no protobuf, no disk. `now` is an argument;
//! `handle_*` takes news in, `poll_*` takes work out.
//!
//! What has to be true, under these names in asserts, tests and the simulation:
//!
//! - **I1** once a purge is completed, no node that may serve has a cursor below it;
//! - **I2** a purge that was accepted reaches every node, however often machines and streams fail;
//! - **I3** cursors and the watermark never go back, never skip;
//! - **I4** a purge is completed within [`PURGE_TARGET`] while all nodes are strict;
//! - **I5** memory is bounded by configuration.
//!
//! What brings it about, in short ([`Rule`] is the whole list; each can be left out in a simulation, which notices):
//!
//! - **G1** a lease is granted only at or after everything that may have been completed without the node;
//! - **G2** a node that does not get on gets no further lease;
//! - **G3** a node that is joining and does not get on is not waited for;
//! - **G4** a lease of one run of a daemon counts until it has run out, and the next run gets none before.
//!
//! Where to look: who may be welcomed, `roster/greeting.rs`; who gets a lease, `roster/judge.rs`; what becomes of it,
//! `roster/node.rs`; what is completed, `roster/watermark.rs`; what may be recorded, `roster/saved.rs`; when a node may
//! serve without a lease, and for what it vouches, `inbox/catch_up.rs`.
//!
//! Several control planes beside one log need no leader: each has a roster and leases of its own, a node serves while
//! leases of a majority run, and a purge is completed when a majority has stated it. What each of them may say, and when,
//! `replicas/seat.rs`; what follows from it, `replicas/statements.rs`; how a node makes one of their streams,
//! `inbox/feeds.rs`, and which of those bring records at once, `inbox/feeds/prompt.rs`. One that is alone is a majority of itself, by the same code.

mod inbox;
mod lease;
mod outbox;
mod replicas;
mod resume;
mod roster;
mod rules;
mod times;

pub use batoff_types::{InvalidSet, REPLICAS_MAX, ReplicaSet};

pub use self::inbox::{
    Arrivals, FeedLine, Feeds, HelloSaid, Inbox, InboxConfig, InboxError, InvalidPromptFeeds, OutOfOrder,
    PromptFeeds, Received,
};
pub use self::lease::Lease;
pub use self::outbox::{FILL_IN_MAX, Outbox, OutboxLimits, ProtocolError, RecentTails, ToSend};
pub use self::replicas::{
    SEAT, Seat, SeatAnswer, SeatConfig, SeatRecord, SeatRequest, SetHistory, Statements,
};
pub use self::resume::{LogView, Resume, judge_hello};
pub use self::roster::{
    Completed, FencedNode, Greeting, HelloRefused, LateNode, Lateness, NodeCounts, NodeState, NodeView,
    PathGap, PathPlace, Recovered, RecoveredNode, Refusal, Roster, RosterEvent, STOOD_STILL_MAX, Word,
};
pub use self::rules::Rule;
pub use self::times::{InvalidTimes, LeaseTimes, PURGE_TARGET};
