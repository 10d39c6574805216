//! Varnish, driven by its own means: `PURGE` and xkey over a listener that only the daemon reaches, bans over its command
//! line, and a lease that it can see. What it needs to know stands in `deploy/varnish/batoff.vcl`.
//!
//! ```text
//!  records ──▶ guard (fetches under way will not be stored) ──▶ settle ──▶ PURGE, xkey, ban ──▶ ack
//! ```
//! Varnish takes an answer that was on its way before a purge for newer than it: purges and bans pass over fetches whose
//! header has not come. So the guard is moved first, which every fetch compares at its beginning and at its header.
//! Between that comparison and the object's place in the cache lie microseconds, which the purge waits out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_index::Index;
use batoff_types::{Body, HostPattern, Moment, Record, SiteId, SiteTable};
use tokio::sync::Mutex;

use self::cli::Cli;
use self::orders::{Orders, purge_request};
use super::http::{Address, Pipeline, Reply};
use super::slots::{SlotNames, Slots, SlotsConfig};
use super::{Cache, CacheOpenError, CacheTrouble, Locator, Needs, Proof, Surroundings};

mod ban;
mod check;
mod cli;
mod config;
mod orders;

pub use self::check::{CheckArgs, check};
pub use self::cli::CliError;
pub use self::config::VarnishSection;

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "varnish";

/// The version of `batoff.vcl` that this build speaks to.
const VCL_VERSION: &str = "1";

/// Hosts that have a guard of their own. Varnish keeps the guards in a list; further hosts share the one of all.
const GUARDED_HOSTS_MAX: usize = 256;

/// One varnishd.
pub struct Varnish {
    settle: Duration,
    slots: Slots,
    index: Arc<Index<Locator>>,
    link: Mutex<Link>,
}

/// What is kept between two groups of records.
struct Link {
    purger: Pipeline,
    cli: Cli,
    /// Tells this run of the daemon from others, so that no guard has ever had its values before.
    instance: String,
    moves: u64,
    guarded: BTreeSet<String>,
    /// Whose each hostname is where the records stand that come here; the index may be ahead.
    sites: SiteTable,
    /// Whether varnishd has been spoken to by this run.
    met: bool,
}

impl Varnish {
    /// Prepares the folder of the lease and looks whether varnishd is there. One that does not answer yet is waited for;
    /// one that answers wrongly is refused.
    pub async fn open(section: &VarnishSection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let setup = |message: String| CacheOpenError::Setup { cache: NAME, message };
        if let Err(source) = std::fs::read(&section.secret) {
            return Err(setup(CliError::Secret { path: section.secret.clone(), source }.to_string()));
        }
        let slots = SlotsConfig {
            names: SlotNames::Plain,
            guard: Duration::from_millis(section.slot_guard_ms),
            follows_process: false,
        };
        let slots = Slots::start(slots, around.fence, [section.lease_dir.clone()], around.stop);
        // What is missing or read-only may be a mount that comes late.
        let slots = slots.map_err(|error| {
            let dir = section.lease_dir.display();
            let message = format!(
                "cannot keep the lease in {dir}: {error}; make it a folder on a tmpfs that this user can write to, and no \
                 other daemon's"
            );
            CacheOpenError::Temporary { cache: NAME, message }
        })?;
        let sites = SiteTable::clone(&around.index.sites());
        let mut link = Link::new(section, sites).map_err(setup)?;
        match link.probe().await {
            Ok(()) => tracing::info!(at = %link.purger.address(), "varnish found"),
            Err(Probe::Silent(error)) => {
                tracing::warn!(at = %link.purger.address(), %error, "varnish does not answer yet");
            }
            Err(Probe::Wrong(message)) => return Err(setup(message)),
        }
        match link.cli.run(&[]).await {
            Err(error @ (CliError::Secret { .. } | CliError::Refused { .. } | CliError::Command { .. })) => {
                return Err(setup(error.to_string()));
            }
            Err(error @ CliError::Connection { .. }) => tracing::warn!(%error, "bans will have to wait"),
            Ok(_) => {}
        }
        let settle = Duration::from_millis(section.settle_ms);
        Ok(Self { settle, slots, index: around.index, link: Mutex::new(link) })
    }

    /// Guard, settle, remove.
    async fn carry_out(&self, link: &mut Link, orders: &Orders) -> Result<(), CacheTrouble> {
        link.probe().await.map_err(|error| CacheTrouble(error.to_string()))?;
        link.guard(orders).await?;
        tokio::time::sleep(self.settle).await;
        link.remove(orders).await
    }
}

#[async_trait]
impl Cache<Locator> for Varnish {
    fn name(&self) -> &str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let mut link = self.link.lock().await;
        let now = self.index.sites();
        let mut sites = link.sites.clone();
        // A hostname that comes or goes within the group counts before and after.
        let mut tables = vec![now];
        for record in records {
            if let Body::Site(change) = &record.body {
                tables.push(Arc::new(sites.clone()));
                sites.apply(change);
            }
        }
        tables.push(Arc::new(sites.clone()));
        let orders = Orders::of(records, |site| hostnames(&tables, site));
        self.carry_out(&mut link, &orders).await?;
        link.sites = sites;
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        let mut link = self.link.lock().await;
        self.carry_out(&mut link, &Orders::everything()).await?;
        link.sites = SiteTable::clone(&self.index.sites());
        Ok(())
    }

    fn serve_until(&self, _until: Moment) {
        self.slots.lease_changed();
    }
}

