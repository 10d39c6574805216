//! Hosts that nginx does not serve from its cache while a large purge is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_types::{Body, Cursor, Record, Selector, Seq};
use parking_lot::Mutex;

use super::register::Register;
use super::run_dir::RunDir;
use super::share::Share;

/// Hosts held back at once. A purge that concerns more is waited for instead: nearly the whole node would ask its origins.
const HOSTS_MAX: usize = 1_000;

/// The shares of those hosts, each with the last record for which it is held.
#[derive(Debug, Default)]
struct Shares {
    held: BTreeMap<Share, u64>,
    /// Those that wait for the parents to have come through a record: what is fetched meanwhile may be what was purged.
    awaiting: BTreeMap<Share, u64>,
    /// Records through this one are carried out.
    done: u64,
}

impl Shares {
    fn is_held(&self, share: Share) -> bool {
        self.held.contains_key(&share) || self.awaiting.contains_key(&share)
    }
}

/// Host by host, so that a purge of one costs the others next to nothing: who has the same [`Share`] is held with it.
#[derive(Debug)]
pub(super) struct HeldHosts {
    run_dir: Arc<RunDir>,
    shares: Mutex<Shares>,
    /// The last record that changed whose a host is. What a tag hit before cannot be told by hosts after it.
    sites_changed: AtomicU64,
}

