//! What replicas of the control plane tell one another in passing: what each has stated, where several stand beside one log.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::StoreError;

/// A replica of the control plane, as the store names it; another one after each start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    /// For engines: a replica of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is heard of the replicas, the listener's own included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceEvent {
    /// A replica is there; its shards follow as updates.
    Up(ReplicaId),
    /// The newest body of one of its shards.
    Update {
        /// Who published it.
        replica: ReplicaId,
        /// Which of its shards.
        shard: u16,
        /// The body, opaque.
        body: Bytes,
    },
    /// A replica is gone, and all it published with it.
    Down(ReplicaId),
}

/// What replicas tell one another in passing: lossy, the last body of a (replica, shard) wins, nothing is durable, and
/// all of a replica's shards vanish with it.
#[async_trait]
pub trait Presence: Send + Sync {
    /// Replaces this replica's body for `shard`.
    async fn publish(&self, shard: u16, body: Bytes) -> Result<(), StoreError>;

    /// All that is published now, then changes; intermediate bodies may be skipped. Ends when the store is closed.
    fn peers(&self) -> BoxStream<'static, PresenceEvent>;
}
