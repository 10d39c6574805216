//! Several control planes beside one etcd: what they cost, and what is noticed when one of them, or etcd's leader, is lost.
//! Real programs over three members of etcd, in turns within one run, so that ratios say something on a machine with others.
//!
//! ```sh
//! cargo build --release -p batoff-control && export BATOFF_BIN_DIR=$PWD/target/release
//! cargo bench -p batoff-benches --bench replicas               # everything; --quick: once each, for some minutes
//! cargo bench -p batoff-benches --bench replicas -- --only fail-over --rounds 5
//! ```
//! Logs and members are in `TMPDIR`; without one in memory, where a flush costs nothing. Needs etcd (`apt-get install
//! etcd-server`).

#[path = "replicas/accept.rs"]
mod accept;
#[path = "replicas/arguments.rs"]
mod arguments;
#[path = "replicas/completion.rs"]
mod completion;
#[path = "replicas/fail_over.rs"]
mod fail_over;
#[path = "replicas/nodes.rs"]
mod nodes;
#[path = "replicas/offered.rs"]
mod offered;
#[path = "replicas/planes.rs"]
mod planes;
#[path = "replicas/wire.rs"]
mod wire;

use arguments::{Arguments, Part};
use batoff_log_etcd::testing::{EtcdServers, EtcdSettings};

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if arguments.first().is_some_and(|first| first == nodes::NODES) {
        return runtime.block_on(nodes::run(&arguments.split_off(1)));
    }
    let arguments = Arguments::parse(arguments.into_iter())?;
    batoff_program::descriptors::raise();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before: {}", load.trim());
    runtime.block_on(async {
        let dir = std::env::var_os("TMPDIR").map(std::path::PathBuf::from);
        let mut members = EtcdServers::start_with(3, EtcdSettings { dir, ..EtcdSettings::default() }).await;
        for part in &arguments.parts {
            match part {
                Part::Accept => accept::measure(&members, &arguments).await?,
                Part::Completion => completion::measure(&members, &arguments).await?,
                Part::FailOver => fail_over::measure(&mut members, &arguments).await?,
            }
        }
        Ok(())
    })
}

/// The middle one; of an even number the higher of both.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let (lower, upper) = (all.get(all.len().saturating_sub(1) / 2), all.get(all.len() / 2));
    lower.zip(upper).map_or(f64::NAN, |(lower, upper)| f64::midpoint(*lower, *upper))
}
