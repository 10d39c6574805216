use std::sync::Arc;
use std::time::Duration;

use batoff_log::embedded::OpenError;
use batoff_types::{Cursor, Purge, Seq, SiteChange, SiteId, SiteLimits, TaskId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::clock::Clock;
use crate::commit::{Accepted, CommitError, Submission};
use crate::config::Config;
use crate::engine::EngineError;
use crate::init::{Given, init, init_with};
use crate::seat::LockError;
use crate::server::{self, Running, StartError};
use crate::service::Services;
use crate::tracker::{TaskState, TaskView, Tracker};

/// Long enough for a loaded machine; no test waits for it unless it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

const PLAINTEXT: &str = "plaintext = true\n";

/// The site that purges are for.
pub(super) fn shop() -> SiteId {
    "shop".parse().unwrap()
}

/// A control plane on loopback, on a runtime of its own so that it can die in an instant.
pub(super) struct Plane {
    dir: TempDir,
    runtime: Option<Runtime>,
    running: Option<Running>,
    grpc: String,
    console: String,
    extra: String,
    /// How long a proof of its seat counts, if not as long as usual.
    seat: Option<Duration>,
    console_password: String,
}

impl Plane {
    /// With a site `shop` that owns `www.example.com`.
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same, with lines added to the configuration.
    pub(super) async fn start_with(extra: &'static str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), PLAINTEXT, extra).await
    }

    /// The same, with lines added to `[grpc]`.
    pub(super) async fn start_with_grpc(grpc: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &format!("{PLAINTEXT}{grpc}"), "").await
    }

    /// In a folder that is there, with these lines in `[grpc]`.
    pub(super) async fn start_in(dir: TempDir, grpc: &str, extra: &'static str) -> Self {
        let console_password = init(dir.path()).unwrap().to_string();
        let grpc = grpc.to_owned();
        let mut plane = Self::still(dir, grpc, String::new(), extra.to_owned(), console_password);
        plane.run().await;
        plane.change("shop", Some(&["www.example.com"])).await;
        plane
    }

    fn still(dir: TempDir, grpc: String, console: String, extra: String, console_password: String) -> Self {
        Self { dir, runtime: None, running: None, grpc, console, extra, seat: None, console_password }
    }

    /// A replica over etcd, with these lines for `[store.etcd]` and `[replica]`: with the secrets of `other`, which has the
    /// site, or with secrets and the site of its own.
    pub(super) async fn start_over(
        endpoints: &[String],
        replica: &str,
        other: Option<&Self>,
        seat: Option<Duration>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = other.map(|other| Given {
            master_key: Some(other.file("master.key")),
            admin_token: Some(other.file("admin.token")),
        });
        let console_password = init_with(dir.path(), &given.unwrap_or_default()).unwrap().to_string();
        let extra = format!(
            "[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = {endpoints:?}\n[replica]\n{replica}\n"
        );
        let grpc = PLAINTEXT.to_owned();
        let mut plane = Self::still(dir, grpc, String::new(), extra, console_password);
        plane.seat = seat;
        plane.run().await;
        if other.is_none() {
            plane.change("shop", Some(&["www.example.com"])).await;
        }
        plane
    }

    /// In a folder that is there, with these lines in `[console]`.
    pub(super) async fn start_with_console(dir: TempDir, console: String) -> Self {
        let console_password = init(dir.path()).unwrap().to_string();
        let grpc = PLAINTEXT.to_owned();
        let mut plane = Self::still(dir, grpc, console, String::new(), console_password);
        plane.run().await;
        plane.change("shop", Some(&["www.example.com"])).await;
        plane
    }

    /// What the configuration would be with these lines instead of those that were added.
    pub(super) fn configured(&self, extra: &str) -> Config {
        let text = format!(
            "[data]\ndir = {:?}\n[api]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n[console]\nlisten = '127.0.0.1:0'\n{}\n\
             [metrics]\nlisten = '127.0.0.1:0'\n[grpc]\nlisten = '127.0.0.1:0'\n{}{}",
            self.dir.path(),
            self.console,
            self.grpc,
            extra
        );
        let mut config = Config::parse(&text, std::iter::empty()).unwrap();
        config.replica.seat = self.seat.unwrap_or(config.replica.seat);
        config
    }

    /// Starts what was drained with other lines added to the configuration; on another data folder, if one is given.
    pub(super) async fn start_again(&mut self, dir: Option<TempDir>, extra: &str) {
        extra.clone_into(&mut self.extra);
        if let Some(dir) = dir {
            self.dir = dir;
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.run().await;
    }

    async fn run(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let running = loop {
            let config = self.configured(&self.extra);
            match runtime.spawn(server::start(config, Clock::system(), None)).await.unwrap() {
                Ok(running) => break running,
                // A store that was only dropped lets go of its folder a moment later.
                Err(StartError::Open(
                    EngineError::Embedded(OpenError::Locked { .. }) | EngineError::Lock(LockError::Held(_)),
                )) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        (self.runtime, self.running) = (Some(runtime), Some(running));
    }

    /// Dies without a word, and starts again with the same data.
    pub(super) async fn crash(&mut self) {
        self.running = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.run().await;
    }

    /// Drains, as on SIGTERM.
    pub(super) async fn drain(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.as_ref().unwrap().spawn(running.drain()).await.unwrap();
    }

    pub(super) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.running().services
    }

    pub(super) fn tracker(&self) -> &Arc<Tracker> {
        &self.services().tracker
    }

    /// Of the console's first operator.
    pub(super) fn console_password(&self) -> &str {
        &self.console_password
    }

    /// A file in the data folder.
    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("admin.token")).unwrap().trim().to_owned()
    }

    /// Gives a site its hostnames, or removes it.
    pub(super) async fn change(&self, site: &str, hostnames: Option<&[&str]>) {
        let change = SiteChange {
            site: site.parse().unwrap(),
            hostnames: hostnames.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        };
        self.services().commit.change_sites("test", |_| Ok::<_, CommitError>(vec![change])).await.unwrap();
    }

    /// Purges one URL of the shop.
    pub(super) async fn purge(&self, path: &str) -> Accepted {
        self.submit(path).await.unwrap()
    }

    pub(super) async fn submit(&self, path: &str) -> Result<Accepted, CommitError> {
        let url = format!("https://www.example.com{path}").parse().unwrap();
        let purge = Purge { site: shop(), selectors: vec![batoff_types::Selector::Url(url)], soft: false };
        let submission = Submission {
            purge,
            request_id: "request-1".into(),
            requester: None,
            dedupe: Vec::new(),
            trace: None,
        };
        self.services().commit.submit(submission).await
    }

    pub(super) async fn task(&self, task: TaskId) -> TaskView {
        self.tracker().task(&shop(), task).await.unwrap().unwrap()
    }

    /// The task once it is completed.
    pub(super) async fn completed(&self, task: TaskId) -> TaskView {
        let view = self.tracker().wait(&shop(), task, PATIENCE).await.unwrap().unwrap();
        assert_eq!(view.state, TaskState::Completed, "{view:?}");
        view
    }

    /// The task once `fits` is true of it.
    pub(super) async fn until(&self, task: TaskId, fits: impl Fn(&TaskView) -> bool) -> TaskView {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.task(task).await;
            if fits(&view) {
                return view;
            }
            assert!(tokio::time::Instant::now() < deadline, "{view:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn tail(&self) -> Cursor {
        self.services().hub.tail()
    }

    /// Once streams may send the record.
    pub(super) async fn streamed(&self, seq: Seq) {
        self.services().hub.subscribe().wait_for(|tail| tail.covers(seq)).await.unwrap();
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.running = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
