//! Changes of the small records, as they happen.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::queue::RequestQueue;
use super::read::StoreView;
use super::shared::{PairNews, Shared};
use crate::kv::{Key, KvEvent, SCAN_ITEMS_MAX};

/// How long a watch waits before it reads again from a store that could not be read.
const READ_AGAIN_DELAY: Duration = Duration::from_millis(100);

/// How often a watch without news says that there are none.
const CURRENT_EVERY: Duration = Duration::from_secs(2);

/// See [`Kv::watch`](crate::Kv::watch).
pub(super) fn watch(shared: Arc<Shared>, requests: RequestQueue, prefix: Key) -> BoxStream<'static, KvEvent> {
    // Subscribed before the snapshot is taken, so that nothing falls between the two.
    let changes = shared.subscribe_changes();
    let watch = PairWatch {
        shared,
        requests,
        prefix,
        changes,
        place: WatchPlace::Begin,
        quiet_until: Instant::now(),
    };
    stream::unfold(watch, |mut watch| async {
        let events = watch.next_events().await?;
        Some((stream::iter(events), watch))
    })
    .flatten()
    .boxed()
}

/// How far a watch has told what there is.
enum WatchPlace {
    /// Nothing was told yet.
    Begin,
    /// Something was told that may be wrong by now.
    Lost,
    /// All commits up to this one were told.
    Live { commit: u64 },
}

struct PairWatch {
    shared: Arc<Shared>,
    requests: RequestQueue,
    prefix: Key,
    changes: broadcast::Receiver<PairNews>,
    place: WatchPlace,
    /// When to say that there are no news, if there are none before.
    quiet_until: Instant,
}

impl PairWatch {
    /// What is to be told next; `None` at the end.
    async fn next_events(&mut self) -> Option<Vec<KvEvent>> {
        loop {
            match self.place {
                WatchPlace::Begin => return self.snapshot(Vec::new()).await,
                WatchPlace::Lost => return self.snapshot(vec![KvEvent::Reset]).await,
                WatchPlace::Live { commit } => match self.news().await {
                    None => {
                        self.shared.check_running().ok()?;
                        return Some(vec![KvEvent::Current]);
                    }
                    Some(news) => match news {
                        Ok(PairNews::Commit { commit: news, changes }) if news > commit => {
                            self.place = WatchPlace::Live { commit: news };
                            let events: Vec<_> = changes
                                .iter()
                                .filter(|(key, _)| key.starts_with(&self.prefix))
                                .map(|(key, value)| event(key, value.clone()))
                                .collect();
                            if !events.is_empty() {
                                return Some(events);
                            }
                        }
                        // The snapshot showed it already.
                        Ok(PairNews::Commit { .. }) => {}
                        Ok(PairNews::LookAgain) | Err(broadcast::error::RecvError::Lagged(_)) => {
                            self.place = WatchPlace::Lost;
                        }
                        Err(broadcast::error::RecvError::Closed) => return None,
                    },
                },
            }
        }
    }

    /// What happened next; `None` when it is time to say that nothing did.
    async fn news(&mut self) -> Option<Result<PairNews, broadcast::error::RecvError>> {
        let news = tokio::time::timeout_at(self.quiet_until, self.changes.recv()).await.ok();
        if news.is_none() {
            self.quiet_until = Instant::now() + CURRENT_EVERY;
        }
        news
    }

    /// All pairs as of one commit, after `events`.
    async fn snapshot(&mut self, mut events: Vec<KvEvent>) -> Option<Vec<KvEvent>> {
        loop {
            self.shared.check_running().ok()?;
            let (prefix, now) = (self.prefix.clone(), self.shared.now());
            let work = move |snapshot: &StoreView| {
                let snapshot = snapshot.pairs()?;
                let mut pairs = Vec::new();
                loop {
                    let after = pairs.last().map(|(key, _): &(Key, _)| key.clone());
                    let page = snapshot.page(&prefix, after.as_ref(), SCAN_ITEMS_MAX, now)?;
                    let is_last = page.len() < SCAN_ITEMS_MAX;
                    pairs.extend(page);
                    if is_last {
                        return Ok((snapshot.commit()?, pairs));
                    }
                }
            };
            if let Ok((commit, pairs)) = self.shared.read(|opening| self.requests.mend(opening), work).await {
                self.place = WatchPlace::Live { commit };
                self.quiet_until = Instant::now() + CURRENT_EVERY;
                events.extend(pairs.into_iter().map(|(key, versioned)| KvEvent::Put { key, versioned }));
                events.push(KvEvent::Synced);
                return Some(events);
            }
            tokio::time::sleep(READ_AGAIN_DELAY).await;
        }
    }
}

fn event(key: &Key, value: Option<crate::kv::Versioned>) -> KvEvent {
    let key = key.clone();
    match value {
        Some(versioned) => KvEvent::Put { key, versioned },
        None => KvEvent::Delete { key },
    }
}
