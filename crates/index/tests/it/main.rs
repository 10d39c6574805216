//! The index, seen from outside: each sentence of its documentation as a story, sequences of operations against a
//! naive model, and threads against each other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod cache_tag;
mod claims;
mod corpus;
mod fixture;
mod model;
mod race;
