//! The control plane of Batoff Purge.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use batoff_control::clock::Clock;
use batoff_control::config::{Config, LogConfig, LogFormat};
use batoff_control::server::{self, Running, StartError};
use batoff_control::{init, metrics};
use batoff_log::embedded::{EmbeddedStore, OpenError};
use batoff_program::logs;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong usage, or a configuration that cannot be used.
const EXIT_USAGE: u8 = 64;

/// Something that should not happen.
const EXIT_INTERNAL: u8 = 70;

/// May work later, as it is: another process holds the data folder or an address.
const EXIT_TEMPORARY: u8 = 75;

/// The control plane of Batoff Purge: accepts purges, sends them to every node, and proves when they are done.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration (TOML); BATOFF_<SECTION>_<KEY> in the environment overrides it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration with the files that it names, say what was checked, and exit
    #[arg(long)]
    check: bool,
    /// The data folder is a copy or a restored backup: make its log one of its own, so that every node starts anew
    #[arg(long)]
    new_log_id: bool,
    /// The master key was lost and another one made: take it for this store's. No token can sign any more; issue them anew
    #[arg(long)]
    new_master_key: bool,
    /// Once everything listens, print one line of JSON with the addresses to standard output
    #[arg(long)]
    announce: bool,
    /// Drain and exit when standard input ends, as it does when the parent dies
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make a data folder with a new master key and a new token for the operator
    Init {
        /// The folder; made if it is not there
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // An error says that a provider is installed already, which is as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            let _ = writeln!(std::io::stderr(), "batoff-control: {message}");
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(Command::Init { data_dir }) = arguments.command {
        return init::init(&data_dir).map_err(|error| (secrets_exit(&error), error.to_string()));
    }
    let Some(path) = &arguments.config else {
        return Err((EXIT_USAGE, "name the configuration with --config FILE".into()));
    };
    let config = Config::load(path, std::env::vars()).map_err(|error| (EXIT_USAGE, error.to_string()))?;
    if arguments.check {
        let checked = server::check(&config).map_err(exit_of)?;
        let text = format!("{} is fine\n  {}\n", path.display(), checked.join("\n  "));
        // Whoever does not read it asked for the exit code alone.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return Ok(());
    }
    start_logging(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| (EXIT_INTERNAL, format!("the runtime does not start: {error}")))?;
    let outcome = runtime.block_on(serve(config, &arguments));
    // What still blocks is the store's business, which is safe at any instant.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    logs::flush(std::time::Duration::from_millis(500));
    outcome
}

fn start_logging(config: &LogConfig) {
    let filter = logs::EnvFilter::try_new(&config.level).unwrap_or_default();
    let format = match config.format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    logs::install(filter, format);
}

async fn serve(config: Config, arguments: &Arguments) -> Result<(), Failure> {
    let recorder = metrics::install().map_err(|error| (EXIT_INTERNAL, error.to_string()))?;
    // Before anything is bound, so that no signal kills us half way.
    let broken = |error: std::io::Error| (EXIT_INTERNAL, format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(broken)?;

    if arguments.new_log_id {
        let log_id = EmbeddedStore::adopt_copy(&config.data.dir)
            .map_err(|error| (open_exit(&error), error.to_string()))?;
        tracing::warn!(%log_id, "the log in the data folder has a new identity; every node will drop what it holds");
    }
    if arguments.new_master_key {
        server::adopt_master_key(&config, Clock::system()).await.map_err(exit_of)?;
        tracing::warn!(
            "the master key in the data folder is this store's from now on; issue every token anew"
        );
    }
    let running = server::start(config, Clock::system(), Some(recorder)).await.map_err(exit_of)?;
    tracing::info!(
        api = %running.addresses.api, admin = %running.addresses.admin, grpc = %running.addresses.grpc,
        metrics = %running.addresses.metrics, term = running.services.tracker.term().0, "control plane runs"
    );
    if arguments.announce {
        announce(&running).map_err(|error| (EXIT_INTERNAL, format!("standard output: {error}")))?;
    }
    let parent = parent_gone(arguments.exit_with_parent);
    tokio::pin!(parent);
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            () = &mut parent => break false,
            () = running.failed() => break true,
            _ = hangup.recv() => running.reload(),
        }
    };
    tracing::info!("draining");
    running.drain().await;
    if failed {
        return Err((EXIT_INTERNAL, "stopped because of the error logged above".into()));
    }
    Ok(())
}

fn announce(running: &Running) -> std::io::Result<()> {
    #[derive(serde::Serialize)]
    struct Announcement {
        #[serde(flatten)]
        addresses: server::Addresses,
        pid: u32,
    }
    let line = Announcement { addresses: running.addresses, pid: std::process::id() };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush()
}

/// Ends when standard input does; never, when nobody asked.
async fn parent_gone(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own: a read that never returns must not hold up the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(gone);
    });
    let _ = told.await;
}

fn exit_of(error: StartError) -> Failure {
    let code = match &error {
        StartError::Secrets(error) => secrets_exit(error),
        StartError::Tls { .. } => EXIT_USAGE,
        StartError::Listen { error, .. } => match error.kind() {
            std::io::ErrorKind::AddrInUse => EXIT_TEMPORARY,
            _ => EXIT_USAGE,
        },
        StartError::Open(error) => open_exit(error),
        StartError::Store(error) if error.retry_after().is_some() => EXIT_TEMPORARY,
        StartError::Store(_) => EXIT_INTERNAL,
    };
    (code, error.to_string())
}

/// A full disk is nothing that another command line would help.
fn secrets_exit(error: &init::InitError) -> u8 {
    match error {
        init::InitError::Io { error, .. } if is_full(error) => EXIT_TEMPORARY,
        _ => EXIT_USAGE,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn open_exit(error: &OpenError) -> u8 {
    match error {
        OpenError::Locked { .. } => EXIT_TEMPORARY,
        OpenError::Corrupt { .. } => EXIT_INTERNAL,
        OpenError::Io { source, .. } if is_full(source) => EXIT_TEMPORARY,
        OpenError::Io { .. }
        | OpenError::Foreign { .. }
        | OpenError::Format { .. }
        | OpenError::Copy { .. }
        | OpenError::Lost { .. } => EXIT_USAGE,
    }
}
