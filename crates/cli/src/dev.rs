//! `batoff dev`: the whole system on loopback, as real processes under one supervisor.

mod announcement;
mod child;
mod config;
mod demo;
mod etcd;
mod folder;
mod http;
mod origin;
mod plan;
mod provision;
mod ready;
mod start;
mod supervisor;
mod tail;
mod welcome;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::folder::Folder;
use self::plan::Plan;
use self::start::System;
use crate::exit::Failure;
use crate::output;

/// Edge nodes that one machine is asked to run at most; more would measure the machine, not the system.
const POPS_MAX: i64 = 64;

/// Control planes at most, and members of etcd: with more of these a commit only takes longer.
const REPLICAS_MAX: i64 = 5;

/// `batoff dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Print one line of JSON when everything is ready, and nothing else on standard output
    #[arg(long)]
    pub json: bool,
    /// First of the ports; 0 takes free ones
    #[arg(long, default_value_t = 8080, value_name = "N")]
    pub base_port: u16,
    /// How many PoPs, of one node each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=POPS_MAX))]
    pub pops: u16,
    /// How many control planes, over as many members of etcd when more than one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=REPLICAS_MAX))]
    pub replicas: u16,
    /// Keep all data in this folder, which may exist and hold other files [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Run one purge of each kind, show HIT → purge → MISS on each PoP, and exit 0 or 1; with several replicas, kill some
    #[arg(long)]
    pub demo: bool,
    /// Start a program again when it dies, on the same addresses with the same data
    #[arg(long)]
    pub keep: bool,
    /// Show the programs' logs on standard error, too
    #[arg(long, short)]
    pub verbose: bool,
}

/// Everything has ended this long after a signal; what has not is killed. Eight seconds are promised.
const STOP_DEADLINE: Duration = Duration::from_secs(7);

/// `batoff dev`
pub async fn run(args: DevArgs) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let folder = Folder::open(args.data_dir.as_deref())?;
    let plan = Plan::new(args.base_port, args.pops, args.replicas)?;
    let system = System::new(&args, folder, plan);
    let outcome = tokio::select! {
        outcome = serve(&args, &system, &stop) => outcome,
        () = stop.cancelled() => Ok(()),
    };
    system.stop(STOP_DEADLINE).await;
    outcome
}

async fn serve(args: &DevArgs, system: &System, stop: &CancellationToken) -> Result<(), Failure> {
    let running = system.start().await?;
    if args.json {
        output::json(&running)?;
    }
    if args.demo {
        demo::run(&running, args.json).await?;
        return demo::kills::run(&running, args.json).await;
    }
    if !args.json {
        output::text(&welcome::text(&running, system.folder()))?;
    }
    stop.cancelled().await;
    output::note("ending …");
    Ok(())
}

/// Cancelled by ctrl-C, by SIGTERM, and when the terminal goes away.
fn stop_signal() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut heard = signal(kind).map_err(|e| Failure::Internal(format!("no signal handler: {e}")))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            heard.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}
