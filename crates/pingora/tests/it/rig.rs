use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_edge::{Fence, Path};
use batoff_index::{Index, IndexConfig};
use batoff_pingora::Purges;
use batoff_types::message::LeasePolicy;
use batoff_types::{Body, Purge, Record, Selector, Seq, SiteChange, SiteLimits, TaskId, UnixMillis};
use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::minimal::Minimal;
use crate::origin::Origin;
use crate::visitor::{Answer, ask};

/// The example has one storage a process, so each story has a hostname of its own.
static STORIES: AtomicU64 = AtomicU64::new(0);

pub struct Rig {
    pub origin: Origin,
    pub index: Arc<Index<()>>,
    proxy: SocketAddr,
    host: String,
    next_seq: AtomicU64,
}

impl Rig {
    pub async fn start(policy: LeasePolicy) -> Self {
        let origin = Origin::start().await;
        let index = Arc::new(Index::new(IndexConfig::default()));
        let (fence, path) = (Arc::new(Fence::new(policy)), Arc::new(Path::new(false)));
        let purges = Purges::new(index.clone(), fence, path, Arc::default());
        let minimal = Minimal { origin: origin.address.unwrap().to_string(), purges };
        let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), minimal));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (_server, shutdown) = watch::channel(false);
            while let Ok((stream, _)) = listener.accept().await {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                tokio::spawn(async move { app.process_new(Box::new(Stream::from(stream)), &shutdown).await });
            }
        });
        let host = format!("story-{}.test", STORIES.fetch_add(1, Ordering::Relaxed));
        let rig = Self { origin, index, proxy, host, next_seq: AtomicU64::new(1) };
        let hostnames = vec![rig.host.parse().unwrap()];
        rig.apply(Body::Site(SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        }));
        rig
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_of(&self.host, path).await
    }

    pub async fn get_of(&self, host: &str, path: &str) -> Answer {
        ask(self.proxy, "GET", path, &[("Host", host)]).await
    }

    pub fn get_later(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        let (proxy, path, host) = (self.proxy, path.to_owned(), self.host.clone());
        tokio::spawn(async move { ask(proxy, "GET", &path, &[("Host", &host)]).await })
    }

    pub fn purge(&self, selector: Selector, soft: bool) {
        self.apply(Body::Purge(Purge { site: "shop".parse().unwrap(), selectors: vec![selector], soft }));
    }

    pub fn url(&self, path: &str) -> Selector {
        Selector::Url(format!("https://{}{path}", self.host).parse().unwrap())
    }

    pub fn prefix(&self, path: &str) -> Selector {
        Selector::Prefix(format!("https://{}{path}", self.host).parse().unwrap())
    }

    fn apply(&self, body: Body) {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        drop(self.index.apply(&Record {
            seq: Seq::new(seq).unwrap(),
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([1; 16]),
            request_id: "test".into(),
            semantics: 1,
            trace: None,
            body,
        }));
    }
}
