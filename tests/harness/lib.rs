//! The harness: starts the real programs on free loopback ports in a temporary directory, talks to them as a customer,
//! a visitor or an operator would, and ends them by pid.
//!
//! It signs requests by itself rather than through the SDK, so that a mistake in the SDK's signing cannot hide behind
//! the same mistake here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness that cannot go on fails its test")]

mod dev;
mod dice;
mod http;
mod isolated;
mod ledger;
mod members;
mod network;
mod origin;
mod place;
mod program;
mod purge_log;
mod recorded_disk;
mod recorder;
mod service;
mod signed;
mod system;
mod visitor;

pub use dev::{Dev, DevOptions, Node};
pub use dice::{Dice, fault_time};
pub use http::http;
pub use isolated::{isolated, mounted, run, unmounted};
pub use ledger::{Ledger, Promise};
pub use network::{Cut, Network};
pub use origin::Origin;
pub use place::{CONTROL_NAMESPACE, Place, address, node_namespace};
pub use program::{Launch, Program, binary, free_port, kill, programs, scratch, scratch_on_disk};
pub use purge_log::{read_log, read_log_in_etcd, try_read_log};
pub use recorded_disk::{Loss, RecordedDisk};
pub use recorder::Recorder;
pub use service::Service;
pub use signed::{Customer, Reply};
pub use system::{Edge, HOST, SITE, System, SystemPlan, readiness_at};
pub use visitor::{Answer, Visitor};

use std::time::Duration;

/// How long any wait of the tests may last before it counts as failed. Generous: the machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Asks again and again until there is an answer.
///
/// # Panics
/// With `what` when [`PATIENCE`] is over.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started = std::time::Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "still waiting after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
