//! How a program ends: its exit code (sysexits.h), and the one line on standard error that says why.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ConfigError;
use crate::{descriptors, logs};

/// Why a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to (0).
    Done,
    /// The configuration or the command line is wrong (64): starting again changes nothing.
    Usage,
    /// A defect of ours, or something that should not happen (70).
    Internal,
    /// Something outside is not there now (75): starting again may help.
    Temporary,
}

/// An error that knows what it means for a program that cannot go on because of it.
pub trait Ends: std::error::Error {
    /// The exit that says what whoever starts the program can do.
    fn exit(&self) -> Exit;
}

/// Why a program cannot go on, as it is told and as its exit code says it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    text: String,
}

/// For what still blocks when the process ends; it has had its time when it was drained.
const LAST_WORK_MAX: Duration = Duration::from_millis(200);

/// For log lines that are still on their way when the process ends.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);

impl Exit {
    /// As the system is told.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Temporary => 75,
        }
    }

    /// What an error of the system means for a file that an operator named: a full disk is nothing that another command
    /// line would help, all else is.
    pub fn of_file(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Temporary,
            _ => Self::Usage,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Failure {
    /// With these words.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// Something that should not happen, while `doing` that.
    pub fn internal(doing: &str, error: impl Display) -> Self {
        Self::new(Exit::Internal, format!("{doing}: {error}"))
    }

    /// A vital part has failed; the log says which.
    pub fn vital() -> Self {
        Self::new(Exit::Internal, "stopped because of the error logged above")
    }

    /// How the program ends.
    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: Ends> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: error.exit(), text: told(&error) }
    }
}

impl Ends for ConfigError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Runs a program's main on a runtime of its own, and tells what became of it: in a line on standard error that begins
/// with the program's name, and in the exit code.
pub fn run(program: &str, main: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Whatever listens here must never take the last one from the files, or from the cache that a daemon drives.
    descriptors::raise();
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(main);
            runtime.shutdown_timeout(LAST_WORK_MAX);
            outcome
        }
        Err(error) => Err(Failure::new(Exit::Temporary, format!("the runtime does not start: {error}"))),
    };
    logs::flush(LAST_LINES_MAX);
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            // Nobody may be reading it any more.
            let _ = writeln!(io::stderr(), "{program}: {failure}");
            failure.exit.into()
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
        std::process::exit(Exit::Internal.code().into());
    }));
}

/// The error with its causes, each said once: some name their cause in their own text.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that is to panic.
    const PANICS: &str = "BATOFF_TEST_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process_instead_of_being_missed() {
        if std::env::var_os(PANICS).is_some() {
            end_on_panic();
            let _ = run("test", async {
                let task = tokio::spawn(async { panic!("a defect") });
                tokio::time::sleep(Duration::from_secs(60)).await;
                task.await.map_err(|error| Failure::internal("a task", error))
            });
            return;
        }
        let name = "exit::tests::a_task_that_panics_ends_the_process_instead_of_being_missed";
        let this = std::env::current_exe().unwrap();
        let ended =
            Command::new(this).args(["--exact", name, "--nocapture"]).env(PANICS, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(Exit::Internal.code().into()), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("a defect"), "{ended:?}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::other("no such folder");
        let failure = Failure::from(ConfigError::Read { path: "/x".into(), source });
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(failure.to_string(), "cannot read /x: no such folder; name the file with --config");
    }
}
