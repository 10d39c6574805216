use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use batoff_types::{Hostname, SiteTable};
use parking_lot::{Mutex, RwLock};

use super::page::Key;

/// The URLs of each host, in the order of their bytes: what a prefix, a host and a site need.
///
/// A prefix names a whole host, so it is a range of one shelf. An empty shelf goes, so that hosts that were seen once do
/// not stay.
#[derive(Default)]
pub(crate) struct Order {
    hosts: RwLock<BTreeMap<Hostname, Mutex<Shelf>>>,
}

#[derive(Default)]
struct Shelf {
    urls: BTreeSet<Key>,
    entries: u64,
}

impl Order {
    /// An object under the URL came; the first of its URL or one more.
    pub(crate) fn enter(&self, key: &Key) {
        {
            let hosts = self.hosts.read();
            if let Some(shelf) = hosts.get(key.0.host()) {
                shelf.lock().enter(key);
                return;
            }
        }
        self.hosts.write().entry(key.0.hostname()).or_default().get_mut().enter(key);
    }

    /// An object under the URL left; with `last`, no other is there.
    pub(crate) fn leave(&self, key: &Key, last: bool) {
        let host = key.0.host();
        let empty = {
            let hosts = self.hosts.read();
            let Some(shelf) = hosts.get(host) else { return };
            let mut shelf = shelf.lock();
            shelf.entries = shelf.entries.saturating_sub(1);
            if last {
                shelf.urls.remove(key.text());
            }
            shelf.urls.is_empty()
        };
        if empty {
            let mut hosts = self.hosts.write();
            // Another may have come between the two locks.
            if hosts.get_mut(host).is_some_and(|shelf| shelf.get_mut().urls.is_empty()) {
                hosts.remove(host);
            }
        }
    }

    /// The first host after `after` among those that hold anything.
    pub(crate) fn host_after(&self, after: Option<&Hostname>) -> Option<Hostname> {
        let hosts = self.hosts.read();
        match after {
            None => hosts.keys().next().cloned(),
            Some(after) => {
                let beyond = (Bound::Excluded(after), Bound::Unbounded);
                hosts.range::<Hostname, _>(beyond).next().map(|(host, _)| host.clone())
            }
        }
    }

    /// Up to `max` URLs of the host that begin with `prefix`, after `after`.
    pub(crate) fn urls(&self, host: &str, prefix: &str, after: Option<&Key>, max: usize) -> Vec<Key> {
        let hosts = self.hosts.read();
        let Some(shelf) = hosts.get(host) else { return Vec::new() };
        let from = after.map_or(Bound::Included(prefix), |after| Bound::Excluded(after.text()));
        let shelf = shelf.lock();
        let range = shelf.urls.range::<str, _>((from, Bound::Unbounded));
        range.take_while(|key| key.text().starts_with(prefix)).take(max).cloned().collect()
    }

    /// Objects under hosts that no site owns.
    pub(crate) fn unowned(&self, sites: &SiteTable) -> u64 {
        let hosts = self.hosts.read();
        let unowned = hosts.iter().filter(|(host, _)| sites.owner(host.as_str()).is_none());
        unowned.map(|(_, shelf)| shelf.lock().entries).sum()
    }
}

impl Shelf {
    fn enter(&mut self, key: &Key) {
        self.entries += 1;
        if !self.urls.contains(key) {
            self.urls.insert(key.clone());
        }
    }
}
