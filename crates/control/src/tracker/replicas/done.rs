//! What is completed is recorded in the store before anybody is told: every replica finds it there, so no reader sees a
//! purge go back, whichever answers.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, KvEvent, StoreError, Version, Write};
use batoff_types::Cursor;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::rows::{self, DONE, DoneRow};
use crate::metrics;
use crate::tracker::Tracker;

/// How long a replica leaves it to the one that has recorded last: all of them know at about the same time, and only one of
/// them can write.
const AFTER_YOU: Duration = Duration::from_millis(10);

/// For how long a watch that says nothing is believed.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long to wait after the store did not do what it was asked.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A write of the row, as it went.
type WriteOutcome = Result<Version, CasError>;

/// The row as it was last seen, and what is being done about it.
#[derive(Default)]
struct DoneKeeper {
    known: Option<(DoneRow, Version)>,
    writing: Option<(DoneRow, BoxFuture<'static, WriteOutcome>)>,
    /// Since when there is something to record.
    wanted: Option<Instant>,
    /// Nothing is written before.
    not_before: Option<Instant>,
    heard: Option<Instant>,
}

impl Tracker {
    /// Records what a majority has stated, and follows what others record; until the process stops.
    pub(crate) async fn run_done(self: Arc<Self>) {
        if self.is_alone() {
            return self.stopping.cancelled().await;
        }
        let key = Key::from(DONE);
        let mut keeper = DoneKeeper::default();
        let mut watch = self.store.kv().watch(&key);
        loop {
            let due = self.write_if_due(&mut keeper);
            let silent = keeper.heard.map_or_else(Instant::now, |heard| heard + SILENCE_MAX);
            let next = due.map_or(silent, |due| due.min(silent));
            tokio::select! {
                event = watch.next() => match event {
                    Some(KvEvent::Put { key: of, versioned }) if of == key => {
                        match DoneRow::read(&versioned.value) {
                            Ok(row) => self.hear_done(&mut keeper, row, versioned.version),
                            Err(why) => _ = rows::unreadable_done(why),
                        }
                    }
                    Some(KvEvent::Synced | KvEvent::Current) => keeper.heard = Some(Instant::now()),
                    Some(_) => {}
                    None => {
                        tokio::time::sleep(RETRY_AFTER).await;
                        watch = self.store.kv().watch(&key);
                    }
                },
                (row, written) = outcome(&mut keeper.writing) => self.handle_written(&mut keeper, row, written).await,
                () = self.declare.notified() => {}
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= silent {
                        self.read_done(&mut keeper).await;
                    }
                }
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Begins to write if there is something to be recorded and it is this replica's turn; otherwise when it will be.
    fn write_if_due(&self, keeper: &mut DoneKeeper) -> Option<Instant> {
        if keeper.writing.is_some() {
            return None;
        }
        let before = keeper.known.as_ref().map(|(row, _)| Cursor::new(row.through)).unwrap_or_default();
        let wall = self.clock.wall();
        let Some(row) = self.state.lock().quorum.to_record(wall, before) else {
            keeper.wanted = None;
            return None;
        };
        let now = Instant::now();
        let wanted = *keeper.wanted.get_or_insert(now);
        let is_last = keeper.known.as_ref().is_none_or(|(known, _)| known.process == row.process);
        let turn = if is_last { wanted } else { wanted + AFTER_YOU };
        let due = keeper.not_before.map_or(turn, |not_before| turn.max(not_before));
        if due > now {
            return Some(due);
        }
        let expect = match &keeper.known {
            Some((_, version)) => Expect::Version(*version),
            None => Expect::Absent,
        };
        let write = Write::Put { value: crate::store::rows::json(&row).into(), ttl: None };
        let store = Arc::clone(&self.store);
        let writing = async move { store.kv().cas(&Key::from(DONE), expect, write).await };
        keeper.writing = Some((row, Box::pin(writing)));
        keeper.wanted = None;
        None
    }

    async fn handle_written(&self, keeper: &mut DoneKeeper, row: DoneRow, written: WriteOutcome) {
        match written {
            Ok(version) => {
                keeper.not_before = None;
                metrics::declared(row.through - row.after);
                self.hear_done(keeper, row, version);
            }
            // Another one was faster.
            Err(CasError::Conflict(Some(current))) => match DoneRow::read(&current.value) {
                Ok(row) => self.hear_done(keeper, row, current.version),
                Err(why) => {
                    let _ = rows::unreadable_done(why);
                    keeper.not_before = Some(Instant::now() + RETRY_AFTER);
                }
            },
            Err(CasError::Conflict(None)) => keeper.known = None,
            Err(CasError::Store(error)) => {
                tracing::warn!(%error, "what is completed is not recorded yet");
                keeper.not_before = Some(Instant::now() + RETRY_AFTER);
                // Whether it was written is seen by its name.
                self.read_done(keeper).await;
            }
        }
    }

    fn hear_done(&self, keeper: &mut DoneKeeper, row: DoneRow, version: Version) {
        keeper.heard = Some(Instant::now());
        self.step(|state, now, _| state.handle_done(now, &row));
        // What the watch tells may be older than what was written or read here.
        if keeper.known.as_ref().is_none_or(|(known, _)| known.through <= row.through) {
            keeper.known = Some((row, version));
        }
    }

    async fn read_done(&self, keeper: &mut DoneKeeper) {
        keeper.heard = Some(Instant::now());
        match rows::done(self.store.kv()).await {
            Ok(Some((row, version))) => self.hear_done(keeper, row, version),
            Ok(None) => keeper.known = None,
            Err(error) => tracing::debug!(%error, "what is completed cannot be read"),
        }
    }

    /// Takes in what the store has as done. Linearizable.
    pub(super) async fn look_at_done(&self) -> Result<(), StoreError> {
        if let Some((row, _)) = rows::done(self.store.kv()).await? {
            self.step(|state, now, _| state.handle_done(now, &row));
        }
        Ok(())
    }
}

/// What became of a write, if there is one.
async fn outcome(
    writing: &mut Option<(DoneRow, BoxFuture<'static, WriteOutcome>)>,
) -> (DoneRow, WriteOutcome) {
    let written = match writing.as_mut() {
        Some((_, writing)) => writing.await,
        None => pending().await,
    };
    match writing.take() {
        Some((row, _)) => (row, written),
        None => pending().await,
    }
}
