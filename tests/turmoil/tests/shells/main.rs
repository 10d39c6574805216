//! The real shells over a simulated network: tonic's server with everything behind it, and the daemon's stream, in virtual
//! time with partitions, holds and crashes.
//!
//! Real here: the gRPC server and client, the tracker, the store on its disk, the daemon with its state directory. Not
//! real: TCP (turmoil's, which never sends a lost segment again, so a cut connection is dead without anybody being told),
//! time, and TLS, which is left out. The store takes no virtual time (`store.rs`). Reconnect delays and ids come from the
//! operating system's randomness, so a run does not replay exactly; each story must hold whatever they are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod control;
mod network;
mod node;
mod store;
mod stories;
mod world;

use std::cell::Cell;
use std::time::Duration;

use batoff_types::Moment;

thread_local! {
    /// For those who ask from outside of any host.
    static LAST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Virtual time since the simulation began.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or(LAST.get())
}

/// A step was made.
pub fn set_now(now: Duration) {
    LAST.set(now);
}

/// The daemon's `CLOCK_BOOTTIME`, which does not begin at zero.
pub fn virtual_boottime() {
    batoff_edge::show_on_this_thread(|| Moment::from_micros(1_000_000 + now().as_micros() as u64));
}
