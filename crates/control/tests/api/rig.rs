//! A control plane in this process, with two sites and a token, and requests that are signed for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_control::catalog::{IssuedToken, NewToken, Scope, TOKEN_PREFIX, generate};
use batoff_control::clock::Clock;
use batoff_control::commit::{CommitError, affected};
use batoff_control::service::Services;
use batoff_types::{Body, Selector, SiteChange, SiteLimits, UnixMillis};
use tempfile::TempDir;

use crate::assembly::Assembly;
use crate::client::Request;
use crate::faulty_store::Faults;

/// 2026-04-20T08:12:31Z
const START_MILLIS: u64 = 1_776_672_751_000;

pub struct Rig {
    pub services: Arc<Services>,
    pub faults: Faults,
    /// Has the form of a token, and is none.
    pub never_issued: String,
    wall: Arc<AtomicU64>,
    stamps: AtomicU64,
    owner: IssuedToken,
    reader: IssuedToken,
    assembly: Assembly,
    dir: TempDir,
    settings: Vec<(String, String)>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With variables of the environment that override the configuration.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let dir = tempfile::tempdir().unwrap();
        batoff_control::init::init(dir.path()).unwrap();
        let wall = Arc::new(AtomicU64::new(START_MILLIS));
        let (assembly, services, faults) = open(&dir, &wall, &settings).await;
        change_site(
            &services,
            "shop",
            Some(&["www.example.com", "*.img.example.com"]),
            SiteLimits::default(),
        )
        .await;
        change_site(
            &services,
            "blog",
            Some(&["blog.example.com", "blog.img.example.com"]),
            SiteLimits::default(),
        )
        .await;
        let owner = issue(&services, "shop", Scope::Purge).await;
        let reader = issue(&services, "shop", Scope::Read).await;
        Self {
            never_issued: generate(TOKEN_PREFIX).to_string(),
            stamps: AtomicU64::new(0),
            services,
            faults,
            wall,
            owner,
            reader,
            assembly,
            dir,
            settings,
        }
    }

    /// The same data under a new process's memory.
    pub async fn restart(self) -> Self {
        let Self { assembly, services, dir, wall, settings, .. } = self;
        drop(services);
        assembly.stop().await;
        let (assembly, services, faults) = open(&dir, &wall, &settings).await;
        Self { services, faults, assembly, dir, wall, settings, ..self }
    }

    /// A request of the owner's, signed now.
    pub fn request(&self, method: &str, target: &str) -> Request {
        // Decimals below the millisecond tell two requests of one instant apart.
        let wall = self.wall.load(Ordering::SeqCst);
        let stamp = self.stamps.fetch_add(1, Ordering::SeqCst);
        let timestamp = format!("{}.{:03}{stamp:06}", wall / 1_000, wall % 1_000);
        Request {
            to: self.assembly.api,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            token: Some(self.owner.text.to_string()),
            secret: self.owner.secret.to_string(),
            timestamp: Some(timestamp),
            signature: None,
        }
    }

    pub fn post(&self, body: &str) -> Request {
        self.request("POST", "/v1/sites/shop/purge").json(body)
    }

    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    /// The same request by somebody who may only read.
    pub fn reader(&self, request: Request) -> Request {
        request.token(&self.reader.text).secret(&self.reader.secret)
    }

    /// The same bytes, to where the control plane listens now.
    pub fn again(&self, request: &Request) -> Request {
        Request { to: self.assembly.api, ..request.clone() }
    }

    pub fn advance_millis(&self, millis: u64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn wall_secs(&self) -> u64 {
        self.wall.load(Ordering::SeqCst) / 1_000
    }

    /// The wall clock as the API writes times.
    pub fn wall_text(&self) -> String {
        jiff::Timestamp::from_second(self.wall_secs().cast_signed()).unwrap().to_string()
    }

    pub async fn issue(&self, site: &str) -> IssuedToken {
        issue(&self.services, site, Scope::Purge).await
    }

    /// The tasks of the shop, newest first.
    pub async fn tasks(&self) -> Vec<String> {
        let rows = self.services.store.log().list_tasks(&"shop".parse().unwrap(), None, 200).await.unwrap();
        rows.iter().map(|row| row.task.to_string()).collect()
    }

    /// Quotas so small that what is taken does not come back while a test runs.
    pub async fn set_limits(&self, items_per_minute: u32, prefixes_per_minute: u32) {
        self.set_shop(&["www.example.com"], items_per_minute, prefixes_per_minute).await;
    }

    pub async fn set_shop(&self, hostnames: &[&str], items_per_minute: u32, prefixes_per_minute: u32) {
        let limits = SiteLimits {
            items_per_minute: Some(items_per_minute),
            prefixes_per_minute: Some(prefixes_per_minute),
            ..SiteLimits::default()
        };
        change_site(&self.services, "shop", Some(hostnames), limits).await;
    }

    /// Where nodes connect to.
    pub fn grpc(&self) -> SocketAddr {
        self.assembly.grpc
    }

    /// Until so many nodes answer a count.
    pub async fn wait_for_nodes(&self, count: u32) {
        let site = "shop".parse().unwrap();
        let answered = async {
            while self.services.tracker.count(&site, &[Selector::Everything]).await.nodes_answered < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answered).await.expect("the nodes do not answer");
    }

    /// Waits until this many nodes may serve.
    pub async fn wait_for_leases(&self, count: usize) {
        let leased = async {
            while self.services.tracker.nodes().iter().filter(|node| !node.lease_remaining.is_zero()).count()
                < count
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), leased).await.expect("the nodes have no leases");
    }

    /// A node that counts and never comes.
    pub async fn register_absent_node(&self, node: &str) {
        let body = Body::NodeRegistered(node.parse().unwrap());
        self.services.commit.append_body(body, "rig").await.unwrap();
    }
}

async fn open(
    dir: &TempDir,
    wall: &Arc<AtomicU64>,
    settings: &[(String, String)],
) -> (Assembly, Arc<Services>, Faults) {
    let read = Arc::clone(wall);
    let clock = Clock::with_wall(move || UnixMillis(read.load(Ordering::SeqCst)));
    Assembly::start(dir.path(), clock, settings).await
}

async fn issue(services: &Services, site: &str, scope: Scope) -> IssuedToken {
    let new = NewToken {
        site: site.parse().unwrap(),
        label: "test".into(),
        scopes: vec![scope],
        expires_at: None,
        created_by: "rig".into(),
    };
    services.catalog.issue(new).await.unwrap()
}

async fn change_site(services: &Services, site: &str, hostnames: Option<&[&str]>, limits: SiteLimits) {
    let hostnames: Option<Vec<_>> =
        hostnames.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    let decide = |table: &batoff_types::SiteTable| {
        let affected = affected(table, site, hostnames.as_deref().unwrap_or_default());
        Ok::<_, CommitError>(vec![SiteChange { site: site.parse().unwrap(), hostnames, affected, limits }])
    };
    services.commit.change_sites("rig", decide).await.unwrap();
}
