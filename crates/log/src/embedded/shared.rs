//! What the writer and the readers have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use batoff_types::{LogId, UnixMillis};
use parking_lot::RwLock;
use redb::Database;
use tokio::sync::{broadcast, watch};

use super::committed::Committed;
use super::fault::unavailable;
use super::layer::TaskLayers;
use super::measure;
use super::peers::Peers;
use super::segments::SegmentShelf;
use crate::error::StoreError;
use crate::kv::{Key, Versioned};
use crate::purge_log::{LogState, StoredRecord};
use crate::store::{Health, WallClock};

/// Commits kept in memory for tails that follow live.
/// A tail that falls further behind reads from the file until it has caught up; nobody else notices.
const FEED_COMMITS: usize = 256;

/// Commits of more bytes than this are not kept for the live feed; tails read them from the file. Together with
/// [`FEED_COMMITS`] this bounds the feed to 64 MiB.
const FEED_COMMIT_BYTES: usize = 256 * 1024;

/// What live tails hear after a commit.
#[derive(Clone)]
pub(super) enum RecordNews {
    Records(Arc<[StoredRecord]>),
    /// Something happened that must be looked up in the file (or in the store's mode).
    LookAgain,
}

/// What live watches hear after a commit.
#[derive(Clone)]
pub(super) enum PairNews {
    Commit {
        commit: u64,
        changes: Arc<[(Key, Option<Versioned>)]>,
    },
    /// Something happened that must be looked up in the file (or in the store's mode).
    LookAgain,
}

/// Whether anything may still be expected of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StoreMode {
    Running,
    Closed,
    Corrupt(String),
}

/// One opening of the databases.
#[derive(Clone)]
pub(super) struct OpenedFiles {
    /// What follows from the log, through the last checkpoint.
    pub(super) checkpoint: Arc<Database>,
    /// The small records beside the log.
    pub(super) pairs: Arc<Database>,
    /// Which opening it is; tells a report about an earlier one from news.
    pub(super) opening: u64,
}

