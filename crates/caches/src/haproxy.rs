//! HAProxy through its runtime API. It cannot drop an object, so a purge sets another *generation*, which is part of what
//! it takes for the URL (`deploy/haproxy/haproxy.cfg`): what was stored under the one before is not found again, and an
//! answer that is under way is stored where nobody will look.
//!
//! A process that was started or reloaded has neither maps nor lease, so it serves nothing from its cache until it is met
//! here (`haproxy/link.rs`): it is given a name, the names of the sites and a generation of its own. The one before gets no purges
//! any more and may serve what it holds to connections that it has, so purges wait until it ends or has no lease.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ConfigError;
use batoff_edge::{Fence, Path, Provenance, boottime};
use batoff_index::Index;
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::{Cursor, Moment, Record, SiteTable};
use tokio::sync::{Mutex, Notify};

use self::bumps::{Bumps, Map};
use self::charge::Allowance;
use self::config::NAME;
use self::identity::LastProcess;
use self::link::{Book, Failed, Link};
use self::process::{Predecessor, Process};
use self::socket::Socket;
use crate::section::{Beside, Section};
use crate::shared::report::{CheckError, Report};
use crate::shared::sites::SitesThroughout;
use crate::shared::visitor::VisitArgs;
use crate::{CacheOpenError, Locator, Surroundings};

mod bumps;
mod charge;
mod check;
mod config;
mod glance;
mod identity;
mod lease;
mod link;
mod process;
mod socket;

pub use self::config::{HaproxySection, Tags};

impl Section for HaproxySection {
    type Look = VisitArgs;

    fn validate(&self, _: &Beside) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        Ok(vec![Box::new(Haproxy::open(self, around).await?)])
    }

    async fn examine(&self, _: &Beside<'_>, running: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, running, report).await;
    }

    async fn check(&self, with: &VisitArgs, beside: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self, beside.has_parents).await
    }
}

/// Added to the cache's `max-age` before an entry goes.
const MARGIN: Duration = Duration::from_secs(60);

/// One HAProxy.
pub struct Haproxy {
    link: Arc<Link>,
    /// Keeps a second daemon from these maps until this one ends.
    _lock: Option<File>,
}

impl Haproxy {
    /// Begins to keep the lease. A process that does not answer yet is waited for; one without the maps ends the start.
    pub async fn open(section: &HaproxySection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let lock = lock(section)?;
        let state_dir = around.state_dir.clone();
        let remembered = identity::read(&state_dir);
        let remembered =
            remembered.map_err(|error| temporary(format!("{}: {error}", state_dir.display())))?;
        let link = link(section, around.index, around.fence, around.path, Some(state_dir));
        let link = Arc::new(link);
        let mut book = link.book.lock().await;
        book.sites = SiteTable::clone(&link.index.sites());
        book.through = link.index.applied();
        begin(&link, &mut book, remembered, &around.provenance).await?;
        drop(book);
        let (releasing, stop) = (release(Arc::clone(&link)), around.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(releasing).await });
        let (keeper, stop) = (lease::Keeper { link: Arc::clone(&link) }, around.stop);
        tokio::spawn(async move { stop.run_until_cancelled(keeper.run()).await });
        Ok(Self { link, _lock: lock })
    }
}

/// Lets go what was held for the parents, for ever.
async fn release(link: Arc<Link>) {
    let mut changes = link.path.changes();
    loop {
        if let Err(CacheTrouble(message)) = link.release().await {
            tracing::debug!(message, "what was held for the parents waits");
            tokio::time::sleep(Duration::from_millis(250)).await;
            continue;
        }
        // A record may have been held just after its place was told.
        let _ = tokio::time::timeout(Duration::from_millis(250), changes.changed()).await;
    }
}

