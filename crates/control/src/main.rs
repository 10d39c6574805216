//! The control plane of Batoff Purge.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use batoff_control::api::problem::Code;
use batoff_control::clock::Clock;
use batoff_control::config::Config;
use batoff_control::init::{self, Given};
use batoff_control::metrics;
use batoff_control::server::{self, StartError};
use batoff_log::embedded::EmbeddedStore;
use batoff_program::exit::{Exit, Failure, run};
use batoff_program::flags::{self, Flags};
use batoff_program::signals::Signals;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The control plane of Batoff Purge: accepts purges, sends them to every node, and proves when they are done.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Option<Flags>,
    /// The data folder is a copy or a restored backup: make its log one of its own, so that every node starts anew
    #[arg(long)]
    new_log_id: bool,
    /// The master key was lost and another one made: take it for this store's. No token can sign any more; issue them anew
    #[arg(long)]
    new_master_key: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make a data folder with a new master key, a new token for the operator, and the console's first operator
    Init {
        /// The folder; made if it is not there
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Do nothing where that was done already
        #[arg(long)]
        if_missing: bool,
        /// Take a copy of the master key in this file, which somebody else keeps, instead of making one
        #[arg(long, value_name = "FILE")]
        master_key: Option<PathBuf>,
        /// Take a copy of the operator's token in this file, which somebody else keeps, instead of making one
        #[arg(long, value_name = "FILE")]
        admin_token: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = match flags::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    run("batoff-control", async move {
        match (&arguments.command, &arguments.flags) {
            (Some(Command::Init { data_dir, if_missing: true, .. }), _) if init::is_made(data_dir) => Ok(()),
            (Some(Command::Init { data_dir, master_key, admin_token, .. }), _) => {
                let given = Given { master_key: master_key.clone(), admin_token: admin_token.clone() };
                initialize(data_dir, &given)
            }
            (None, Some(flags)) if flags.check => check(&flags.config, &flags.load()?),
            (None, Some(flags)) => serve(flags.load()?, flags, &arguments).await,
            (None, None) => Err(Failure::new(Exit::Usage, "name the configuration with --config FILE")),
        }
    })
}

fn initialize(data_dir: &Path, given: &Given) -> Result<(), Failure> {
    let password = init::init_with(data_dir, given)?;
    let (user, password) = (init::FIRST_OPERATOR, password.as_str());
    let text = format!(
        "console user      {user}\nconsole password  {password}\n(once: it must be changed at the first sign-in; until \
         the first start it stands in {}, too)\n",
        data_dir.join(init::CONSOLE_PASSWORD_FILE).display()
    );
    // Whoever reads nothing finds it in the file.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(())
}

fn check(path: &Path, config: &Config) -> Result<(), Failure> {
    flags::checked(path, &server::check(config)?);
    Ok(())
}

async fn serve(config: Config, flags: &Flags, arguments: &Arguments) -> Result<(), Failure> {
    config.log.install()?;
    let recorder = metrics::install(Code::ALL.map(Code::as_str))
        .map_err(|error| Failure::internal("the metrics recorder", error))?;
    let signals = Signals::listen(flags.exit_with_parent)?;
    if arguments.new_log_id {
        let log_id = EmbeddedStore::adopt_copy(&config.data.dir).map_err(StartError::from)?;
        tracing::warn!(%log_id, "the log in the data folder has a new identity; every node will drop what it holds");
    }
    if arguments.new_master_key {
        server::adopt_master_key(&config, Clock::system()).await?;
        tracing::warn!(
            "the master key in the data folder is this store's from now on; issue every token anew"
        );
    }
    let running = server::start(config, Clock::system(), Some(recorder)).await?;
    let at = running.addresses;
    tracing::info!(
        api = %at.api, admin = %at.admin, console = %at.console, grpc = %at.grpc, metrics = %at.metrics,
        term = running.services.tracker.term().0, "control plane runs"
    );
    if flags.announce {
        flags::announce(&at.announcement())?;
    }
    let supervisor = running.supervised();
    let failed = loop {
        tokio::select! {
            () = signals.stop.cancelled() => break false,
            () = signals.reload.notified() => supervisor.reloading(|| running.reload()),
            () = running.failed() => break true,
        }
    };
    tracing::info!("draining");
    supervisor.stopping();
    running.drain().await;
    if failed { Err(Failure::vital()) } else { Ok(()) }
}