/// What the writer and the readers have in common. The writer alone changes it.
pub(super) struct Shared {
    pub(super) clock: WallClock,
    pub(super) peers: Peers,
    pub(super) health: watch::Sender<Health>,
    pub(super) shelf: SegmentShelf,
    /// What has happened to tasks since the last checkpoint. Never held while the database below is read, except by the
    /// writer: a list of old tasks that waits for the disk would hold up every purge (see [`StoreView`](super::read)).
    pub(super) layers: RwLock<TaskLayers>,
    log_id: LogId,
    state: RwLock<LogState>,
    mode: RwLock<StoreMode>,
    opened: RwLock<Option<OpenedFiles>>,
    feed: broadcast::Sender<RecordNews>,
    changes: broadcast::Sender<PairNews>,
    /// Nobody can ask for anything any more.
    abandoned: AtomicBool,
    /// The writer waits until all readers have let go of the files.
    wanted_back: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        clock: WallClock,
        checkpoint: Database,
        pairs: Database,
        shelf: SegmentShelf,
        layers: TaskLayers,
        committed: &Committed,
    ) -> Self {
        let (checkpoint, pairs) = (Arc::new(checkpoint), Arc::new(pairs));
        let shared = Self {
            clock,
            peers: Peers::new(),
            health: watch::Sender::new(Health::Ok),
            shelf,
            layers: RwLock::new(layers),
            log_id: committed.log_id,
            state: RwLock::new(LogState {
                log_id: committed.log_id,
                first: committed.first,
                tail: committed.tail,
            }),
            mode: RwLock::new(StoreMode::Running),
            opened: RwLock::new(Some(OpenedFiles { checkpoint, pairs, opening: 0 })),
            feed: broadcast::Sender::new(FEED_COMMITS),
            changes: broadcast::Sender::new(FEED_COMMITS),
            abandoned: AtomicBool::new(false),
            wanted_back: AtomicBool::new(false),
        };
        measure::tail(committed.tail);
        shared
    }

    pub(super) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    /// Why nothing can be expected any more; `Ok` while the store runs.
    pub(super) fn check_running(&self) -> Result<(), StoreError> {
        match &*self.mode.read() {
            StoreMode::Running => Ok(()),
            StoreMode::Closed => Err(unavailable()),
            StoreMode::Corrupt(detail) => Err(StoreError::Corrupt(detail.clone())),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.mode.read() == StoreMode::Closed
    }

    /// The store was dropped; its writer ends after the group in hand.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> LogState {
        *self.state.read()
    }

    pub(super) fn opened(&self) -> Option<OpenedFiles> {
        self.opened.read().clone()
    }

    pub(super) fn subscribe_feed(&self) -> broadcast::Receiver<RecordNews> {
        self.feed.subscribe()
    }

    pub(super) fn subscribe_changes(&self) -> broadcast::Receiver<PairNews> {
        self.changes.subscribe()
    }

    /// Tells the world what a group has made durable.
    pub(super) fn publish(&self, committed: &Committed, records: Vec<StoredRecord>) {
        *self.state.write() = LogState { log_id: self.log_id, first: committed.first, tail: committed.tail };
        if records.is_empty() {
            return;
        }
        measure::tail(committed.tail);
        let bytes: usize = records.iter().map(|record| record.body.len()).sum();
        let feed = if bytes <= FEED_COMMIT_BYTES {
            RecordNews::Records(records.into())
        } else {
            RecordNews::LookAgain
        };
        // Sending fails when nobody listens.
        let _ = self.feed.send(feed);
    }

    /// Tells the world what a commit has made durable beside the log.
    pub(super) fn publish_pairs(&self, commit: u64, changes: Vec<(Key, Option<Versioned>)>) {
        if !changes.is_empty() {
            let _ = self.changes.send(PairNews::Commit { commit, changes: changes.into() });
        }
    }

    /// Whether whoever reads for long is to stop.
    pub(super) fn is_wanted_back(&self) -> bool {
        self.wanted_back.load(Ordering::Relaxed)
    }

    /// Makes readers wait for the next opening, and returns when the last of them has let go of this one.
    pub(super) fn let_go(&self) {
        let Some(OpenedFiles { checkpoint, pairs, .. }) = self.opened.write().take() else { return };
        self.wanted_back.store(true, Ordering::Relaxed);
        for mut database in [checkpoint, pairs] {
            // Dropping it closes the file.
            while let Err(shared) = Arc::try_unwrap(database) {
                // A read is a page or two, and a backup looks whether it is to stop; and this happens only after a failure
                // and at the end.
                database = shared;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    pub(super) fn put_opened(
        &self,
        checkpoint: Database,
        pairs: Database,
        opening: u64,
        committed: &Committed,
    ) {
        let (checkpoint, pairs) = (Arc::new(checkpoint), Arc::new(pairs));
        self.wanted_back.store(false, Ordering::Relaxed);
        *self.opened.write() = Some(OpenedFiles { checkpoint, pairs, opening });
        *self.state.write() = LogState { log_id: self.log_id, first: committed.first, tail: committed.tail };
        measure::tail(committed.tail);
        self.nudge();
    }

    pub(super) fn become_closed(&self) {
        let mut mode = self.mode.write();
        if *mode == StoreMode::Running {
            *mode = StoreMode::Closed;
            self.health.send_replace(Health::Down { reason: "the purge log was closed".to_owned() });
        }
        drop(mode);
        self.peers.close();
        self.nudge();
    }

    /// The writer has panicked; what was acknowledged is safe, and nothing more is accepted.
    pub(super) fn become_stopped(&self) {
        let reason = "its writer has stopped unexpectedly; start the process again".to_owned();
        *self.mode.write() = StoreMode::Closed;
        // redb panics when it drops a database that a panic has left half changed, and the process is to end in order.
        std::mem::forget(self.opened.write().take());
        self.health.send_replace(Health::Stopped { reason });
        self.peers.close();
        self.nudge();
    }

    pub(super) fn become_corrupt(&self, detail: String) {
        self.health.send_replace(Health::Down { reason: detail.clone() });
        *self.mode.write() = StoreMode::Corrupt(detail);
        self.nudge();
    }

    fn nudge(&self) {
        let _ = self.feed.send(RecordNews::LookAgain);
        let _ = self.changes.send(PairNews::LookAgain);
    }
}
