//! A client of two control planes that share a store, and one of them dies in the middle.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batoff_client::{Client, Credentials, Endpoint, PurgeRequest, Task};
use batoff_control::catalog::{IssuedToken, NewToken, Scope};
use batoff_control::clock::Clock;
use batoff_control::commit::CommitError;
use batoff_control::config::Config;
use batoff_control::http_server::{self, Listening};
use batoff_control::server::Parts;
use batoff_control::service::Services;
use batoff_control::{api, init};
use batoff_log::system_clock;
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::EtcdServers;
use batoff_program::gate::{Gate, Limits};
use batoff_program::listen::ListenersSection;
use batoff_types::{SiteChange, SiteLimits};
use futures_util::stream;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane's API, on a runtime of its own so that it can die in an instant.
struct ControlPlane {
    runtime: Option<Runtime>,
    services: Option<Arc<Services>>,
    url: String,
}

impl ControlPlane {
    async fn start(servers: &EtcdServers, dir: &Path) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let etcd = servers.config(system_clock());
        let dir = dir.to_owned();
        let starting = runtime.spawn(async move {
            let store = EtcdStore::open(etcd).await.unwrap();
            let text = format!("[data]\ndir = {dir:?}\n[grpc]\nplaintext = true\n");
            let config = Config::parse(&text, std::iter::empty()).unwrap();
            let secrets = init::load(&dir).unwrap();
            let parts =
                Parts::assemble(config, Clock::system(), store, secrets, Handle::current()).await.unwrap();
            let services = Arc::clone(&parts.services);
            let nobody = stream::pending::<std::io::Result<DuplexStream>>();
            tokio::spawn(parts.serve_nodes(nobody));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let how = Listening {
                gate: Gate::new("api", Limits::of(64)),
                patience: ListenersSection::default().patience(),
                proxies: Vec::new(),
                tls: None,
            };
            let router = api::router(Arc::clone(&services));
            tokio::spawn(http_server::serve(listener, how, router, CancellationToken::new()));
            (services, url)
        });
        let (services, url) = starting.await.unwrap();
        Self { runtime: Some(runtime), services: Some(services), url }
    }

    fn services(&self) -> &Services {
        self.services.as_ref().unwrap()
    }

    fn kill(&mut self) {
        self.services = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    async fn issue(&self) -> IssuedToken {
        let change = SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: Some(vec!["www.example.com".parse().unwrap()]),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        };
        let commit = &self.services().commit;
        commit.change_sites("test", |_| Ok::<_, CommitError>(vec![change])).await.unwrap();
        let new = NewToken {
            site: "shop".parse().unwrap(),
            label: "t".into(),
            scopes: vec![Scope::Purge],
            expires_at: None,
            created_by: "t".into(),
        };
        self.services().catalog.issue(new).await.unwrap()
    }

    async fn knows(&self, token: &str) {
        let knows = async {
            let catalog = &self.services().catalog;
            while catalog.find(token).is_err() || !catalog.has(&"shop".parse().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, knows).await.unwrap();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}

fn purge(path: &str) -> PurgeRequest {
    PurgeRequest::default().url(format!("https://www.example.com{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_with_one_is_waited_for_and_followed_with_the_other() {
    let servers = EtcdServers::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    init::init(dir.path()).unwrap();
    let mut first = ControlPlane::start(&servers, dir.path()).await;
    let second = ControlPlane::start(&servers, dir.path()).await;
    let token = first.issue().await;
    second.knows(&token.text).await;
    let endpoint = Endpoint::new(&format!("{},{}", first.url, second.url)).unwrap();
    let client = Client::new(endpoint, Credentials::new(&token.text, &token.secret)).unwrap();

    let mut events = client.events("shop", None).await.unwrap();
    let submission = client.prepare("shop", &purge("/a"), None).unwrap();
    let task = client.send(&submission).await.unwrap();
    let told: Task = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.task_id, task.task_id);
    first.kill();

    let done = client.wait("shop", &task.task_id, PATIENCE).await.unwrap();
    assert!(done.is_completed(), "{done:?}");
    // The same bytes once more, as if the answer had been lost with the first: the same purge.
    assert_eq!(client.send(&submission).await.unwrap().task_id, task.task_id);
    let next = client.submit("shop", &purge("/b")).await.unwrap();
    assert_ne!(next.task_id, task.task_id);

    let mut last = events.last_id().map(str::to_owned);
    let followed = async {
        loop {
            match events.next().await {
                Ok(Some(told)) if told.task_id == next.task_id => return,
                Ok(Some(_)) => last = events.last_id().map(str::to_owned),
                Ok(None) | Err(_) => events = client.events("shop", last.as_deref()).await.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.unwrap();
}
