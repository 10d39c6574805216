//! The wire: what goes in comes out, what is malformed is named, and what is not understood is never narrower.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod forward_compatible;
mod frame;
mod layout;
mod malformed;
mod over_loopback;
mod raw;
mod round_trip;
mod strategies;
