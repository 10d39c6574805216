//! Varnish, driven by its own means: `PURGE` and xkey over a listener that only the daemon reaches, bans over its command
//! line, and a lease that it can see. What it needs to know stands in `deploy/varnish/batoff.vcl`.
//!
//! ```text
//!  records ──▶ guard (fetches under way will not be stored) ──▶ settle ──▶ PURGE, xkey, ban ──▶ ack
//! ```
//! Varnish takes an answer that was on its way before a purge for newer than it: purges and bans pass over fetches whose
//! header has not come. So the guard is moved first, which every fetch compares at its beginning and at its header.
//! Between that comparison and the object's place in the cache lie microseconds, which the purge waits out.
//!
//! Varnish bears the identity of the state that it was last emptied under, in its memory beside what it holds. One that
//! bears none (it was restarted, or nobody has driven it yet) or another one is emptied before anything else is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_index::Index;
use batoff_types::{Body, HostPattern, Moment, Record, SiteId, SiteTable};
use tokio::sync::Mutex;

use self::link::{Link, Probe};
use self::orders::Orders;
use self::owned::Owned;
use super::slots::{SlotNames, Slots, SlotsConfig};
use super::{Cache, CacheOpenError, CacheTrouble, Locator, Needs, OwnFolder, Proof, Surroundings};
use crate::Provenance;

mod ban;
mod check;
mod cli;
mod config;
mod link;
mod orders;
mod owned;

pub use self::check::{CheckArgs, check};
pub use self::cli::CliError;
pub use self::config::VarnishSection;

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "varnish";

/// How long a varnishd that does not answer yet is waited for at the start. Without an answer nobody knows what it holds,
/// and the node is reset.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Between two attempts.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Between two looks whether the hostnames' files are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One varnishd.
pub struct Varnish {
    settle: Duration,
    slots: Slots,
    index: Arc<Index<Locator>>,
    book: Arc<Mutex<Book>>,
}

/// What is kept between two groups of records.
struct Book {
    link: Link,
    owned: Owned,
    /// Whose each hostname is where the records stand that come here; the index may be ahead.
    sites: SiteTable,
}

impl Varnish {
    /// Prepares the folder of the lease and looks whether varnishd is there, and whose what it holds is. One that does not
    /// answer yet is waited for; one that answers wrongly is refused.
    pub async fn open(section: &VarnishSection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let setup = |message: String| CacheOpenError::Setup { cache: NAME, message };
        // What is missing or read-only may be a mount that comes late.
        let dir = section.lease_dir.display();
        let in_the_way = |error: std::io::Error| {
            let message = format!(
                "cannot keep the lease in {dir}: {error}; make it a folder on a tmpfs that this user can write to, and no \
                 other daemon's"
            );
            CacheOpenError::Temporary { cache: NAME, message }
        };
        if let Err(source) = std::fs::read(&section.secret) {
            return Err(setup(CliError::Secret { path: section.secret.clone(), source }.to_string()));
        }
        let owned = Owned::open(&section.lease_dir).map_err(in_the_way)?;
        // Nothing of another daemon's is touched.
        let held = OwnFolder::take(&section.lease_dir).map_err(in_the_way)?;
        let sites = SiteTable::clone(&around.index.sites());
        let link = Link::new(section, around.provenance.identity()).map_err(setup)?;
        let mut book = Book { link, owned, sites };
        let settle = Duration::from_millis(section.settle_ms);
        book.meet(settle, &around.provenance).await.map_err(setup)?;
        book.owned.bring_in_line(&book.sites).map_err(in_the_way)?;
        drop(held);
        let slots = SlotsConfig {
            names: SlotNames::Plain,
            guard: Duration::from_millis(section.slot_guard_ms),
            follows_process: false,
        };
        let slots = Slots::start(slots, around.fence, [section.lease_dir.clone()], around.stop.clone());
        let slots = slots.map_err(in_the_way)?;
        let book = Arc::new(Mutex::new(book));
        let looked_after = Arc::clone(&book);
        tokio::spawn(async move { around.stop.run_until_cancelled(look_after(looked_after)).await });
        Ok(Self { settle, slots, index: around.index, book })
    }
}

/// Makes the hostnames' files anew when somebody has removed some.
async fn look_after(book: Arc<Mutex<Book>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut book = book.lock().await;
        let Book { owned, sites, .. } = &mut *book;
        owned.repair(sites);
    }
}

impl Book {
    /// Looks whether varnishd is there and bears this state's identity. One that does not is emptied at once; where that
    /// cannot be, the node starts over. `Err`: the operator has to change something.
    async fn meet(&mut self, settle: Duration, provenance: &Provenance) -> Result<(), String> {
        let asked = tokio::time::Instant::now();
        let known = loop {
            match self.link.probe().await {
                Ok(known) => break known,
                Err(Probe::Wrong(message)) => return Err(message),
                Err(Probe::Silent(error)) if asked.elapsed() >= ANSWER_WITHIN => {
                    provenance.start_over(NAME, error);
                    return Ok(());
                }
                Err(Probe::Silent(_)) => tokio::time::sleep(ASK_EVERY).await,
            }
        };
        tracing::info!(at = %self.link.address(), "varnish found");
        match self.link.parameters().await {
            Ok(parameters) => parameters.validate()?,
            Err(error @ CliError::Connection { .. }) => tracing::warn!(%error, "bans will have to wait"),
            Err(error) => return Err(error.to_string()),
        }
        if self.link.is_mine(&known) {
            self.link.met();
        } else if let Err(CacheTrouble(error)) = self.carry_out(settle, &Orders::everything()).await {
            provenance.start_over(NAME, error);
        }
        Ok(())
    }

    /// Guard, settle, remove.
    async fn carry_out(&mut self, settle: Duration, orders: &Orders) -> Result<(), CacheTrouble> {
        let known = self.link.probe().await.map_err(|error| CacheTrouble(error.to_string()))?;
        let everything = Orders::everything();
        let emptied = !self.link.has_been_mine(&known)?;
        let orders = if emptied { &everything } else { orders };
        self.link.guard(orders).await?;
        tokio::time::sleep(settle).await;
        self.link.remove(orders).await?;
        if emptied || orders.flush { self.link.mark().await } else { Ok(()) }
    }

    /// What is stored under a hostname that is nobody's any more is banned after its file is gone, and a new hostname's
    /// file comes when what was there is banned.
    async fn change_hands(
        &mut self,
        settle: Duration,
        orders: &Orders,
        sites: SiteTable,
    ) -> Result<(), CacheTrouble> {
        let in_the_way = |error: std::io::Error| CacheTrouble(format!("the hostnames' files: {error}"));
        self.owned.withdraw(&sites).map_err(in_the_way)?;
        self.carry_out(settle, orders).await?;
        self.owned.bring_in_line(&sites).map_err(in_the_way)?;
        self.sites = sites;
        Ok(())
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
        let mut book = self.book.lock().await;
        let now = self.index.sites();
        let mut sites = book.sites.clone();
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
        if tables.len() == 2 {
            return book.carry_out(self.settle, &orders).await;
        }
        book.change_hands(self.settle, &orders, sites).await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        let sites = SiteTable::clone(&self.index.sites());
        self.book.lock().await.change_hands(self.settle, &Orders::everything(), sites).await
    }

    fn serve_until(&self, _until: Moment) {
        self.slots.lease_changed();
    }
}

/// Every name that the site has in one of the tables.
fn hostnames(tables: &[Arc<SiteTable>], site: &SiteId) -> BTreeSet<HostPattern> {
    tables.iter().filter_map(|table| table.hostnames(site.as_str())).flatten().cloned().collect()
}
