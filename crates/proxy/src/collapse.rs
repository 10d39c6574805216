//! Requests for the same page wait for one fetch; but never for one that began before a purge of the page.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_index::{Index, Verdict};
use batoff_types::{CacheTags, FillToken, PurgeUrl};
use http::Extensions;
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::CacheHashKey;
use pingora::cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};

use crate::answer::{NO_OWNER_REASON, NOT_VOUCHED_FOR_REASON};
use crate::shield::{Asked, Shield, Through};
use crate::store::Locator;

/// A fetch that takes longer is no longer waited for by other requests.
pub(crate) const COLLAPSE_MAX: Duration = Duration::from_secs(30);

/// Parts of the table with a lock each.
const SHARDS: usize = 16;

/// The page that a key stands for, carried in the key.
#[derive(Clone, Debug)]
pub(crate) struct KeyedPage(pub(crate) PurgeUrl);

/// What a child wants that asks for it, carried in the key, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedBy(pub(crate) Asked);

/// Which fetch holds a lock, and what was known when it began.
#[derive(Clone, Copy, Debug)]
struct LockHolder {
    id: u64,
    token: FillToken,
    good: Option<Through>,
}

/// Who fetches what.
pub(crate) struct Collapse {
    index: Arc<Index<Locator>>,
    shield: Arc<Shield>,
    /// A fetch that takes longer is no longer waited for; another begins beside it.
    patience: Duration,
    next_id: AtomicU64,
    shards: [Mutex<HashMap<u128, LockStub>>; SHARDS],
}

impl Collapse {
    pub(crate) fn new(index: Arc<Index<Locator>>, shield: Arc<Shield>, patience: Duration) -> Self {
        Self {
            index,
            shield,
            patience,
            next_id: AtomicU64::new(1),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, LockStub>> {
        &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or(0)]
    }

    /// Whether what this fetch brings may be given to a request that comes now. Its tags are not known yet; what they
    /// say is asked when it is there.
    fn is_worth_waiting_for(&self, stub: &LockStub, key: &CacheKey) -> bool {
        if matches!(stub.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout) {
            return false;
        }
        let (page, asked) = (key.extensions.get::<KeyedPage>(), key.extensions.get::<AskedBy>());
        let (Some(KeyedPage(url)), Some(fetch)) = (page, stub.extensions().get::<LockHolder>()) else {
            return true;
        };
        let now = self.index.begin_fill();
        asked.is_none_or(|AskedBy(asked)| self.shield.reach(*asked, now, fetch.good).is_some())
            && self.index.check(url, &CacheTags::default(), fetch.token) != Verdict::Gone
    }
}

impl CacheKeyLock for Collapse {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let slot = u128::from_be_bytes(key.combined_bin());
        let mut fetches = self.shard(slot).lock();
        if let Some(stub) = fetches.get(&slot)
            && self.is_worth_waiting_for(stub, key)
        {
            return Locked::Read(stub.read_lock());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut extensions = Extensions::new();
        let token = self.index.begin_fill();
        let asked = key.extensions.get::<AskedBy>().map(|AskedBy(asked)| *asked);
        extensions.insert(LockHolder { id, token, good: self.shield.good_for(token, asked) });
        let (permit, stub) = WritePermit::new(self.patience, stale_writer, extensions);
        fetches.insert(slot, stub);
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        let slot = u128::from_be_bytes(key.combined_bin());
        let id = |extensions: &Extensions| extensions.get::<LockHolder>().map(|fetch| fetch.id);
        let mut fetches = self.shard(slot).lock();
        // Another fetch may have taken the place of one that was purged or too slow.
        if fetches.get(&slot).is_some_and(|stub| id(stub.extensions()) == id(permit.extensions())) {
            fetches.remove(&slot);
        }
        drop(fetches);
        let timed_out = permit.lock_status() == LockStatus::AgeTimeout;
        permit.unlock(if timed_out { LockStatus::AgeTimeout } else { reason });
    }

    fn custom_lock_status(&self, reason: &'static str) -> LockStatus {
        if reason == NOT_VOUCHED_FOR_REASON || reason == NO_OWNER_REASON {
            // The next fetch would fare no better, so nobody waits in line for it.
            LockStatus::GiveUp
        } else {
            // Our other reasons concern one fetch; the next may be stored.
            LockStatus::TransientError
        }
    }
}
