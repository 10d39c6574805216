//! What the tasks of one store share: the way to etcd, the index, the live feed, and how the store is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use batoff_log::{Health, StoreError, StoredRecord, WallClock};
use batoff_types::{LogId, UnixMillis};
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::client::{EtcdClient, EtcdError, RETRY_AFTER};
use crate::envelope::PIECE_BYTES_MAX;
use crate::index::{Applied, GroupEntry, LogIndex, damaged_group};
use crate::load::LoadedLog;
use crate::names::{KeyNames, PartsShelf};
use crate::rpc::{AlarmRequest, AlarmType};
use crate::stored::{Envelope, First, Group};
use crate::witness::GroupMark;

/// Groups that a live tail may lag behind before it reads from etcd instead.
const FEED_GROUPS: usize = 256;

/// Which log this is, and the write that said so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownIdentity {
    pub(crate) log_id: LogId,
    pub(crate) revision: i64,
}

/// What followers of the log are told.
#[derive(Clone, Debug)]
pub(crate) enum FeedNews {
    Records(Arc<[StoredRecord]>),
    /// Something was passed over: read it.
    LookAgain,
}

pub(crate) struct StoreCore {
    pub(crate) client: EtcdClient,
    /// For watches.
    pub(crate) watcher: EtcdClient,
    pub(crate) names: KeyNames,
    pub(crate) clock: WallClock,
    pub(crate) identity: KnownIdentity,
    pub(crate) write_time_max: Duration,
    pub(crate) stopping: CancellationToken,
    pub(crate) index: RwLock<LogIndex>,
    /// The group with which the index ends.
    pub(crate) last_group: watch::Sender<Option<GroupMark>>,
    pub(crate) health: watch::Sender<Health>,
    feed: broadcast::Sender<FeedNews>,
    /// The cluster takes no writes for want of room.
    is_full: AtomicBool,
    /// It will not for long.
    is_short: AtomicBool,
    /// Why nothing is possible any more.
    broken: OnceLock<StoreError>,
}

