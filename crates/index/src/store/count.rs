//! Counting without looking at the objects, where what is kept anyway says it.

use batoff_types::{HostPattern, SiteTable};

use super::Store;
use super::key::{directory_hash, shard_of};
use crate::Place;
use crate::place::{OVERFLOW, host_of};

/// Directories whose names are fetched at once.
const DIRECTORIES_AT_ONCE: usize = 256;

impl<L> Store<L> {
    /// How many objects lie in a place, Gone ones not yet swept among them; `None` when each would have to be looked at:
    /// those of a URL, those of a prefix that ends within a name, and those that carry a tag when hosts of several owners
    /// or objects whose tags overflow are held.
    pub(crate) fn count(&self, place: &Place, sites: &SiteTable) -> Option<u64> {
        match place {
            Place::Whole => Some(self.objects_of(&self.order.hosts_where(|_| true))),
            Place::Site(site) => {
                Some(self.objects_of(&self.order.hosts_where(|host| sites.owner(host) == Some(site))))
            }
            Place::Host(HostPattern::Exact(name)) => {
                Some(self.objects_of(self.order.number(name.as_str()).as_slice()))
            }
            Place::Tag(site, tag) => {
                let others = self.order.hosts_where(|host| sites.owner(host) != Some(site));
                let alone = others.is_empty() && self.tagged.live(OVERFLOW) == 0;
                alone.then(|| self.tagged.live(tag.as_str()))
            }
            Place::Prefix(prefix) if prefix.ends_with('/') && !prefix.contains('?') => {
                Some(self.objects_under(prefix))
            }
            Place::Prefix(_) | Place::Url(_) | Place::Host(HostPattern::Under(_)) | Place::Overflow(_) => {
                None
            }
        }
    }

    fn objects_of(&self, hosts: &[u32]) -> u64 {
        let objects = |shard: &super::RwLock<super::Shard<L>>| {
            let shard = shard.read();
            hosts.iter().map(|&host| shard.objects_of(host)).sum::<u64>()
        };
        self.shards.iter().map(objects).sum()
    }

    /// All that lies in the directories that begin so.
    fn objects_under(&self, prefix: &str) -> u64 {
        let (host, rest) = prefix.split_at(host_of(prefix).len());
        let (mut objects, mut after, mut text) = (0, None, String::from(host));
        loop {
            let found = self.order.directories(host, rest, after.as_deref(), DIRECTORIES_AT_ONCE);
            for directory in &found {
                text.truncate(host.len());
                text.push_str(directory);
                let hash = directory_hash(&self.hashes, &text);
                objects += self.shards[shard_of(hash)].read().objects_in(hash, &text);
            }
            if found.len() < DIRECTORIES_AT_ONCE {
                return objects;
            }
            after = found.into_iter().last();
        }
    }
}
