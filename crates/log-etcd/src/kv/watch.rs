//! Changes of the small records, as they happen.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Key, KvEvent, SCAN_ITEMS_MAX};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::client::{EtcdError, EtcdWatch, WatchNews};
use crate::rpc::event::EventType;
use crate::rpc::{Event, Headed, KeyRange};
use crate::shared::StoreCore;

/// How long a watch waits before it asks a cluster again that could not be asked.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often a watch that says nothing is asked how far it is. What is completed is heard by one, so a member that has
/// stopped answering is left within two seconds.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Unanswered questions after which another endpoint is asked.
const UNANSWERED_MAX: u32 = 2;

/// See [`Kv::watch`](batoff_log::Kv::watch).
pub(crate) fn watch(shared: Arc<StoreCore>, prefix: &Key) -> BoxStream<'static, KvEvent> {
    let stopping = shared.stopping.clone();
    let range = shared.names.pairs(prefix);
    let watch = PairsWatch { shared, range, place: PairsPlace::Begin, stream: None };
    let events = stream::unfold(watch, |mut watch| async {
        let events = watch.next_events().await?;
        Some((stream::iter(events), watch))
    });
    events.flatten().take_until(stopping.cancelled_owned()).boxed()
}

/// How far a watch has told what there is.
#[derive(Clone, Copy)]
enum PairsPlace {
    /// Nothing was told yet.
    Begin,
    /// What happened next is not to be had any more.
    Lost,
    /// All through this revision was told.
    Live { revision: i64 },
}

struct PairsWatch {
    shared: Arc<StoreCore>,
    range: KeyRange,
    place: PairsPlace,
    stream: Option<EtcdWatch>,
}

impl PairsWatch {
    /// What is to be told next; `None` when nothing is possible any more.
    async fn next_events(&mut self) -> Option<Vec<KvEvent>> {
        loop {
            self.shared.check_running().ok()?;
            let outcome = match self.place {
                PairsPlace::Begin => self.snapshot(Vec::new()).await,
                PairsPlace::Lost => self.snapshot(vec![KvEvent::Reset]).await,
                PairsPlace::Live { revision } => self.changes(revision).await,
            };
            match outcome {
                Ok(events) if events.is_empty() => {}
                Ok(events) => return Some(events),
                Err(EtcdError::Compacted) => {
                    self.stream = None;
                    if matches!(self.place, PairsPlace::Live { .. }) {
                        self.place = PairsPlace::Lost;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a watch of pairs goes on with another endpoint");
                    if let Some(stream) = self.stream.take() {
                        self.shared.watcher.leave_watched(&stream);
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// All pairs as of one revision, after `events`.
    async fn snapshot(&mut self, mut events: Vec<KvEvent>) -> Result<Vec<KvEvent>, EtcdError> {
        let (mut range, mut revision) = (self.range.clone(), 0);
        loop {
            let answer = self.shared.pairs_answer(&range, SCAN_ITEMS_MAX, revision).await?;
            revision = if revision == 0 { answer.revision() } else { revision };
            let pairs =
                self.shared.pairs_of(&answer.kvs).map_err(|error| EtcdError::Refused(error.to_string()))?;
            events.extend(pairs.into_iter().map(|(key, versioned)| KvEvent::Put { key, versioned }));
            match answer.kvs.last().filter(|_| answer.more) {
                Some(last) => range = range.after(&last.key),
                None => break,
            }
        }
        events.push(KvEvent::Synced);
        self.place = PairsPlace::Live { revision };
        self.stream = None;
        Ok(events)
    }

    async fn changes(&mut self, revision: i64) -> Result<Vec<KvEvent>, EtcdError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.shared.watcher.watch(&self.range, revision + 1, true).await?,
        };
        let mut unanswered = 0;
        let news = loop {
            match tokio::time::timeout(ASK_EVERY, stream.next(&self.shared.watcher)).await {
                Ok(news) => break news,
                Err(_) if unanswered < UNANSWERED_MAX => {
                    unanswered += 1;
                    stream.ask_for_progress();
                }
                Err(_) => break Err(EtcdError::NotDone("a watch says nothing".to_owned())),
            }
        };
        let stream = self.stream.insert(stream);
        let (events, seen) = match news? {
            WatchNews::Progress { revision: seen } => {
                self.place = PairsPlace::Live { revision: revision.max(seen) };
                return Ok(vec![KvEvent::Current]);
            }
            WatchNews::Events { events, .. } => {
                // Some of the last revision may still follow in another fragment: what was told twice does no harm.
                let seen = events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).max();
                (events, seen.unwrap_or(revision) - 1)
            }
        };
        let _ = stream;
        self.place = PairsPlace::Live { revision: revision.max(seen) };
        Ok(events.into_iter().filter_map(|event| self.told(event)).collect())
    }

    fn told(&self, event: Event) -> Option<KvEvent> {
        let is_deletion = event.r#type() == EventType::Delete;
        let kv = event.kv?;
        let key = self.shared.names.pair_of(&kv.key)?;
        if is_deletion {
            return Some(KvEvent::Delete { key });
        }
        match self.shared.alive(&kv) {
            Ok(Some(versioned)) => Some(KvEvent::Put { key, versioned }),
            Ok(None) => Some(KvEvent::Delete { key }),
            Err(_) => None,
        }
    }
}
