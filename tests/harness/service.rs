use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::{Launch, Program, kill};

/// Lines of a program's log that a failing test shows.
const LAST_LINES: usize = 25;

/// One of our daemons, which can be killed, frozen and started again on the same addresses with the same data.
pub struct Service {
    /// What the test calls it.
    pub name: String,
    launch: Launch,
    log: PathBuf,
    running: Option<Program>,
}

impl Service {
    /// A daemon that does not run yet.
    pub fn new(name: &str, launch: Launch, log: &Path) -> Self {
        Self { name: name.to_owned(), launch, log: log.to_owned(), running: None }
    }

    /// Starts it, and waits until it has announced itself: what it said, or the end of its log when it gave up.
    pub async fn start(&mut self) -> Result<Value, String> {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let mut program = self.launch.start_logging_to(&self.log);
        let mut stdout = BufReader::new(program.stdout());
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            drop(stdout.read_line(&mut line));
            line
        });
        let line = line.await.expect("a reader");
        match serde_json::from_str(&line) {
            Ok(announced) => {
                self.running = Some(program);
                Ok(announced)
            }
            Err(_) => {
                let code = program.exit_code();
                drop(program);
                Err(format!("{} announced {line:?} ({code:?}); its log:\n{}", self.name, self.last_lines()))
            }
        }
    }

    /// Starts it without waiting for anything.
    pub fn begin(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        self.running = Some(self.launch.start_logging_to(&self.log));
    }

    /// SIGKILL; it is gone afterwards.
    pub fn kill(&mut self) {
        self.running.take().unwrap_or_else(|| panic!("{} does not run", self.name)).kill();
    }

    /// SIGTERM; its exit code.
    pub async fn stop(&mut self) -> i32 {
        let mut program = self.running.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        let ended = tokio::task::spawn_blocking(move || program.terminate());
        ended.await.expect("it ends")
    }

    /// Its exit code, when it has ended by itself; it can be started again then.
    pub fn ended(&mut self) -> Option<i32> {
        let code = self.running.as_mut()?.exit_code()?;
        self.running = None;
        Some(code)
    }

    /// Gives it further arguments from its next start on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.launch.add_arguments(arguments);
    }

    /// From the next start on it is the program of this folder, on the same addresses with the same data: an upgrade, or the
    /// way back.
    pub fn becomes_that_of(&mut self, folder: &Path) {
        self.launch = self.launch.clone().of(Some(folder));
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        kill(self.pid(), Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        kill(self.pid(), Signal::CONT);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).pid()
    }

    /// Its log, of all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nothing is lost by a kill; that is what the tests show.
        if let Some(mut program) = self.running.take() {
            program.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of {}'s log\n{}", self.name, self.last_lines());
        }
    }
}
