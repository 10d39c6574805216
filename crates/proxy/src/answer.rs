//! Where an answer came from, and why one is not kept: as visitors, figures and pingora are told.

use batoff_pingora::{PURGED_WHILE_FETCHED, STALE_AT_A_PARENT};
use pingora::cache::{CachePhase, NoCacheReason};

/// Where an answer came from, as the visitor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An untouched fresh object.
    Hit,
    /// The origin, because there was nothing to be served here.
    Miss,
    /// A stale object, while it is being fetched anew.
    Stale,
    /// An object that the origin has just confirmed.
    Expired,
    /// The origin, past the cache.
    Bypass,
}

/// A parent that it came through may not have applied a purge that this node has.
pub(crate) const NOT_VOUCHED_FOR_REASON: &str = "a parent did not vouch for it";

/// The same, as pingora wants it.
pub(crate) const NOT_VOUCHED_FOR: NoCacheReason = NoCacheReason::Custom(NOT_VOUCHED_FOR_REASON);

/// No site owns the host that it is for, so no purge could reach it.
pub(crate) const NO_OWNER_REASON: &str = "no site owns its host";

/// The same, as pingora wants it.
pub(crate) const NO_OWNER: NoCacheReason = NoCacheReason::Custom(NO_OWNER_REASON);

impl Answer {
    pub(crate) const ALL: [Self; 5] = [Self::Hit, Self::Miss, Self::Stale, Self::Expired, Self::Bypass];

    /// What a phase of pingora's cache means to a visitor.
    pub(crate) fn of(phase: CachePhase) -> Self {
        match phase {
            CachePhase::Hit => Self::Hit,
            CachePhase::Miss | CachePhase::Expired => Self::Miss,
            // All asked the origin for a response to store and could not store this one.
            CachePhase::Disabled(reason)
                if reason == PURGED_WHILE_FETCHED
                    || reason == NOT_VOUCHED_FOR
                    || reason == STALE_AT_A_PARENT =>
            {
                Self::Miss
            }
            CachePhase::Stale | CachePhase::StaleUpdating => Self::Stale,
            CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => Self::Expired,
            CachePhase::Disabled(_) | CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => {
                Self::Bypass
            }
        }
    }

    /// Whether the body came from the cache without the origin's word.
    pub(crate) const fn is_from_cache(self) -> bool {
        matches!(self, Self::Hit | Self::Stale)
    }

    /// The value of `X-Cache`.
    pub(crate) const fn x_cache(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Stale => "STALE",
            Self::Expired => "EXPIRED",
            Self::Bypass => "BYPASS",
        }
    }

    /// What `Cache-Status` says (RFC 9211, section 2).
    pub(crate) const fn cache_status(self) -> &'static str {
        match self {
            Self::Hit => "batoff; hit",
            Self::Miss => "batoff; fwd=miss",
            // Served without waiting for the origin, so it is a hit; that it is stale, X-Cache says.
            Self::Stale => "batoff; hit; detail=stale",
            Self::Expired => "batoff; fwd=stale; fwd-status=304",
            Self::Bypass => "batoff; fwd=bypass",
        }
    }

    /// The label `result` in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Bypass => "bypass",
        }
    }
}
