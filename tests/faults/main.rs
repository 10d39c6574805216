//! Faults: programs killed and frozen, clocks stepped, while purges run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod disk;
mod network;
mod power_cut;
mod restart;
mod turmoil;
mod wall_clock;
mod with_dev;
