//! Reading the whole directory: at the start, and when something may have been missed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::Dir;
use tokio_util::sync::CancellationToken;

use super::gate::{Passes, ScanGate};
use super::held::HeldHosts;
use super::name::Named;
use super::permit::Permit;
use super::register::Register;
use super::setup;
use super::trust::{Scan, Seen};
use super::watch::Watch;

/// After a pass that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Makes the passes that the gate asks for.
pub(super) struct Scanner {
    pub(super) register: Arc<Register>,
    pub(super) gate: Arc<ScanGate>,
    pub(super) permit: Arc<Permit>,
    pub(super) held: Arc<HeldHosts>,
    pub(super) watch: Arc<Watch>,
    pub(super) threads: usize,
    pub(super) stop: CancellationToken,
}

impl Scanner {
    /// Runs until stopped.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        let mut passes = this.gate.watch();
        loop {
            let Passes { wanted, done, trust } = *passes.borrow_and_update();
            if wanted > done {
                let (scanner, scan) = (Arc::clone(&this), Scan { pass: wanted, trust });
                let outcome = tokio::task::spawn_blocking(move || scanner.pass(scan)).await;
                match outcome {
                    Ok(Ok(true)) => {
                        this.gate.done(wanted);
                        this.permit.settle();
                        if let Err(error) = this.held.let_go_inherited() {
                            tracing::warn!(%error, "a host stays held back; tried again after the next purge");
                        }
                    }
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => this.failed(&error.to_string()).await,
                    Err(error) => this.failed(&error.to_string()).await,
                }
                continue;
            }
            metrics::gauge!("batoff_edge_nginx_scanning").set(0.0);
            if passes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn failed(&self, error: &str) {
        tracing::error!(%error, "the cache directory cannot be read; trying again");
        self.gate.failed(format!("the cache directory cannot be read: {error}"));
        tokio::time::sleep(RETRY).await;
    }

    /// Whether it went through the whole directory; not if it was asked for anew or the daemon ends.
    fn pass(&self, scan: Scan) -> io::Result<bool> {
        let began = Instant::now();
        metrics::gauge!("batoff_edge_nginx_scanning").set(1.0);
        // A folder may have been removed and made anew.
        setup::make_folders(&self.register.files)?;
        let folders = self.register.files.folders();
        let mut scan = scan;
        if !self.watch.is_in_place(&self.register.files) {
            self.watch.renew(&self.register.files).map_err(|error| io::Error::other(error.to_string()))?;
            // Other files may have the names of those that were known.
            self.register.forget_all();
            scan.trust = scan.trust.of_another_directory();
            tracing::warn!(
                "another directory stands at caches.nginx.path, or other folders in it; only what has a stamp is believed"
            );
        }
        self.register.begin_pass(scan.pass);
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.is_void(scan) || failed.lock().is_some() {
                            return;
                        }
                        if let Err(error) = self.folder(folder, scan) {
                            *failed.lock() = Some(error);
                        }
                        let progress = next.load(Ordering::Relaxed).min(folders.len()) as f64;
                        metrics::gauge!("batoff_edge_nginx_scan_progress")
                            .set(progress / folders.len() as f64);
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        if self.is_void(scan) {
            return Ok(false);
        }
        self.register.end_pass(scan.pass);
        metrics::gauge!("batoff_edge_nginx_scan_seconds").set(began.elapsed().as_secs_f64());
        tracing::info!(
            files = self.register.files_known(),
            took = ?began.elapsed(),
            "the cache directory was read; everything in it has met the rules"
        );
        Ok(true)
    }

    fn folder(&self, folder: &str, scan: Scan) -> io::Result<()> {
        let mut files = 0;
        for entry in Dir::new(self.register.files.folder(folder)?)? {
            match Named::parse(entry?.file_name().to_bytes()) {
                Named::Object(name) => {
                    self.register.admit(name, Seen::Scan(scan))?;
                    files += 1;
                }
                Named::InFlight(file) => self.register.begins(file),
                Named::Other => {}
            }
        }
        metrics::counter!("batoff_edge_nginx_scanned_files_total").increment(files);
        Ok(())
    }

    fn is_void(&self, scan: Scan) -> bool {
        self.stop.is_cancelled() || !self.gate.is_wanted(scan.pass)
    }
}
