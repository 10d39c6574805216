//! Requests for the same page wait for one fetch; but never for one that began before a purge of the page.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_index::{Index, Verdict};
use batoff_types::{FillToken, PurgeUrl};
use http::Extensions;
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::CacheHashKey;
use pingora::cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};

use crate::store::Locator;

/// Parts of the table with a lock each.
const SHARDS: usize = 16;

/// The page that a key stands for, carried in the key.
#[derive(Clone, Debug)]
pub(crate) struct Page(pub(crate) PurgeUrl);

/// Which fetch holds a lock, and what was known when it began.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    id: u64,
    token: FillToken,
}

/// Who fetches what.
pub(crate) struct Collapse {
    index: std::sync::Arc<Index<Locator>>,
    /// A fetch that takes longer is no longer waited for; another begins beside it.
    patience: Duration,
    next_id: AtomicU64,
    shards: [Mutex<HashMap<u128, LockStub>>; SHARDS],
}

impl Collapse {
    pub(crate) fn new(index: std::sync::Arc<Index<Locator>>, patience: Duration) -> Self {
        Self {
            index,
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
    fn is_worth_waiting_for(&self, stub: &LockStub, page: Option<&Page>) -> bool {
        if matches!(stub.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout) {
            return false;
        }
        match (page, stub.extensions().get::<Fetch>()) {
            (Some(Page(url)), Some(fetch)) => self.index.check(url, &[], fetch.token) != Verdict::Gone,
            _ => true,
        }
    }
}

impl CacheKeyLock for Collapse {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let slot = u128::from_be_bytes(key.combined_bin());
        let mut fetches = self.shard(slot).lock();
        if let Some(stub) = fetches.get(&slot)
            && self.is_worth_waiting_for(stub, key.extensions.get::<Page>())
        {
            return Locked::Read(stub.read_lock());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut extensions = Extensions::new();
        extensions.insert(Fetch { id, token: self.index.begin_fill() });
        let (permit, stub) = WritePermit::new(self.patience, stale_writer, extensions);
        fetches.insert(slot, stub);
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        let slot = u128::from_be_bytes(key.combined_bin());
        let id = |extensions: &Extensions| extensions.get::<Fetch>().map(|fetch| fetch.id);
        let mut fetches = self.shard(slot).lock();
        // Another fetch may have taken the place of one that was purged or too slow.
        if fetches.get(&slot).is_some_and(|stub| id(stub.extensions()) == id(permit.extensions())) {
            fetches.remove(&slot);
        }
        drop(fetches);
        let timed_out = permit.lock_status() == LockStatus::AgeTimeout;
        permit.unlock(if timed_out { LockStatus::AgeTimeout } else { reason });
    }

    fn custom_lock_status(&self, _reason: &'static str) -> LockStatus {
        // Our own reasons concern one fetch; the next may be stored.
        LockStatus::TransientError
    }
}
