//! Apache Traffic Server, with a script of ours in its Lua plugin (`deploy/trafficserver/batoff.lua`). The daemon keeps its
//! rules in a file that the script maps, and each hit is judged by them before it is served: a rule is in force for
//! Traffic Server from when its bytes are in the file.
//!
//! ```text
//!  records ──▶ entries in the table ──▶ applied ──▶ ack          hit ──▶ script: lease? stamp older than a rule? ──▶ fresh, stale, miss
//!                                          └─▶ stamp of each fetch, stored with the answer
//! ```
//! The stamp is what had been applied when the fetch began, so an answer that was under way during a purge is stored and
//! never served. Nothing is removed: what was purged makes room when something else needs it.
//!
//! Traffic Server's cache outlives both programs. The table on its tmpfs outlives this one, and a successor takes over its
//! rules: they may be more than its state remembers. After a reboot it is built anew from the rules that the index
//! remembers. Whose stamps are believed, and how far, `epochs` says.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ConfigError;
use batoff_edge::metrics;
use batoff_index::{Index, Place, Rule, Snapshot};
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::{Body, Cursor, Moment, Record};
use parking_lot::Mutex;

use self::epochs::Epochs;
use self::lease::LeaseKeeper;
use self::print::Fingerprinter;
use self::table::{Full, Shown, Table};
use crate::section::{Beside, Section};
use crate::shared::report::{CheckError, Report};
use crate::shared::visitor::VisitArgs;
use crate::{CacheOpenError, Locator, Surroundings};

mod check;
mod config;
mod epochs;
mod glance;
mod layout;
mod lease;
mod places;
mod print;
mod table;
#[cfg(test)]
mod tests;

pub use self::config::TrafficServerSection;

impl Section for TrafficServerSection {
    type Look = VisitArgs;

    fn validate(&self, _: &Beside) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        Ok(vec![Box::new(TrafficServer::open(self, around).await?)])
    }

    async fn examine(&self, _: &Beside<'_>, running: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, running, report);
    }

    async fn check(&self, with: &VisitArgs, beside: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self, beside.has_parents).await
    }
}

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "trafficserver";

/// One Traffic Server.
pub struct TrafficServer {
    lease: Arc<LeaseKeeper>,
    book: Arc<Mutex<Book>>,
    /// Keeps a second daemon from the table until this one ends.
    _lock: File,
}

/// The table and where it comes from.
struct Book {
    table: Table,
    index: Arc<Index<Locator>>,
    path: Arc<batoff_edge::Path>,
    epochs: Epochs,
    /// The last record in a table that was taken over, while the index has not come so far again.
    taken_over_through: Option<u64>,
}

/// Between two looks at whether the table is where the script looks for it, and at what it is to be told.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl TrafficServer {
    /// Takes over the table, or makes one, and begins to keep the lease in it.
    pub async fn open(section: &TrafficServerSection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let path = &section.rules;
        make_folder(path).map_err(|error| cannot_use(path, error))?;
        let lock = lock(path)?;
        let shown = Shown::nothing();
        let snapshot = around.index.snapshot();
        let epochs = Epochs::begin(&around.state_dir, snapshot.generation, snapshot.cursor);
        let epochs = epochs.map_err(|error| cannot_use(&around.state_dir, error))?;
        let cursor = snapshot.cursor.get();
        let stamp = around.path.token(around.index.begin_fill()).applied.get();
        let taken_over = Table::take_over(path, &shown, &epochs.shown(), stamp);
        let taken_over = taken_over.map_err(|error| cannot_use(path, error))?;
        let is_taken_over = taken_over.is_some();
        let (table, through) = match taken_over {
            Some(taken_over) => taken_over,
            None => {
                let table = build(path, &shown, &epochs, &snapshot, stamp);
                (table.map_err(|error| cannot_use(path, error))?, 0)
            }
        };
        let mut book = Book {
            table,
            index: around.index,
            path: around.path,
            epochs,
            taken_over_through: Some(through).filter(|through| *through > cursor),
        };
        if is_taken_over && book.taken_over_through.is_none() {
            // The index knows at least as much.
            book.rebuild(0).map_err(|error| cannot_use(path, error))?;
        }
        let lease = Arc::new(LeaseKeeper {
            shown,
            fence: around.fence,
            guard: Duration::from_millis(section.lease_guard_ms),
            complete: AtomicBool::new(is_taken_over),
        });
        let server = Self { lease: Arc::clone(&lease), book: Arc::new(Mutex::new(book)), _lock: lock };
        let (looking, stop) = (look(lease.clone(), Arc::clone(&server.book)), around.stop);
        let stopped = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(lease.run()).await });
        tokio::spawn(async move { stopped.run_until_cancelled(looking).await });
        Ok(server)
    }

    /// Off the runtime's threads: a table of many rules takes a while to be written.
    async fn with_book(
        &self,
        work: impl FnOnce(&mut Book) -> io::Result<()> + Send + 'static,
    ) -> Result<(), CacheTrouble> {
        with_book(Arc::clone(&self.book), work).await
    }
}

