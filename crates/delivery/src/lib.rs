//! Who has what, and who may serve: both ends of the delivery protocol as state machines.
//!
//! - [`Outbox`]: the control plane's end of one node's stream, a position and nothing else.
//! - [`Inbox`]: the node's end: records in order, cursor, acks, heartbeats, and the node's [`Lease`].
//! - [`Roster`]: all registered nodes with cursors and leases, and the watermark that says what is completed.
//! - [`judge_hello`]: where a stream resumes, or why the node must drop everything.
//!
//! **Invariants, by what is absent:** no socket, no clock, no async, no protobuf, no disk. `now` is an argument;
//! `handle_*` takes news in, `poll_*` takes work out.
//!
//! The invariants that the asserts name:
//!
//! - **I1** once a purge is completed, no node under a valid lease has a cursor below it;
//! - **I3** cursors and the watermark never go back, never skip;
//! - **I5** memory is bounded by configuration.

mod inbox;
mod lease;
mod outbox;
mod resume;
mod roster;
mod times;

pub use self::inbox::{Inbox, InboxConfig, InboxError, OutOfOrder, PROTOCOL_VERSION, Received};
pub use self::lease::Lease;
pub use self::outbox::{Outbox, OutboxLimits, ProtocolError, ToSend};
pub use self::resume::{LogView, Resume, judge_hello};
#[cfg(feature = "mutations")]
pub use self::roster::rules::Rule;
pub use self::roster::{
    Completed, Greeting, HelloRefused, LateNode, Lateness, NodeCounts, NodeState, NodeView, PathGap,
    PathPlace, Recovered, RecoveredNode, Refusal, Roster, RosterEvent, STOOD_STILL_MAX,
};
pub use self::times::{InvalidTimes, LeaseTimes, PURGE_TARGET};
