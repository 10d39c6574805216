//! What the suite is run on: a store, its clock, and records to put in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;

use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::{Store, WallClock};

/// How long something may take before the suite calls it hanging. Not a figure that anything is held to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store to be tested, and the clock it was given.
pub struct Subject {
    /// New and empty.
    pub store: Arc<dyn Store>,
    /// The clock that was passed to the store.
    pub clock: ManualClock,
    /// What must live as long as the store, such as its directory.
    pub keep: Box<dyn Send + Sync>,
}

impl Subject {
    pub(super) fn log(&self) -> &dyn PurgeLog {
        self.store.log()
    }

    pub(super) async fn append_one(&self, record: NewRecord) -> Appended {
        let answers = self.log().append(vec![record]).await.expect("an append to a sound store succeeds");
        assert_eq!(answers.len(), 1, "an append answers each record");
        answers[0]
    }

    pub(super) async fn append_new(&self, record: NewRecord) -> Seq {
        match self.append_one(record).await {
            Appended::New { seq } => seq,
            other => panic!("expected a new record, got {other:?}"),
        }
    }

    /// Appends `count` records in batches.
    pub(super) async fn fill(&self, count: u32) {
        for number in 0..count.div_ceil(100) {
            let batch =
                (number * 100..count.min((number + 1) * 100)).map(|n| record(&n.to_string())).collect();
            self.log().append(batch).await.expect("an append to a sound store succeeds");
        }
    }
}

/// A wall clock that moves only when it is told to.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl Default for ManualClock {
    /// Begins on an arbitrary day.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }
}

impl ManualClock {
    /// The clock to pass to the store.
    pub fn clock(&self) -> WallClock {
        let now = Arc::clone(&self.0);
        Arc::new(move || UnixMillis(now.load(Ordering::SeqCst)))
    }

    /// The time it shows.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }

    /// Moves it forward.
    pub fn advance_ms(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::new(number).expect("a record's number is not 0")
}

pub(super) fn site(name: &str) -> SiteId {
    name.parse().expect("the suite's site names are valid")
}

pub(super) fn task_id(number: u64) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

pub(super) fn record(body: &str) -> NewRecord {
    NewRecord {
        body: Bytes::copy_from_slice(body.as_bytes()),
        accepted_at: UnixMillis(1_000),
        task: None,
        dedupe: Vec::new(),
    }
}

pub(super) fn task_record(body: &str, site_name: &str, task: u64) -> NewRecord {
    let task =
        NewTask { site: site(site_name), task: task_id(task), meta: Bytes::from(format!("meta of {body}")) };
    NewRecord { task: Some(task), ..record(body) }
}

/// A key that expires after ten minutes and is a duplicate at once.
pub(super) fn key(name: u8, body: u8, now: UnixMillis) -> Dedupe {
    Dedupe {
        key: [name; 32],
        body_hash: [body; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(now.0 + 600_000),
    }
}
