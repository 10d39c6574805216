//! What every daemon on a node does alike: flags, exit codes, the line that announces it, and when to stop.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use batoff_program::{descriptors, logs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::StartError;
use crate::config::ConfigError;

/// The flags of a daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The configuration file (TOML). Each key can be overridden by `BATOFF_{SECTION}_{KEY}`.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration with the certificates that it names, say what was checked, and exit.
    #[arg(long)]
    pub check: bool,
    /// Print one line of JSON with the bound addresses to stdout when listening.
    #[arg(long)]
    pub announce: bool,
    /// Drain and exit when stdin is closed, as it is when the parent dies.
    #[arg(long)]
    pub exit_with_parent: bool,
}

/// Why a program ends, as its exit code says it (sysexits.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Done,
    /// The configuration or the command line is wrong (64).
    Usage,
    /// A defect of ours (70).
    Internal,
    /// Something outside is not there now; starting again may help (75).
    Temporary,
}

/// For log lines that are still on their way when the process ends.
const LAST_LINES_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// The code of [`Exit::Internal`].
const INTERNAL: i32 = 70;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Usage => 64,
            Exit::Internal => 70,
            Exit::Temporary => 75,
        })
    }
}

/// An error of the program's own, which knows its code.
#[derive(Debug)]
pub struct Coded {
    exit: Exit,
    error: anyhow::Error,
}

impl Coded {
    /// Ends the program with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Exit {
    /// The code that fits an error of the start.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<ConfigError>().is_some() {
            return Self::Usage;
        }
        if let Some(known) = error.downcast_ref::<Coded>() {
            return known.exit;
        }
        match error.downcast_ref::<StartError>() {
            Some(error) if error.is_usage() => Self::Usage,
            Some(_) => Self::Temporary,
            None if error.downcast_ref::<std::io::Error>().is_some() => Self::Temporary,
            None => Self::Internal,
        }
    }
}

/// Parses the command line; help and version are printed, a mistake is explained and exits with 64.
pub fn parse<P: clap::Parser>() -> Result<P, Exit> {
    P::try_parse().map_err(|error| {
        let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
        // There is nobody left to tell when the terminal is gone.
        let _ = error.print();
        exit
    })
}

/// Runs a daemon's main on a runtime of its own and turns what became of it into an exit code.
pub fn run(main: impl Future<Output = anyhow::Result<()>>) -> Exit {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Whatever listens here must never take the last one from the cache that this daemon drives, or from its files.
    descriptors::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot start: {error}"));
            return Exit::Temporary;
        }
    };
    let outcome = runtime.block_on(main);
    // What still blocks (a resolver, a disk) has had its time when it was drained.
    runtime.shutdown_background();
    logs::flush(LAST_LINES_MAX);
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(&told(&error));
            Exit::of(&error)
        }
    }
}

/// From now on a panic anywhere ends the process (70), for a program that a supervisor starts again.
///
/// A task or a thread that has panicked is missing from then on: a cache is not told any more what was purged, and whatever
/// waits for that waits for ever. Begun anew from what is stored, the node misses nothing.
pub fn end_on_panic() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        logs::flush(LAST_LINES_MAX);
        std::process::exit(INTERNAL);
    }));
}

/// Prints a line to standard error, if anybody reads that.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The error with its causes, each said once: some name their cause in their own text.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
        text
    })
}

/// Prints a report to standard output. A reader that has seen enough is no error.
pub fn print(report: &impl std::fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{report}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// What `--check` says when there is nothing wrong: what was looked at.
pub fn checked(config: &std::path::Path, lines: &[String]) {
    let text = format!("{} is fine\n  {}\n", config.display(), lines.join("\n  "));
    // Whoever does not read it asked for the exit code alone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The part of it that every daemon has.
pub fn checked_daemon(daemon: &crate::DaemonConfig, log: &crate::config::LogSection) -> Vec<String> {
    let control = &daemon.control;
    let tls = match (control.plaintext, &control.cert) {
        (true, _) => "plaintext".to_owned(),
        (false, cert) => {
            let cert = cert.as_ref().map_or_else(String::new, |cert| format!(" {}", cert.display()));
            format!("certificate{cert}, its key and the authority are there and fit")
        }
    };
    vec![
        format!("node    {}", daemon.node),
        format!("control {}; {tls}", control.endpoints.join(", ")),
        format!("state   {}", daemon.state_dir.display()),
        format!("log     {}", log.level.0),
    ]
}

/// Prints the line that tells a parent or a test where this process listens.
pub fn announce(line: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// When to stop, and when to read the certificates again.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Cancelled by SIGTERM, SIGINT, or the parent's death.
    pub stop: CancellationToken,
    /// Notified by SIGHUP.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Begins to listen; needs a runtime.
    pub fn listen(exit_with_parent: bool) -> std::io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), reload: Arc::new(Notify::new()) };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => heard.stop.cancel(),
                    _ = interrupt.recv() => heard.stop.cancel(),
                    _ = hang_up.recv() => heard.reload.notify_one(),
                }
            }
        });
        if exit_with_parent {
            let stop = signals.stop.clone();
            // A thread, not a task: a read of stdin cannot be cancelled, and must not hold up the end of the runtime.
            std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
                let mut discarded = [0; 256];
                while matches!(std::io::stdin().read(&mut discarded), Ok(1..)) {}
                stop.cancel();
            })?;
        }
        Ok(signals)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    /// Set in the process that is to panic.
    const PANICS: &str = "BATOFF_TEST_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process_instead_of_being_missed() {
        if std::env::var_os(PANICS).is_some() {
            super::end_on_panic();
            let _ = super::run(async {
                let task = tokio::spawn(async { panic!("a defect") });
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(task.await?)
            });
            return;
        }
        let name = "program::tests::a_task_that_panics_ends_the_process_instead_of_being_missed";
        let this = std::env::current_exe().unwrap();
        let ended =
            Command::new(this).args(["--exact", name, "--nocapture"]).env(PANICS, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(super::INTERNAL), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("a defect"), "{ended:?}");
    }
}
