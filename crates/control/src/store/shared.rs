//! A store that several control planes of one test share, and can be cut off from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::{
    Appended, CasError, CompletionChange, Dedupe, Expect, Guard, GuardedError, Health, Key, Kv, KvEvent,
    LogState, NewRecord, Presence, PurgeLog, ReadError, Store, StoreError, StoredRecord, TaskRow, Version,
    Versioned, Write,
};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{Semaphore, watch};

/// What one control plane has of a store that it shares.
pub(crate) struct SharedStore {
    inner: Arc<dyn Store>,
    is_cut_off: Arc<AtomicBool>,
    /// Only watches are.
    is_silent: Arc<AtomicBool>,
    writes: AtomicU64,
    /// What became of tasks is not written while nobody has a permit.
    rows: Semaphore,
    /// How many wait for one.
    held_rows: AtomicUsize,
}

impl SharedStore {
    /// One more that shares this store.
    pub(crate) fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            is_cut_off: Arc::default(),
            is_silent: Arc::default(),
            writes: AtomicU64::default(),
            rows: Semaphore::new(Semaphore::MAX_PERMITS),
            held_rows: AtomicUsize::default(),
        })
    }

    /// From now on rows of tasks are held back on their way to the store.
    pub(crate) fn hold_rows(&self) {
        self.rows.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Waits until some are.
    pub(crate) async fn holds_rows(&self) {
        while self.held_rows.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets them go.
    pub(crate) fn let_rows_go(&self) {
        self.rows.add_permits(Semaphore::MAX_PERMITS);
    }

    async fn rows_may_go(&self) {
        self.held_rows.fetch_add(1, Ordering::SeqCst);
        // It is never closed.
        drop(self.rows.acquire().await);
        self.held_rows.fetch_sub(1, Ordering::SeqCst);
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
        self
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
impl PurgeLog for SharedStore {
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError> {
        self.inner.log().append(batch).await
    }

    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError> {
        self.inner.log().recognise(keys).await
    }

    async fn read(&self, from: Seq, items: usize, bytes: usize) -> Result<Vec<StoredRecord>, ReadError> {
        self.inner.log().read(from, items, bytes).await
    }

    fn tail(&self, from: Seq) -> BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>> {
        self.inner.log().tail(from)
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.inner.log().state().await
    }

    async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError> {
        self.inner.log().trim(keep_from).await
    }

    async fn find_by_time(&self, at: UnixMillis) -> Result<Seq, StoreError> {
        self.inner.log().find_by_time(at).await
    }

    async fn find_task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        self.inner.log().find_task(task).await
    }

    async fn list_tasks(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.inner.log().list_tasks(site, before, limit).await
    }

    async fn put_completions(&self, rows: Vec<(TaskId, Bytes)>) -> Result<(), StoreError> {
        self.rows_may_go().await;
        self.inner.log().put_completions(rows).await
    }

    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError> {
        self.rows_may_go().await;
        self.inner.log().change_completions(changes).await
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        self.inner.log().forget_tasks(older_than).await
    }
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