async fn with_book(
    book: Arc<Mutex<Book>>,
    work: impl FnOnce(&mut Book) -> io::Result<()> + Send + 'static,
) -> Result<(), CacheTrouble> {
    let done = tokio::task::spawn_blocking(move || {
        let mut book = book.lock();
        let done = work(&mut book);
        done.map_err(|error| CacheTrouble(format!("cannot write {}: {error}", book.table.path().display())))
    });
    match done.await {
        Ok(done) => done,
        Err(error) => Err(CacheTrouble(error.to_string())),
    }
}

/// Looks after the table for ever.
async fn look(lease: Arc<LeaseKeeper>, book: Arc<Mutex<Book>>) {
    let mut failing = false;
    let mut changes = book.lock().path.changes();
    loop {
        // Whichever comes first.
        let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        let is_leased = lease.fence.is_leased();
        let looked = with_book(Arc::clone(&book), move |book| book.look(is_leased)).await;
        if looked.is_err() != failing {
            failing = looked.is_err();
            metrics::trouble(NAME, failing);
            if let Err(CacheTrouble(message)) = looked {
                tracing::error!(message, "trafficserver serves nothing from its cache");
            }
        }
    }
}

impl Book {
    fn purge(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let Some(last) = records.last().map(|record| record.seq.get()) else { return Ok(()) };
        let through = self.taken_over_through.unwrap_or(0);
        if !self.is_in_place()? {
            // What a predecessor left is lost with it.
            return self.rebuild(through);
        }
        if through > 0 && last >= through {
            return self.rebuild(0);
        }
        // Whose a hostname is changes for all rules at once; the index has done so already.
        if records.iter().any(|record| !matches!(record.body, Body::Purge(_))) {
            return self.rebuild(through);
        }
        self.put(records, through)?;
        self.table.set_applied(self.stamp())
    }

    /// Makes the table anew if somebody has removed it, and if it can be done without what a predecessor left.
    fn look(&mut self, is_leased: bool) -> io::Result<()> {
        let through = self.taken_over_through.unwrap_or(0);
        if !self.is_in_place()? {
            tracing::warn!(path = %self.table.path().display(), "somebody has removed the rules; they are made anew");
            return self.rebuild(through);
        }
        // A lease is granted only to who has again all that it has ever confirmed. What the table knows beyond that is of
        // a future that a backup has taken back.
        if is_leased && through > 0 {
            return self.rebuild(0);
        }
        self.table.set_applied(self.stamp())
    }

    /// Whether the table is where the script looks for it. If not, those who have it mapped use it no more from now on.
    fn is_in_place(&self) -> io::Result<bool> {
        let is_in_place = self.table.is_in_place()?;
        if !is_in_place {
            self.table.retire()?;
            make_folder(self.table.path())?;
        }
        Ok(is_in_place)
    }

