//! A node as a host: the real daemon, and a cache that writes down what it is told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ControlSection;
use batoff_edge::{DaemonConfig, Fence, StartError, StateError};
use batoff_index::{Index, IndexConfig};
use batoff_types::message::LeasePolicy;
use batoff_types::{NodeName, Record, Seq};
use parking_lot::Mutex;

use crate::{network, virtual_boottime};

/// What is seen of a daemon from outside.
pub struct Seen {
    pub fence: Arc<Fence>,
    pub index: Arc<Index<u64>>,
}

/// A host that runs a daemon.
#[derive(Clone)]
pub struct Node {
    pub name: NodeName,
    policy: LeasePolicy,
    state: Arc<tempfile::TempDir>,
    seen: Arc<Mutex<Option<Seen>>>,
    /// Purges in the order in which the cache was told of them, for each life of the daemon.
    pub purged: Arc<Mutex<Vec<Vec<Seq>>>>,
}

impl Node {
    pub fn new(number: usize, policy: LeasePolicy) -> Self {
        Self {
            name: format!("fra1/edge-{number}").parse().unwrap(),
            policy,
            state: Arc::new(tempfile::tempdir().unwrap()),
            seen: Arc::default(),
            purged: Arc::default(),
        }
    }

    /// The host's name.
    pub fn host(&self) -> &str {
        self.name.node()
    }

    /// What the running daemon shows; `None` when none runs.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> Option<T> {
        self.seen.lock().as_ref().map(look)
    }

    /// To be called before the host is crashed: a process that is dead serves nothing.
    pub fn forget(&self) {
        self.seen.lock().take();
    }

    /// Whether it has applied that.
    pub fn has(&self, seq: Seq) -> bool {
        self.seen(|seen| seen.index.applied().covers(seq)) == Some(true)
    }

    /// Whether it holds a lease.
    pub fn is_leased(&self) -> bool {
        self.seen(|seen| seen.fence.is_leased()) == Some(true)
    }

    /// The host's software.
    pub async fn run(self) -> turmoil::Result {
        virtual_boottime();
        let config = DaemonConfig {
            node: self.name.clone(),
            policy: self.policy,
            parents: Vec::new(),
            control: ControlSection {
                endpoints: vec![format!("http://127.0.0.1:{}", network::PORT)],
                ca: None,
                cert: None,
                key: None,
                server_name: None,
                plaintext: true,
                feeds: batoff_edge::config::FeedsSetting::default(),
            },
            state_dir: self.state.path().to_owned(),
        };
        let opened = loop {
            match DaemonConfig::open(config.clone(), IndexConfig::default()) {
                Ok(opened) => break opened,
                // The last write of a daemon that died holds the directory a little longer.
                Err(StartError::State(StateError::Locked(_))) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error.into()),
            }
        };
        self.purged.lock().push(Vec::new());
        *self.seen.lock() = Some(Seen { fence: opened.fence(), index: opened.index() });
        let opened = opened.dial_with(network::dial());
        let _daemon = opened.start(vec![Box::new(Diary(Arc::clone(&self.purged)))]);
        std::future::pending().await
    }
}

struct Diary(Arc<Mutex<Vec<Vec<Seq>>>>);

#[async_trait]
impl Cache<u64> for Diary {
    fn name(&self) -> &str {
        "diary"
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let mut lives = self.0.lock();
        let life = lives.last_mut().expect("a life was begun");
        life.extend(records.iter().map(|record| record.seq));
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        Ok(())
    }
}
