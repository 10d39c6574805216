//! The hit path and the fill path, as steps of pingora's proxy.
//!
//! ```text
//!  request ─▶ page ─▶ lookup ─▶ rules ─▶ lease ─▶ answer from the cache
//!                        │ nothing, Gone             │ no lease, stale
//!                        ▼                           ▼
//!              token ─▶ origin ─▶ rules ─▶ store   token ─▶ origin ─▶ 304: same object, new token
//! ```
//! Where the origin is another cache, or the visitor is one, `shield` has its say at the lookup, at the request to the
//! origin and at its answer.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use batoff_edge::{Fence, Overflow, STALE, X_BATOFF_STALE, is_marked_stale};
use batoff_index::Verdict;
use batoff_pingora::{CACHE_TAG, Decision, PURGED_WHILE_FETCHED, STALE_AT_A_PARENT, authority, decide};
use batoff_types::message::LeasePolicy;
use batoff_types::{CacheTags, FillToken, PurgeUrl};
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::cache::key::HashBinary;
use pingora::cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, ForcedFreshness, HitHandler, NoCacheReason, RespCacheable,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

mod fields;
mod freshness;
mod header_read;
mod request;
mod response;

pub(crate) use self::header_read::HeaderRead;
use crate::answer::{Answer, NO_OWNER, NOT_VOUCHED_FOR};
use crate::collapse::{AskedBy, COLLAPSE_MAX, Collapse, KeyedPage};
use crate::figures::{self, Left, NotStored};
use crate::origin::Origins;
use crate::shield::{Asked, Demand, Shield, Through, X_BATOFF_SEQ};
use crate::store::{Begun, Hit, Locator, Mark, Store};
use crate::undeclared::Undeclared;

/// For the connection to an origin.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Between two reads from an origin, or two writes to it or to a visitor. A page may take so long to come.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Fetches that a request waits for, one after the other, before it goes to the origin by itself.
const COLLAPSE_RETRIES: usize = 3;

/// The proxy's logic.
pub(crate) struct Service {
    pub(crate) store: &'static Store,
    pub(crate) collapse: &'static Collapse,
    pub(crate) fence: Arc<Fence>,
    pub(crate) origins: Origins,
    pub(crate) shield: Arc<Shield>,
    pub(crate) keep_tag_header: bool,
    pub(crate) overflow: Arc<Overflow>,
    pub(crate) undeclared: Undeclared,
    /// How long a visitor's connection may be idle, in seconds.
    pub(crate) idle_seconds: u64,
}

/// One request.
#[derive(Default)]
pub(crate) struct Context {
    /// The page that the request names, until it is known what the request wants of it.
    named: Option<batoff_pingora::Page>,
    /// The page, when the request is for the cache.
    page: Option<batoff_pingora::Page>,
    /// The page that an answer which is no error changes.
    changes: Option<batoff_pingora::Page>,
    /// What a child wants; `None` for everybody else.
    child: Option<Asked>,
    /// It came from the address of a child.
    from_child: bool,
    /// The origin that was chosen is another cache.
    to_parent: bool,
    /// The request to the origin.
    fetch: Option<Fetch>,
    /// What has come of the request's body.
    upload: request::Upload,
    /// The object that was found: to ask about it again before its first byte.
    found: Option<Found>,
}

/// The last request to the origin.
struct Fetch {
    /// What this node knew when it began.
    own: FillToken,
    /// What everything between here and the origin knew.
    path: FillToken,
    /// What its answer is good for, as places in the log go.
    good: Option<Through>,
    /// How new a parent was asked to be; `None` when the origin itself was asked.
    asked: Option<Demand>,
    /// The answer is as new as that.
    is_vouched_for: bool,
    /// A parent served it stale.
    is_stale: bool,
    /// How old the answer was when it came, in seconds.
    age: u64,
    /// How many changes by visitors had been noted when it began.
    begun: Begun,
    /// The answer, when it is a confirmation: its fields belong into the header that is kept.
    confirmation: Option<Box<ResponseHeader>>,
}

struct Found {
    locator: Locator,
    mark: Mark,
    confirmed_at: SystemTime,
    /// How far it reaches, for a child.
    reach: Option<Through>,
    /// A soft purge ended its time, so it may be served while it is fetched anew.
    soft: bool,
}

impl Service {
    /// Whether an object may be served from the cache now: the rules first, the lease last.
    fn may_serve(&self, mark: &Mark) -> bool {
        matches!(decide(self.store.verdict(mark), &self.fence), Decision::Serve | Decision::ServeStale)
    }