    /// What a fetch that begins now is stamped with.
    fn stamp(&self) -> u64 {
        self.path.token(self.index.begin_fill()).applied.get()
    }

    /// `floor`: how far the table knows more than the index does, should it have to be built anew.
    fn put(&mut self, records: &[Arc<Record>], floor: u64) -> io::Result<()> {
        for record in records {
            let Body::Purge(purge) = &record.body else { continue };
            for selector in &purge.selectors {
                let (hard, soft) =
                    if purge.soft { (None, Some(record.seq)) } else { (Some(record.seq), None) };
                for place in Place::all_of(&purge.site, selector) {
                    let rule = Rule { place, hard, soft };
                    for entry in places::of_rule(self.table.printer(), &rule) {
                        if let Err(Full) = self.table.put(&entry)? {
                            return self.rebuild(floor);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// From all that the index knows, which is at least what came here. What was fetched before record `floor` is gone.
    fn rebuild(&mut self, floor: u64) -> io::Result<()> {
        let mut snapshot = self.index.snapshot();
        snapshot.forgotten_through = snapshot.forgotten_through.max(Cursor::new(floor));
        self.replace(&snapshot)?;
        self.taken_over_through = Some(floor).filter(|floor| *floor > 0);
        Ok(())
    }

    /// No stamp from before now is believed any more, so nothing else needs to be known.
    fn flush(&mut self) -> io::Result<()> {
        let mut snapshot = self.index.snapshot();
        self.epochs.forget(snapshot.generation)?;
        snapshot.forgotten_through = Cursor::START;
        snapshot.rules.clear();
        self.replace(&snapshot)?;
        self.taken_over_through = None;
        Ok(())
    }

    fn replace(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let (path, shown) = (self.table.path(), self.table.shown());
        self.table = build(path, shown, &self.epochs, snapshot, self.stamp())?;
        Ok(())
    }
}

#[async_trait]
impl Cache<Locator> for TrafficServer {
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
        let records = records.to_vec();
        self.with_book(move |book| book.purge(&records)).await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        self.with_book(Book::flush).await
    }

    fn serve_until(&self, _until: Moment) {
        if let Err(error) = self.lease.write() {
            tracing::error!(%error, "trafficserver cannot be told its lease");
        }
    }
}

/// A table of what `snapshot` says.
fn build(
    path: &Path,
    shown: &Arc<Shown>,
    epochs: &Epochs,
    snapshot: &Snapshot,
    stamp: u64,
) -> io::Result<Table> {
    let printer = Fingerprinter { seeds: (rand::random(), rand::random()) };
    let contents = places::of_snapshot(printer, snapshot);
    Table::build(path, shown, &epochs.shown(), printer, stamp, &contents)
}

/// It may be usable later: a tmpfs that is mounted late, a folder that the unit makes anew, a daemon that is ending.
fn cannot_use(path: &Path, error: impl std::fmt::Display) -> CacheOpenError {
    CacheOpenError::Temporary {
        cache: NAME,
        message: format!(
            "cannot use {}: {error}; `rules` must be a file of this daemon's own, in a folder on a tmpfs that its user can \
             write to",
            path.display()
        ),
    }
}

/// Held for as long as the file that it returns is open.
fn lock(rules: &Path) -> Result<File, CacheOpenError> {
    let path = rules.with_extension("lock");
    let file = File::create(&path).map_err(|error| cannot_use(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(cannot_use(rules, "another daemon keeps it")),
        Err(TryLockError::Error(error)) => Err(cannot_use(&path, error)),
    }
}

/// The folder of the rules.
fn make_folder(rules: &Path) -> io::Result<()> {
    if let Some(folder) = rules.parent()
        && !folder.exists()
    {
        fs::create_dir_all(folder)?;
        // Traffic Server runs as another user.
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}
