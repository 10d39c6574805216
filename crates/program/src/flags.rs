//! The flags that every program has, and what it prints for whoever started it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, FromArgMatches, Subcommand};

use crate::config::{self, ConfigError, ConfigFile};
use crate::exit::{Exit, Failure};
use crate::manual::{self, PagesOf, Shell};
use crate::probe::{self, Wellness};

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

/// The flags of a program's doctor.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorFlags {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a key of the file and of the environment; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON document instead
    #[arg(long)]
    pub json: bool,
}

impl Flags {
    /// The configuration that they name, with what they override.
    pub fn load<T: ConfigFile>(&self) -> Result<T, ConfigError> {
        config::load(&self.config, &self.set)
    }
}

// What every program can do beside its work. None of it reads the configuration. (A documentation comment would become the
// help of the program.)
#[derive(Debug, Subcommand)]
enum Aside {
    /// Ask a running one at its `metrics.listen` whether it does its job: 0, or 75 with the reason
    Probe {
        /// Its address, such as 127.0.0.1:9464
        address: SocketAddr,
        /// Ask only whether the process runs
        #[arg(long)]
        alive: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages into a folder that is there
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
    },
}

/// Stands below the help of every program.
const ENDS: &str = "Exit codes: 0 asked to end; 64 wrong usage or configuration; 70 internal error, or a vital part has failed; \
    75 temporary, start it again. SIGTERM drains; SIGHUP reads certificates again.";

/// Parses the command line; help and version are printed, a mistake is explained and exits with 64. What every program can
/// do beside its work is done here.
///
/// # Errors
/// The exit code of a program that has nothing more to do.
pub fn parse<P: clap::Parser>() -> Result<P, ExitCode> {
    parsed(std::env::args_os().collect()).map_err(|instead| match instead {
        Instead::Parser(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // There is nobody left to tell when the terminal is gone.
            let _ = error.print();
            exit.into()
        }
        Instead::Aside(beside) => match beside.run(whole::<P>()) {
            Ok(()) => Exit::Done.into(),
            Err(failure) => {
                let _ = writeln!(io::stderr(), "{}: {failure}", P::command().get_name());
                failure.exit().into()
            }
        },
    })
}

/// Why there is no work to do.
enum Instead {
    Parser(clap::Error),
    Aside(Aside),
}

/// The command line of a program with what it can do beside its work.
fn whole<P: clap::Parser>() -> Command {
    Aside::augment_subcommands(P::command()).after_help(ENDS)
}

fn parsed<P: clap::Parser>(words: Vec<OsString>) -> Result<P, Instead> {
    let first = words.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    if Aside::has_subcommand(first) {
        // What the program's work needs is not needed for it.
        let lenient = whole::<P>().subcommand_negates_reqs(true);
        let matches = lenient.try_get_matches_from(words).map_err(Instead::Parser)?;
        return Err(Instead::Aside(Aside::from_arg_matches(&matches).map_err(Instead::Parser)?));
    }
    let matches = whole::<P>().try_get_matches_from(words).map_err(Instead::Parser)?;
    if matches.subcommand_name().is_some_and(Aside::has_subcommand) {
        return Err(Instead::Aside(Aside::from_arg_matches(&matches).map_err(Instead::Parser)?));
    }
    P::from_arg_matches(&matches).map_err(|error| Instead::Parser(error.format(&mut whole::<P>())))
}

impl Aside {
    fn run(self, mut program: Command) -> Result<(), Failure> {
        match self {
            Self::Probe { address, alive } => {
                print(&probe::probe(address, if alive { Wellness::Alive } else { Wellness::Ready })?)
            }
            Self::Completions { shell } => print(&manual::completions(shell, &mut program)),
            Self::Manual { folder } => {
                let written = manual::write_pages(program, PagesOf::Administration, &folder);
                written.map_err(|error| {
                    Failure::new(Exit::of_file(&error), format!("{}: {error}", folder.display()))
                })
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Does nothing
    #[derive(Debug, Parser)]
    #[command(name = "batoff-test")]
    struct Sample {
        #[command(flatten)]
        flags: Flags,
    }

    fn given(words: &[&str]) -> Result<Sample, Instead> {
        parsed(["batoff-test"].iter().chain(words).map(OsString::from).collect())
    }

    #[test]
    fn what_is_done_beside_the_work_needs_no_configuration() {
        for words in [&["completions", "bash"][..], &["--config", "x", "completions", "bash"]] {
            assert!(matches!(given(words), Err(Instead::Aside(Aside::Completions { shell: Shell::Bash }))));
        }
        let probe = given(&["probe", "127.0.0.1:9", "--alive"]);
        assert!(matches!(probe, Err(Instead::Aside(Aside::Probe { alive: true, .. }))));
        assert!(given(&["--config", "x", "--check"]).is_ok_and(|sample| sample.flags.check));
    }

    #[test]
    fn a_mistake_is_still_one() {
        for words in [&[][..], &["--check"], &["completions", "tcsh"], &["probe", "nowhere"], &["probes"]] {
            let Err(Instead::Parser(error)) = given(words) else { panic!("{words:?} was taken") };
            assert!(error.use_stderr(), "{error}");
        }
    }

    #[test]
    fn help_tells_of_it_and_of_the_exit_codes() {
        let Err(Instead::Parser(help)) = given(&["--help"]) else { panic!("no help") };
        let help = help.to_string();
        assert!(
            help.contains("probe") && help.contains("completions") && help.contains("75 temporary"),
            "{help}"
        );
        assert!(help.starts_with("Does nothing") && !help.contains("manual"), "{help}");
    }
}