impl HeldHosts {
    /// What a daemon before this one held stays so until the first record is finished here.
    pub(super) fn new(run_dir: Arc<RunDir>) -> io::Result<Self> {
        let held = run_dir.held()?.into_iter().map(|share| (share, 0)).collect();
        let shares = Mutex::new(Shares { held, awaiting: BTreeMap::new(), done: 0 });
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
    pub(super) fn hold(&self, records: &[Arc<Record>], register: &Register) -> io::Result<bool> {
        let mut hosts = BTreeSet::new();
        let mut through = 0;
        for record in records {
            if record.seq.get() < self.sites_changed.load(Ordering::Acquire) {
                return Ok(false);
            }
            if !concerns(record, register, &mut hosts) || hosts.len() > HOSTS_MAX {
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

    /// Before these records are acknowledged: nothing that they hit is stored or served until the parents, which are at
    /// `through`, have applied them too.
    pub(super) fn await_parents(
        &self,
        records: &[Arc<Record>],
        register: &Register,
        through: Cursor,
    ) -> io::Result<()> {
        for record in records.iter().filter(|record| !through.covers(record.seq)) {
            let mut hosts = BTreeSet::new();
            let told_by_hosts = record.seq.get() >= self.sites_changed.load(Ordering::Acquire)
                && concerns(record, register, &mut hosts)
                && hosts.len() <= HOSTS_MAX;
            if told_by_hosts {
                self.wait(hosts.iter().map(|host| Share::of(host)), record.seq.get())?;
            } else {
                self.wait(Share::all(), record.seq.get())?;
            }
        }
        Ok(())
    }

    /// The same for everything: it is not known what the parents have applied of what came before `applied`.
    pub(super) fn await_parents_with_all(&self, applied: Cursor) -> io::Result<()> {
        self.wait(Share::all(), applied.get())
    }

    /// A reset: records may be numbered anew, and nothing is known of the parents' place in the new order.
    pub(super) fn await_parents_anew(&self, applied: Cursor) -> io::Result<()> {
        self.shares.lock().awaiting.values_mut().for_each(|seq| *seq = 0);
        self.await_parents_with_all(applied)
    }

    fn wait(&self, shares: impl Iterator<Item = Share>, seq: u64) -> io::Result<()> {
        let mut all = self.shares.lock();
        for share in shares {
            let last = all.awaiting.get(&share).copied();
            if last.is_none() {
                self.run_dir.hold(share)?;
            }
            all.awaiting.insert(share, last.unwrap_or(0).max(seq));
        }
        metrics::gauge!("batoff_edge_nginx_awaiting_shares").set(all.awaiting.len() as f64);
        Ok(())
    }

    /// The parents have come so far.
    pub(super) fn parents_are_at(&self, through: Cursor) -> io::Result<()> {
        let mut all = self.shares.lock();
        let over = all.awaiting.iter().filter(|(_, seq)| **seq <= through.get());
        for share in over.map(|(share, _)| *share).collect::<Vec<_>>() {
            if !all.held.contains_key(&share) {
                self.run_dir.let_go(share)?;
            }
            all.awaiting.remove(&share);
        }
        metrics::gauge!("batoff_edge_nginx_awaiting_shares").set(all.awaiting.len() as f64);
        Ok(())
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

    /// Somebody may have removed what nginx asks about hosts, or a part of it: it is made again, without what is held.
    pub(super) fn keep(&self) -> io::Result<()> {
        let all = self.shares.lock();
        if !self.run_dir.has_shares() {
            tracing::warn!("run_dir/lease is gone; it is made again");
            return self.run_dir.remake_shares(|share| !all.is_held(share));
        }
        let missing: BTreeSet<_> = self.run_dir.held()?.into_iter().collect();
        for share in missing.iter().filter(|share| !all.is_held(**share)) {
            tracing::warn!(%share, "a share of hosts is gone from run_dir/lease; it is made again");
            self.run_dir.let_go(*share)?;
        }
        for share in all.held.keys().chain(all.awaiting.keys()).filter(|share| !missing.contains(share)) {
            tracing::warn!(%share, "a share of hosts was put back that is held back; it is taken away again");
            self.run_dir.hold(*share)?;
        }
        Ok(())
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
            if !all.awaiting.contains_key(&share) {
                self.run_dir.let_go(share)?;
            }
            all.held.remove(&share);
        }
        metrics::gauge!("batoff_edge_nginx_held_shares").set(all.held.len() as f64);
        Ok(())
    }
}

/// Adds the hosts of what a record hits; false when they cannot all be named.
fn concerns(record: &Record, register: &Register, hosts: &mut BTreeSet<String>) -> bool {
    let purge = match &record.body {
        Body::Purge(purge) => purge,
        Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => return true,
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
            Selector::Tag(_) | Selector::Everything => match register.hosts_of(&purge.site) {
                Some(all) => hosts.extend(all),
                None => return false,
            },
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_parents_is_let_go_when_they_are_there_and_nothing_else_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = Arc::new(RunDir::open(dir.path()).unwrap());
        run_dir.make_shares().unwrap();
        let held = HeldHosts::new(Arc::clone(&run_dir)).unwrap();
        let all = Share::all().count();
        held.await_parents_with_all(Cursor::new(5)).unwrap();
        held.shares.lock().held.insert(Share::of("a.test"), 7);
        assert_eq!(run_dir.held().unwrap().len(), all);
        held.parents_are_at(Cursor::new(4)).unwrap();
        assert_eq!(run_dir.held().unwrap().len(), all, "not there yet");
        held.parents_are_at(Cursor::new(5)).unwrap();
        assert_eq!(run_dir.held().unwrap(), [Share::of("a.test")], "held for a purge of its own");
        held.let_go(Seq::new(7).unwrap()).unwrap();
        assert!(run_dir.held().unwrap().is_empty());

        held.await_parents_with_all(Cursor::new(900)).unwrap();
        held.await_parents_anew(Cursor::new(3)).unwrap();
        std::fs::remove_dir_all(dir.path().join("lease")).unwrap();
        held.keep().unwrap();
        assert_eq!(run_dir.held().unwrap().len(), all, "made again, and held back as before");
        held.parents_are_at(Cursor::new(3)).unwrap();
        assert!(run_dir.held().unwrap().is_empty(), "after a reset records are numbered anew");
        std::fs::remove_file(dir.path().join("lease/00")).unwrap();
        held.keep().unwrap();
        assert!(run_dir.held().unwrap().is_empty(), "what somebody else removed is there again");
    }
}
