//! A store that fails on demand around one that works.

#![allow(dead_code, reason = "two suites use it, each its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::{
    Appended, CompletionChange, Dedupe, Health, Kv, LogState, NewRecord, Presence, PurgeLog, ReadError,
    Store, StoreError, StoredRecord, TaskRow,
};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// What fails; everything else always works.
#[derive(Clone, Default)]
pub struct Faults(Arc<State>);

#[derive(Default)]
struct State {
    fault: AtomicU8,
    refused: AtomicUsize,
    slow_ms: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

const NONE: u8 = 0;
const REFUSE_APPENDS: u8 = 1;
const FORGET_ANSWERS: u8 = 2;
const REFUSE_COMPLETIONS: u8 = 3;
const REFUSE_READS: u8 = 4;
const FORGET_COMPLETIONS: u8 = 5;

impl Faults {
    pub fn none(&self) {
        self.set(NONE);
    }

    /// The disk is full: nothing is appended.
    pub fn refuse_appends(&self) {
        self.set(REFUSE_APPENDS);
    }

    /// Appends succeed, and the caller doesn't learn of it.
    pub fn forget_answers(&self) {
        self.set(FORGET_ANSWERS);
    }

    /// Appends are done one after the other, and each takes so long: a log of which one knows what it can do.
    pub fn append_one_each(&self, each: Duration) {
        self.0.slow_ms.store(u64::try_from(each.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// What became of tasks is not written.
    pub fn refuse_completions(&self) {
        self.set(REFUSE_COMPLETIONS);
    }

    /// What became of tasks is written, and the caller doesn't learn of it.
    pub fn forget_completions(&self) {
        self.set(FORGET_COMPLETIONS);
    }

    /// Records cannot be read.
    pub fn refuse_reads(&self) {
        self.set(REFUSE_READS);
    }

    /// How many calls have failed since the fault was set.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::SeqCst)
    }

    fn set(&self, fault: u8) {
        self.0.refused.store(0, Ordering::SeqCst);
        self.0.fault.store(fault, Ordering::SeqCst);
    }

    fn refuse(&self, fault: u8) -> Result<(), StoreError> {
        self.fail(fault, StoreError::Full)
    }

    fn forget(&self, fault: u8) -> Result<(), StoreError> {
        self.fail(fault, StoreError::Unknown { retry_after: Duration::ZERO })
    }

    fn fail(&self, fault: u8, error: StoreError) -> Result<(), StoreError> {
        if self.0.fault.load(Ordering::SeqCst) != fault {
            return Ok(());
        }
        self.0.refused.fetch_add(1, Ordering::SeqCst);
        Err(error)
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

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
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
        self.faults.refuse(REFUSE_APPENDS)?;
        let slow_ms = self.faults.0.slow_ms.load(Ordering::SeqCst);
        if slow_ms > 0 {
            let _turn = self.faults.0.turn.lock().await;
            tokio::time::sleep(Duration::from_millis(slow_ms)).await;
        }
        let appended = self.inner.log().append(batch).await?;
        self.faults.forget(FORGET_ANSWERS)?;
        Ok(appended)
    }

    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError> {
        self.inner.log().recognise(keys).await
    }

    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        self.faults.refuse(REFUSE_READS)?;
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
        self.faults.refuse(REFUSE_COMPLETIONS)?;
        self.inner.log().put_completions(rows).await?;
        self.faults.forget(FORGET_COMPLETIONS)
    }

    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError> {
        self.faults.refuse(REFUSE_COMPLETIONS)?;
        let written = self.inner.log().change_completions(changes).await?;
        self.faults.forget(FORGET_COMPLETIONS)?;
        Ok(written)
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        self.inner.log().forget_tasks(older_than).await
    }
}