/// Every name that the site has in one of the tables.
fn hostnames(tables: &[Arc<SiteTable>], site: &SiteId) -> BTreeSet<HostPattern> {
    tables.iter().filter_map(|table| table.hostnames(site.as_str())).flatten().cloned().collect()
}

/// What became of the question whether our VCL is there.
#[derive(Debug, thiserror::Error)]
enum Probe {
    #[error("{0}")]
    Silent(String),
    #[error("{0}")]
    Wrong(String),
}

impl Link {
    fn new(section: &VarnishSection, sites: SiteTable) -> Result<Self, String> {
        let lurker = format!("param.set ban_lurker_age {}", section.ban_lurker_age_secs);
        Ok(Self {
            purger: Pipeline::new(section.purge.parse()?),
            cli: Cli::new(&section.cli, section.secret.clone(), vec![lurker]),
            instance: format!("{:032x}", rand::random::<u128>()),
            moves: 0,
            guarded: BTreeSet::new(),
            sites,
            met: false,
        })
    }

    /// Asks whether `batoff.vcl` is loaded, and notices when varnishd was restarted.
    async fn probe(&mut self) -> Result<(), Probe> {
        let request = purge_request("batoff", "/", &format!("Batoff-Probe: {}\r\n", self.instance));
        let replies = self.purger.send(&[request]).await;
        let replies = replies.map_err(|error| Probe::Silent(unreachable(self.purger.address(), &error).0))?;
        let reply = replies.first();
        let known = reply.and_then(|reply| reply.header("batoff-value")).unwrap_or_default();
        match reply.and_then(|reply| reply.header("batoff-vcl")) {
            Some(VCL_VERSION) => {}
            Some(other) => {
                return Err(Probe::Wrong(format!(
                    "batoff.vcl there is version {other}, this daemon speaks {VCL_VERSION}; load the one of this release"
                )));
            }
            None => {
                let status = reply.map_or(0, |reply| reply.status);
                return Err(Probe::Wrong(format!(
                    "{} answers, but not as batoff.vcl does (status {status}): include it at the end of Varnish's VCL, and \
                     name the listener with -a batoff=…",
                    self.purger.address()
                )));
            }
        }
        if self.met && known != self.instance {
            tracing::info!("varnish was restarted; its cache is empty");
            metrics::counter!("batoff_edge_cache_restarts_total", "cache" => NAME).increment(1);
            self.guarded.clear();
        }
        self.met = true;
        Ok(())
    }

    /// When this returns, no answer whose fetch has begun will be stored, of the hosts concerned.
    async fn guard(&mut self, orders: &Orders) -> Result<(), CacheTrouble> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for host in &orders.guards {
            if self.guarded.contains(host) || self.guarded.len() < GUARDED_HOSTS_MAX {
                self.guarded.insert(host.clone());
                names.insert(host);
            } else {
                names.insert("*");
            }
        }
        if orders.guard_all {
            names.insert("*");
        }
        self.moves += 1;
        let value = format!("{}-{}", self.instance, self.moves);
        let request = |name: &&str| {
            purge_request("batoff", "/", &format!("Batoff-Guard: {name}\r\nBatoff-Value: {value}\r\n"))
        };
        let requests: Vec<_> = names.iter().map(request).collect();
        let replies = self.purger.send(&requests).await;
        accepted(&replies.map_err(|error| unreachable(self.purger.address(), &error))?)
    }

    /// Takes out what is stored.
    async fn remove(&mut self, orders: &Orders) -> Result<(), CacheTrouble> {
        let (requests, bans) = (orders.requests(), orders.bans());
        let Self { purger, cli, .. } = self;
        let purged = async {
            let replies =
                purger.send(&requests).await.map_err(|error| unreachable(purger.address(), &error))?;
            accepted(&replies)
        };
        let banned = async {
            match cli.run(&bans).await {
                Ok(_) => Ok(()),
                Err(error) => Err(CacheTrouble(error.to_string())),
            }
        };
        let (purged, banned) = tokio::join!(purged, banned);
        purged.and(banned)
    }
}

/// Whether `batoff.vcl` has done what it was told.
fn accepted(replies: &[Reply]) -> Result<(), CacheTrouble> {
    let refused = replies.iter().find(|reply| reply.status != 200 || reply.header("batoff-vcl").is_none());
    match refused {
        None => Ok(()),
        Some(reply) => Err(CacheTrouble(format!("varnish answered a purge with {}", reply.status))),
    }
}

fn unreachable(address: &Address, error: &std::io::Error) -> CacheTrouble {
    CacheTrouble(format!("varnish at {address}: {error}"))
}
