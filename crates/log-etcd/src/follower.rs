//! Takes in what other replicas append, as it happens.
//!
//! A watch brings it within milliseconds, and nothing rests on the watch being right: every group must follow the one
//! before it, and where one is missing, or the watch is silent, late, cancelled or compacted away, it is read. That makes
//! the known defects of watches in etcd harmless (events lost at the revision of a compaction, members that are frozen).

use std::sync::Arc;
use std::time::Duration;

use batoff_log::StoreError;
use tokio::time::Instant;

use crate::client::{EtcdError, EtcdWatch, WatchNews};
use crate::shared::StoreCore;

/// How often the log's end is looked at when nothing was heard. Bounds how late an append of another replica is noticed
/// by a watch that has silently failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a watch may say nothing, not even how far it is, before the next one is of another endpoint.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// How long to wait after a watch could not be begun.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often etcd's history is compacted, if that is the store's to do.
const COMPACT_EVERY: Duration = Duration::from_secs(60);

/// Follows the log until the store is closed.
pub(crate) async fn follow(shared: Arc<StoreCore>, loaded_at: i64) {
    let stopping = shared.stopping.clone();
    let mut following = LogFollower { shared, seen_revision: loaded_at, heard: Instant::now() };
    tokio::select! {
        () = following.run() => {}
        () = stopping.cancelled() => {}
    }
}

struct LogFollower {
    shared: Arc<StoreCore>,
    /// All through this revision was taken in.
    seen_revision: i64,
    /// When the watch last said something.
    heard: Instant,
}

impl LogFollower {
    /// Ends when nothing is possible any more.
    async fn run(&mut self) {
        while self.shared.check_running().is_ok() {
            let groups = self.shared.names.groups_from(0);
            match self.shared.watcher.watch(&groups, self.seen_revision + 1, false).await {
                Ok(mut stream) => {
                    self.heard = Instant::now();
                    if let Err(why) = self.follow_stream(&mut stream).await {
                        tracing::debug!(%why, "a watch of the log has ended; beginning another");
                        self.shared.watcher.leave_watched(&stream);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a watch of the log cannot begin");
                    tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
                }
            }
            // Its members may all have been away, and have come back with older data.
            if let Err(error) = self.shared.check_last_group().await {
                tracing::debug!(%error, "whether the log is still the same cannot be told");
            }
            // What the watch missed, and from where the next one has to go on.
            self.look().await;
        }
    }

    async fn follow_stream(&mut self, stream: &mut EtcdWatch) -> Result<(), String> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = stream.next(&self.shared.watcher) => match news {
                    Ok(news) => self.take_in(news).await.map_err(|error| error.to_string())?,
                    Err(EtcdError::Compacted) => return Err("its revision was compacted".to_owned()),
                    Err(EtcdError::WrongCluster) => return Err(self.shared.noted(StoreError::WrongCluster).to_string()),
                    Err(error) => return Err(error.to_string()),
                },
                _ = look.tick() => {
                    if self.heard.elapsed() > SILENCE_MAX {
                        return Err("it says nothing".to_owned());
                    }
                    stream.ask_for_progress();
                    let before = self.shared.index.read().group();
                    let end = self.look().await;
                    // A group was there that the watch has not told, and it has had the time of a read to do so.
                    if end.is_some_and(|end| end > before) && self.heard.elapsed() > LOOK_EVERY {
                        return Err("it is behind".to_owned());
                    }
                }
            }
        }
    }

    async fn take_in(&mut self, news: WatchNews) -> Result<(), StoreError> {
        self.heard = Instant::now();
        match news {
            WatchNews::Progress { revision } => self.seen_revision = self.seen_revision.max(revision),
            WatchNews::Events { revision, events } => {
                for kv in events.into_iter().filter_map(|event| event.kv) {
                    let at = kv.mod_revision;
                    if !self.shared.take_in(&kv.key, kv.value, at).await? {
                        tracing::debug!(revision = at, "the watch has passed over a group; reading it");
                        self.shared.catch_up().await?;
                    }
                    self.seen_revision = self.seen_revision.max(at);
                }
                tracing::trace!(revision, "followed the log");
            }
        }
        Ok(())
    }

    /// Reads what is missing; returns the group with which the log ends.
    async fn look(&mut self) -> Option<u64> {
        self.shared.look_for_room().await;
        match self.shared.catch_up().await {
            Ok(ends) => {
                // Everything up to the reading is in the index.
                self.seen_revision = self.seen_revision.max(ends.revision);
                Some(ends.head.group)
            }
            Err(error) => {
                tracing::debug!(%error, "the end of the log cannot be read");
                None
            }
        }
    }
}

/// Compacts etcd's history behind what it was so long ago, until the store is closed.
pub(crate) async fn compact(shared: Arc<StoreCore>, keep: Duration) {
    // How often, so that some marks lie within `keep`.
    let every = COMPACT_EVERY.min(keep / 2).max(Duration::from_millis(10));
    let mut marks: Vec<(Instant, i64)> = Vec::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shared.stopping.cancelled() => return,
        }
        let Ok(ends) = shared.read_ends().await else { continue };
        marks.push((Instant::now(), ends.revision));
        let old = marks.partition_point(|(at, _)| at.elapsed() >= keep);
        let Some((_, revision)) = marks.drain(..old).next_back() else { continue };
        match shared.client.compact(revision).await {
            // Another replica, or etcd itself, was faster.
            Ok(_) | Err(EtcdError::Compacted) => {}
            Err(error) => tracing::debug!(%error, "etcd's history is not compacted"),
        }
    }
}
