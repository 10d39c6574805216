//! The proxy between a visitor and an origin, with purges applied by hand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod collapsing;
mod confirmations;
mod fence;
mod freshness;
mod listeners;
mod logs;
mod origin;
mod path;
mod phases;
mod purges;
mod races;
mod rig;
mod room;
mod shield;
mod tiers;
mod visitor;
mod visits;
mod withdrawn;
