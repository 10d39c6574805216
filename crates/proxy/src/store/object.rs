//! One cached response, with what has to be known of it to purge it.

use std::sync::OnceLock;
use std::time::SystemTime;

use batoff_index::Variant;
use batoff_types::{CacheTags, FillToken, PurgeUrl};
use bytes::Bytes;
use pingora::cache::CacheMeta;
use pingora::cache::key::HashBinary;
use pingora::http::ResponseHeader;

use super::{Begun, Locator};
use crate::shield::Through;

/// What an object takes besides its body and its header's text, in bytes: the structs and the index's own entry.
const OVERHEAD: u64 = 1_024;

/// What the purge side knows of a response: where it is, what it is labelled with, and what was known when its fetch
/// began.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) url: PurgeUrl,
    pub(crate) tags: CacheTags,
    pub(crate) token: FillToken,
    /// How far its fetch reached, if further than the token says: it was made for a child that knew more.
    pub(crate) good: Option<Through>,
    /// How old it was when it came, in seconds: another cache had kept it.
    pub(crate) age: u64,
    /// How many changes by visitors had been noted when its fetch began.
    pub(crate) begun: Begun,
    /// The time for which it may be served stale counts after a soft purge only.
    pub(crate) stale_after_soft_purge_only: bool,
}

/// Which object a request found, so that a confirmation reaches that one and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectId(pub(crate) u64);

/// What pingora keeps of a response beside its header, without its dates of creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    pub(crate) fresh_until: SystemTime,
    stale_while_revalidate_sec: u32,
    stale_if_error_sec: u32,
    variance: Option<HashBinary>,
}

/// A cached response. Never changed; a confirmation makes another one with the same body.
#[derive(Debug)]
pub(crate) struct CachedResponse {
    pub(crate) locator: Locator,
    pub(crate) mark: Mark,
    pub(crate) header: ResponseHeader,
    pub(crate) freshness: Freshness,
    /// When the origin gave it or confirmed it.
    pub(crate) confirmed_at: SystemTime,
    pub(crate) body: Bytes,
    /// When a soft purge was first noticed here.
    stale_since: OnceLock<SystemTime>,
}

impl CachedResponse {
    pub(crate) const fn new(
        locator: Locator,
        mark: Mark,
        header: ResponseHeader,
        freshness: Freshness,
        body: Bytes,
        confirmed_at: SystemTime,
    ) -> Self {
        Self { locator, mark, header, freshness, confirmed_at, body, stale_since: OnceLock::new() }
    }

    /// As the index knows it.
    pub(crate) const fn variant(&self) -> Variant {
        Variant(self.locator.key)
    }

    /// Bytes that it counts for in the cache.
    pub(crate) fn weight(&self) -> u64 {
        let header: usize =
            self.header.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        let tags: usize = self.mark.tags.tags.iter().map(|tag| tag.as_str().len()).sum();
        (self.body.len() + header + tags + self.mark.url.as_str().len()) as u64 + OVERHEAD
    }

    /// A soft purge hit it; the window for serving it stale counts from the first time this is asked.
    pub(crate) fn stale_since(&self) -> SystemTime {
        *self.stale_since.get_or_init(SystemTime::now)
    }

    /// As pingora wants it.
    pub(crate) fn meta(&self) -> CacheMeta {
        let Freshness { fresh_until, stale_while_revalidate_sec, stale_if_error_sec, variance } =
            self.freshness;
        // pingora purges a page's variants by comparing when they were created. Here each variant stands for itself and
        // the rules decide, so all are as old as each other.
        let created = SystemTime::UNIX_EPOCH;
        let header = self.header.clone();
        let mut meta =
            CacheMeta::new(fresh_until, created, stale_while_revalidate_sec, stale_if_error_sec, header);
        if let Some(variance) = variance {
            meta.set_variance(variance);
        }
        meta.extensions_mut().insert(self.mark.clone());
        meta.extensions_mut().insert(ObjectId(self.locator.id));
        meta
    }
}

impl Freshness {
    pub(crate) fn of(meta: &CacheMeta) -> Self {
        Self {
            fresh_until: meta.fresh_until(),
            stale_while_revalidate_sec: meta.stale_while_revalidate_sec(),
            stale_if_error_sec: meta.stale_if_error_sec(),
            variance: meta.variance(),
        }
    }
}
