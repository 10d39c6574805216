//! `batoff-edge`: the edge daemon of one node.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use batoff_caches::config::EdgeConfig;
use batoff_caches::{Locator, Surroundings, check};
use batoff_edge::config::load;
use batoff_edge::program::{self, Coded, Exit, Flags, Signals};
use batoff_edge::{Daemon, DaemonConfig, certs, logs, metrics, monitor};
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
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show on the running set-up that a cache is configured as the daemon needs it.
    Check {
        #[command(subcommand)]
        cache: check::Kind,
    },
}

fn main() -> ExitCode {
    match program::parse::<Cli>() {
        Ok(Cli { flags, command: None }) => program::run(run(flags)).into(),
        Ok(Cli { flags, command: Some(Command::Check { cache }) }) => {
            program::run(look_at(flags, cache)).into()
        }
        Err(exit) => exit.into(),
    }
}

async fn look_at(flags: Flags, cache: check::Kind) -> anyhow::Result<()> {
    let config: EdgeConfig = load(&flags.config)?;
    let usage = |error| Coded::new(Exit::Usage, error);
    let report = check::run(&cache, &config).await.map_err(usage)?;
    program::print(&report)?;
    report.verdict().map_err(usage)?;
    Ok(())
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let config: EdgeConfig = load(&flags.config)?;
    let daemon = DaemonConfig::try_from(&config)?;
    logs::filter(&config.log)?;
    if flags.check {
        certs::check(&daemon.control)?;
        let mut lines = program::checked_daemon(&daemon, &config.log);
        lines.push(format!("metrics {}", config.metrics.listen));
        program::checked(&flags.config, &lines);
        return Ok(());
    }
    logs::install(&config.log)?;
    program::end_on_panic();
    let figures = metrics::install("batoff-edge").context("the metrics recorder")?;
    let signals = Signals::listen(flags.exit_with_parent)?;

    let opened = {
        let keys_have_ports = config.caches.keys_have_ports();
        Daemon::open::<Locator>(daemon, IndexConfig { keys_have_ports, ..IndexConfig::default() })?
    };
    let listener = TcpListener::bind(config.metrics.listen)
        .await
        .with_context(|| format!("cannot listen on metrics.listen = {}", config.metrics.listen))?;
    let address = listener.local_addr()?;
    let caches = batoff_caches::open(
        &config.caches,
        Surroundings {
            index: opened.index(),
            fence: opened.fence(),
            path: opened.path(),
            policy: config.lease.on_lease_lost.policy(),
            state_dir: config.state.dir.clone(),
            provenance: opened.provenance(),
            resumes: opened.resumes(),
            stop: signals.stop.clone(),
        },
    )
    .await
    .map_err(|error| Coded::new(if error.is_usage() { Exit::Usage } else { Exit::Temporary }, error))?;
    let handle = opened.start(caches);
    let vital = handle.vital();
    let monitoring = monitor::serve(listener, figures, Arc::new(handle.monitor()), signals.stop.clone());
    let monitoring = tokio::spawn(vital.watch("monitoring", &signals.stop, monitoring));
    if flags.announce {
        program::announce(&json!({ "metrics": address.to_string(), "pid": std::process::id() }))?;
    }

    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = signals.reload.notified() => handle.reload(),
            () = vital.failed() => anyhow::bail!("stopped because of the error logged above"),
        }
    }
    tracing::info!("stopping");
    handle.shutdown().await;
    monitoring.abort();
    Ok(())
}
