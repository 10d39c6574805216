//! The small records beside the log: keys, versions, compare-and-set.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::StoreError;

/// Longest key, in bytes. A longer one, and an empty one, is refused with [`StoreError::Invalid`].
pub const KEY_BYTES_MAX: usize = 1_024;

/// Largest value, in bytes. A larger one is refused with [`StoreError::TooLarge`].
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Most pairs that one [`Kv::scan`] returns, whatever was asked for.
pub const SCAN_ITEMS_MAX: usize = 1_000;

/// A key: bytes in lexicographic order, by convention a path such as `tokens/shop/01J…`. As a prefix it may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this key begins with `prefix`.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which write of a key this is. Opaque: only equality means anything, and no two writes of a key share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// For engines: wraps the number by which the engine tells writes apart.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// For engines: the number inside.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// A value and the write it stems from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value, opaque.
    pub value: Bytes,
    /// The write it stems from.
    pub version: Version,
}

/// What a key must hold for a [`Kv::cas`] to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The value of exactly this write.
    Version(Version),
    /// Anything or nothing.
    Any,
}

/// What a [`Kv::cas`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A value.
    Put {
        /// The value, opaque, at most [`VALUE_BYTES_MAX`].
        value: Bytes,
        /// Forget it after this time: not before, normally within a second after. `None`: keep it.
        ttl: Option<Duration>,
    },
    /// Nothing: the key is absent afterwards. Deleting an absent key succeeds, if absence is what was expected.
    Delete,
}

/// Why a compare-and-set did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasError {
    /// The key does not hold what was expected; here is what it holds (`None`: nothing).
    #[error("the key holds another version than was expected")]
    Conflict(Option<Versioned>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Another key that must hold exactly this write for a [`Kv::cas_guarded`] to happen: whoever has lost the key can write
/// nothing under it any more, however late its request comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: Key,
    /// The write that it must hold; it has no time to live.
    pub version: Version,
}

/// Why a guarded compare-and-set did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardedError {
    /// The guard holds another write, or none.
    #[error("somebody else has taken the place that this was to be written from; nothing was written")]
    Fenced,
    /// The guard held.
    #[error(transparent)]
    Cas(#[from] CasError),
}

impl GuardedError {
    /// Of a write that had no guard, so that nothing can have fenced it.
    pub fn unguarded(self) -> CasError {
        match self {
            Self::Cas(error) => error,
            Self::Fenced => CasError::Conflict(None),
        }
    }
}

impl From<StoreError> for GuardedError {
    fn from(error: StoreError) -> Self {
        Self::Cas(error.into())
    }
}

/// One step of a [`Kv::watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEvent {
    /// The key holds this value (part of the snapshot, or a change).
    Put {
        /// The key.
        key: Key,
        /// What it holds.
        versioned: Versioned,
    },
    /// The key was deleted or has expired.
    Delete {
        /// The key.
        key: Key,
    },
    /// Forget all that this watch has told; a new snapshot follows.
    Reset,
    /// The snapshot is complete; what follows are changes.
    Synced,
    /// Nothing is new, and nothing is withheld: all that was written until a moment ago was told. Comes every few
    /// seconds; a watch that says nothing at all for longer knows nothing.
    Current,
}

/// The small records beside the log. No transaction spans both.
#[async_trait]
pub trait Kv: Send + Sync {
    /// What the key holds. Linearizable.
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError>;

    /// Pairs whose key begins with `prefix`, in order of the keys, strictly after `after` if given; at most `limit`
    /// and at most [`SCAN_ITEMS_MAX`].
    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError>;

    /// Writes if the key holds what is expected; durable before `Ok`. Returns the version of this write.
    async fn cas(&self, key: &Key, expect: Expect, write: Write) -> Result<Version, CasError>;

    /// The same, on the further condition that `guard` holds: both are looked at, and the write is done, in one step.
    async fn cas_guarded(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: &Guard,
    ) -> Result<Version, GuardedError>;

    /// The pairs under `prefix`, then [`KvEvent::Synced`], then each change in order. Several writes of one key in
    /// quick succession may be told as the last. Ends only when the store is closed or damaged.
    fn watch(&self, prefix: &Key) -> BoxStream<'static, KvEvent>;
}
