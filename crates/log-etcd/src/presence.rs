//! Which replicas are there: the only use of a lease, on keys that are worth nothing when their writer is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_log::{Presence, PresenceEvent, ReplicaId, StoreError, VALUE_BYTES_MAX};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Mutex;
use ulid::Ulid;

use crate::client::{EtcdError, EtcdWatch, RETRY_AFTER, WatchNews};
use crate::rpc::event::EventType;
use crate::rpc::{Headed, KeyValue, TxnRequest, leased_put};
use crate::shared::StoreCore;

/// For how long a replica counts as there that says nothing.
const LEASE_TTL_S: i64 = 10;

/// How often a replica says that it is there.
const KEEP_EVERY: Duration = Duration::from_secs(3);

/// How long to wait before asking again a cluster that could not be asked.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How often a watch that says nothing is asked how far it is. What replicas say of themselves completes purges, so a member
/// that has stopped answering is left within a second or so.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Unanswered questions after which another endpoint is asked.
const UNANSWERED_MAX: u32 = 2;

/// Keys of replicas and their shards that are read by one request.
const READ_MAX: i64 = 10_000;

/// This replica among the others.
pub(crate) struct Replicas {
    shared: Arc<StoreCore>,
    replica: ReplicaId,
    own: Mutex<OwnShards>,
}

/// What this replica says, and the lease under which it does.
#[derive(Default)]
struct OwnShards {
    lease: Option<i64>,
    shards: BTreeMap<u16, Bytes>,
}

impl Replicas {
    pub(crate) fn new(shared: Arc<StoreCore>) -> Arc<Self> {
        let replica = ReplicaId::new(&Ulid::generate().to_string());
        Arc::new(Self { shared, replica, own: Mutex::default() })
    }

    /// Says every now and then that this replica is there, until the store is closed; then that it is not.
    pub(crate) async fn run(self: Arc<Self>) {
        let stopping = self.shared.stopping.clone();
        loop {
            let pause = match self.keep().await {
                Ok(()) => KEEP_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "this replica cannot say that it is there");
                    AGAIN_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => break,
            }
        }
        if let Some(lease) = self.own.lock().await.lease.take() {
            // If this fails the lease runs out by itself.
            let _ = self.shared.client.revoke_lease(lease).await;
        }
    }

    async fn keep(&self) -> Result<(), EtcdError> {
        let mut own = self.own.lock().await;
        if let Some(lease) = own.lease {
            match self.shared.client.keep_lease(lease).await {
                Err(EtcdError::LeaseLost) => own.lease = None,
                outcome => return outcome,
            }
        }
        let shards: Vec<u16> = own.shards.keys().copied().collect();
        self.say(&mut own, &shards).await
    }

    /// Writes that this replica is there, and these of its shards.
    async fn say(&self, own: &mut OwnShards, shards: &[u16]) -> Result<(), EtcdError> {
        let lease = match own.lease {
            Some(lease) => lease,
            None => self.shared.client.grant_lease(LEASE_TTL_S).await?.id,
        };
        let name = self.replica.as_str();
        // One write an update: together they may be larger than etcd takes.
        let mut writes = vec![leased_put(self.shared.names.replica(name), Bytes::new(), lease)];
        for shard in shards {
            if let Some(body) = own.shards.get(shard) {
                writes.push(leased_put(self.shared.names.shard(name, *shard), body.clone(), lease));
            }
            self.send(&mut writes).await?;
        }
        self.send(&mut writes).await?;
        own.lease = Some(lease);
        Ok(())
    }

    async fn send(&self, writes: &mut Vec<crate::rpc::RequestOp>) -> Result<(), EtcdError> {
        let success = std::mem::take(writes);
        if !success.is_empty() {
            self.shared.client.txn(&TxnRequest { success, ..TxnRequest::default() }).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Presence for Replicas {
    async fn publish(&self, shard: u16, body: Bytes) -> Result<(), StoreError> {
        self.shared.check_running()?;
        if body.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { limit: VALUE_BYTES_MAX });
        }
        let mut own = self.own.lock().await;
        own.shards.insert(shard, body);
        let outcome = match self.say(&mut own, &[shard]).await {
            Err(EtcdError::LeaseLost) => {
                own.lease = None;
                let shards: Vec<u16> = own.shards.keys().copied().collect();
                self.say(&mut own, &shards).await
            }
            outcome => outcome,
        };
        outcome.map_err(|error| self.shared.told(error, true))
    }

    fn peers(&self) -> BoxStream<'static, PresenceEvent> {
        let listener = PeersListener {
            shared: Arc::clone(&self.shared),
            replica: self.replica.clone(),
            up: BTreeSet::new(),
            told: BTreeMap::new(),
            stream: None,
            unanswered: 0,
            is_over: false,
        };
        let events = stream::unfold(listener, |mut listener| async {
            let events = listener.next_events().await?;
            Some((stream::iter(events), listener))
        });
        events.flatten().boxed()
    }
}

