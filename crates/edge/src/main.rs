//! `batoff-edge`: the edge daemon of one node.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use batoff_edge::caches::{self, Locator, Surroundings};
use batoff_edge::config::{EdgeConfig, load};
use batoff_edge::program::{self, Flags, Signals};
use batoff_edge::{Daemon, DaemonConfig, logs, metrics, monitor};
use batoff_index::IndexConfig;
use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Batoff Purge edge daemon.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    match program::parse::<Cli>() {
        Ok(cli) => program::run(run(cli.flags)).into(),
        Err(exit) => exit.into(),
    }
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let config: EdgeConfig = load(&flags.config)?;
    let daemon = DaemonConfig::try_from(&config)?;
    logs::filter(&config.log)?;
    if flags.check {
        return Ok(());
    }
    logs::install(&config.log)?;
    let figures = metrics::install().context("the metrics recorder")?;
    let signals = Signals::listen(flags.exit_with_parent)?;

    let opened = Daemon::open::<Locator>(daemon, IndexConfig::default())?;
    let listener = TcpListener::bind(config.metrics.listen)
        .await
        .with_context(|| format!("cannot listen on metrics.listen = {}", config.metrics.listen))?;
    let address = listener.local_addr()?;
    let caches = caches::open(
        &config.caches,
        Surroundings {
            index: opened.index(),
            fence: opened.fence(),
            policy: config.lease.on_lease_lost.policy(),
            state_dir: config.state.dir.clone(),
            resumes: opened.resumes(),
            stop: signals.stop.clone(),
        },
    )
    .await?;
    let handle = opened.start(caches);
    let monitoring =
        tokio::spawn(monitor::serve(listener, figures, Arc::new(handle.monitor()), signals.stop.clone()));
    if flags.announce {
        program::announce(&json!({ "metrics": address.to_string(), "pid": std::process::id() }))?;
    }

    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = signals.reload.notified() => handle.reload(),
        }
    }
    tracing::info!("stopping");
    handle.shutdown().await;
    monitoring.abort();
    Ok(())
}