impl StoreCore {
    pub(crate) fn new(
        clients: (EtcdClient, EtcdClient),
        names: KeyNames,
        clock: WallClock,
        identity: KnownIdentity,
        write_time_max: Duration,
        loaded: LoadedLog,
    ) -> Self {
        Self {
            client: clients.0,
            watcher: clients.1,
            names,
            clock,
            identity,
            write_time_max,
            stopping: CancellationToken::new(),
            index: RwLock::new(loaded.index),
            last_group: watch::Sender::new(loaded.last),
            health: watch::Sender::new(Health::Ok),
            feed: broadcast::Sender::new(FEED_GROUPS),
            is_full: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            broken: OnceLock::new(),
        }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Whether anything is possible.
    pub(crate) fn check_running(&self) -> Result<(), StoreError> {
        if self.is_closed() {
            return Err(StoreError::Unavailable { retry_after: RETRY_AFTER });
        }
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<FeedNews> {
        self.feed.subscribe()
    }

    /// Notes what cannot be mended in this process; returns it.
    pub(crate) fn noted(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Corrupt(_) | StoreError::WrongCluster | StoreError::Format(_))
            && self.broken.set(error.clone()).is_ok()
        {
            tracing::error!(%error, "the purge log in etcd refuses everything until this process is started again");
            self.health.send_replace(Health::Down { reason: error.to_string() });
            let _ = self.feed.send(FeedNews::LookAgain);
        }
        error
    }

    pub(crate) fn told(&self, error: EtcdError, writes: bool) -> StoreError {
        self.noted(error.into_store_error(writes))
    }

    /// etcd has done a write or another call, or has not: the store's health follows.
    pub(crate) fn has_answered(&self, error: Option<&EtcdError>, writes: bool) {
        match error {
            Some(EtcdError::Full) => self.is_full.store(true, Ordering::Relaxed),
            None if writes => self.is_full.store(false, Ordering::Relaxed),
            _ => {}
        }
        // That something can be read says nothing of room.
        self.show_health(match error {
            _ if self.is_full.load(Ordering::Relaxed) => Some(FULL.to_owned()),
            _ if self.is_short() => Some(SHORT.to_owned()),
            Some(error) => Some(format!("etcd: {error}")),
            None => None,
        });
    }

    /// Whether appends are refused so that there is room for what makes room.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Of its quota the cluster holds so much.
    pub(crate) fn room_is(&self, used: u64, quota: u64, short_from: u64, short_until: u64) {
        let share = used.saturating_mul(100) / quota.max(1);
        if share >= short_from && !self.is_short.swap(true, Ordering::Relaxed) {
            tracing::warn!(used, quota, "etcd is nearly full; appends are refused until there is room");
            self.show_health(Some(SHORT.to_owned()));
        }
        if share < short_until && self.is_short.swap(false, Ordering::Relaxed) {
            tracing::info!(used, quota, "there is room in etcd again");
        }
    }

    fn show_health(&self, reason: Option<String>) {
        let now = self.now();
        self.health.send_if_modified(|health| {
            *health = match (reason, &health) {
                (None, Health::Degraded { .. }) => Health::Ok,
                (Some(reason), Health::Ok) => Health::Degraded { since: now, reason },
                _ => return false,
            };
            true
        });
    }

    /// Looks whether the cluster takes writes again, when it did not for want of room.
    pub(crate) async fn look_for_room(&self) {
        if self.is_full.load(Ordering::Relaxed)
            && let Ok(answer) = self.client.alarm(&AlarmRequest::default()).await
            && answer.alarms.iter().all(|alarm| alarm.alarm() != AlarmType::Nospace)
        {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Takes in a group as it was written by somebody at this revision; false when others before it are missing.
    pub(crate) async fn take_in(&self, key: &[u8], value: Bytes, revision: i64) -> Result<bool, StoreError> {
        let bytes = value.len();
        let envelope = Envelope::open(key, value).map_err(|error| self.noted(error))?;
        let parts = envelope.parts_range(PartsShelf::Groups, &self.names);
        let bytes = bytes + PIECE_BYTES_MAX * usize::try_from(envelope.parts).unwrap_or(usize::MAX);
        let place = GroupEntry { bytes, parts, ..GroupEntry::default() };
        let Some(number) = self.names.group_of(key) else {
            return Err(self.noted(damaged_group(key, "it is no group")));
        };
        let mark = GroupMark::of(number, &envelope);
        let unpacked = envelope.unpack::<Group>(PartsShelf::Groups, key, &self.client, &self.names).await;
        // Parts that are gone: the group was trimmed meanwhile.
        let Some(group) = unpacked.map_err(|error| self.noted(error))? else { return Ok(false) };
        if number != group.group {
            return Err(self.noted(damaged_group(key, "it says that it is another group")));
        }
        self.apply(key, group, revision, place, mark)
    }

    /// Applies a group; false when others before it are missing.
    pub(crate) fn apply(
        &self,
        key: &[u8],
        group: Group,
        revision: i64,
        place: GroupEntry,
        mark: GroupMark,
    ) -> Result<bool, StoreError> {
        let mut index = self.index.write();
        match index.apply(group, revision, place) {
            Ok(Applied::New(records)) => {
                crate::measure::tail(index.tail());
                self.last_group.send_replace(Some(mark));
                if !records.is_empty() {
                    // Under the lock, so that the feed is in order. Nobody may be listening.
                    let _ = self.feed.send(FeedNews::Records(records.into()));
                }
                Ok(true)
            }
            Ok(Applied::Known) => Ok(true),
            Ok(Applied::Gap) => Ok(false),
            Err(why) => {
                drop(index);
                Err(self.noted(damaged_group(key, why)))
            }
        }
    }

    /// Goes on with an index that was loaded anew.
    pub(crate) fn replace_index(&self, loaded: LoadedLog) {
        let mut index = self.index.write();
        if loaded.index.group() >= index.group() {
            *index = loaded.index;
            self.last_group.send_if_modified(|last| {
                // None is left when all were trimmed.
                let is_news = loaded.last.is_some();
                *last = loaded.last.or(*last);
                is_news
            });
            let _ = self.feed.send(FeedNews::LookAgain);
        }
    }

    /// The log begins here now.
    pub(crate) fn trimmed(&self, first: &First) {
        self.index.write().trimmed(first);
    }
}

/// What to do about a cluster that is nearly full, for people.
const SHORT: &str = "etcd holds most of its space quota, so appends are refused; that ends by itself when the log has been \
                     trimmed: shorten its retention, or raise --quota-backend-bytes";

/// What to do about a full cluster, for people.
const FULL: &str = "etcd has reached its space quota and takes no writes; shorten the log's retention, then compact, \
                    defragment each member, and disarm the alarm (etcdctl compact, defrag, alarm disarm), or raise \
                    --quota-backend-bytes";
