//! What a proxy on pingora asks at each step of a request: the rules and the lease at a hit, a token before a fetch, the
//! rules again before a response is stored.

use std::sync::Arc;

use batoff_edge::{Fence, Overflow, Path, STALE, X_BATOFF_STALE, is_marked_stale};
use batoff_index::{Index, Refused, Verdict};
use batoff_types::{CacheTags, FillToken, PurgeUrl};
use http::HeaderMap;
use pingora::cache::{CacheMeta, CachePhase, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::decision::{Decision, decide};
use crate::page::Page;
use crate::stamp::{self, X_BATOFF_FILL};
use crate::withdrawn::{StoredVersion, Withdrawn};

/// The header with an origin's tags.
pub const CACHE_TAG: &str = "cache-tag";

/// A fetch was overtaken by a purge; its response is passed on and not stored.
pub const PURGED_WHILE_FETCHED: NoCacheReason = NoCacheReason::Custom("purged while it was being fetched");

/// A parent served it stale; as new it would be kept for its whole lifetime.
pub const STALE_AT_A_PARENT: NoCacheReason = NoCacheReason::Custom("a parent served it stale");

/// Its hostname belongs to no site, so no customer could purge it; it is passed on and not stored.
pub const OWNED_BY_NO_SITE: NoCacheReason = NoCacheReason::Custom("no site owns the hostname");

/// What the proxy's hooks ask.
#[derive(Clone, Debug)]
pub struct Purges {
    index: Arc<Index<()>>,
    fence: Arc<Fence>,
    path: Arc<Path>,
    overflow: Arc<Overflow>,
    withdrawn: Arc<Withdrawn>,
}

/// One request's part of it, for the proxy's `CTX`.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    page: Option<Page>,
    /// What was known when the request to the origin began.
    token: Option<FillToken>,
    /// A parent served the answer stale.
    is_stale: bool,
    /// What was found: to ask about it again before its first byte.
    found: Option<Mark>,
    /// And which object it is.
    stored: Option<StoredVersion>,
}

/// What the purge side knows of a stored response.
#[derive(Clone, Debug)]
struct Mark {
    url: PurgeUrl,
    tags: CacheTags,
    token: FillToken,
}

impl Visit {
    /// The page that is asked for; `None` when it is not for the cache.
    pub const fn page(&self) -> Option<&Page> {
        self.page.as_ref()
    }
}

impl Purges {
    /// Over a daemon's index, its right to serve, its way to the origins, and its figures of tags that overflow. No object
    /// is registered in the index.
    pub fn new(index: Arc<Index<()>>, fence: Arc<Fence>, path: Arc<Path>, overflow: Arc<Overflow>) -> Self {
        Self { index, fence, path, overflow, withdrawn: Arc::default() }
    }

    /// `request_cache_filter`: enable the cache only with `true`. A page that no purge could name, or whose host no site
    /// owns, must not be stored.
    pub fn page(&self, request: &RequestHeader, visit: &mut Visit) -> bool {
        visit.page = Page::of(request).filter(|page| self.index.sites().owner(page.url.host()).is_some());
        visit.page.is_some()
    }

    /// `cache_hit_filter`: what it returns. A proxy with reasons of its own gives the stricter of the two.
    pub fn hit(&self, session: &mut Session, meta: &CacheMeta, visit: &mut Visit) -> Option<ForcedFreshness> {
        let (Some(page), Some(token)) = (&visit.page, stamp::read(meta.headers())) else {
            return Some(ForcedFreshness::ForceMiss);
        };
        let stored = StoredVersion::of(page, meta);
        if self.withdrawn.contains(&stored) {
            return Some(ForcedFreshness::ForceMiss);
        }
        let mark = self.mark(page, meta.headers(), token);
        visit.stored = Some(stored);
        let decision = decide(self.verdict(&mark), &self.fence);
        visit.found = Some(mark);
        match decision {
            Decision::Serve => None,
            // When the purge came is not known here, so the origin's window counts from the object's own deadline.
            Decision::ServeStale => Some(ForcedFreshness::ForceExpiredServeStale { expired_at: None }),
            Decision::Confirm => {
                // Each request needs the origin's word of its own; waiting in line for another's would help nobody.
                if session.subrequest_ctx.is_none() {
                    session.cache.set_cache_lock(None, None);
                }
                Some(ForcedFreshness::ForceExpired)
            }
            Decision::Fetch => Some(ForcedFreshness::ForceMiss),
        }
    }

