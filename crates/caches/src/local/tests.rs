//! A node with the local API and caches that are maps: what is registered, judged, confirmed and refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod node;
mod shelf;

mod checked;
mod confirmed;
mod judged;
mod refused;
mod restarts;
