//! A store that fails on demand around one that works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::{
    Appended, Health, Kv, LogState, NewRecord, Presence, PurgeLog, ReadError, Store, StoreError,
    StoredRecord, TaskRow,
};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// What appends do; everything else always works.
#[derive(Clone, Default)]
pub struct Faults(Arc<AtomicU8>);

const NONE: u8 = 0;
const REFUSE: u8 = 1;
const FORGET: u8 = 2;

impl Faults {
    pub fn none(&self) {
        self.0.store(NONE, Ordering::SeqCst);
    }

    /// The disk is full: nothing is appended.
    pub fn refuse_appends(&self) {
        self.0.store(REFUSE, Ordering::SeqCst);
    }

    /// Appends succeed, and the caller doesn't learn of it.
    pub fn forget_answers(&self) {
        self.0.store(FORGET, Ordering::SeqCst);
    }
}

pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>, faults: Faults) -> Arc<Self> {
        Arc::new(Self { inner, faults })
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn log(&self) -> &dyn PurgeLog {
        self
    }

    fn kv(&self) -> &dyn Kv {
        self.inner.kv()
    }

    fn presence(&self) -> &dyn Presence {
        self.inner.presence()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl PurgeLog for FaultyStore {
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError> {
        match self.faults.0.load(Ordering::SeqCst) {
            REFUSE => return Err(StoreError::Full),
            FORGET => {
                self.inner.log().append(batch).await?;
                return Err(StoreError::Unknown { retry_after: Duration::ZERO });
            }
            _ => {}
        }
        self.inner.log().append(batch).await
    }

    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        self.inner.log().read(from, max_items, max_bytes).await
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

    async fn put_completions(&self, rows: Vec<(TaskId, bytes::Bytes)>) -> Result<(), StoreError> {
        self.inner.log().put_completions(rows).await
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        self.inner.log().forget_tasks(older_than).await
    }
}
