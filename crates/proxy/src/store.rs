//! The objects in memory, and their entries in the index.
//!
//! An object and its entry come and go under one lock, so the index never names an object that is not there for longer
//! than a purge of it takes, nor misses one that is.
//!
//! The queue is our own (`sieve`) and no crate's because of that lock. It is held over several steps: the index takes the
//! entry or refuses it because of a purge, the object goes in, the entries of those that made room go out, and a change of
//! the page noted meanwhile takes it all back; a confirmation compares, replaces and removes under it in the same way.
//! `quick_cache` (0.7) keeps the locks of its shards to itself and hands evicted objects over once they are released, so
//! that between the two an entry named what is gone, or a newer object's entry was removed in the place of the evicted
//! one's. It was not measured: all it could take off a hit is a map and a bit under a read lock, and it would need a second
//! lock around it. `foyer` is for caches that go on to a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use batoff_edge::Evict;
use batoff_edge::Path;
use batoff_index::{Entry, Index, Verdict};
use batoff_types::{PurgeUrl, Selector};
use parking_lot::RwLock;

mod changes;
mod object;
mod pingora_storage;
mod sieve;

pub(crate) use self::changes::Begun;
use self::changes::Changes;
pub(crate) use self::object::{CachedResponse, Freshness, Mark, ObjectId};
pub(crate) use self::pingora_storage::Hit;
use self::sieve::Sieve;
use crate::figures::{self, Left, NotStored};

/// Parts of the cache with a lock each. Fewer when the cache is small, so that each has room for a large object.
const SHARDS_MAX: u64 = 16;

/// A shard is at least this large, in bytes.
const SHARD_BYTES_MIN: u64 = 64 << 20;

/// Where an object is, and which one: another may have taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Locator {
    pub(crate) key: u128,
    pub(crate) id: u64,
}

type LockedSieve = RwLock<Sieve<u128, Arc<CachedResponse>>>;

/// The cache's memory.
#[derive(Debug)]
pub struct Store {
    index: Arc<Index<Locator>>,
    path: Arc<Path>,
    shards: Box<[LockedSieve]>,
    next_id: AtomicU64,
    object_bytes_max: u64,
    changes: Changes,
}

impl Store {
    /// With room for `memory_bytes`, and for objects of up to `object_bytes_max` each (never more than a shard holds), which
    /// come by `path`.
    pub fn new(
        index: Arc<Index<Locator>>,
        path: Arc<Path>,
        memory_bytes: u64,
        object_bytes_max: u64,
    ) -> Self {
        let count = (memory_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shards = (0..count).map(|_| RwLock::new(Sieve::new(memory_bytes / count))).collect();
        Self {
            index,
            path,
            shards,
            next_id: AtomicU64::new(1),
            object_bytes_max,
            changes: Changes::default(),
        }
    }

    /// The index that the objects are registered in.
    pub fn index(&self) -> &Index<Locator> {
        &self.index
    }

    /// The same index, to be kept.
    pub fn shared_index(&self) -> Arc<Index<Locator>> {
        Arc::clone(&self.index)
    }

    /// The way to the origins.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The largest body that is stored, in bytes.
    pub const fn object_bytes_max(&self) -> u64 {
        self.object_bytes_max
    }

    /// Objects held.
    pub fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().len() as u64).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they count for.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().weight()).sum()
    }

    /// The object there, unless it is Gone.
    pub(crate) fn get(&self, key: u128) -> Option<(Arc<CachedResponse>, Verdict)> {
        let object = Arc::clone(self.shard(key).read().get(&key)?);
        match self.verdict(&object.mark) {
            // Its memory is given back by the sweep, which also counts it.
            Verdict::Gone => None,
            verdict => Some((object, verdict)),
        }
    }

    /// What the rules say about an object that is stored here.
    pub(crate) fn verdict(&self, mark: &Mark) -> Verdict {
        self.index.check_registered(&mark.url, &mark.tags, mark.token)
    }

    /// Stores a response that was fetched, unless it was purged or changed in the meantime.
    pub(crate) fn insert(
        &self,
        key: u128,
        mark: Mark,
        header: pingora::http::ResponseHeader,
        freshness: Freshness,
        body: bytes::Bytes,
    ) -> Result<u64, NotStored> {
        let locator = self.locate(key);
        let object = CachedResponse::new(locator, mark, header, freshness, body, SystemTime::now());
        let mut shard = self.shard(key).write();
        self.put(&mut shard, object)
    }

    /// The origin confirmed the object `id`: it goes on with another header and the token of that confirmation. `false`
    /// when it is not there any more, or was purged or changed since the confirmation began.
    pub(crate) fn confirm(
        &self,
        key: u128,
        id: ObjectId,
        mark: Mark,
        header: pingora::http::ResponseHeader,
        freshness: Freshness,
    ) -> bool {
        let mut shard = self.shard(key).write();
        let Some(old) = shard.peek(&key).filter(|object| object.locator.id == id.0).cloned() else {
            return false;
        };
        let object = CachedResponse::new(
            self.locate(key),
            mark,
            header,
            freshness,
            old.body.clone(),
            SystemTime::now(),
        );
        let stored = self.put(&mut shard, object).is_ok();
        if !stored {
            // What was confirmed is purged, and what it confirmed is older still.
            shard.remove(&key);
            self.index.remove(&old.mark.url, old.variant());
        }
        stored
    }

    fn put(
        &self,
        shard: &mut Sieve<u128, Arc<CachedResponse>>,
        object: CachedResponse,
    ) -> Result<u64, NotStored> {
        let (key, weight, begun) = (object.locator.key, object.weight(), object.mark.begun);
        let url = object.mark.url.clone();
        let entry = Entry {
            url: object.mark.url.clone(),
            variant: object.variant(),
            tags: object.mark.tags.clone(),
            token: object.mark.token,
            locator: object.locator,
        };
        self.index.insert(entry).map_err(|_| NotStored::Purged)?;
        let left = shard.insert(key, Arc::new(object), weight);
        if let Some(replaced) = left.replaced {
            debug_assert_eq!(replaced.locator.key, key);
            figures::left(Left::Replaced, 1);
        }
        figures::left(Left::Room, left.evicted.len() as u64);
        for object in left.evicted {
            self.index.remove(&object.mark.url, object.variant());
        }
        // After the entry is there: whoever changes the page notes it first and then looks for entries, so one of the two
        // sees the other.
        if self.changes.since(begun, &url) {
            self.drop_from(shard, key);
            return Err(NotStored::Changed);
        }
        Ok(weight)
    }

    fn locate(&self, key: u128) -> Locator {
        Locator { key, id: self.next_id.fetch_add(1, Ordering::Relaxed) }
    }

    fn shard(&self, key: u128) -> &LockedSieve {
        // The key is a cryptographic hash; any of its bits are as good as others.
        let at = usize::try_from(key % self.shards.len() as u128).unwrap_or(0);
        &self.shards[at]
    }
}

