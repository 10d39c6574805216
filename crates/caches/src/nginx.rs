//! nginx's cache directory, driven from outside: no module in nginx, only files.
//!
//! ```text
//!  nginx ──▶ cache files ──inotify──▶ watch ──▶ register ⇄ index
//!    ▲           ▲                               ▲
//!    │           └── spoil, unlink; stale ───────┤
//!    └── asks run_dir/{lease,slots,gen} ◀── lease, held, stamps
//! ```
//! A purge: what is fetched from now on gets another stamp; the files it hits are spoiled, so that nginx serves none of them,
//! and those in flight removed; after the longest turn of an nginx worker's event loop the same once more over what came
//! meanwhile; then the ack. What is spoiled is unlinked behind it.

mod check;
mod config;
mod figures;
mod files;
mod gate;
mod glance;
mod ground;
mod header;
mod held;
mod identity;
mod key;
mod name;
mod notes;
mod oddities;
mod past;
mod permit;
mod register;
mod run_dir;
mod scan;
mod setup;
mod share;
mod spoiled;
mod stale;
mod tokens;
mod trust;
mod unlink;
mod watch;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::PathChanges;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ConfigError;
use batoff_index::{Effect, Match};
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, Moment, Record, Seq};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use tokio::sync::oneshot;

pub use self::check::CheckArgs;
pub use self::config::{Adopt, Levels, NginxSection, WatchBy, WhileScanning};
use self::files::Files;
use self::gate::ScanGate;
use self::ground::Ground;
use self::held::HeldHosts;
use self::key::KeyTemplate;
use self::name::FileName;
use self::notes::Notes;
use self::permit::Permit;
use self::register::Register;
use self::run_dir::RunDir;
use self::scan::Scanner;
use self::setup::setup;
use self::trust::Trust;
use self::watch::{Audience, Watch, WatchError};
use crate::section::{Beside, Section};
use crate::shared::glance::is_on_tmpfs;
use crate::shared::report::{CheckError, Report};
use crate::shared::slots::{SlotNames, Slots, SlotsConfig};
use crate::{CacheOpenError, Locator, Surroundings};

impl Section for NginxSection {
    type Look = CheckArgs;
    /// `$host` has none.
    const KEYS_HAVE_PORTS: bool = false;

    fn validate(&self, _: &Beside) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        Ok(vec![Box::new(Nginx::open(self, around).await?)])
    }

    async fn examine(&self, _: &Beside<'_>, running: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, running, report);
    }

    async fn check(&self, with: &CheckArgs, beside: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self, beside.state_dir, beside.has_parents).await
    }
}

/// Between two looks at whether everything is in its place.
const LOOK: Duration = Duration::from_secs(1);

/// One nginx, by its cache directory.
pub struct Nginx {
    register: Arc<Register>,
    run_dir: Arc<RunDir>,
    gate: Arc<ScanGate>,
    permit: Arc<Permit>,
    held: Arc<HeldHosts>,
    watch: Arc<Watch>,
    ground: Arc<Ground>,
    event_loop: Duration,
    /// Whether nginx asks the lease and what is held back.
    fence: bool,
    /// Whether the key holds the host by which nginx asks.
    names_host: bool,
    /// Whether what became of the last batch was heard of.
    evictions_heard: Mutex<Option<oneshot::Receiver<()>>>,
    /// The next flush takes over what is there instead.
    adopts: AtomicBool,
}

