//! The audit log as the rest of the control plane knows it: how things get into it, and when they are written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Store, StoreError};
use batoff_types::{Cursor, LogId, Replica};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::block::OpenChange;
use super::entry::AuditEntry;
use super::writer::{Addition, ChainWrite, ChainWriter};
use crate::clock::Clock;
use crate::metrics;

/// How often purges and notes are written down.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// The chain's name. There is one, whoever writes it.
pub(super) const CHAIN: &str = "1";

/// Entries that wait to be written, at most. Further ones are left out, and the next that is written says how many.
const NOTES_MAX: usize = 4_096;

/// The audit log of this control plane.
pub struct Audit {
    pub(super) store: Arc<dyn Store>,
    replica: Replica,
    pub(super) writer: Arc<AsyncMutex<ChainWriter>>,
    notes: Mutex<WaitingEntries>,
    /// Held shared by whoever goes along the whole chain; nothing is forgotten meanwhile.
    pub(super) walking: RwLock<()>,
    through: Mutex<Cursor>,
}

#[derive(Default)]
struct WaitingEntries {
    waiting: VecDeque<AuditEntry>,
    unlisted: u64,
    /// Changes that were made and whose entries could not be written yet.
    unfinished: Vec<BegunChange>,
}

/// A change that stands in the store as begun. It must be [finished](Audit::finish).
#[derive(Clone, Debug)]
#[must_use]
pub struct BegunChange {
    id: String,
    /// As it was begun; to be completed with what came of it.
    pub entry: AuditEntry,
}

impl Audit {
    /// Finds the chain's end, or begins a chain; writes down what the last process could not.
    /// `replica` is which control plane this is.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Clock,
        log_id: LogId,
        replica: Replica,
    ) -> Result<Self, StoreError> {
        let writer = ChainWriter::open(Arc::clone(&store), clock, (CHAIN, replica), log_id);
        let mut writer = writer.await?;
        let through = writer.end().await?.through();
        Ok(Self {
            store,
            replica,
            writer: Arc::new(AsyncMutex::new(writer)),
            notes: Mutex::default(),
            walking: RwLock::default(),
            through: Mutex::new(through),
        })
    }

    /// Writes down that a change is about to be made; durable when it returns. On an error the change must not be made.
    pub async fn begin(&self, id: String, entry: AuditEntry) -> Result<BegunChange, StoreError> {
        let begun = BegunChange { id: id.clone(), entry: entry.clone() };
        let begins = Some(OpenChange { id, replica: self.replica.0, entry });
        self.write(Addition { begins, ..Addition::default() }).await?;
        Ok(begun)
    }

    /// Writes the change's entry, with what came of it. When the store fails it is kept and tried again; should the
    /// process end before, the next one writes that the result is unknown.
    pub async fn finish(&self, change: BegunChange) {
        if let Err(error) = self.write_finished(&change).await {
            metrics::audit_failure();
            tracing::error!(%error, action = &*change.entry.action, "the audit log could not be written; trying again");
            self.notes.lock().unfinished.push(change);
        }
    }

    async fn write_finished(&self, change: &BegunChange) -> Result<(), StoreError> {
        let (entries, ends) = (vec![change.entry.clone()], Some(change.id.clone()));
        self.write(Addition { entries, ends, ..Addition::default() }).await.map(drop)
    }

    /// Writes down what is about to be done and cannot be refused any more; durable when it returns.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write(Addition { entries: vec![entry], ..Addition::default() }).await.map(drop)
    }

    /// Writes this down with the next flush: of what changed nothing.
    pub fn note(&self, mut entry: AuditEntry) {
        let mut notes = self.notes.lock();
        if notes.waiting.len() >= NOTES_MAX {
            notes.unlisted += 1;
            return;
        }
        let unlisted = std::mem::take(&mut notes.unlisted) + entry.unlisted.unwrap_or_default();
        entry.unlisted = Some(unlisted).filter(|unlisted| *unlisted > 0);
        notes.waiting.push_back(entry);
    }

    /// Writes down all that waits: purges in the log, notes, changes whose entries could not be written before.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        // A task of its own: whoever waits for it may go away, and a write must not be left half way.
        let flushed = tokio::spawn(async move {
            writer.catch_up().await?;
            writer.end().await.map(|end| end.through())
        });
        *self.through.lock() = joined(flushed.await)?;
        let unfinished = std::mem::take(&mut self.notes.lock().unfinished);
        for change in unfinished {
            self.finish(change).await;
        }
        // Taken out by whoever writes them: another flush that finds none has waited until they were written.
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let waiting: Vec<AuditEntry> = self.notes.lock().waiting.drain(..).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let addition = Addition { entries: waiting.clone(), ..Addition::default() };
        let written = joined(tokio::spawn(async move { writer.write(addition).await }).await);
        if written.is_err() {
            let mut notes = self.notes.lock();
            waiting.into_iter().rev().for_each(|entry| notes.waiting.push_front(entry));
            notes.waiting.truncate(NOTES_MAX);
        }
        written.map(drop)
    }

    pub(super) async fn write(&self, addition: Addition) -> Result<ChainWrite, StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        joined(tokio::spawn(async move { writer.write(addition).await }).await)
    }

    /// Follows the purge log, until `stopping` is cancelled.
    pub async fn run(self: Arc<Self>, stopping: CancellationToken) {
        let mut every = tokio::time::interval(FLUSH_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(every.tick()).await.is_some() {
            if let Err(error) = self.flush().await {
                metrics::audit_failure();
                tracing::warn!(%error, "the audit log could not be written; trying again");
            }
        }
    }

    /// Purges up to here have their entries; the purge log must keep what lies after.
    pub fn saved_through(&self) -> Cursor {
        *self.through.lock()
    }
}

/// What the task came to; a panic of it goes on here.
fn joined<T>(outcome: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending.
        Err(_) => Err(StoreError::Unavailable { retry_after: FLUSH_EVERY }),
    }
}
