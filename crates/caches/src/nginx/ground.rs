//! Whether what this works on is still there: the cache directory under its path, and the folder that nginx asks.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fd::OwnedFd;

use super::files::FolderId;
use super::gate::ScanGate;
use super::held::HeldHosts;
use super::notes::Notes;
use super::permit::Permit;
use super::register::Register;
use super::run_dir::RunDir;
use super::trust::Trust;
use super::watch::Watch;

/// Looked at once a second, the directory also before each ack.
pub(super) struct Ground {
    pub(super) register: Arc<Register>,
    pub(super) watch: Arc<Watch>,
    pub(super) gate: Arc<ScanGate>,
    pub(super) permit: Arc<Permit>,
    pub(super) run_dir: Arc<RunDir>,
    pub(super) held: Arc<HeldHosts>,
    pub(super) notes: Arc<Notes>,
    /// Held for the directory that stands at the path; dropped when another one does.
    lock: Mutex<Option<(FolderId, OwnedFd)>>,
    /// What is wrong with the folder that nginx asks.
    trouble: Mutex<Option<String>>,
}

impl Ground {
    pub(super) fn new(
        (register, watch): (&Arc<Register>, &Arc<Watch>),
        (gate, permit): (&Arc<ScanGate>, &Arc<Permit>),
        (run_dir, held): (&Arc<RunDir>, &Arc<HeldHosts>),
        (notes, lock): (Notes, OwnedFd),
    ) -> Self {
        Self {
            register: Arc::clone(register),
            watch: Arc::clone(watch),
            gate: Arc::clone(gate),
            permit: Arc::clone(permit),
            run_dir: Arc::clone(run_dir),
            held: Arc::clone(held),
            notes: Arc::new(notes),
            lock: Mutex::new(FolderId::of(&lock).ok().map(|place| (place, lock))),
            trouble: Mutex::default(),
        }
    }

    /// Whether what is watched stands at the path. If not, nothing is served until what stands there was read.
    pub(super) fn is_in_place(&self) -> bool {
        if self.watch.is_in_place(&self.register.files) {
            return true;
        }
        // Said and counted once, not at each look until it is there again.
        if self.gate.is_open() {
            metrics::counter!("batoff_edge_nginx_rescans_total", "reason" => "moved").increment(1);
            tracing::warn!(
                path = %self.register.files.root().display(),
                "another directory stands at caches.nginx.path, or none: mounted, unmounted, or a link was moved; it is read anew"
            );
        }
        self.gate.ask(Trust::Running);
        self.permit.settle();
        false
    }

    /// Once a second.
    pub(super) fn look(&self) {
        self.is_in_place();
        let kept = self.keep_run_dir().and_then(|()| self.keep_lock());
        *self.trouble.lock() = kept.err().map(|error| error.to_string());
    }

    /// Lets go what waits for parents that have come there.
    pub(super) fn keep_up_with_parents(&self) -> io::Result<()> {
        self.register.tokens.parents_through().map_or(Ok(()), |through| self.held.parents_are_at(through))
    }

    /// The directory that stands at the path may be another one by now.
    fn keep_lock(&self) -> io::Result<()> {
        let folder = self.register.files.folder("")?;
        let place = FolderId::of(&folder)?;
        let mut lock = self.lock.lock();
        if lock.as_ref().is_some_and(|(locked, _)| *locked == place) {
            return Ok(());
        }
        *lock = None;
        *lock = Some((place, self.register.files.lock()?));
        Ok(())
    }

    /// Makes again what somebody has removed of it. Until then nginx finds no lease and no stamp: it serves nothing from its
    /// cache and stores nothing.
    fn keep_run_dir(&self) -> io::Result<()> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("caches.nginx.run_dir: {error}"));
        self.held.keep().map_err(named)?;
        if !self.run_dir.has_stamp() {
            self.run_dir.set_stamp(|| self.register.tokens.stamp()).map_err(named)?;
        }
        self.keep_up_with_parents().map_err(named)?;
        // Said when it failed first.
        let _ = self.held.retry();
        Ok(())
    }

    /// What is in the way, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        self.gate
            .failure()
            .or_else(|| self.trouble.lock().clone())
            .or_else(|| self.permit.trouble())
            .or_else(|| self.notes.trouble())
    }
}
