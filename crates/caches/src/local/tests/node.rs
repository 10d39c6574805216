//! A node without its control plane: index, fence, pages, socket, and the caches as the lanes drive them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_edge::cache::{Cache, CacheTrouble};
use batoff_edge::{Fence, boottime};
use batoff_index::{Index, IndexConfig};
use batoff_types::message::LeasePolicy;
use batoff_types::{
    Body, HostPattern, Purge, Record, Selector, Seq, SiteChange, SiteLimits, TaskId, UnixMillis,
};
use batoff_wire::local::pb::{self, local_client::LocalClient};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::local::{self, LocalSection, Mode};
use crate::{Locator, Surroundings};

pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Node {
    pub index: Arc<Index<Locator>>,
    pub fence: Arc<Fence>,
    pub caches: Vec<Box<dyn Cache<Locator>>>,
    pub section: LocalSection,
    stop: CancellationToken,
    pub path: Arc<batoff_edge::Path>,
    last: AtomicU64,
    dir: tempfile::TempDir,
}

/// A node that drives a cache of this name has parents.
pub const CHILD: &str = "child";

impl Node {
    pub async fn start(policy: LeasePolicy, caches: &[(&str, Mode)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let section = LocalSection {
            socket: dir.path().join("local.sock"),
            pages: dir.path().join("pages"),
            group: None,
            caches: caches.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect::<BTreeMap<_, _>>(),
            confirm_within_ms: 20_000,
            resync_within_ms: 20_000,
            objects_max: 100_000,
        };
        Self::open(dir, section, policy, Index::new(IndexConfig::default())).await.with_site()
    }

    /// The same with other limits.
    pub async fn with(self, change: impl FnOnce(&mut LocalSection)) -> Self {
        let mut section = self.section.clone();
        change(&mut section);
        let policy = self.fence.policy();
        Self::open(self.end(), section, policy, Index::new(IndexConfig::default())).await.with_site()
    }

    /// As after a kill of the daemon: the rules are there again, and no objects.
    pub async fn restart(self) -> Self {
        let (index, policy, section) = (self.index.snapshot(), self.fence.policy(), self.section.clone());
        let last = self.last.load(Ordering::Relaxed);
        let node =
            Self::open(self.end(), section, policy, Index::restore(IndexConfig::default(), index)).await;
        node.last.store(last, Ordering::Relaxed);
        node
    }

    async fn open(
        dir: tempfile::TempDir,
        section: LocalSection,
        policy: LeasePolicy,
        index: Index<Locator>,
    ) -> Self {
        let (index, fence, stop) = (Arc::new(index), Arc::new(Fence::new(policy)), CancellationToken::new());
        let path = Arc::new(batoff_edge::Path::new(section.caches.contains_key(CHILD)));
        fence.set_until(boottime() + Duration::from_secs(3_600));
        let around = Surroundings {
            index: Arc::clone(&index),
            fence: Arc::clone(&fence),
            path: Arc::clone(&path),
            overflow: Arc::default(),
            policy,
            state_dir: dir.path().to_owned(),
            provenance: batoff_edge::Provenance::new(batoff_edge::Identity::random(), Arc::clone(&fence)),
            resumes: true,
            stop: stop.clone(),
        };
        let begun = std::time::Instant::now();
        let caches = loop {
            // Until what ran before has let go of its pages.
            match local::open(&section, around.clone()).await {
                Ok(caches) => break caches,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self { index, fence, caches, section, stop, path, last: AtomicU64::new(0), dir }
    }

    fn with_site(self) -> Self {
        let hostnames: Vec<HostPattern> = vec!["www.example.test".parse().unwrap()];
        let site = Body::Site(SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        });
        drop(self.index.apply(&self.record(site)));
        self
    }

    fn end(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.dir
    }

    fn record(&self, body: Body) -> Record {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (seq, task) = (Seq::new(number).unwrap(), TaskId::from_bytes([1; 16]));
        Record {
            seq,
            accepted_at: UnixMillis(0),
            task,
            request_id: "".into(),
            semantics: 1,
            trace: None,
            body,
        }
    }

    /// Puts a purge in force, and does with every cache what its lane does, until the record could be acknowledged.
    pub async fn purge(&self, selector: Selector) -> Result<(), CacheTrouble> {
        self.apply(selector, false).await
    }

    pub async fn purge_soft(&self, selector: Selector) -> Result<(), CacheTrouble> {
        self.apply(selector, true).await
    }

    async fn apply(&self, selector: Selector, soft: bool) -> Result<(), CacheTrouble> {
        let purge = Purge { site: "shop".parse().unwrap(), selectors: vec![selector], soft };
        let record = Arc::new(self.record(Body::Purge(purge)));
        let mut matches = self.index.apply(&record);
        for cache in &self.caches {
            cache.begin(std::slice::from_ref(&record)).await?;
        }
        while let Some(batch) = matches.next_batch(1_000) {
            for cache in &self.caches {
                cache.evict(&batch).await?;
            }
        }
        for cache in &self.caches {
            cache.finish().await?;
            cache.let_go(record.seq);
        }
        Ok(())
    }

    pub fn page(&self, cache: &str) -> batoff_edge_client::Page {
        batoff_edge_client::Page::open(&self.section.pages.join(format!("{cache}.page"))).unwrap()
    }

    pub fn config(&self, cache: &str) -> batoff_edge_client::Config {
        let config = batoff_edge_client::Config::new(cache);
        batoff_edge_client::Config { socket: PathBuf::from(&self.section.socket), ..config }
    }

    pub fn socket(&self) -> &std::path::Path {
        &self.section.socket
    }

    /// A cache that is written by hand.
    pub fn raw(&self) -> LocalClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.section.socket.display())).unwrap();
        LocalClient::new(endpoint.connect_lazy())
    }

    pub async fn status(&self) -> Vec<pb::CacheStatus> {
        self.raw().status(pb::StatusRequest {}).await.unwrap().into_inner().caches
    }
}

pub fn url(path: &str) -> String {
    format!("https://www.example.test{path}")
}

pub fn by_url(path: &str) -> Selector {
    Selector::Url(url(path).parse().unwrap())
}

pub fn by_tag(tag: &str) -> Selector {
    Selector::Tag(tag.parse().unwrap())
}

/// Asks again and again until it is so.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !so().await {
        assert!(begun.elapsed() < PATIENCE, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