impl Nginx {
    /// Looks whether the directory can be driven, and begins to read and to watch it.
    ///
    /// # Errors
    /// When it cannot: wrong path or levels, no permission, limits of inotify, a key that no URL follows from.
    pub async fn open(section: &NginxSection, around: Surroundings) -> Result<Self, CacheOpenError> {
        figures::describe();
        let key = KeyTemplate::parse(&section.key)
            .map_err(|why| setup(format!("caches.nginx.key = {:?} {why}", section.key)))?;
        if around.policy == LeasePolicy::Revalidate && !section.fence {
            return Err(setup(
                "on_lease_lost = \"revalidate\" promises that nginx stops serving from its cache without a lease; it \
                 must ask caches.nginx.run_dir for that (deploy/nginx), and caches.nginx.fence must not be false",
            ));
        }
        let opened = section.clone();
        let state = around.state_dir.clone();
        let Prepared { files, run_dir, watch, daemon, lock, owner } =
            tokio::task::spawn_blocking(move || prepare(&opened, &state)).await.unwrap_or_else(|error| {
                Err(CacheOpenError::Temporary { cache: "nginx", message: error.to_string() })
            })?;

        let names_host = key.names_host();
        let register = Arc::new(Register::new(files, &around, key, daemon));
        let (run_dir, watch, gate) = (Arc::new(run_dir), Arc::new(watch), Arc::new(ScanGate::default()));
        let in_the_way = |error: io::Error| setup(format!("{}: {error}", section.run_dir.display()));
        run_dir.make_shares().map_err(in_the_way)?;
        let slots = Slots::start(
            SlotsConfig {
                names: SlotNames::Decimal,
                guard: section.slot_guard(),
                follows_process: section.lease_follows_process,
            },
            Arc::clone(&around.fence),
            [run_dir.slots()],
            around.stop.clone(),
        )
        .map_err(in_the_way)?;
        let strict =
            around.policy == LeasePolicy::Revalidate || section.while_scanning == WhileScanning::Fence;
        let permit =
            Arc::new(Permit::new(slots, run_dir.slots(), Arc::clone(&gate), section.fence && strict));
        run_dir.set_stamp(|| register.tokens.stamp()).map_err(in_the_way)?;
        let held = Arc::new(HeldHosts::new(Arc::clone(&run_dir)).map_err(in_the_way)?);
        let ground = Arc::new(Ground::new(
            (&register, &watch),
            (&gate, &permit),
            (&run_dir, &held),
            (Notes::new(&section.run_dir, owner), lock),
        ));

        let nginx = Self {
            register: Arc::clone(&register),
            run_dir,
            gate: Arc::clone(&gate),
            permit,
            held,
            watch: Arc::clone(&watch),
            ground,
            event_loop: section.event_loop(),
            fence: section.fence,
            names_host,
            evictions_heard: Mutex::default(),
            adopts: AtomicBool::new(!around.resumes && section.adopt == Adopt::Trust),
        };
        nginx.start(section, &around)?;
        if around.resumes {
            gate.ask(Trust::Restarted);
        }
        // A node that does not know where it stands is reset first, and reads the directory then.
        Ok(nginx)
    }

    fn start(&self, section: &NginxSection, around: &Surroundings) -> Result<(), CacheOpenError> {
        let heard = Audience {
            register: Arc::clone(&self.register),
            gate: Arc::clone(&self.gate),
            permit: Arc::clone(&self.permit),
            fill_window: section.fill_window(),
            events: metrics::counter!("batoff_edge_nginx_events_total"),
        };
        let watch = Arc::clone(&self.watch);
        let no_thread = |error: io::Error| CacheOpenError::Temporary {
            cache: "nginx",
            message: format!("no thread: {error}"),
        };
        std::thread::Builder::new()
            .name("nginx-watch".to_owned())
            .spawn(move || watch.run(&heard))
            .map_err(no_thread)?;
        let (register, unlinked, stop) =
            (Arc::clone(&self.register), Arc::clone(&self.watch), around.stop.clone());
        std::thread::Builder::new()
            .name("nginx-unlink".to_owned())
            .spawn(move || unlink::run(&register, &unlinked, || stop.is_cancelled()))
            .map_err(no_thread)?;
        let scanner = Scanner {
            register: Arc::clone(&self.register),
            gate: Arc::clone(&self.gate),
            permit: Arc::clone(&self.permit),
            held: Arc::clone(&self.held),
            watch: Arc::clone(&self.watch),
            threads: section.scan_threads,
            stop: around.stop.clone(),
        };
        let (watch, stop) = (Arc::clone(&self.watch), around.stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(scanner.run()).await;
            watch.stop();
        });
        let (notes, register, stop) =
            (Arc::clone(&self.ground.notes), Arc::clone(&self.register), around.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(notes.run(&register)).await });
        if around.path.has_parents() && self.fence {
            // What they have applied is not known yet.
            let awaited = self.held.await_parents_with_all(around.index.applied());
            awaited.map_err(|error| setup(format!("{}: {error}", section.run_dir.display())))?;
        }
        let (ground, path, stop) = (Arc::clone(&self.ground), around.path.changes(), around.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(follow_parents(ground, path)).await });
        let (ground, stop) = (Arc::clone(&self.ground), around.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(look_after(ground)).await });
        Ok(())
    }

    /// Everything that has happened by now was looked at, and nothing purged is being received.
    async fn pass(&self, strictly: bool) -> Result<(), CacheTrouble> {
        self.watch.caught_up().await;
        let register = Arc::clone(&self.register);
        blocking(move || register.stop_purged_fills(strictly)).await
    }

    /// After this nothing that was fetched under an earlier stamp, and was purged since, can still appear, and no worker
    /// goes on with what it asked before.
    async fn stop_fills(&self) -> Result<(), CacheTrouble> {
        self.pass(false).await?;
        let register = Arc::clone(&self.register);
        blocking(move || register.remove_oddities()).await?;
        // A worker decides whether to store an answer, and makes the file, in one turn of its event loop.
        tokio::time::sleep(self.event_loop).await;
        self.pass(true).await
    }

    /// Unless nothing is served meanwhile, everything must have been looked at, in the directory that nginx reads.
    async fn settle(&self) -> Result<(), CacheTrouble> {
        let ground = Arc::clone(&self.ground);
        let in_place = tokio::task::spawn_blocking(move || ground.is_in_place()).await;
        let in_place = in_place.map_err(|error| CacheTrouble(error.to_string()))?;
        if self.permit.waits_for_scan() {
            if !in_place {
                // A worker that has asked for the lease before may still go on with that.
                tokio::time::sleep(self.event_loop).await;
            }
            return Ok(());
        }
        let mut passes = self.gate.watch();
        loop {
            // An error: the daemon ends.
            let waited = tokio::time::timeout(LOOK, passes.wait_for(|passes| passes.are_done())).await;
            if waited.is_ok() {
                return Ok(());
            }
            if let Some(failure) = self.gate.failure() {
                return Err(CacheTrouble(failure));
            }
        }
    }

    /// What is fetched through parents that are behind may be what `records` hit. It would be judged by its stamp and taken
    /// out as soon as it is seen; held back, it is not stored for that moment either.
    fn await_parents(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let Some(through) = self.register.tokens.parents_through().filter(|_| self.fence) else {
            return Ok(());
        };
        let awaited = match records.last() {
            Some(last) if !self.names_host && !through.covers(last.seq) => {
                self.held.await_parents_with_all(Cursor::after(last.seq))
            }
            _ => self.held.await_parents(records, &self.register, through),
        };
        // They may have come there meanwhile.
        let awaited = awaited.and_then(|()| self.ground.keep_up_with_parents());
        awaited.map_err(|error| CacheTrouble(format!("run_dir: {error}")))
    }

    fn set_stamp(&self) -> Result<(), CacheTrouble> {
        self.run_dir
            .set_stamp(|| self.register.tokens.stamp())
            .map_err(|error| CacheTrouble(format!("run_dir: {error}")))
    }
}

