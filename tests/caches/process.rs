//! Programs under test and beside them, each with its log in a file; they end with the test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use batoff_tests::{PATIENCE, binary, kill};
use rustix::process::Signal;
use serde_json::Value;

/// A running program; killed when dropped, and when the test dies.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts one of our daemons and waits for its line of JSON.
    pub fn announced(name: &str, config: &Path, log: &Path) -> (Self, Value) {
        let mut command = Command::new(binary(name));
        command.arg("--config").arg(config).args(["--announce", "--exit-with-parent"]);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("BATOFF_")) {
            command.env_remove(key);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::spawn(name, command, log);
        let mut line = String::new();
        let stdout = process.child.stdout.take().expect("the output is piped");
        drop(BufReader::new(stdout).read_line(&mut line));
        match serde_json::from_str(&line) {
            Ok(announced) => (process, announced),
            Err(_) => panic!("{name} said {line:?} instead of where it listens; its log:\n{}", process.log()),
        }
    }

    /// Starts a cache server. It is killed when the thread that started it ends, so start it from the test's own.
    pub fn server(program: &str, args: &[&str], env: &[(&str, &str)], log: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        command.envs(env.iter().copied());
        Self::spawn(program, command, log)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command.stderr(file).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.is_running() {
            kill(self.pid(), Signal::KILL);
            drop(self.child.wait());
        }
    }

    /// SIGTERM, and waits until it is gone.
    pub fn terminate(&mut self) {
        kill(self.pid(), Signal::TERM);
        let begun = std::time::Instant::now();
        while self.is_running() {
            assert!(begun.elapsed() < PATIENCE, "{} does not end", self.name);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(25).collect();
            eprintln!("--- {}, last lines:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}