/// Goes on with the process that the state remembers, or takes over the one that answers.
async fn begin(
    link: &Link,
    book: &mut Book,
    remembered: Option<LastProcess>,
    provenance: &Provenance,
) -> Result<(), CacheOpenError> {
    let looks = [
        link.command("show map", Map::Process, ""),
        link.command("show map", Map::Lease, ""),
        "show info".to_owned(),
    ];
    let answers = link.socket.run(&looks).await;
    let now = boottime();
    let old = |process| Predecessor { process, told: Allowance::Open, noticed: now };
    let (shown, leases, info) = match answers.as_deref() {
        Ok([shown, leases, info]) => (shown.as_str(), leases.as_str(), info.as_str()),
        Ok(_) => ("", "", ""),
        Err(error) => {
            tracing::warn!(at = %link.socket.path().display(), %error, "haproxy does not answer yet");
            // It may hold anything, and be told nothing.
            provenance.start_over(NAME, "it does not answer");
            book.old.extend(remembered.map(|known| old(known.process)));
            return Ok(());
        }
    };
    // The lease is the last that a process is given: without one it was taken over in part.
    let is_known = |known: &LastProcess| link::id(shown) == Some(&known.name) && leases.contains(&known.name);
    if let Some(known) = remembered.clone().filter(is_known) {
        match link.resume(book, known).await {
            Ok(()) => return Ok(()),
            Err(Failed::Other) => {}
            Err(error) => return Err(opening(link, &error)),
        }
    }
    tracing::info!("this haproxy process holds what the state directory knows nothing of");
    match remembered {
        Some(known) => book.old.push(old(known.process)),
        None => {
            let process = link::pid(info).map(Process::look_at);
            if process.is_some_and(|process| process.may_have_predecessors()) {
                book.old.push(old(Process::unseen()));
            }
        }
    }
    let sites = book.sites.clone();
    link.try_adopt(book, &sites).await.map_err(|error| opening(link, &error))
}

/// `state_dir`: without one nothing is taken over.
fn link(
    section: &HaproxySection,
    index: Arc<Index<Locator>>,
    fence: Arc<Fence>,
    path: Arc<Path>,
    state_dir: Option<PathBuf>,
) -> Link {
    Link {
        socket: Socket::new(section.socket.clone()),
        maps: section.maps.clone(),
        keep: Duration::from_secs(section.max_age_secs) + MARGIN,
        // It counts from when the old process heard of it; a second for what lies between.
        hard_stop: Duration::from_secs(section.hard_stop_after_secs + 1),
        guard: Duration::from_millis(section.lease_guard_ms),
        index,
        fence,
        path,
        renewed: Notify::new(),
        state_dir,
        instance: format!("{:016x}", rand::random::<u64>()),
        charge: parking_lot::Mutex::new(None),
        book: Mutex::default(),
    }
}

/// Two daemons would take each other's process over again and again.
fn lock(section: &HaproxySection) -> Result<Option<File>, CacheOpenError> {
    let path = section.maps.join(Map::Process.file());
    let file = match File::open(&path) {
        Ok(file) => file,
        // It may lie where only HAProxy sees it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(temporary(format!("cannot read {}: {error}", path.display()))),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(temporary(format!("another daemon drives the HAProxy with {}", section.maps.display())))
        }
        Err(TryLockError::Error(error)) => Err(temporary(format!("cannot lock {}: {error}", path.display()))),
    }
}

/// Nothing of this is for ever: a mount may come late, HAProxy may be restarted with what it lacks. So it is tried again.
fn temporary(message: String) -> CacheOpenError {
    CacheOpenError::Temporary { cache: NAME, message }
}

fn opening(link: &Link, error: &Failed) -> CacheOpenError {
    temporary(format!(
        "{}: {error}; take over deploy/haproxy/haproxy.cfg with all its maps, set maps to the folder that it names, and run \
         the daemon in the socket's group",
        link.socket.path().display()
    ))
}

#[async_trait]
impl Cache<Locator> for Haproxy {
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
        let mut book = self.link.book.lock().await;
        let sites = SitesThroughout::of(records, &book.sites, self.link.index.sites());
        let bumps = bumps::of(records, |site| sites.hostnames(site));
        let sites = sites.after();
        book.through = records.last().map_or(book.through, |last| Cursor::after(last.seq));
        self.link.set(&mut book, bumps, &sites).await?;
        self.link.outlive(&mut book).await?;
        book.sites = sites;
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        let mut book = self.link.book.lock().await;
        let sites = SiteTable::clone(&self.link.index.sites());
        book.through = self.link.index.applied();
        self.link.set(&mut book, Bumps::from([bumps::everything()]), &sites).await?;
        self.link.outlive(&mut book).await?;
        book.sites = sites;
        Ok(())
    }

    fn serve_until(&self, _until: Moment) {
        self.link.renewed.notify_one();
    }
}
