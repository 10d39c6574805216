//! One program that `batoff dev` runs: started, waited for until it says where it listens, stopped.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::exit::Failure;

/// A program that has not said where it listens after this long is not going to. Generous: a debug build on a busy
/// machine, with a log to recover.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The exit code of a program that may start later, as it is.
const TEMPORARY: i32 = 75;

/// How the description of a program begins that a signal has ended.
pub const KILLED: &str = "was killed by signal";

/// Lines of a dead program's log that are shown.
const LAST_LINES: usize = 12;

/// Bytes from the end of a log in which those lines are looked for.
const LAST_BYTES: u64 = 8 * 1024;

/// How to run a program.
#[derive(Clone, Debug)]
pub struct Program {
    /// What people call it: `control`, or a node's name.
    pub name: String,
    /// The executable.
    pub executable: PathBuf,
    /// What it is started with.
    pub arguments: Vec<OsString>,
    /// Where its log goes; appended.
    pub log: PathBuf,
    /// Which `BATOFF_<SECTION>_…` variables it may see. Ours (`BATOFF_ADMIN_TOKEN` …) would be keys of its
    /// configuration to it.
    pub sections: &'static [&'static str],
}

/// A program that runs and has said where it listens.
#[derive(Debug)]
pub struct RunningChild {
    child: Child,
    pid: u32,
    announced: Value,
    /// Our end of its standard input. Taken out of `child`, because waiting for a child closes it.
    lifeline: Option<ChildStdin>,
}

impl Program {
    /// Starts it and waits until it listens. Dropped meanwhile, it is killed.
    pub async fn start(&self) -> Result<RunningChild, Failure> {
        let log = self.open_log().map_err(|e| Failure::Usage(format!("{}: {e}", self.log.display())))?;
        let mut command = Command::new(&self.executable);
        command
            .args(&self.arguments)
            // The other end of this pipe is ours alone: it closes when we end, however that happens.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            // A group of its own: ctrl-C is for us, and we end the programs in order.
            .process_group(0);
        self.clean_environment(&mut command);
        let mut child = command.spawn().map_err(|e| self.missing(&e))?;
        let pid = child.id().unwrap_or_default();
        let announced = timeout(ANNOUNCE_TIMEOUT, announced(&mut child)).await;
        match announced {
            Ok(Ok(Some(line))) => match serde_json::from_str(&line) {
                Ok(announced) => Ok(RunningChild { lifeline: child.stdin.take(), child, pid, announced }),
                Err(error) => Err(Failure::Internal(format!("{} announced {line:?}: {error}", self.name))),
            },
            Ok(Ok(None)) => {
                let status = timeout(Duration::from_secs(2), child.wait()).await;
                let how = match &status {
                    Ok(Ok(status)) => describe(*status),
                    _ => "closed its standard output".to_owned(),
                };
                let text = format!("{} {how} before it was ready\n{}", self.name, self.last_lines());
                let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
                Err(match code {
                    Some(TEMPORARY) => Failure::Temporary(text),
                    _ => Failure::Failed(text),
                })
            }
            Ok(Err(error)) => Err(Failure::Internal(format!("{}: {error}", self.name))),
            Err(_) => Err(Failure::Temporary(format!(
                "{} did not say where it listens within {} s\n{}",
                self.name,
                ANNOUNCE_TIMEOUT.as_secs(),
                self.last_lines()
            ))),
        }
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log)
    }

    fn clean_environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let Some(name_text) = name.to_str() else { continue };
            // To etcd they would be flags.
            if name_text.starts_with("ETCD_") {
                command.env_remove(&name);
            }
            let Some(rest) = name_text.strip_prefix("BATOFF_") else { continue };
            if !self.sections.iter().any(|section| rest.starts_with(section)) {
                command.env_remove(&name);
            }
        }
    }

    fn missing(&self, error: &io::Error) -> Failure {
        Failure::Usage(format!(
            "cannot start {}: {error}; build all programs with `cargo build --bins`, they are expected beside this one",
            self.executable.display()
        ))
    }

    /// The end of its log, indented.
    pub fn last_lines(&self) -> String {
        let text = read_end(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LAST_LINES)..];
        shown.iter().map(|line| format!("  {line}\n")).collect::<String>()
            + &format!("  (from {})", self.log.display())
    }
}

fn read_end(path: &std::path::Path) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn announced(child: &mut Child) -> io::Result<Option<String>> {
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await?;
    // The contract says that nothing follows; if something does, the program must not block on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(line)
}

impl RunningChild {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process that it announced, where that is another one than the one that was started.
    pub fn announced_pid(&self) -> Option<u32> {
        u32::try_from(self.announced.get("pid")?.as_u64()?).ok()
    }

    /// A member of what it announced.
    pub fn announced(&self, member: &str) -> Option<&str> {
        self.announced.get(member)?.as_str()
    }

    /// A listener that it announced.
    pub fn address(&self, listener: &str) -> Result<SocketAddr, Failure> {
        let text = self.announced(listener).unwrap_or_default();
        text.parse().map_err(|_| {
            Failure::Internal(format!("process {} announced {text:?} as its address of {listener}", self.pid))
        })
    }

    /// Until it ends by itself; cancel-safe.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => describe(status),
            Err(error) => format!("cannot be waited for ({error})"),
        }
    }

    /// Asks it to drain, waits so long, and then kills it.
    pub async fn stop(mut self, patience: Duration) {
        drop(self.lifeline.take());
        self.signal(Signal::TERM);
        // A program that someone has stopped (to see its lease run out) hears nothing until it goes on.
        self.signal(Signal::CONT);
        if timeout(patience, self.child.wait()).await.is_err() {
            // Fails only when it has just ended by itself.
            let _ = self.child.kill().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // `id` is empty once it has been waited for: the number may be another process's by now.
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may end between the two lines; then there is nothing left to do.
            let _ = kill_process(pid, signal);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("{KILLED} {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that is a shell script.
    pub fn program(script: &str) -> (tempfile::TempDir, Program) {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("program");
        std::fs::write(&executable, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
        let log = folder.path().join("log");
        let program =
            Program { name: "program".into(), executable, arguments: Vec::new(), log, sections: &["LOG_"] };
        (folder, program)
    }

    #[tokio::test]
    async fn a_program_says_where_it_listens_and_ends_when_asked() {
        let (_folder, program) = program(r#"echo '{"api":"127.0.0.1:41233"}'; while read -r x; do :; done"#);
        let child = program.start().await.unwrap();
        assert_eq!(child.address("api").unwrap().port(), 41_233);
        assert!(child.address("admin").is_err());
        child.stop(Duration::from_secs(20)).await;
    }

    #[tokio::test]
    async fn a_stopped_program_ends_too() {
        let (_folder, program) = program("echo '{}'; trap '' TERM; kill -STOP $$; while :; do sleep 1; done");
        let child = program.start().await.unwrap();
        child.stop(Duration::from_millis(100)).await;
    }

    #[tokio::test]
    async fn a_program_that_dies_early_is_quoted() {
        let (_folder, program) = program("echo 'data.dir: no such folder' >&2; exit 64");
        let error = program.start().await.unwrap_err().to_string();
        assert!(error.contains("exited with code 64") && error.contains("no such folder"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let (folder, mut program) = program("");
        program.executable = folder.path().join("absent");
        let error = program.start().await.unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("cargo build"), "{error}");
    }
}
