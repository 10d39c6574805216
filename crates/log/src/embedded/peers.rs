//! The presence of the one replica that a file of its own can have. See [`Presence`] for whom it is.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::RwLock;
use tokio::sync::watch;
use ulid::Ulid;

use super::fault::unavailable;
use crate::error::StoreError;
use crate::presence::{Presence, PresenceEvent, ReplicaId};

type Shards = BTreeMap<u16, Bytes>;

/// The presence of the only replica there is: what this process says of itself.
pub(super) struct Peers {
    replica: ReplicaId,
    /// `None` once the store is closed.
    shards: RwLock<Option<watch::Sender<Shards>>>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self {
            replica: ReplicaId::new(&Ulid::generate().to_string()),
            shards: RwLock::new(Some(watch::Sender::new(Shards::new()))),
        }
    }

    pub(super) fn close(&self) {
        self.shards.write().take();
    }
}

#[async_trait]
impl Presence for Peers {
    async fn publish(&self, shard: u16, body: Bytes) -> Result<(), StoreError> {
        let shards = self.shards.read();
        let sender = shards.as_ref().ok_or_else(unavailable)?;
        sender.send_modify(|shards| {
            shards.insert(shard, body);
        });
        Ok(())
    }

    fn peers(&self) -> BoxStream<'static, PresenceEvent> {
        let Some(news) = self.shards.read().as_ref().map(watch::Sender::subscribe) else {
            return stream::empty().boxed();
        };
        let listener = Listener { replica: self.replica.clone(), news, told: Shards::new(), is_up: true };
        let up = PresenceEvent::Up(self.replica.clone());
        let events = stream::unfold(listener, |mut listener| async {
            let events = listener.next_events().await?;
            Some((stream::iter(events), listener))
        });
        stream::once(async { up }).chain(events.flatten()).boxed()
    }
}

struct Listener {
    replica: ReplicaId,
    news: watch::Receiver<Shards>,
    told: Shards,
    is_up: bool,
}

impl Listener {
    /// What differs from what was told; waits until something does. `None` after the replica's end was told.
    async fn next_events(&mut self) -> Option<Vec<PresenceEvent>> {
        while self.is_up {
            let current = self.news.borrow_and_update().clone();
            let updates: Vec<_> = current
                .iter()
                .filter(|(shard, body)| self.told.get(shard) != Some(body))
                .map(|(shard, body)| PresenceEvent::Update {
                    replica: self.replica.clone(),
                    shard: *shard,
                    body: body.clone(),
                })
                .collect();
            self.told = current;
            if !updates.is_empty() {
                return Some(updates);
            }
            if self.news.changed().await.is_err() {
                self.is_up = false;
                return Some(vec![PresenceEvent::Down(self.replica.clone())]);
            }
        }
        None
    }
}
