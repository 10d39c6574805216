//! `batoff-edge`: the edge daemon of one node.

use std::process::ExitCode;
use std::sync::Arc;

use batoff_caches::config::EdgeConfig;
use batoff_caches::kinds::CacheKind;
use batoff_caches::{Locator, Surroundings, doctor};
use batoff_edge::{DaemonConfig, certs};
use batoff_index::IndexConfig;
use batoff_program::config::ConfigError;
use batoff_program::exit::{Exit, Failure, end_on_panic, run};
use batoff_program::flags::{self, DoctorFlags, Flags};
use batoff_program::listen::bind;
use batoff_program::monitor;
use batoff_program::monitored::Monitored;
use batoff_program::signals::Signals;
use batoff_program::supervisor::Supervisor;
use batoff_program::traces::{Exporter, Traces};
use clap::Parser;
use serde_json::json;
use tokio::runtime::Handle;

const PROGRAM: &str = "batoff-edge";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Batoff Purge edge daemon.
#[derive(Parser)]
#[command(name = PROGRAM, version, subcommand_negates_reqs = true)]
struct Cli {
    #[command(flatten)]
    flags: Option<Flags>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show on the running set-up that a cache is configured as the daemon needs it.
    Check {
        #[command(subcommand)]
        cache: CacheKind,
    },
    /// Look at all that a node stands on, and say what to change; changes nothing, works beside a daemon that runs
    ///
    /// Exits with 0 when all is fine, with 1 when there are warnings, with 2 when there are errors.
    Doctor(DoctorFlags),
}

fn main() -> ExitCode {
    match flags::parse::<Cli>() {
        Ok(Cli { flags: None, command: Some(Command::Doctor(asked)) }) => diagnose(&asked),
        Ok(Cli { flags: Some(_), command: Some(Command::Doctor(_)) }) => {
            refused("what the doctor is to look at stands behind the word: batoff-edge doctor --config FILE")
        }
        Ok(Cli { flags: None, .. }) => refused("name the configuration with --config FILE"),
        Ok(Cli { flags: Some(flags), command: Some(Command::Check { cache }) }) => {
            run(PROGRAM, look_at(flags, cache))
        }
        Ok(Cli { flags: Some(flags), command: None }) if flags.check => {
            run(PROGRAM, async move { check(&flags) })
        }
        Ok(Cli { flags: Some(flags), command: None }) => run(PROGRAM, serve(flags)),
        Err(exit) => exit,
    }
}

fn refused(why: &'static str) -> ExitCode {
    run(PROGRAM, async move { Err(Failure::new(Exit::Usage, why)) })
}

/// Its exit code is the report's, unless nothing could be looked at.
fn diagnose(asked: &DoctorFlags) -> ExitCode {
    let told = std::cell::Cell::new(None);
    let ended = run(PROGRAM, async {
        told.set(Some(batoff_program::doctor::tell(
            &doctor::examine(&asked.config, &asked.set).await,
            asked.json,
        )));
        Ok(())
    });
    told.take().unwrap_or(ended)
}

async fn look_at(flags: Flags, cache: CacheKind) -> Result<(), Failure> {
    let config: EdgeConfig = flags.load()?;
    let report = config.caches.check(&cache, &config.beside_caches()).await?;
    flags::print(&report)?;
    Ok(report.verdict()?)
}

fn check(flags: &Flags) -> Result<(), Failure> {
    let config: EdgeConfig = flags.load()?;
    let mut lines = certs::checked(&DaemonConfig::try_from(&config)?)?;
    exporter(&config)?;
    lines.push(format!("log     {}", config.log.level));
    lines.push(format!("metrics {}", config.metrics.listen));
    lines.push(format!("traces  {}", config.traces.described()));
    flags::checked(&flags.config, &lines);
    Ok(())
}

/// What tells a collector of traced purges, if one is configured.
fn exporter(config: &EdgeConfig) -> Result<(Traces, Exporter), ConfigError> {
    let node = config.node.name()?.to_string();
    Exporter::prepare(&config.traces, PROGRAM, env!("CARGO_PKG_VERSION"), &node)
}

async fn serve(flags: Flags) -> Result<(), Failure> {
    let config: EdgeConfig = flags.load()?;
    let daemon = DaemonConfig::try_from(&config)?;
    let (traces, exporter) = exporter(&config)?;
    config.log.install()?;
    end_on_panic();
    let figures = batoff_program::figures::install(&[])
        .map_err(|error| Failure::internal("the metrics recorder", error))?;
    let signals = Signals::listen(flags.exit_with_parent)?;
    exporter.run_on(&Handle::current());

    let opened = {
        let keys_have_ports = config.caches.keys_have_ports();
        DaemonConfig::open::<Locator>(daemon, IndexConfig { keys_have_ports, ..IndexConfig::default() })?
    };
    let listener = bind("metrics.listen", config.metrics.listen).await?;
    let address = listener.local_addr().unwrap_or(config.metrics.listen);
    let around = Surroundings {
        index: opened.index(),
        fence: opened.fence(),
        path: opened.path(),
        overflow: opened.overflow(),
        policy: config.lease.on_lease_lost.policy(),
        state_dir: config.state.dir.clone(),
        provenance: opened.provenance(),
        resumes: opened.resumes(),
        stop: signals.stop.clone(),
    };
    let caches = config.caches.open(around).await?;
    let handle = opened.tell(traces).start(caches);
    let vital = handle.vital();
    let monitored: Arc<dyn Monitored> = Arc::new(handle.monitor());
    let router = monitor::router(PROGRAM, Some(figures), Arc::clone(&monitored));
    let monitoring = monitor::serve(listener, monitor::gate(), router, signals.stop.clone());
    let monitoring = tokio::spawn(vital.watch("monitoring", &signals.stop, monitoring));
    if flags.announce {
        flags::announce(&json!({ "metrics": address, "pid": std::process::id() }))?;
    }
    // Without a control plane, too: what a node may do then is its lease's to say, and no reason to start it again.
    let supervisor = Supervisor::ready(vital.clone(), &[], monitored);
    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = signals.reload.notified() => supervisor.reloading(|| {
                handle.reload();
                exporter.reload();
            }),
            () = vital.failed() => return Err(Failure::vital()),
        }
    }
    tracing::info!("stopping");
    supervisor.stopping();
    handle.shutdown().await;
    exporter.finish().await;
    monitoring.abort();
    Ok(())
}
