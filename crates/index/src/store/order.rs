//! The directories in the order of their bytes, host by host: what a prefix, a host and a site need.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use parking_lot::RwLock;

use super::key::host_and_rest;

/// Behind one lock that is taken for writing only when a directory gets its first object or loses its last.
#[derive(Default)]
pub(crate) struct PathOrder {
    inner: RwLock<Directories>,
}

#[derive(Default)]
struct Directories {
    hosts: BTreeMap<Box<str>, HostDirectories>,
    /// Numbers of hosts that went.
    free: Vec<u32>,
    directories: u64,
    text_bytes: u64,
}

/// A host that holds anything.
struct HostDirectories {
    number: u32,
    /// `[:port]/a/b/`
    directories: BTreeSet<Box<str>>,
}

impl PathOrder {
    /// A directory got its first object; its host's number.
    pub(crate) fn enter(&self, directory: &str) -> u32 {
        let (host, rest) = host_and_rest(directory);
        let mut inner = self.inner.write();
        let Directories { hosts, free, directories, text_bytes } = &mut *inner;
        let next = hosts.len() as u32;
        if !hosts.contains_key(host) {
            let number = free.pop().unwrap_or(next);
            hosts.insert(host.into(), HostDirectories { number, directories: BTreeSet::new() });
            *text_bytes += host.len() as u64;
        }
        let Some(of_host) = hosts.get_mut(host) else { return next };
        if of_host.directories.insert(rest.into()) {
            *directories += 1;
            *text_bytes += rest.len() as u64;
        }
        of_host.number
    }

    /// A directory lost its last object.
    pub(crate) fn leave(&self, directory: &str) {
        let (host, rest) = host_and_rest(directory);
        let mut inner = self.inner.write();
        let Directories { hosts, free, directories, text_bytes } = &mut *inner;
        let Some(of_host) = hosts.get_mut(host) else { return };
        if of_host.directories.remove(rest) {
            *directories -= 1;
            *text_bytes -= rest.len() as u64;
        }
        if of_host.directories.is_empty() {
            free.push(of_host.number);
            hosts.remove(host);
            *text_bytes -= host.len() as u64;
        }
        if hosts.is_empty() {
            *inner = Directories::default();
        }
    }

    /// The first host after `after` among those that hold anything.
    pub(crate) fn host_after(&self, after: Option<&str>) -> Option<Box<str>> {
        let inner = self.inner.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        inner.hosts.range::<str, _>((from, Bound::Unbounded)).next().map(|(host, _)| host.clone())
    }

    /// Up to `max` directories of the host whose rest begins with `prefix`, after `after`.
    pub(crate) fn directories(
        &self,
        host: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Vec<Box<str>> {
        let inner = self.inner.read();
        let Some(of_host) = inner.hosts.get(host) else { return Vec::new() };
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let range = of_host.directories.range::<str, _>((from, Bound::Unbounded));
        range.take_while(|rest| rest.starts_with(prefix)).take(max).cloned().collect()
    }

    /// A host's number, if it holds anything.
    pub(crate) fn number(&self, host: &str) -> Option<u32> {
        self.inner.read().hosts.get(host).map(|of_host| of_host.number)
    }

    /// The numbers of the hosts that are wanted.
    pub(crate) fn hosts_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let inner = self.inner.read();
        let wanted = inner.hosts.iter().filter(|(host, _)| wanted(host));
        wanted.map(|(_, of_host)| of_host.number).collect()
    }

    /// Memory held: the texts as they are, the sets' nodes by their usual filling of seven tenths.
    pub(crate) fn bytes(&self) -> u64 {
        let inner = self.inner.read();
        let nodes = inner.directories * size_of::<Box<str>>() as u64
            + inner.hosts.len() as u64 * size_of::<(Box<str>, HostDirectories)>() as u64;
        nodes * 10 / 7 + inner.text_bytes + (inner.free.capacity() * size_of::<u32>()) as u64
    }
}
