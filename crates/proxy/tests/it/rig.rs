//! A proxy in front of an origin, and the hand that applies purges.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_edge::InProcess;
use batoff_edge::cache::Cache;
use batoff_edge::{Fence, Path, Standing};
use batoff_index::{Index, IndexConfig};
use batoff_program::listen::ListenersSection;
use batoff_proxy::origin::{Origins, Upstream};
use batoff_proxy::{Children, Locator, Proxy, Shield, Store};
use batoff_types::message::LeasePolicy;
use batoff_types::{
    Body, LogId, Purge, Record, Selector, Seq, SiteChange, SiteLimits, SiteTable, TaskId, UnixMillis,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::origin::Origin;
use crate::visitor::{Answer, Coming, ask, begin, send};

pub const HOST: &str = "www.example.test";

pub struct Rig {
    pub origin: Origin,
    pub index: Arc<Index<Locator>>,
    pub store: &'static Store,
    pub proxy: SocketAddr,
    pub standing: Arc<Standing>,
    pub path: Arc<Path>,
    cache: InProcess<&'static Store>,
    next_seq: AtomicU64,
    stop: CancellationToken,
}

pub struct Setup {
    pub policy: LeasePolicy,
    pub memory_bytes: u64,
    pub object_bytes_max: u64,
    /// One that others use, too.
    pub origin: Option<Origin>,
    /// Another cache on the way to the origin.
    pub parent: Option<SocketAddr>,
    /// Who may ask this one as a parent.
    pub children: &'static [&'static str],
    /// `[path] parents` is not empty.
    pub names_parents: bool,
    pub listeners: ListenersSection,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: LeasePolicy::Serve,
            memory_bytes: 64 << 20,
            object_bytes_max: 1 << 20,
            origin: None,
            parent: None,
            children: &[],
            names_parents: false,
            listeners: ListenersSection::default(),
        }
    }
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let origin = match setup.origin {
            Some(origin) => origin,
            None => Origin::start().await,
        };
        let index = Arc::new(Index::new(IndexConfig::default()));
        let path = Arc::new(Path::new(setup.names_parents));
        let store: &'static Store = Box::leak(Box::new(Store::new(
            index.clone(),
            path.clone(),
            setup.memory_bytes,
            setup.object_bytes_max,
        )));
        let upstream = setup.parent.unwrap_or_else(|| origin.address.unwrap());
        let upstream =
            Upstream::parse(&format!("http://{upstream}")).unwrap().as_parent(setup.parent.is_some());
        let standing = Arc::new(Standing::nowhere());
        standing.set(log_id(1), index.generation(), true);
        let shield = Shield::new(standing.clone(), Children::parse(setup.children).unwrap());
        let fence = Arc::new(Fence::new(setup.policy));
        let origins = Origins::new(Some(upstream), Vec::new());
        let proxy = Proxy::new(store, fence, origins, shield, false, Arc::default(), setup.listeners);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(proxy.serve(listener, stop.clone()));
        let rig = Self {
            origin,
            index,
            store,
            proxy: address,
            standing,
            path,
            cache: InProcess::new("proxy", store),
            next_seq: AtomicU64::new(1),
            stop,
        };
        let hostnames = vec![HOST.parse().unwrap()];
        rig.apply(Body::Site(SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        }))
        .await;
        rig
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers).await
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: Vec<_> = [("Host", HOST)].into_iter().chain(headers.iter().copied()).collect();
        ask(self.proxy, method, path, &headers).await
    }

    /// A request with a body, as it is on the wire.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers: Vec<_> = [("Host", HOST)].into_iter().chain(headers.iter().copied()).collect();
        send(self.proxy, method, path, &headers, body).await.rest().await
    }

    /// A request that is sent, and not read yet.
    pub async fn begin(&self, path: &str) -> Coming {
        begin(self.proxy, "GET", path, &[("Host", HOST)]).await
    }

    pub fn get_later(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        let (proxy, path) = (self.proxy, path.to_owned());
        tokio::spawn(async move { ask(proxy, "GET", &path, &[("Host", HOST)]).await })
    }

    pub async fn purge(&self, selector: Selector) -> u64 {
        self.purge_as(selector, false).await
    }

    pub async fn soft_purge(&self, selector: Selector) -> u64 {
        self.purge_as(selector, true).await
    }

    async fn purge_as(&self, selector: Selector, soft: bool) -> u64 {
        self.apply(Body::Purge(Purge { site: "shop".parse().unwrap(), selectors: vec![selector], soft }))
            .await
    }

    /// Applies a record and cleans up after it, as the daemon does; the number of objects that it hit.
    pub async fn apply(&self, body: Body) -> u64 {
        let mut matches = self.index.apply(&self.record(body));
        while let Some(batch) = matches.next_batch(100) {
            self.cache.evict(&batch).await.unwrap();
        }
        matches.found()
    }

    /// Only the rule; the objects stay where they are.
    pub fn rule(&self, selector: Selector) {
        let purge = Purge { site: "shop".parse().unwrap(), selectors: vec![selector], soft: false };
        drop(self.index.apply(&self.record(Body::Purge(purge))));
    }

    fn record(&self, body: Body) -> Record {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        Record {
            seq: Seq::new(seq).unwrap(),
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([1; 16]),
            request_id: "test".into(),
            semantics: 1,
            trace: None,
            body,
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The log that a rig follows is the first; it stands at 1 in it.
pub fn log_id(number: u8) -> LogId {
    LogId::from_bytes([number; 16])
}

/// The sites as a rig has them.
pub fn sites() -> SiteTable {
    let mut sites = SiteTable::default();
    sites.set(&"shop".parse().unwrap(), Some(&[HOST.parse().unwrap()]));
    sites
}

pub fn url(path: &str) -> Selector {
    Selector::Url(format!("https://{HOST}{path}").parse().unwrap())
}

pub fn prefix(path: &str) -> Selector {
    Selector::Prefix(format!("https://{HOST}{path}").parse().unwrap())
}

pub fn tag(tag: &str) -> Selector {
    Selector::Tag(tag.parse().unwrap())
}
