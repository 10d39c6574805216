//! The real store, which takes no virtual time.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore, OpenError};
use batoff_log::{
    Appended, CasError, CompletionChange, Dedupe, Expect, Guard, GuardedError, Health, Key, Kv, KvEvent,
    LogState, NewRecord, Presence, PurgeLog, ReadError, Store, StoreError, StoredRecord, TaskRow, Version,
    Versioned, Write,
};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// Holds the simulation up while the store works. Its writer is a thread of its own, of whose flushes virtual time knows
/// nothing; waited for in the ordinary way, each would take as long as the simulation happens to get on meanwhile.
pub struct Timeless(Arc<EmbeddedStore>);

impl Timeless {
    /// Opens the store in `dir`, once a store of a control plane that died has let go of it.
    pub fn open(dir: &Path, clock: batoff_log::WallClock) -> Self {
        loop {
            match EmbeddedStore::open(EmbeddedConfig::new(dir, Arc::clone(&clock))) {
                Ok(store) => return Self(store),
                Err(OpenError::Locked { .. }) => thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    // Tokio's budget would otherwise ask this task to yield, which it never does.
    let mut work = pin!(tokio::task::unconstrained(work));
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[async_trait]
impl Store for Timeless {
    fn log(&self) -> &dyn PurgeLog {
        self
    }

    fn kv(&self) -> &dyn Kv {
        self
    }

    fn presence(&self) -> &dyn Presence {
        self.0.presence()
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.0.health()
    }

    async fn close(&self) {
        wait(self.0.close());
    }
}

#[async_trait]
impl PurgeLog for Timeless {
    async fn append(&self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, StoreError> {
        wait(self.0.log().append(batch))
    }

    async fn recognise(&self, keys: Vec<Dedupe>) -> Result<Option<Appended>, StoreError> {
        wait(self.0.log().recognise(keys))
    }

    async fn read(
        &self,
        from: Seq,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        wait(self.0.log().read(from, max_items, max_bytes))
    }

    fn tail(&self, from: Seq) -> BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>> {
        self.0.log().tail(from)
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        wait(self.0.log().state())
    }

    async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError> {
        wait(self.0.log().trim(keep_from))
    }

    async fn find_by_time(&self, at: UnixMillis) -> Result<Seq, StoreError> {
        wait(self.0.log().find_by_time(at))
    }

    async fn find_task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        wait(self.0.log().find_task(task))
    }

    async fn list_tasks(
        &self,
        site: &SiteId,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        wait(self.0.log().list_tasks(site, before, limit))
    }

    async fn put_completions(&self, rows: Vec<(TaskId, bytes::Bytes)>) -> Result<(), StoreError> {
        wait(self.0.log().put_completions(rows))
    }

    async fn change_completions(&self, changes: Vec<CompletionChange>) -> Result<Vec<bool>, StoreError> {
        wait(self.0.log().change_completions(changes))
    }

    async fn forget_tasks(&self, older_than: UnixMillis) -> Result<u64, StoreError> {
        wait(self.0.log().forget_tasks(older_than))
    }
}

#[async_trait]
impl Kv for Timeless {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        wait(self.0.kv().get(key))
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        wait(self.0.kv().scan(prefix, after, limit))
    }

    async fn cas(&self, key: &Key, expect: Expect, write: Write) -> Result<Version, CasError> {
        wait(self.0.kv().cas(key, expect, write))
    }

    async fn cas_guarded(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: &Guard,
    ) -> Result<Version, GuardedError> {
        wait(self.0.kv().cas_guarded(key, expect, write, guard))
    }

    fn watch(&self, prefix: &Key) -> BoxStream<'static, KvEvent> {
        self.0.kv().watch(prefix)
    }
}
