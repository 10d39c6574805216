//! The control plane of Batoff Purge.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use batoff_control::api::problem::Code;
use batoff_control::backup::Restored;
use batoff_control::clock::{Clock, rfc3339};
use batoff_control::config::Config;
use batoff_control::init::{self, Given};
use batoff_control::migrate::{self, MigrateProgress, Migrated};
use batoff_control::server::{self, StartError};
use batoff_control::{backup, doctor, engine, metrics};
use batoff_log::moving::MovedCounts;
use batoff_program::exit::{Exit, Failure, run};
use batoff_program::flags::{self, DoctorFlags, Flags};
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
    /// The data folder, or what is in etcd, is a copy or a restored backup: make its log one of its own, so that every node starts anew
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
    /// Copy a data folder into a new folder while the control plane runs, and verify the copy
    ///
    /// Store, master key and operator's token: keep it where nobody else can read it.
    Backup {
        /// The data folder
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The folder that the backup becomes; must not be there
        #[arg(value_name = "TARGET")]
        target: PathBuf,
    },
    /// Look at all that a control plane stands on, and say what to change; changes nothing, works beside one that runs
    ///
    /// Exits with 0 when all is fine, with 1 when there are warnings, with 2 when there are errors.
    Doctor(DoctorFlags),
    /// Take the purge log from the data folder into etcd, or from etcd into a new data folder; the control plane must be stopped
    ///
    /// The log stays the same: nodes go on where they are, nothing is flushed, and no purge is lost. What was written is read
    /// again and compared, record by record, before the log counts at its new place, and where it was it is sealed: no control
    /// plane starts there any more. A run that was interrupted is repeated.
    Migrate {
        /// Where to
        #[arg(long, value_enum, required_unless_present = "undo")]
        to: Option<MoveTarget>,
        /// The configuration (TOML) with which the control plane runs on etcd: `store.engine = "etcd"`, and the data folder that
        /// the log leaves, or has left
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Override a key of the file and of the environment; may be given several times
        #[arg(long, value_name = "SECTION.KEY=VALUE")]
        set: Vec<String>,
        /// The new data folder, for `--to embedded`; empty or not there
        #[arg(long, value_name = "DIR", required_if_eq("to", "embedded"))]
        data_dir: Option<PathBuf>,
        /// Take a log that was moved to etcd back into its data folder, as long as nothing was written in etcd since
        #[arg(long, conflicts_with_all = ["to", "data_dir"])]
        undo: bool,
    },
    /// Make a data folder of a backup, verify it, and walk through its audit log
    ///
    /// The restored log gets a new identity, because nobody knows what the old one accepted after the backup: every node
    /// drops all that it has cached and starts anew, and purges stay `partial` until each node that the backup knows has
    /// connected.
    Restore {
        /// The folder that `backup` has written
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
        /// The data folder to be made; empty or not there
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Say that every node may drop what it holds
        #[arg(long)]
        new_log_id: bool,
    },
}

/// An engine of the purge log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MoveTarget {
    /// An etcd cluster
    Etcd,
    /// A data folder
    Embedded,
}

