//! Hosts that nginx does not serve from its cache while a large purge is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_types::{Body, Record, Selector, Seq};
use parking_lot::Mutex;

use super::run_dir::RunDir;
use super::share::Share;
use super::shelf::Shelf;

/// Hosts held back at once. A purge that concerns more is waited for instead: nearly the whole node would ask its origins.
const HOSTS_MAX: usize = 1_000;

/// The shares of those hosts, each with the last record for which it is held.
#[derive(Debug, Default)]
struct Shares {
    held: BTreeMap<Share, u64>,
    /// Records through this one are carried out.
    done: u64,
}

/// Host by host, so that a purge of one costs the others next to nothing: who has the same [`Share`] is held with it.
#[derive(Debug)]
pub(super) struct Held {
    run_dir: Arc<RunDir>,
    shares: Mutex<Shares>,
    /// The last record that changed whose a host is. What a tag hit before cannot be told by hosts after it.
    sites_changed: AtomicU64,
}

impl Held {
    /// What a daemon before this one held stays so until the first record is finished here.
    pub(super) fn new(run_dir: Arc<RunDir>) -> io::Result<Self> {
        let held = run_dir.held()?.into_iter().map(|share| (share, 0)).collect();
        let shares = Mutex::new(Shares { held, done: 0 });
        Ok(Self { run_dir, shares, sites_changed: AtomicU64::new(0) })
    }

    /// These records are applied.
    pub(super) fn heard_of(&self, records: &[Arc<Record>]) {
        for record in records {
            if matches!(record.body, Body::Site(_) | Body::Unknown) {
                self.sites_changed.fetch_max(record.seq.get(), Ordering::AcqRel);
            }
        }
    }

    /// Whether all that the records hit is held back now.
    pub(super) fn hold(&self, records: &[Arc<Record>], shelf: &Shelf) -> io::Result<bool> {
        let mut hosts = BTreeSet::new();
        let mut through = 0;
        for record in records {
            if record.seq.get() < self.sites_changed.load(Ordering::Acquire) {
                return Ok(false);
            }
            if !concerns(record, shelf, &mut hosts) || hosts.len() > HOSTS_MAX {
                return Ok(false);
            }
            through = record.seq.get().max(through);
        }
        let mut all = self.shares.lock();
        if through <= all.done {
            // Nobody would let them go any more, and nothing is left that they would be held for.
            return Ok(true);
        }
        for share in hosts.iter().map(|host| Share::of(host)) {
            self.run_dir.hold(share)?;
            all.held.insert(share, through);
        }
        metrics::gauge!("batoff_edge_nginx_held_shares").set(all.held.len() as f64);
        Ok(true)
    }

    /// Records through this one are carried out.
    pub(super) fn let_go(&self, through: Seq) -> io::Result<()> {
        let mut all = self.shares.lock();
        all.done = all.done.max(through.get());
        self.release(&mut all, |last| last <= through.get())
    }

    /// What a daemon before this one held back has met the rules here.
    pub(super) fn let_go_inherited(&self) -> io::Result<()> {
        self.release(&mut self.shares.lock(), |last| last == 0)
    }

    /// What could not be let go when it was time.
    pub(super) fn retry(&self) -> io::Result<()> {
        let mut all = self.shares.lock();
        let done = all.done;
        self.release(&mut all, |last| last <= done && done > 0)
    }

    /// A reset came while hosts were being held back: what they were held for is void.
    pub(super) fn let_go_own(&self) -> io::Result<()> {
        self.release(&mut self.shares.lock(), |last| last > 0)
    }

    /// Nothing is held any more; records may be numbered anew.
    pub(super) fn clear(&self) -> io::Result<()> {
        let mut all = self.shares.lock();
        all.done = 0;
        self.release(&mut all, |_| true)
    }

    fn release(&self, all: &mut Shares, over: impl Fn(u64) -> bool) -> io::Result<()> {
        if all.held.is_empty() {
            return Ok(());
        }
        let over = all.held.iter().filter(|(_, last)| over(**last));
        for share in over.map(|(share, _)| *share).collect::<Vec<_>>() {
            self.run_dir.let_go(share)?;
            all.held.remove(&share);
        }
        metrics::gauge!("batoff_edge_nginx_held_shares").set(all.held.len() as f64);
        Ok(())
    }
}

/// Adds the hosts of what a record hits; false when they cannot all be named.
fn concerns(record: &Record, shelf: &Shelf, hosts: &mut BTreeSet<String>) -> bool {
    let purge = match &record.body {
        Body::Purge(purge) => purge,
        Body::NodeRegistered(_) | Body::NodeRemoved(_) => return true,
        Body::Site(_) | Body::Unknown => return false,
    };
    for selector in &purge.selectors {
        match selector {
            Selector::Url(url) => {
                hosts.insert(url.host().to_owned());
            }
            Selector::Prefix(prefix) => {
                hosts.insert(prefix.host().to_owned());
            }
            Selector::Host(host) => {
                hosts.insert(host.as_str().to_owned());
            }
            Selector::Tag(_) | Selector::Everything => match shelf.hosts_of(&purge.site) {
                Some(all) => hosts.extend(all),
                None => return false,
            },
        }
    }
    true
}
