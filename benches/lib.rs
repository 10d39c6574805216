//! Speed and memory of Batoff Purge.
//!
//! The machines that this runs on are shared and noisy, so each figure stands beside another one of the same run. Build the
//! programs first: `cargo build --release --bins && BATOFF_BIN_DIR=target/release cargo bench -p batoff-benches`.

mod clock;
mod control;
mod load;
mod node;
mod puts;
mod usage;

pub use clock::now_ns;
pub use control::Control;
pub use load::{Caller, Load, prepared};
pub use node::follow;
pub use puts::put_one;
pub use usage::{cpu_seconds, machine_seconds, resident_mb, thread_cpu_seconds};

use hdrhistogram::Histogram;

/// A histogram of microseconds up to a minute.
pub fn micros() -> Histogram<u64> {
    // Three digits between 1 µs and a minute is a constant that the crate accepts.
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Median and 99th percentile in milliseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), histogram.max() as f64 / 1_000.0)
}