#[async_trait]
impl Cache<Locator> for Nginx {
    fn name(&self) -> &str {
        "nginx"
    }

    fn needs(&self) -> Needs {
        Needs::Objects
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn begin(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        self.held.heard_of(records);
        self.await_parents(records)?;
        self.set_stamp()
    }

    async fn evict(&self, objects: &[Match<Locator>]) -> Result<(), CacheTrouble> {
        let files: Vec<_> = objects.iter().filter_map(file_of).collect();
        let register = Arc::clone(&self.register);
        blocking(move || register.evict(&files)).await?;
        // Each is an event, and the kernel's queue is finite. It holds those of many batches, so only the one before
        // this is waited for.
        let before = self.evictions_heard.lock().replace(self.watch.catch_up());
        if let Some(before) = before {
            // An error: the thread has ended with the daemon.
            let _ = before.await;
        }
        Ok(())
    }

    async fn finish(&self) -> Result<(), CacheTrouble> {
        self.stop_fills().await?;
        self.settle().await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        self.set_stamp()?;
        let adopts = self.adopts.swap(false, Ordering::AcqRel);
        if adopts {
            tracing::warn!("what nginx has cached is taken over unseen, as `adopt = \"trust\"` says");
        }
        if self.register.tokens.parents_through().is_some() {
            let awaited = self.held.await_parents_anew(self.register.applied());
            awaited.map_err(|error| CacheTrouble(format!("run_dir: {error}")))?;
        }
        self.register.tokens.cut_past();
        self.gate.ask(if adopts { Trust::All } else { Trust::Stamped });
        self.permit.settle();
        self.stop_fills().await?;
        self.settle().await?;
        self.held.clear().map_err(|error| CacheTrouble(format!("run_dir: {error}")))
    }

    async fn hold_back(&self, records: &[Arc<Record>]) -> bool {
        if !self.fence {
            return false;
        }
        if !self.names_host {
            // What nginx asks for is about `$host`, and what the purge names is not.
            return false;
        }
        if self.await_parents(records).is_err() {
            return false;
        }
        if !self.permit.waits_for_scan() && !self.gate.is_open() {
            // Served unseen meanwhile: nobody can say yet what there is, and under which hosts.
            return false;
        }
        let held = match self.held.hold(records, &self.register) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "a host cannot be held back; the ack waits until everything is removed");
                false
            }
        };
        // The lane may still be busy with what came before.
        held && self.set_stamp().is_ok() && self.stop_fills().await.is_ok() && self.settle().await.is_ok()
    }

    fn let_go(&self, through: Seq) {
        if let Err(error) = self.held.let_go(through) {
            tracing::warn!(%error, "a host stays held back; tried again in a second");
        }
    }

    fn held_in_vain(&self) {
        if let Err(error) = self.held.let_go_own() {
            tracing::warn!(%error, "a host stays held back; tried again after the next purge");
        }
    }

    fn trouble(&self) -> Option<String> {
        self.ground.trouble()
    }

    fn serve_until(&self, until: Moment) {
        let _ = until;
        self.permit.lease_changed();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.watch.stop();
    }
}

