//! What a cache tells the index of an object, and what it is told: verdicts, refusals, what became of a hit.

use std::sync::Arc;

use batoff_types::{CacheTags, FillToken, PurgeUrl};

/// May an object be served?
///
/// Ordered from the widest permission to none, so that the greater of two verdicts is the safe one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// No purge hit it since its fetch began.
    Fresh,
    /// A soft purge did: it may be served only while it is revalidated, and the next fill replaces it.
    Stale,
    /// A hard purge or a reset did: it must not be served.
    Gone,
}

/// Which of the responses under one URL this is (of `Vary`, of a device class, of a slice). Opaque here: a hash of the
/// cache's own making. A purge of a URL hits all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Variant(pub u128);

impl Variant {
    /// The only variant of a URL that has no others.
    pub const MAIN: Self = Self(0);
}

impl From<[u8; 16]> for Variant {
    fn from(hash: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(hash))
    }
}

/// An object that a cache has stored, as it is told to the index.
#[derive(Clone, Debug)]
pub struct Entry<L> {
    /// Its URL.
    pub url: PurgeUrl,
    /// Which response under the URL.
    pub variant: Variant,
    /// Its tags, and whether they overflow. A tag named twice counts once.
    pub tags: CacheTags,
    /// What [`Index::begin_fill`](crate::Index::begin_fill) gave when its fetch began.
    pub token: FillToken,
    /// The cache's own handle for it: a file name, a key, a slot.
    pub locator: L,
}

/// Why an object was not taken. The cache must drop it and may answer the waiting request with it only under the rules
/// for an uncacheable response: what was fetched is older than a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// A hard purge, a reset or the forgotten past lies between the beginning of its fetch and now.
    #[error("the object was purged while it was being fetched; fetch it again")]
    Gone,
    /// Its hostname belongs to no site, so no customer could purge it.
    #[error("no site owns the hostname; answer without storing, or add the hostname to a site")]
    Unowned,
    /// No fetch of this node began with that token: it is of a generation, or from a place in the log, that the node has
    /// not come to. No purge could hit the object.
    #[error("this node has not given out the fill token; take one before the fetch begins")]
    Future,
}

/// What became of an object that a record hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It has left the index; the cache must remove it.
    Evicted,
    /// It stays, and is stale from now on.
    Stale,
}

impl Effect {
    /// The effect's name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Stale => "stale",
        }
    }
}

/// An object that a record hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<L> {
    /// Its URL, with the scheme under which it was first inserted.
    pub url: Arc<PurgeUrl>,
    /// Which response under the URL.
    pub variant: Variant,
    /// The cache's own handle for it.
    pub locator: L,
    /// What the cache must do.
    pub effect: Effect,
}

/// An object that the index holds, as [`Index::iter`](crate::Index::iter) and
/// [`Index::list`](crate::Index::list) show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<L> {
    /// Its URL, with the scheme under which it was first inserted.
    pub url: Arc<PurgeUrl>,
    /// Which response under the URL.
    pub variant: Variant,
    /// Its tags, each once; `ignored` only says whether they overflow.
    pub tags: CacheTags,
    /// When its fetch began.
    pub token: FillToken,
    /// Whether it may be served, when it was looked at.
    pub verdict: Verdict,
    /// The cache's own handle for it.
    pub locator: L,
}
