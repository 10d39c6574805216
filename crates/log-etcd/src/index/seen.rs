use std::collections::HashMap;

use batoff_types::{Seq, TaskId, UnixMillis};

/// How long a key stays in memory after it has expired by this replica's clock: the clocks of others may be behind.
const GRACE_MS: u64 = 60_000;

/// What is remembered under a key of an accepted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenRequest {
    pub(crate) seq: Seq,
    pub(crate) task: TaskId,
    pub(crate) body_hash: [u8; 32],
    pub(crate) first_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
}

/// The keys of accepted requests.
#[derive(Default)]
pub(super) struct SeenRequests(HashMap<[u8; 32], SeenRequest>);

impl SeenRequests {
    /// What was remembered under it before has expired, or is the same.
    pub(super) fn remember(&mut self, key: [u8; 32], seen: SeenRequest) {
        self.0.insert(key, seen);
    }

    /// What is remembered under `key`, expired or not.
    pub(super) fn find(&self, key: &[u8; 32]) -> Option<&SeenRequest> {
        self.0.get(key)
    }

    /// All that is remembered.
    pub(super) fn into_all(self) -> impl Iterator<Item = ([u8; 32], SeenRequest)> {
        self.0.into_iter()
    }

    pub(super) fn drop_expired(&mut self, now: UnixMillis) {
        self.0.retain(|_, seen| now.0 < seen.expires_at.0.saturating_add(GRACE_MS));
    }
}
