//! A real `batoff-edge`, or whatever follows the control plane for the cache under test.

use std::path::{Path, PathBuf};

use batoff_tests::{eventually, http};
use serde_json::Value;

use crate::process::Process;
use crate::subject::Setting;

/// The program that follows the control plane on the node under test.
pub struct Daemon {
    program: &'static str,
    process: Process,
    config: PathBuf,
    log: PathBuf,
    /// The line that it printed last.
    pub announced: Value,
}

impl Daemon {
    /// Starts `batoff-edge` with these tables under `[caches]`.
    pub async fn edge(setting: &Setting<'_>, caches: &str) -> Self {
        Self::start("batoff-edge", setting, caches).await
    }

    /// Starts `program` with what every daemon needs and `more`.
    pub async fn start(program: &'static str, setting: &Setting<'_>, more: &str) -> Self {
        let state = setting.dir.join("state");
        let text = format!(
            "{more}\n[node]\npop = {:?}\nnode = \"edge-1\"\n[control]\nendpoints = [\"http://{}\"]\nplaintext = true\n\
             [state]\ndir = {state:?}\n[lease]\non_lease_lost = {:?}\n[path]\nparents = {:?}\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"info,batoff_edge=debug,batoff_caches=debug\"\n",
            setting.name,
            setting.control,
            setting.policy.as_str(),
            setting.parents,
        );
        let config = setting.dir.join("daemon.toml");
        std::fs::write(&config, text).expect("a file");
        let log = setting.dir.join("daemon.log");
        let (process, announced) = Process::announced(program, &config, &log);
        let daemon = Self { program, process, config, log, announced };
        daemon.ready().await;
        daemon
    }

    /// Waits until it says that it can do its job.
    pub async fn ready(&self) {
        let url = format!("http://{}/readyz", self.announced["metrics"].as_str().expect("an address"));
        eventually("the daemon is ready", || async {
            http().get(&url).send().await.ok().filter(|reply| reply.status().is_success()).map(drop)
        })
        .await;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until it has stored where it stands.
    pub fn stop(&mut self) {
        self.process.terminate();
    }

    /// Starts it again on the same state, and waits until it can do its job.
    pub async fn restart(&mut self) {
        self.kill();
        (self.process, self.announced) = Process::announced(self.program, &self.config, &self.log);
        self.ready().await;
    }

    /// `batoff-edge check` with its configuration: whether it is content, and what it says.
    pub fn check(&self, args: &[String]) -> (bool, String) {
        let mut check = std::process::Command::new(batoff_tests::binary("batoff-edge"));
        let output = check.arg("--config").arg(&self.config).arg("check").args(args).output();
        let output = output.expect("batoff-edge runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }
}