fn main() -> ExitCode {
    let arguments = match flags::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    if let Some(Command::Doctor(asked)) = &arguments.command {
        return diagnose(asked);
    }
    run("batoff-control", async move {
        match (&arguments.command, &arguments.flags) {
            (Some(Command::Init { data_dir, if_missing: true, .. }), _) if init::is_made(data_dir) => Ok(()),
            (Some(Command::Init { data_dir, master_key, admin_token, .. }), _) => {
                let given = Given { master_key: master_key.clone(), admin_token: admin_token.clone() };
                initialize(data_dir, &given)
            }
            (Some(Command::Backup { data_dir, target }), _) => back_up(data_dir, target).await,
            (Some(Command::Restore { source, data_dir, new_log_id }), _) => {
                restore(source, data_dir, *new_log_id).await
            }
            (Some(Command::Migrate { to, config, set, data_dir, .. }), _) => {
                let config: Config = batoff_program::config::load(config, set)?;
                match (to, data_dir) {
                    (Some(MoveTarget::Embedded), Some(folder)) => move_back(&config, folder).await,
                    (Some(_), _) => move_to_etcd(&config).await,
                    (None, _) => take_back(&config).await,
                }
            }
            (Some(Command::Doctor(_)), _) => Ok(()),
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

fn diagnose(asked: &DoctorFlags) -> ExitCode {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    batoff_program::doctor::tell(&doctor::examine(&asked.config, &asked.set), asked.json)
}

async fn back_up(data_dir: &Path, target: &Path) -> Result<(), Failure> {
    let (from, to) = (data_dir.to_owned(), target.to_owned());
    let taking = tokio::task::spawn_blocking(move || backup::take(&from, &to, Clock::system()));
    let summary = taking.await.map_err(|error| Failure::internal("the backup", error))??;
    flags::print(&format!(
        "{}\n  log      {}\n  records  {} to {}, {} in all\n  pairs    {}\n  taken    {}\n  verified: every checksum, and that \
         nothing is missing between\n",
        target.display(),
        summary.log_id,
        summary.first,
        summary.tail,
        summary.records,
        summary.pairs,
        rfc3339(summary.taken_at),
    ))
}

async fn restore(source: &Path, data_dir: &Path, new_log_id: bool) -> Result<(), Failure> {
    if !new_log_id {
        return Err(Failure::new(
            Exit::Usage,
            "nothing was restored: the log will have a new identity, because nobody knows what the old one accepted after \
             the backup. Every node drops all that it has cached and starts anew, and purges stay `partial` until each node \
             that the backup knows has connected. If that is to be, repeat with --new-log-id",
        ));
    }
    let Restored { summary, log_id, audit } = backup::restore(source, data_dir, Clock::system()).await?;
    flags::print(&format!(
        "{}\n  log      {log_id}, before {}\n  records  {} to {}\n  pairs    {}\n  audit    {} entries, whole; head {}\n  \
         the next record will be {}\n",
        data_dir.display(),
        summary.log_id,
        summary.first,
        summary.tail,
        summary.pairs,
        audit.entries,
        audit.head,
        summary.tail.next(),
    ))
}

/// Says on standard error how far a migration is, now and then.
fn teller() -> impl FnMut(MigrateProgress) + Send {
    let mut said: Option<std::time::Instant> = None;
    move |progress| {
        let line = match progress {
            MigrateProgress::Copying => "copying the log".to_owned(),
            MigrateProgress::Waiting => {
                "taking the seat: an earlier control plane may have to be waited for".to_owned()
            }
            MigrateProgress::Comparing => "reading it again and comparing".to_owned(),
            MigrateProgress::Writing(MovedCounts { records, tasks, pairs, .. }) => {
                if said.is_some_and(|said| said.elapsed() < std::time::Duration::from_secs(2)) {
                    return;
                }
                said = Some(std::time::Instant::now());
                format!("written so far: {records} records, {tasks} tasks of trimmed ones, {pairs} pairs")
            }
        };
        // Whoever reads nothing need not.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    }
}

fn moved(migrated: &Migrated, place: &str, next: &str) -> Result<(), Failure> {
    let counted = migrated.counts.map_or("  nothing had to be copied\n".to_owned(), |counts| {
        let MovedCounts { records, tasks, keys, pairs } = counts;
        format!(
            "  records  {records}\n  tasks    {tasks}\n  keys     {keys} of requests that may be repeated\n  pairs    {pairs}\n  \
             compared: each of them, as it was read again\n"
        )
    });
    flags::print(&format!("{place}\n  log      {}\n{counted}  next: {next}\n", migrated.log_id))
}

async fn move_to_etcd(config: &Config) -> Result<(), Failure> {
    let migrated = migrate::to_etcd(config, &Clock::system(), &mut teller()).await?;
    let next = format!(
        "start the control plane with this configuration (store.engine = \"etcd\"). {} is sealed, and needed for its secrets",
        config.data.dir.display()
    );
    moved(&migrated, "the purge log is in etcd", &next)
}

async fn move_back(config: &Config, folder: &Path) -> Result<(), Failure> {
    let migrated = migrate::to_embedded(config, folder, &Clock::system(), &mut teller()).await?;
    // The programs' configuration names absolute paths, wherever they are started from.
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let next = format!(
        "set data.dir = {:?}, remove [store] and [replica] or set store.engine = \"embedded\" without [store.etcd], and start \
         the control plane. The log in etcd is sealed",
        folder.display().to_string()
    );
    moved(&migrated, &format!("the purge log is in {}", folder.display()), &next)
}

async fn take_back(config: &Config) -> Result<(), Failure> {
    let migrated = migrate::undo(config, &Clock::system()).await?;
    let next = "set store.engine = \"embedded\" without [store.etcd], and start the control plane";
    moved(&migrated, &format!("the purge log is in {}", config.data.dir.display()), next)
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
        let adopted = engine::adopt_copy(&config, batoff_log::system_clock()).await;
        let log_id = adopted.map_err(StartError::from)?;
        tracing::warn!(%log_id, "the purge log has a new identity; every node will drop what it holds");
    }
    if arguments.new_master_key {
        server::adopt_master_key(&config, Clock::system()).await?;
        tracing::warn!(
            "the master key in the data folder is this store's from now on; issue every token anew"
        );
    }
    // It may have to wait for a predecessor.
    let running = tokio::select! {
        running = server::start(config, Clock::system(), Some(recorder)) => running?,
        () = signals.stop.cancelled() => return Ok(()),
    };
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