/// What is found or made before anything runs.
struct Prepared {
    files: Files,
    run_dir: RunDir,
    watch: Watch,
    daemon: u64,
    lock: OwnedFd,
    /// Whom the directory belongs to.
    owner: u32,
}

fn prepare(section: &NginxSection, state: &std::path::Path) -> Result<Prepared, CacheOpenError> {
    setup::check_directory(&section.path, section.levels)?;
    let files = Files::new(section.path.clone(), section.levels);
    let path = section.path.display();
    let lock = files.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => setup::temporary(format!(
            "{path}: another batoff-edge drives this cache; end it, or give this one a caches.nginx.path of its own"
        )),
        _ => setup::in_the_way(&section.path, &error),
    })?;
    let owner =
        std::fs::metadata(&section.path).map_err(|error| setup::in_the_way(&section.path, &error))?.uid();
    setup::make_folders(&files).map_err(|error| setup::in_the_way(&section.path, &error))?;
    let run_dir = RunDir::open(&section.run_dir).map_err(|error| {
        setup(format!(
            "caches.nginx.run_dir = {}: {error}; make it as root (`RuntimeDirectory=` in the unit does)",
            section.run_dir.display()
        ))
    })?;
    if !is_on_tmpfs(&section.run_dir) {
        tracing::warn!(
            run_dir = %section.run_dir.display(),
            "caches.nginx.run_dir is not on a tmpfs: twenty files a second are made and removed there"
        );
    }
    let watch = Watch::open(&files, section.watch).map_err(|error| match error {
        WatchError::Instances
        | WatchError::Watches(_)
        | WatchError::NotAllowed
        | WatchError::NoFanotify(..) => setup(error.to_string()),
        WatchError::Io(..) => setup::temporary(format!("{}: {error}", section.path.display())),
    })?;
    let daemon = identity::read_or_make(state)
        .map_err(|error| setup(format!("{}: {error}", state.join(identity::FILE).display())))?;
    Ok(Prepared { files, run_dir, watch, daemon, lock, owner })
}

/// Keeps the figures that are states up to date, and sees to it that what this works on is there.
async fn look_after(ground: Arc<Ground>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let register = &ground.register;
        metrics::gauge!("batoff_edge_nginx_files").set(register.files_known() as f64);
        metrics::gauge!("batoff_edge_nginx_in_flight").set(register.files_in_flight() as f64);
        metrics::gauge!("batoff_edge_nginx_spoiled_files").set(register.spoiled.len() as f64);
        metrics::gauge!("batoff_edge_nginx_odd_files").set(register.oddities.len() as f64);
        let looked = Arc::clone(&ground);
        // It does not end but with the daemon.
        let _ = tokio::task::spawn_blocking(move || looked.look()).await;
    }
}

/// Parents have come further, or one has joined that is behind.
async fn follow_parents(ground: Arc<Ground>, mut path: PathChanges) {
    let mut last = Cursor::START;
    loop {
        path.changed().await;
        let Some(through) = ground.register.tokens.parents_through() else { continue };
        // First the stamp: what is stored when the shares are let go must have it.
        let followed = ground.run_dir.set_stamp(|| ground.register.tokens.stamp()).and_then(|()| {
            if through < last {
                ground.held.await_parents_with_all(ground.register.applied())?;
            }
            ground.held.parents_are_at(through)
        });
        last = through;
        if let Err(error) = followed {
            tracing::warn!(%error, "hosts stay held back; tried again when the parents have come further");
        }
    }
}

/// The file of an object and what is to become of it; `None` for another cache's.
const fn file_of(object: &Match<Locator>) -> Option<(FileName, Effect)> {
    match object.locator {
        Locator::File(name) => Some((FileName(name), object.effect)),
        _ => None,
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), CacheTrouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CacheTrouble(format!("cache directory: {error}"))),
        Err(error) => Err(CacheTrouble(error.to_string())),
    }
}
