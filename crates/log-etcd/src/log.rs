//! The trait, method by method: what goes to the sequencer, and what the index or etcd can answer.

use std::sync::Arc;

use async_trait::async_trait;
use batoff_log::{
    Appended, CompletionChange, Dedupe, LIST_TASKS_MAX, LogState, NewRecord, PurgeLog, ReadError, StoreError,
    StoredRecord, TaskRow, check_batch, check_changes, check_completions,
};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::client::RETRY_AFTER;
use crate::draft::look_up;
use crate::queue::{LogWrite, RECORD_OVERHEAD_BYTES, WriteAnswer, WriteQueue};
use crate::shared::StoreCore;
use crate::tail::follow;
use crate::trim::Trimmer;

/// The purge log, as etcd keeps it.
pub(crate) struct EtcdLog {
    shared: Arc<StoreCore>,
    requests: WriteQueue,
    trimmer: Trimmer,
}

impl EtcdLog {
    pub(crate) fn new(shared: Arc<StoreCore>, requests: WriteQueue) -> Self {
        let trimmer = Trimmer::new(Arc::clone(&shared));
        Self { shared, requests, trimmer }
    }
}

#[async_trait]
impl PurgeLog for EtcdLog {
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = check_batch(&batch)? + batch.len() * RECORD_OVERHEAD_BYTES;
        self.shared.check_running()?;
        match self.requests.ask(bytes, |waiting| LogWrite::Append { batch, waiting }).await? {
            WriteAnswer::Appended(appended) => Ok(appended),
            other => Err(unexpected(&other)),
        }
    }

    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError> {
        self.shared.check_running()?;
        // Another replica may have answered its append.
        self.shared.catch_up().await?;
        Ok(look_up(&keys, self.shared.now(), &self.shared.index.read()))
    }

    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        self.shared.read_records(from, max_items, max_bytes).await
    }

    fn tail(&self, from: Seq) -> BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>> {
        follow(Arc::clone(&self.shared), from)
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.shared.state_now().await
    }

    async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError> {
        self.shared.check_running()?;
        self.trimmer.trim(keep_from).await
    }

    async fn find_by_time(&self, at: UnixMillis) -> Result<Seq, StoreError> {
        self.shared.first_since(at).await
    }

    async fn find_task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        self.shared.check_running()?;
        if let Some(row) = self.shared.index.read().task(task) {
            return Ok(Some(row));
        }
        // Another replica may have answered its append.
        self.shared.catch_up().await?;
        Ok(self.shared.index.read().task(task))
    }

    async fn list_tasks(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.shared.check_running()?;
        let is_known = before.is_none_or(|task| self.shared.index.read().seq_of(task).is_some());
        if !is_known {
            self.shared.catch_up().await?;
        }
        Ok(self.shared.index.read().tasks_of(site, before, limit.min(LIST_TASKS_MAX)))
    }

    async fn put_completions(&self, rows: Vec<(TaskId, Bytes)>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = check_completions(&rows)?;
        self.shared.check_running()?;
        match self.requests.ask(bytes, |waiting| LogWrite::PutCompletions { rows, waiting }).await? {
            WriteAnswer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = check_changes(&changes)?;
        self.shared.check_running()?;
        match self.requests.ask(bytes, |waiting| LogWrite::ChangeCompletions { changes, waiting }).await? {
            WriteAnswer::Changed(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        self.shared.check_running()?;
        let now = self.shared.now();
        self.shared.index.write().drop_expired(now);
        match self.requests.ask(0, |waiting| LogWrite::ForgetTasks { older_than, waiting }).await? {
            WriteAnswer::Forgotten(forgotten) => Ok(forgotten),
            other => Err(unexpected(&other)),
        }
    }
}

/// The sequencer answers each request in kind; were it not so, its outcome would not be known.
fn unexpected(answer: &WriteAnswer) -> StoreError {
    tracing::error!(?answer, "the sequencer has answered another request than was asked");
    StoreError::Unknown { retry_after: RETRY_AFTER }
}