    /// What a parent may be told about what was found, or was fetched for it; `None` when it is not to be kept.
    fn vouch(&self, answer: Answer, ctx: &Context) -> Option<Demand> {
        let asked = ctx.child?.ok()?;
        match answer {
            Answer::Hit => ctx.found.as_ref()?.reach.map(Demand::Through),
            Answer::Stale => None,
            // It was fetched after it was asked for.
            Answer::Miss | Answer::Expired | Answer::Bypass => {
                ctx.fetch.as_ref()?.is_vouched_for.then_some(asked)
            }
        }
    }

    /// The response's mark; `None` when a purge has hit it already, or could not: no site owns the hostname.
    fn mark(
        &self,
        url: &PurgeUrl,
        fetch: &Fetch,
        response: &ResponseHeader,
        stale_after_soft_purge_only: bool,
    ) -> Option<Mark> {
        let lines = response.headers.get_all(CACHE_TAG);
        let index = self.store.index();
        let tags =
            CacheTags::parse_up_to(index.tags_max(url.host()), lines.iter().map(|line| line.as_bytes()));
        self.overflow.note(&tags, url, &index.sites());
        let Fetch { own, path, age, begun, is_vouched_for, .. } = *fetch;
        // A parent that has compared answers for all that this node knows of.
        let (token, good) = if is_vouched_for { (own, fetch.good) } else { (path, None) };
        index.admit(url, &tags, token).ok()?;
        Some(Mark { url: url.clone(), tags, token, good, age, begun, stale_after_soft_purge_only })
    }

    /// The origin's answer is not kept. If it is no server error, it is still the page now, and ends what was found (RFC
    /// 9111, section 4.3.3): a page that its origin has taken back is not served stale until its window ends.
    fn end_found(&self, ctx: &Context, response: &ResponseHeader) {
        if let Some(found) = &ctx.found
            && !response.status.is_server_error()
        {
            self.store.forget(&found.locator, Left::Withdrawn);
        }
    }

    /// Forgets the pages that an answer to `POST` and the like has changed.
    fn note_changes(&self, ctx: &Context, response: &ResponseHeader) {
        if let Some(page) = &ctx.changes
            && (response.status.is_success() || response.status.is_redirection())
        {
            for url in request::changed(page, response) {
                self.store.change(&url);
            }
        }
    }
}

