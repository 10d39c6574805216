//! A store that several control planes of one test share, and can be cut off from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::{
    CasError, Expect, Guard, GuardedError, Health, Key, Kv, KvEvent, Presence, PurgeLog, Store, StoreError,
    Version, Versioned, Write,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// What one control plane has of a store that it shares.
pub(crate) struct SharedStore {
    inner: Arc<dyn Store>,
    is_cut_off: Arc<AtomicBool>,
    /// Only watches are.
    is_silent: Arc<AtomicBool>,
    writes: AtomicU64,
}

impl SharedStore {
    /// One more that shares this store.
    pub(crate) fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            is_cut_off: Arc::default(),
            is_silent: Arc::default(),
            writes: AtomicU64::default(),
        })
    }

    /// From now on small records cannot be reached, and watches say nothing; or they can again.
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::SeqCst);
        self.silence(is_cut_off);
    }

    /// From now on watches say nothing; or they do again.
    pub(crate) fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// How many small records were written, or tried to be.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn reach(&self) -> Result<(), StoreError> {
        match self.is_cut_off.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable { retry_after: Duration::ZERO }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for SharedStore {
    fn log(&self) -> &dyn PurgeLog {
        self.inner.log()
    }

    fn kv(&self) -> &dyn Kv {
        self
    }

    fn presence(&self) -> &dyn Presence {
        self.inner.presence()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    /// Others go on with it.
    async fn close(&self) {}
}

#[async_trait]
impl Kv for SharedStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.reach()?;
        self.inner.kv().get(key).await
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        self.reach()?;
        self.inner.kv().scan(prefix, after, limit).await
    }

    async fn cas(&self, key: &Key, expect: Expect, write: Write) -> Result<Version, CasError> {
        self.reach()?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.kv().cas(key, expect, write).await
    }

    async fn cas_guarded(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: &Guard,
    ) -> Result<Version, GuardedError> {
        self.reach()?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.kv().cas_guarded(key, expect, write, guard).await
    }

    /// While it is silent, what happens is held back, and what says that nothing was missed is lost.
    fn watch(&self, prefix: &Key) -> BoxStream<'static, KvEvent> {
        let is_silent = Arc::clone(&self.is_silent);
        let events = self.inner.kv().watch(prefix).filter_map(move |event| {
            let is_silent = Arc::clone(&is_silent);
            async move {
                if event == KvEvent::Current && is_silent.load(Ordering::SeqCst) {
                    return None;
                }
                while is_silent.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Some(event)
            }
        });
        events.boxed()
    }
}
