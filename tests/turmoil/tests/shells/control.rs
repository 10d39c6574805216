//! The control plane as a host, with a client beside it that purges and asks what became of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use batoff_control::clock::Clock;
use batoff_control::commit::{CommitError, Submission};
use batoff_control::config::Config;
use batoff_control::init;
use batoff_control::server::Parts;
use batoff_control::service::Services;
use batoff_control::tracker::TaskState;
use batoff_types::{Purge, Selector, Seq, SiteChange, SiteId, SiteLimits, TaskId, UnixMillis};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::node::Node;
use crate::store::Timeless;
use crate::{network, now};

/// Longer than any purge takes while the control plane lives.
const PATIENCE: Duration = Duration::from_secs(60);

/// Past the target.
const LATE: Duration = Duration::from_secs(3);

/// What clients were told. It survives the control plane.
#[derive(Default)]
pub struct Told {
    /// When each purge got its 202, and its task.
    pub accepted: BTreeMap<Seq, (Duration, TaskId)>,
    /// When each was said to be completed.
    pub completed: BTreeMap<Seq, Duration>,
    /// What was said of each that was not completed three seconds later.
    pub late: BTreeMap<Seq, TaskState>,
    /// Purges that were said to be completed while a node that had not applied them might serve.
    pub untrue: Vec<String>,
}

/// A host that runs a control plane.
#[derive(Clone)]
pub struct Control {
    dir: Arc<tempfile::TempDir>,
    services: Arc<Mutex<Option<Arc<Services>>>>,
    pub told: Arc<Mutex<Told>>,
    /// The machine is up and the program is not: connections are refused.
    pub stopped: Arc<AtomicBool>,
    /// Milliseconds between two purges; 0: none.
    pub pace: Arc<AtomicU64>,
    nodes: Arc<Vec<Node>>,
}

impl Control {
    pub fn new(nodes: &[Node]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        init::init(dir.path()).unwrap();
        Self {
            dir: Arc::new(dir),
            services: Arc::default(),
            told: Arc::default(),
            stopped: Arc::default(),
            pace: Arc::new(AtomicU64::new(50)),
            nodes: Arc::new(nodes.to_vec()),
        }
    }

    /// The running control plane's parts; they must not be kept over a crash.
    pub fn with<T>(&self, ask: impl FnOnce(&Services) -> T) -> T {
        ask(self.services.lock().as_ref().expect("the control plane runs"))
    }

    /// To be called before the host is crashed: the store is let go.
    pub fn forget(&self) {
        self.services.lock().take();
    }

    /// The host's software.
    pub async fn run(self) -> turmoil::Result {
        if self.stopped.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let config = Config::parse(&config(self.dir.path()), std::iter::empty())?;
        let clock = Clock::with_wall(|| UnixMillis(1_800_000_000_000 + now().as_millis() as u64));
        let store = Arc::new(Timeless::open(self.dir.path(), clock.wall_fn()));
        let secrets = init::load(self.dir.path())?;
        let parts = Parts::assemble(config, clock, store, secrets, Handle::current()).await?;
        let services = Arc::clone(&parts.services);
        *self.services.lock() = Some(Arc::clone(&services));
        let incoming = network::incoming().await?;
        let client = tokio::spawn(self.purge(services));
        parts.serve_nodes(incoming).await?;
        client.abort();
        Ok(())
    }

    async fn purge(self, services: Arc<Services>) {
        let change = SiteChange {
            site: site(),
            hostnames: Some(vec!["www.example.com".parse().unwrap()]),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        };
        if self.last().is_none() {
            services.commit.change_sites("test", |_| Ok::<_, CommitError>(vec![change])).await.unwrap();
        }
        // After a restart: what became of the others?
        let open: Vec<_> = {
            let told = self.told.lock();
            let open = told.accepted.iter().filter(|(seq, _)| !told.completed.contains_key(seq));
            open.map(|(seq, (_, task))| (*seq, *task)).collect()
        };
        for (seq, task) in open {
            self.follow(&services, seq, task);
        }
        loop {
            let pace = self.pace.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(if pace == 0 { 50 } else { pace })).await;
            if pace > 0 {
                self.purge_one(&services).await;
            }
        }
    }

    async fn purge_one(&self, services: &Arc<Services>) {
        let number = self.told.lock().accepted.len();
        let url = format!("https://www.example.com/{number}").parse().unwrap();
        let purge = Purge { site: site(), selectors: vec![Selector::Url(url)], soft: false };
        let submission =
            Submission { purge, request_id: "test".into(), requester: None, dedupe: Vec::new(), trace: None };
        let accepted = services.commit.submit(submission).await.unwrap();
        self.told.lock().accepted.insert(accepted.seq, (now(), accepted.task));
        self.follow(services, accepted.seq, accepted.task);
    }

    fn follow(&self, services: &Arc<Services>, seq: Seq, task: TaskId) {
        let (this, tracker) = (self.clone(), Arc::clone(&services.tracker));
        tokio::spawn(async move {
            for patience in [LATE, PATIENCE] {
                let view = tracker.wait(&site(), task, patience).await.unwrap();
                let view = view.expect("what got its 202 is there");
                assert_eq!(view.seq, seq, "it is in the log once, where it was");
                if view.state == TaskState::Completed {
                    return this.check(seq);
                }
                this.told.lock().late.insert(seq, view.state);
            }
        });
    }

    /// I1, from outside: now that it is said to be completed, who may serve and has it not?
    fn check(&self, seq: Seq) {
        let mut told = self.told.lock();
        told.completed.insert(seq, now());
        for node in self.nodes.iter() {
            let may_still = node.seen(|seen| seen.fence.may_serve() && !seen.index.applied().covers(seq));
            if may_still == Some(true) {
                told.untrue.push(format!("{seq} at {:?}: {} may serve", now(), node.name));
            }
        }
    }

    /// The last purge that got its 202.
    pub fn last(&self) -> Option<Seq> {
        self.told.lock().accepted.keys().next_back().copied()
    }
}

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn config(dir: &Path) -> String {
    let dir: PathBuf = dir.into();
    format!(
        "[data]\ndir = {dir:?}\n[grpc]\nplaintext = true\nkeepalive_interval_ms = 2000\nkeepalive_timeout_ms = 2000\n"
    )
}