    /// `upstream_request_filter`, at each attempt: a fetch begins.
    pub fn fetch(&self, visit: &mut Visit) {
        visit.token = Some(self.path.token(self.index.begin_fill()));
    }

    /// `upstream_response_filter`, for every answer, a confirmation (304) too: pingora keeps little of one, and not the mark
    /// of a parent that serves stale.
    pub fn answered(&self, response: &ResponseHeader, visit: &mut Visit) {
        visit.is_stale = is_marked_stale(&response.headers);
    }

    /// `response_cache_filter`: around the proxy's own judgment. Keeps the token with what is stored, and refuses what a
    /// purge has hit since the fetch began. A purge that comes later finds the token.
    pub fn store(&self, cacheable: RespCacheable, visit: &Visit) -> Result<RespCacheable> {
        let mut meta = match cacheable {
            RespCacheable::Cacheable(meta) => meta,
            uncacheable @ RespCacheable::Uncacheable(_) => return Ok(uncacheable),
        };
        let (Some(page), Some(token)) = (&visit.page, visit.token) else {
            return Ok(RespCacheable::Uncacheable(NoCacheReason::InternalError));
        };
        if visit.is_stale || is_marked_stale(meta.headers()) {
            return Ok(RespCacheable::Uncacheable(STALE_AT_A_PARENT));
        }
        let mark = self.mark(page, meta.headers(), token);
        self.overflow.note(&mark.tags, &mark.url, &self.index.sites());
        match self.index.admit(&mark.url, &mark.tags, mark.token) {
            Ok(_) => {}
            Err(Refused::Unowned) => return Ok(RespCacheable::Uncacheable(OWNED_BY_NO_SITE)),
            Err(Refused::Gone | Refused::Future) => {
                return Ok(RespCacheable::Uncacheable(PURGED_WHILE_FETCHED));
            }
        }
        meta.response_header_mut().insert_header(X_BATOFF_FILL, stamp::write(token))?;
        Ok(RespCacheable::Cacheable(meta))
    }

    /// `response_filter`: takes the token out of what visitors see, marks what is served stale, and asks once more about
    /// what comes from the cache. An answer of the origin's that is no server error ends the object that was found (RFC 9111,
    /// section 4.3.3), whether it is stored or not: a soft purge does not keep in service what has been taken back.
    ///
    /// # Errors
    /// It may no longer be served: a purge, or a freeze that outlasted the lease, came in between.
    pub fn answer(&self, session: &Session, response: &mut ResponseHeader, visit: &Visit) -> Result<()> {
        response.remove_header(&X_BATOFF_FILL);
        let stale = matches!(session.cache.phase(), CachePhase::Stale | CachePhase::StaleUpdating);
        if stale || visit.is_stale {
            response.insert_header(X_BATOFF_STALE, STALE)?;
        }
        let from_cache = stale || matches!(session.cache.phase(), CachePhase::Hit);
        // What a parent serves stale is no word of the origin's.
        let ends_what_was_found = !from_cache
            && !visit.is_stale
            && session.cache.phase() != CachePhase::Revalidated
            && !response.status.is_server_error();
        if let Some(stored) = visit.stored.clone().filter(|_| ends_what_was_found) {
            self.withdrawn.note(stored);
        }
        if from_cache && !self.may_serve(visit) {
            return Error::e_explain(ErrorType::HTTPStatus(503), "no longer to be served from the cache");
        }
        Ok(())
    }

    /// Whether what was found may be served now, stale or not. For `should_serve_stale`, so that visitors get the
    /// origin's error and not [`Purges::answer`]'s.
    pub fn may_serve(&self, visit: &Visit) -> bool {
        visit.found.as_ref().is_some_and(|mark| {
            matches!(decide(self.verdict(mark), &self.fence), Decision::Serve | Decision::ServeStale)
        })
    }

    /// What its origin says of a response, with as many tags as its site has read.
    fn mark(&self, page: &Page, headers: &HeaderMap, token: FillToken) -> Mark {
        let lines = headers.get_all(CACHE_TAG).iter().map(|line| line.as_bytes());
        let tags = CacheTags::parse_up_to(self.index.tags_max(page.url.host()), lines);
        Mark { url: page.url.clone(), tags, token }
    }

    fn verdict(&self, mark: &Mark) -> Verdict {
        self.index.check(&mark.url, &mark.tags, mark.token)
    }
}