impl Evict<Locator> for &'static Store {
    fn evict(&self, locator: &Locator) {
        self.forget(locator, Left::Purged);
    }

    fn turn_stale(&self, locator: &Locator) {
        let shard = self.shard(locator.key).read();
        if let Some(object) = shard.peek(&locator.key).filter(|object| object.locator == *locator) {
            object.stale_since();
        }
    }

    fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            // Only what the rules condemn: a reset spares what was fetched after it.
            let kept: Vec<_> =
                shard.drain().filter(|object| self.verdict(&object.mark) != Verdict::Gone).collect();
            for object in kept {
                let (key, weight) = (object.locator.key, object.weight());
                shard.insert(key, object, weight);
            }
        }
    }
}

impl Store {
    /// Drops the object there, if it is still the one meant.
    pub(crate) fn forget(&self, locator: &Locator, reason: Left) {
        let mut shard = self.shard(locator.key).write();
        if shard.peek(&locator.key).is_some_and(|object| object.locator == *locator)
            && let Some(object) = shard.remove(&locator.key)
        {
            figures::left(reason, 1);
            // The index has dropped it already when it named it itself.
            self.index.remove(&object.mark.url, object.variant());
        }
    }

    /// Drops what is there, whatever it is: its origin gave something else, which is not kept.
    pub(crate) fn withdraw(&self, key: u128) {
        let there = self.shard(key).read().peek(&key).map(|object| object.locator);
        if let Some(locator) = there {
            self.forget(&locator, Left::Withdrawn);
        }
    }

    /// A fetch begins, as far as changes of pages go.
    pub(crate) fn begin(&self) -> Begun {
        self.changes.begin()
    }

    /// A visitor has changed the page: all its variants and spellings go, and what is being fetched of it is not stored.
    pub(crate) fn change(&self, url: &PurgeUrl) {
        self.changes.note(url);
        let sites = self.index.sites();
        // What nobody owns is not stored.
        let Some(site) = sites.owner(url.host()) else { return };
        for object in self.index.list(site, &Selector::Url(url.clone())) {
            self.forget(&object.locator, Left::Changed);
        }
    }

    fn drop_from(&self, shard: &mut Sieve<u128, Arc<CachedResponse>>, key: u128) {
        if let Some(object) = shard.remove(&key) {
            self.index.remove(&object.mark.url, object.variant());
        }
    }
}
