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
//! Traffic Server's cache outlives both programs. The table on its tmpfs outlives this one, and a successor goes on with
//! it. After a reboot it is built anew from the rules that the index remembers; a stamp of another state directory, or
//! from before a reset, is older than everything.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use batoff_index::{Index, Place, Rule, Snapshot};
use batoff_types::{Body, Cursor, Moment, Record};
use parking_lot::Mutex;

use self::lease::Lease;
use self::print::Printer;
use self::table::{Full, Shown, Table};
use super::{Cache, CacheOpenError, CacheTrouble, Locator, Needs, Proof, Surroundings};

mod check;
mod config;
mod identity;
mod layout;
mod lease;
mod places;
mod print;
mod table;
#[cfg(test)]
mod tests;

pub use self::check::check;
pub use self::config::TrafficServerSection;

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "trafficserver";

/// One Traffic Server.
pub struct TrafficServer {
    lease: Arc<Lease>,
    book: Arc<Mutex<Book>>,
    /// Keeps a second daemon from the table until this one ends.
    _lock: File,
}

/// The table and where it comes from.
struct Book {
    table: Table,
    index: Arc<Index<Locator>>,
    identity: u64,
    /// The last record in a table that was taken over, while the index has not come so far again.
    taken_over_through: Option<u64>,
}

impl TrafficServer {
    /// Takes over the table, or makes one, and begins to keep the lease in it.
    pub async fn open(section: &TrafficServerSection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let path = &section.rules;
        let identity = identity::read_or_make(&around.state_dir);
        let identity = identity.map_err(|error| setup(&around.state_dir, error))?;
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(|error| setup(folder, error))?;
        }
        let lock = lock(path)?;
        let shown = Shown::nothing();
        let snapshot = around.index.snapshot();
        let epoch = epoch(identity, &snapshot);
        let taken_over = Table::take_over(path, &shown, &epoch).map_err(|error| setup(path, error))?;
        let is_taken_over = taken_over.is_some();
        let table = match taken_over {
            Some(table) => Ok(table),
            None => build(path, &shown, identity, &snapshot, 0),
        };
        let table = table.map_err(|error| setup(path, error))?;
        let through = table.applied();
        let mut book = Book {
            table,
            index: around.index,
            identity,
            taken_over_through: Some(through).filter(|_| through > snapshot.cursor.get()),
        };
        if is_taken_over && book.taken_over_through.is_none() {
            // The index knows at least as much.
            book.rebuild(0).map_err(|error| setup(path, error))?;
        }
        let lease = Arc::new(Lease {
            shown,
            fence: around.fence,
            guard: Duration::from_millis(section.lease_guard_ms),
            complete: AtomicBool::new(is_taken_over),
        });
        let (kept, stop) = (Arc::clone(&lease), around.stop);
        tokio::spawn(async move { stop.run_until_cancelled(kept.run()).await });
        Ok(Self { lease, book: Arc::new(Mutex::new(book)), _lock: lock })
    }

    /// Off the runtime's threads: a table of many rules takes a while to be written.
    async fn with_book(
        &self,
        work: impl FnOnce(&mut Book) -> io::Result<()> + Send + 'static,
    ) -> Result<(), CacheTrouble> {
        let book = Arc::clone(&self.book);
        let done = tokio::task::spawn_blocking(move || {
            let mut book = book.lock();
            let done = work(&mut book);
            done.map_err(|error| {
                CacheTrouble(format!("cannot write {}: {error}", book.table.path().display()))
            })
        });
        match done.await {
            Ok(done) => done,
            Err(error) => Err(CacheTrouble(error.to_string())),
        }
    }
}

impl Book {
    fn purge(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let Some(last) = records.last().map(|record| record.seq.get()) else { return Ok(()) };
        if !self.table.is_in_place()? {
            // Whoever has it mapped looks for it by name once a second. What a predecessor left is lost with it.
            let lost = self.taken_over_through.unwrap_or(0);
            return self.rebuild(lost);
        }
        if let Some(through) = self.taken_over_through {
            return if last < through { self.put(records, through) } else { self.rebuild(0) };
        }
        // Whose a hostname is changes for all rules at once; the index has done so already.
        if records.iter().any(|record| !matches!(record.body, Body::Purge(_))) {
            return self.rebuild(0);
        }
        self.put(records, 0)?;
        self.table.set_applied(last)
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
        self.replace(&snapshot)
    }

    /// Everything that was fetched before now is gone, so nothing else needs to be known.
    fn flush(&mut self) -> io::Result<()> {
        let mut snapshot = self.index.snapshot();
        let through = snapshot.cursor.max(Cursor::new(self.taken_over_through.unwrap_or(0)));
        snapshot.forgotten_through = through;
        snapshot.rules.clear();
        self.replace(&snapshot)
    }

    fn replace(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        // Positions of another epoch are another log's.
        let before =
            if epoch(self.identity, snapshot) == self.table.epoch() { self.table.applied() } else { 0 };
        self.table = build(self.table.path(), self.table.shown(), self.identity, snapshot, before)?;
        self.taken_over_through = None;
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

/// A table of what `snapshot` says; `before` had been applied already.
fn build(
    path: &Path,
    shown: &Arc<Shown>,
    identity: u64,
    snapshot: &Snapshot,
    before: u64,
) -> io::Result<Table> {
    let printer = Printer { seeds: (rand::random(), rand::random()) };
    let contents = places::of_snapshot(printer, snapshot);
    let applied = snapshot.cursor.get().max(before);
    Table::build(path, shown, &epoch(identity, snapshot), printer, applied, &contents)
}

/// What stamps begin with that can be compared with this table's seqs.
fn epoch(identity: u64, snapshot: &Snapshot) -> String {
    format!("{identity:016x}.{}.", snapshot.generation.0)
}

fn setup(path: &Path, error: impl std::fmt::Display) -> CacheOpenError {
    CacheOpenError::Setup {
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
    let file = File::create(&path).map_err(|error| setup(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(setup(rules, "another daemon keeps it")),
        Err(TryLockError::Error(error)) => Err(setup(&path, error)),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        // Traffic Server runs as another user.
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}
