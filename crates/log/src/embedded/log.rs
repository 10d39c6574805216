//! The purge log, as the embedded engine keeps it.

use std::sync::Arc;

use async_trait::async_trait;
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::EmbeddedStore;
use super::fault::Fault;
use super::queue::{RECORD_OVERHEAD_BYTES, Request};
use super::read::{StoreView, Stretch};
use super::tail::follow;
use crate::error::{ReadError, StoreError};
use crate::purge_log::{
    Appended, CompletionChange, Dedupe, LIST_TASKS_MAX, LogState, NewRecord, PurgeLog, READ_BYTES_MAX,
    READ_RECORDS_MAX, StoredRecord, TaskRow, check_batch, check_changes, check_completions,
};

#[async_trait]
impl PurgeLog for EmbeddedStore {
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = check_batch(&batch)? + batch.len() * RECORD_OVERHEAD_BYTES;
        self.requests.ask(|reply| Request::Append { batch, bytes, reply }).await
    }

    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError> {
        if keys.is_empty() {
            return Ok(None);
        }
        // Only the writer knows where the keys are.
        self.requests.ask(|reply| Request::Recognise { keys, reply }).await
    }

    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let items = max_items.clamp(1, READ_RECORDS_MAX);
        let bytes = max_bytes.min(READ_BYTES_MAX);
        match self.read_snapshot(move |snapshot| snapshot.stretch(from, items, bytes)).await? {
            Stretch::Records(records) => Ok(records),
            Stretch::Trimmed { first } => Err(ReadError::Trimmed { first }),
            Stretch::AheadOfLog { tail } => Err(ReadError::AheadOfLog { tail }),
        }
    }

    fn tail(&self, from: Seq) -> BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>> {
        follow(Arc::clone(&self.shared), self.requests.clone(), from)
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.shared.check_running()?;
        Ok(self.shared.state())
    }

    async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError> {
        self.requests.ask(|reply| Request::Trim { keep_from, reply }).await
    }

    async fn find_by_time(&self, at: UnixMillis) -> Result<Seq, StoreError> {
        self.read_snapshot(move |snapshot| snapshot.first_since(at)).await
    }

    async fn find_task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        self.read_snapshot(move |snapshot| snapshot.task(task)).await
    }

    async fn list_tasks(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let (site, limit) = (site.clone(), limit.min(LIST_TASKS_MAX));
        self.read_snapshot(move |snapshot| snapshot.tasks_of(&site, before, limit)).await
    }

    async fn put_completions(&self, rows: Vec<(TaskId, Bytes)>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = check_completions(&rows)?;
        self.requests.ask(|reply| Request::PutCompletions { rows, bytes, reply }).await
    }

    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = check_changes(&changes)?;
        self.requests.ask(|reply| Request::ChangeCompletions { changes, bytes, reply }).await
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        let mut from = 0;
        loop {
            // A bounded piece at a time, so that appends get their turn in between.
            let piece = self.requests.ask(|reply| Request::ForgetTasks { older_than, from, reply }).await?;
            forgotten += piece.forgotten;
            match piece.next {
                Some(next) => from = next,
                None => return Ok(forgotten),
            }
        }
    }
}

impl EmbeddedStore {
    pub(super) async fn read_snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreView) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.read(|opening| self.requests.mend(opening), work).await
    }
}
