//! What is stored as values, generated from `proto/stored.proto`.

#[allow(missing_docs, clippy::all, reason = "generated from proto/stored.proto")]
mod generated {
    tonic::include_proto!("batoff.log.etcd.v1");
}

use batoff_log::StoreError;
use batoff_types::{SiteId, TaskId};
use bytes::Bytes;
use prost::Message;

pub(crate) use self::generated::entry::Entry as Decision;
pub(crate) use self::generated::*;

/// The version of everything that is stored.
pub(crate) const FORMAT: u32 = 1;

/// What stands instead of [`FORMAT`] in the identity of a log that has moved elsewhere: no build takes it for its own.
pub(crate) const FORMAT_MOVED: u32 = 0x8000_0001;

/// The value of `key`, decoded.
pub(crate) fn decode<M: Message + Default>(key: &[u8], value: Bytes) -> Result<M, StoreError> {
    M::decode(value).map_err(|error| damaged(key, &error.to_string()))
}

pub(crate) fn damaged(key: &[u8], why: &str) -> StoreError {
    StoreError::Corrupt(format!("{} in etcd: {why}", String::from_utf8_lossy(key)))
}

/// 16 bytes of an id; `None` when they are not 16.
pub(crate) fn task_id(bytes: &[u8]) -> Option<TaskId> {
    Some(TaskId::from_bytes(bytes.try_into().ok()?))
}

pub(crate) fn hash(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

impl Task {
    pub(crate) fn site_id(&self) -> Option<SiteId> {
        std::str::from_utf8(&self.site).ok()?.parse().ok()
    }

    /// What the caller wants to find again; `body` is the record's.
    pub(crate) fn meta_of(&self, body: &Bytes) -> Bytes {
        if self.meta_is_body { body.clone() } else { self.meta.clone() }
    }
}