#[async_trait]
impl ProxyHttp for Service {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        // What the visitor says about it (`Keep-Alive: timeout`) is not heard.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.idle_seconds));
        }
        session.set_write_timeout(Some(IDLE_MAX));
        ctx.named = request::named(session.req_header_mut())?;
        Ok(())
    }

    fn on_connection_reuse(&self, _: &mut Session, _: &mut Context, context: Box<dyn Any + Send + Sync>) {
        HeaderRead::note(&*context);
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        if !is_last && ctx.upload.is_too_slow(body.as_ref().map_or(0, Bytes::len)) {
            return Error::e_explain(ErrorType::HTTPStatus(408), "a body that trickles")
                .map_err(|e| e.into_down());
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if request::ends_here(session.req_header()) {
            session.set_keepalive(None);
            session.write_response_header(Box::new(request::not_allowed()?), true).await?;
            return Ok(true);
        }
        if request::may_change(session.req_header()) {
            ctx.changes = ctx.named.take();
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let authority = authority(session.req_header());
        let host = match &ctx.page {
            Some(page) => Some(page.url.host().to_owned()),
            None => authority
                .map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase()),
        };
        let to = self.origins.destination(host.as_deref()).await.map_err(|error| {
            let mut refused = Error::explain(ErrorType::HTTPStatus(502), error.to_string());
            refused.esource = ErrorSource::Upstream;
            refused
        })?;
        ctx.to_parent = to.is_parent;
        let mut peer = HttpPeer::new(to.address, false, String::new());
        peer.options.connection_timeout = Some(CONNECT_MAX);
        peer.options.total_connection_timeout = Some(CONNECT_MAX);
        peer.options.read_timeout = Some(IDLE_MAX);
        peer.options.write_timeout = Some(IDLE_MAX);
        Ok(Box::new(peer))
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let is_page = batoff_pingora::Page::is_all_that_is_asked(session.req_header());
        ctx.page = ctx.named.take().filter(|_| is_page);
        ctx.child = request::asked(session, &self.shield);
        ctx.from_child = request::is_child(session, &self.shield);
        if ctx.page.is_some() {
            let mut limits = CacheOptionOverrides::default();
            limits.wait_timeout = Some(COLLAPSE_MAX);
            limits.max_lock_retries = Some(COLLAPSE_RETRIES);
            session.cache.enable(self.store, None, None, Some(self.collapse), Some(limits));
        }
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        let Some(page) = &ctx.page else {
            return Error::e_explain(ErrorType::InternalError, "a request without a page has no key");
        };
        let mut key = CacheKey::new(page.key.clone(), "");
        key.extensions.insert(KeyedPage(page.url.clone()));
        if let Some(asked) = ctx.child {
            key.extensions.insert(AskedBy(asked));
        }
        Ok(key)
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _: &mut Context,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        response::variance(meta, request)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        _meta: &CacheMeta,
        handler: &mut HitHandler,
        _is_fresh: bool,
        ctx: &mut Context,
    ) -> Result<Option<ForcedFreshness>> {
        let Some(Hit { object, .. }) = handler.as_any().downcast_ref::<Hit>() else {
            return Ok(Some(ForcedFreshness::ForceMiss));
        };
        // Before the rules are asked: what is applied by now is in them.
        let now = self.store.index().begin_fill();
        let reach = ctx.child.map(|asked| self.shield.reach(asked, now, object.mark.good));
        if reach == Some(None) {
            figures::child_passed(1);
            return Ok(Some(ForcedFreshness::ForceMiss));
        }
        let verdict = self.store.verdict(&object.mark);
        let decision = decide(verdict, &self.fence);
        if decision == Decision::Fetch {
            return Ok(Some(ForcedFreshness::ForceMiss));
        }
        ctx.found = Some(Found {
            locator: object.locator,
            mark: object.mark.clone(),
            confirmed_at: object.confirmed_at,
            reach: reach.flatten(),
            soft: verdict == Verdict::Stale && object.stale_since() < object.freshness.fresh_until,
        });
        Ok(match decision {
            Decision::Serve => None,
            Decision::ServeStale => {
                // A purge makes nothing longer: what had expired by then has been stale since.
                let expired_at = object.stale_since().min(object.freshness.fresh_until);
                Some(ForcedFreshness::ForceExpiredServeStale { expired_at: Some(expired_at) })
            }
            Decision::Confirm => {
                // Each request needs the origin's word of its own; waiting in line for another's would help nobody.
                if session.subrequest_ctx.is_none() {
                    session.cache.set_cache_lock(None, None);
                }
                Some(ForcedFreshness::ForceExpired)
            }
            Decision::Fetch => Some(ForcedFreshness::ForceMiss),
        })
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut Context, error: Option<&Error>) -> bool {
        let Some(found) = &ctx.found else { return false };
        let allowed = match error {
            // While it is fetched anew: the origin's own window, or ours after a soft purge.
            // Not for a child, which would keep it as fresh.
            None => ctx.child.is_none() && (found.soft || !found.mark.stale_after_soft_purge_only),
            Some(error) => error.esource() == &ErrorSource::Upstream,
        };
        let serves = allowed && self.may_serve(&found.mark);
        if serves && error.is_some_and(|error| !matches!(error.etype(), ErrorType::HTTPStatus(_))) {
            // pingora closes the visitor's connection after this answer; it is to say so.
            session.set_keepalive(None);
        }
        serves
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        // At each attempt: what is stored is what the last one brought.
        let own = self.store.index().begin_fill();
        let path = self.store.path().token(own);
        let asked = ctx.to_parent.then(|| self.shield.demand(own, ctx.child, rand::random()));
        // A stranger's goes no further, and a child's was for us.
        request.remove_header(&X_BATOFF_SEQ);
        if let Some(asked) = asked {
            request.insert_header(X_BATOFF_SEQ, asked.to_string())?;
        }
        let good = self.shield.good_for(own, ctx.child);
        ctx.fetch = Some(Fetch {
            own,
            path,
            good,
            asked,
            is_vouched_for: asked.is_none() && !self.store.path().has_parents(),
            is_stale: false,
            age: 0,
            begun: self.store.begin(),
            confirmation: None,
        });
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        fields::drop_nominated(response);
        if !response.headers.contains_key(header::DATE) {
            // When it came (RFC 9110, section 6.6.1).
            response.insert_header(header::DATE, httpdate::fmt_http_date(SystemTime::now()))?;
        }
        self.note_changes(ctx, response);
        if !ctx.to_parent && !self.store.path().has_parents() {
            self.undeclared.note(response, ctx.page.as_ref());
        }
        let said = response.remove_header(&X_BATOFF_SEQ);
        if let Some(Fetch { asked: Some(asked), is_vouched_for, .. }) = &mut ctx.fetch {
            let said = said.and_then(|said| said.to_str().ok()?.parse::<Demand>().ok());
            *is_vouched_for = said.is_some_and(|said| said.meets(*asked));
        }
        if let Some(fetch) = &mut ctx.fetch {
            // Here, because a confirmation's own age does not get into the header that is kept.
            fetch.age = freshness::age(response);
            fetch.is_stale = is_marked_stale(&response.headers);
            let confirms = response.status == StatusCode::NOT_MODIFIED && session.cache.enabled();
            fetch.confirmation = confirms.then(|| Box::new(response.clone()));
        }
        Ok(())
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<RespCacheable> {
        let (Some(page), Some(fetch)) = (&ctx.page, &ctx.fetch) else {
            return Ok(RespCacheable::Uncacheable(NoCacheReason::InternalError));
        };
        let stored = session.cache.enabled().then(|| session.cache.maybe_cache_meta()).flatten();
        let merged = match (stored, &fetch.confirmation) {
            (Some(stored), Some(confirmation)) => {
                Some(fields::confirmed(stored.response_header(), confirmation)?)
            }
            _ => None,
        };
        let response = merged.as_ref().unwrap_or(response);
        if fetch.is_stale {
            figures::not_stored(NotStored::Stale);
            return Ok(RespCacheable::Uncacheable(STALE_AT_A_PARENT));
        }
        let authorized = session.req_header().headers.contains_key(header::AUTHORIZATION);
        let cacheable = match response::judge(response, fetch.age, authorized, self.store.object_bytes_max())
        {
            Ok(cacheable) => cacheable,
            Err(reason) => {
                if reason == NoCacheReason::ResponseTooLarge {
                    figures::not_stored(NotStored::TooLarge);
                }
                self.end_found(ctx, response);
                return Ok(RespCacheable::Uncacheable(reason));
            }
        };
        if self.store.index().sites().owner(page.url.host()).is_none() {
            figures::not_stored(NotStored::NoOwner);
            return Ok(RespCacheable::Uncacheable(NO_OWNER));
        }
        let vouched = fetch.is_vouched_for || self.store.path().has_parents();
        let mark = self.mark(&page.url, fetch, response, cacheable.stale_after_soft_purge_only);
        if !vouched || mark.is_none() && fetch.path != fetch.own {
            figures::not_stored(NotStored::NotVouchedFor);
            return Ok(RespCacheable::Uncacheable(NOT_VOUCHED_FOR));
        }
        let Some(mark) = mark else {
            figures::not_stored(NotStored::Purged);
            return Ok(RespCacheable::Uncacheable(PURGED_WHILE_FETCHED));
        };
        let mut meta = cacheable.meta;
        meta.extensions_mut().insert(mark);
        Ok(RespCacheable::Cacheable(meta))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let answer = Answer::of(session.cache.phase());
        // A child needs the tags, or it could not be purged by them.
        if !self.keep_tag_header && ctx.child.is_none() && !ctx.from_child {
            response.remove_header(CACHE_TAG);
        }
        if answer.is_from_cache()
            && let Some(found) = &ctx.found
        {
            let age = found.mark.age + found.confirmed_at.elapsed().unwrap_or_default().as_secs();
            response.insert_header(header::AGE, age)?;
            // Once more, right before the first byte: a purge, or a freeze, may have come in between.
            if !self.may_serve(&found.mark) {
                return Error::e_explain(ErrorType::HTTPStatus(503), "no longer to be served from the cache");
            }
        }
        if answer == Answer::Stale || ctx.fetch.as_ref().is_some_and(|fetch| fetch.is_stale) {
            response.insert_header(X_BATOFF_STALE, STALE)?;
        }
        if let Some(vouched) = self.vouch(answer, ctx) {
            response.insert_header(X_BATOFF_SEQ, vouched.to_string())?;
        }
        response.insert_header("x-cache", answer.x_cache())?;
        let status = format!("{}; purge-seq={}", answer.cache_status(), self.store.index().applied());
        response.append_header("cache-status", status)?;
        if session.subrequest_ctx.is_none() {
            figures::answered(answer, 1);
        }
        Ok(())
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, error: &Error) -> bool {
        // Visitors that leave are no news.
        error.esource() == &ErrorSource::Downstream
    }
}

impl Service {
    /// What happens to hits without a lease, for logs.
    pub(crate) fn policy(&self) -> LeasePolicy {
        self.fence.policy()
    }
}
