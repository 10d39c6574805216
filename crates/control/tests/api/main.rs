//! The customers' API over a real socket: signed requests against an in-process control plane with a real store in a
//! temporary folder. The wall clock is the tests'.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in tests a failure is the message")]

mod apart;
mod assembly;
mod audit;
mod checks;
mod client;
#[path = "../../src/tests/described.rs"]
mod described;
mod description;
mod early;
mod errors;
mod fake_node;
mod faulty_store;
mod follow;
mod lines;
mod nodes;
mod overload;
mod quotas;
mod replays;
mod rig;
mod signatures;
mod submissions;
mod tokens;
