//! Several control planes beside one log, without a leader: which of them count ([`ReplicaSet`](batoff_types::ReplicaSet), [`SetHistory`]), which
//! process may act for which of them ([`Seat`]), and what is completed when each states what it knows ([`Statements`]).
//!
//! Each replica follows the log, has a [`crate::Roster`] with leases of its own, and publishes one number, its watermark
//! ([`crate::Roster::statement`]): "for every record before this place, no lease of mine, now or ever, is held by a node
//! that has not applied it, and every available node has confirmed it to me". That never becomes untrue, whatever
//! happens to the replica that said it. A node serves while leases of a majority of the set run; so a record is completed
//! when a majority has stated it, since any two majorities share a replica.
//!
//! A control plane that is alone is a set of one: a majority of one is one, and everything is as without others.

mod seat;
mod sets;
mod statements;

pub use self::seat::{SEAT, Seat, SeatAnswer, SeatConfig, SeatRecord, SeatRequest};
pub use self::sets::SetHistory;
pub(crate) use self::sets::reached;
pub use self::statements::Statements;