struct PeersListener {
    shared: Arc<StoreCore>,
    /// The listener's own.
    replica: ReplicaId,
    up: BTreeSet<ReplicaId>,
    told: BTreeMap<(ReplicaId, u16), Bytes>,
    stream: Option<EtcdWatch>,
    /// Questions that the present watch has not answered.
    unanswered: u32,
    is_over: bool,
}

impl PeersListener {
    async fn next_events(&mut self) -> Option<Vec<PresenceEvent>> {
        let stopping = self.shared.stopping.clone();
        while !self.is_over && self.shared.check_running().is_ok() {
            let outcome = tokio::select! {
                outcome = self.listen() => outcome,
                () = stopping.cancelled() => break,
            };
            match outcome {
                Ok(events) if events.is_empty() => {}
                Ok(events) => return Some(events),
                Err(error) => {
                    tracing::debug!(%error, "listening for replicas again");
                    if let Some(stream) = self.stream.take() {
                        self.shared.watcher.leave_watched(&stream);
                    }
                    tokio::time::sleep(AGAIN_AFTER.min(RETRY_AFTER)).await;
                }
            }
        }
        // With the store, its own replica ends.
        self.is_over = true;
        self.up.remove(&self.replica).then(|| vec![PresenceEvent::Down(self.replica.clone())])
    }

    async fn listen(&mut self) -> Result<Vec<PresenceEvent>, EtcdError> {
        let Some(stream) = &mut self.stream else { return self.look().await };
        let news = tokio::time::timeout(ASK_EVERY, stream.next(&self.shared.watcher)).await;
        self.unanswered = if news.is_ok() { 0 } else { self.unanswered + 1 };
        match news {
            Ok(Ok(WatchNews::Progress { .. })) => Ok(Vec::new()),
            Ok(Ok(WatchNews::Events { events, .. })) => {
                let mut news = Vec::new();
                for event in events {
                    let is_gone = event.r#type() == EventType::Delete;
                    if let Some(kv) = event.kv {
                        self.hear(&kv, is_gone, &mut news);
                    }
                }
                Ok(news)
            }
            Ok(Err(error)) => Err(error),
            Err(_) if self.unanswered <= UNANSWERED_MAX => {
                stream.ask_for_progress();
                Ok(Vec::new())
            }
            Err(_) => Err(EtcdError::NotDone("a watch of replicas says nothing".to_owned())),
        }
    }

    /// What differs from what was told, and a watch from there on.
    async fn look(&mut self) -> Result<Vec<PresenceEvent>, EtcdError> {
        let range = self.shared.names.replicas();
        let answer = self.shared.client.range(&range.read(READ_MAX)).await?;
        let stream = self.shared.watcher.watch(&range, answer.revision() + 1, true).await?;
        let mut news = Vec::new();
        let there: BTreeSet<ReplicaId> = answer
            .kvs
            .iter()
            .filter_map(|kv| Some(ReplicaId::new(self.shared.names.replica_of(&kv.key)?.0)))
            .collect();
        for gone in self.up.difference(&there).cloned().collect::<Vec<_>>() {
            self.is_gone(&gone, &mut news);
        }
        for kv in &answer.kvs {
            self.hear(kv, false, &mut news);
        }
        (self.stream, self.unanswered) = (Some(stream), 0);
        Ok(news)
    }

    fn hear(&mut self, kv: &KeyValue, is_gone: bool, news: &mut Vec<PresenceEvent>) {
        let Some((replica, shard)) = self.shared.names.replica_of(&kv.key) else { return };
        let replica = ReplicaId::new(replica);
        match (shard, is_gone) {
            (None, true) => self.is_gone(&replica, news),
            // Goes with its replica.
            (Some(_), true) => {}
            (shard, false) => {
                if self.up.insert(replica.clone()) {
                    news.push(PresenceEvent::Up(replica.clone()));
                }
                let Some(shard) = shard else { return };
                let told = self.told.insert((replica.clone(), shard), kv.value.clone());
                if told.as_ref() != Some(&kv.value) {
                    news.push(PresenceEvent::Update { replica, shard, body: kv.value.clone() });
                }
            }
        }
    }

    fn is_gone(&mut self, replica: &ReplicaId, news: &mut Vec<PresenceEvent>) {
        if self.up.remove(replica) {
            self.told.retain(|(other, _), _| other != replica);
            news.push(PresenceEvent::Down(replica.clone()));
        }
    }
}
