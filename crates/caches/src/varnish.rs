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
//!
//! Where it fetches through other nodes, a guard that was moved for a purge stays *closed* until they all have confirmed
//! that purge: what comes from them until then may be what was purged, and is passed on and not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ConfigError;
use batoff_edge::{Path, Provenance};
use batoff_index::Index;
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::{Cursor, Moment, Record, SiteTable};
use tokio::sync::Mutex;

use self::link::{Link, Probe};
use self::orders::Orders;
use self::owned::Owned;
use crate::section::{Beside, Section};
use crate::shared::OwnFolder;
use crate::shared::report::{CheckError, Report};
use crate::shared::sites::SitesThroughout;
use crate::shared::slots::{SlotNames, Slots, SlotsConfig};
use crate::{CacheOpenError, Locator, Surroundings};

mod ban;
mod check;
mod cli;
mod config;
mod glance;
mod link;
mod orders;
mod owned;

pub use self::check::CheckArgs;
pub use self::cli::CliError;
use self::config::NAME;
pub use self::config::VarnishSection;

impl Section for VarnishSection {
    type Look = CheckArgs;

    fn validate(&self, _: &Beside) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        Ok(vec![Box::new(Varnish::open(self, around).await?)])
    }

    async fn examine(&self, _: &Beside<'_>, _: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, report).await;
    }

    async fn check(&self, with: &CheckArgs, beside: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self, beside.has_parents).await
    }
}

/// The longest wait at the start for a varnishd that does not answer yet. Without an answer nobody knows what it holds,
/// and the node is reset.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Between two attempts.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Between two looks whether varnishd was restarted, and whether the hostnames' files are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One varnishd.
pub struct Varnish {
    slots: Slots,
    index: Arc<Index<Locator>>,
    book: Arc<Mutex<Book>>,
}

/// What is kept between two groups of records.
struct Book {
    link: Link,
    owned: Owned,
    settle: Duration,
    index: Arc<Index<Locator>>,
    path: Arc<Path>,
    /// Guards that stay closed until the parents have confirmed everything before this place.
    closed: BTreeMap<String, Cursor>,
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
        owned.say_parents(around.path.has_parents()).map_err(in_the_way)?;
        let sites = SiteTable::clone(&around.index.sites());
        let link = Link::new(section, around.provenance.identity()).map_err(setup)?;
        let mut book = Book {
            link,
            owned,
            settle: Duration::from_millis(section.settle_ms),
            index: Arc::clone(&around.index),
            path: around.path,
            closed: BTreeMap::new(),
            sites,
        };
        book.meet(&around.provenance).await.map_err(setup)?;
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
        Ok(Self { slots, index: around.index, book })
    }
}

/// Opens guards when the parents have come further, notices a varnishd that was restarted, and makes the hostnames' files
/// anew when somebody has removed some.
async fn look_after(book: Arc<Mutex<Book>>) {
    let mut changes = book.lock().await.path.changes();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = changes.changed() => {}
            _ = look.tick() => book.lock().await.look().await,
        }
        book.lock().await.reopen().await;
    }
}

impl Book {
    /// Looks whether varnishd is there and bears this state's identity. One that does not is emptied at once; where that
    /// cannot be, the node starts over. `Err`: the operator has to change something.
    async fn meet(&mut self, provenance: &Provenance) -> Result<(), String> {
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
        let through = self.index.applied();
        let taken_over = if self.link.is_mine(&known) {
            self.link.met();
            // What the run before has closed is this one's to open.
            self.guard(&Orders::nothing_but_guards(), through).await
        } else {
            self.carry_out(&Orders::everything(), through).await
        };
        if let Err(CacheTrouble(error)) = taken_over {
            provenance.start_over(NAME, error);
        }
        Ok(())
    }

    /// Guard, settle, remove. Everything before `through` is or will be asked of the parents too.
    async fn carry_out(&mut self, orders: &Orders, through: Cursor) -> Result<(), CacheTrouble> {
        let known = self.link.probe().await.map_err(|error| CacheTrouble(error.to_string()))?;
        let everything = Orders::everything();
        let emptied = !self.link.has_been_mine(&known)?;
        let (orders, through) =
            if emptied { (&everything, through.max(self.index.applied())) } else { (orders, through) };
        self.guard(orders, through).await?;
        tokio::time::sleep(self.settle).await;
        self.link.remove(orders).await?;
        if emptied || orders.flush { self.link.mark().await } else { Ok(()) }
    }

    /// No answer whose fetch has begun will be stored; nor one that the parents give before they are at `through`.
    async fn guard(&mut self, orders: &Orders, through: Cursor) -> Result<(), CacheTrouble> {
        let behind = self.is_behind(through);
        for name in self.link.guard(orders, behind).await? {
            if behind {
                let place = self.closed.entry(name).or_insert(through);
                *place = through.max(*place);
            } else {
                self.closed.remove(&name);
            }
        }
        Ok(())
    }

    /// Whether some parent may still serve something that was purged before `through`; also while nothing is known of the
    /// parents, whatever this node has applied.
    fn is_behind(&self, through: Cursor) -> bool {
        let parents = self.path.through(self.index.generation());
        parents.is_some_and(|parents| parents == Cursor::START || parents < through)
    }

    /// Opens the guards that the parents have come up with. One that cannot be opened now is tried again.
    async fn reopen(&mut self) {
        let closed = self.closed.iter().filter(|(_, through)| !self.is_behind(**through));
        let ready: BTreeSet<String> = closed.map(|(name, _)| name.clone()).collect();
        if ready.is_empty() {
            return;
        }
        match self.link.set_guards(&ready, false).await {
            Ok(()) => self.closed.retain(|name, _| !ready.contains(name)),
            Err(error) => tracing::debug!(%error, "the guards stay closed"),
        }
    }

    /// Looks after what nobody may have asked for in a long while.
    async fn look(&mut self) {
        let Self { owned, sites, .. } = self;
        owned.repair(sites);
        // A purge would say what is wrong; until there is one, only what can be mended is of interest.
        let Ok(known) = self.link.probe().await else { return };
        if matches!(self.link.is_met_and_mine(&known), Some(false)) {
            let through = self.index.applied();
            if let Err(error) = self.carry_out(&Orders::everything(), through).await {
                tracing::debug!(%error, "varnish was restarted and cannot be taken over yet");
            }
        }
    }

    /// What is stored under a hostname that is nobody's any more is banned after its file is gone, and a new hostname's
    /// file comes when what was there is banned.
    async fn change_hands(
        &mut self,
        orders: &Orders,
        through: Cursor,
        sites: SiteTable,
    ) -> Result<(), CacheTrouble> {
        let in_the_way = |error: std::io::Error| CacheTrouble(format!("the hostnames' files: {error}"));
        self.owned.withdraw(&sites).map_err(in_the_way)?;
        self.carry_out(orders, through).await?;
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
        let sites = SitesThroughout::of(records, &book.sites, self.index.sites());
        let orders = Orders::of(records, |site| sites.hostnames(site));
        let through = records.last().map_or(Cursor::START, |last| Cursor::after(last.seq));
        if sites.change() {
            return book.change_hands(&orders, through, sites.after()).await;
        }
        book.carry_out(&orders, through).await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        let sites = SiteTable::clone(&self.index.sites());
        let mut book = self.book.lock().await;
        let through = self.index.applied();
        // Places of another order say nothing any more.
        book.closed.values_mut().for_each(|place| *place = through);
        book.change_hands(&Orders::everything(), through, sites).await
    }

    fn serve_until(&self, _until: Moment) {
        self.slots.lease_changed();
    }
}
