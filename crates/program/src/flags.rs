//! The flags that every program has, and what it prints for whoever started it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, ConfigError, ConfigFile};
use crate::exit::{Exit, Failure};

/// The flags of a program.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The configuration file (TOML). `BATOFF_{SECTION}_{KEY}` in the environment overrides each key
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a key of the file and of the environment; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Check the configuration with the files that it names, say what was checked, and exit
    #[arg(long)]
    pub check: bool,
    /// Once everything listens, print one line of JSON with the addresses to standard output
    #[arg(long)]
    pub announce: bool,
    /// Drain and exit when standard input ends, as it does when the parent dies
    #[arg(long)]
    pub exit_with_parent: bool,
}

impl Flags {
    /// The configuration that they name, with what they override.
    pub fn load<T: ConfigFile>(&self) -> Result<T, ConfigError> {
        config::load(&self.config, &self.set)
    }
}

/// Parses the command line; help and version are printed, a mistake is explained and exits with 64.
///
/// # Errors
/// The exit code of a program that has nothing more to do.
pub fn parse<P: clap::Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
        // There is nobody left to tell when the terminal is gone.
        let _ = error.print();
        exit.into()
    })
}

/// What `--check` says when there is nothing wrong: what was looked at.
pub fn checked(config: &Path, lines: &[String]) {
    let text = format!("{} is fine\n  {}\n", config.display(), lines.join("\n  "));
    // Whoever does not read it asked for the exit code alone.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints the line that tells a parent or a test where this process listens.
///
/// # Errors
/// Standard output cannot be written to.
pub fn announce(line: &serde_json::Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| Failure::internal("standard output", error))
}

/// Prints a report to standard output. A reader that has seen enough is no error.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print(report: &impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match write!(out, "{report}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failure::internal("standard output", error)),
    }
}
