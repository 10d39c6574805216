//! A small caching proxy on pingora, and the lines that make its cache purgeable: those that end in `// batoff`.
//!
//!   cargo run -p batoff-pingora --example minimal -- 127.0.0.1:8090 127.0.0.1:8000 node.toml
//!
//! `node.toml` has the sections `[node]`, `[control]`, `[state]` and `[lease]` of `deploy/edge.toml`. The storage is
//! pingora's in-memory one, which pingora offers for tests and not for production.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use batoff_pingora::{Purges, Visit};
use pingora::cache::cache_control::CacheControl;
use pingora::cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora::cache::{
    CacheKey, CacheMeta, CacheMetaDefaults, ForcedFreshness, HitHandler, MemCache, RespCacheable, filters,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::services::background::background_service;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};

static STORAGE: LazyLock<MemCache> = LazyLock::new(MemCache::new);
static LOCK: LazyLock<Box<CacheKeyLockImpl>> =
    LazyLock::new(|| CacheLock::new_boxed(Duration::from_secs(10)));
const DEFAULTS: CacheMetaDefaults = CacheMetaDefaults::new(|_| None, 0, 0);

/// The proxy: one origin, one cache.
pub struct Minimal {
    /// `host:port`.
    pub origin: String,
    /// What the hooks ask.
    pub purges: Purges, // batoff
}

/// One request.
#[derive(Default)]
pub struct Context {
    visit: Visit, // batoff
}

#[async_trait]
impl ProxyHttp for Minimal {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.origin, false, String::new())))
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let is_page = self.purges.page(session.req_header(), &mut ctx.visit); // batoff
        if is_page {
            session.cache.enable(&*STORAGE, None, None, Some(LOCK.as_ref()), None);
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut Context) -> Result<CacheKey> {
        let host = session.get_header_bytes("host").to_ascii_lowercase();
        Ok(CacheKey::new([&host, session.req_header().raw_path()].concat(), ""))
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        _: bool,
        ctx: &mut Context,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(self.purges.hit(session, meta, &mut ctx.visit)) // batoff
    }

    fn should_serve_stale(&self, _: &mut Session, _: &mut Context, error: Option<&Error>) -> bool {
        error.is_none_or(|error| error.esource() == &ErrorSource::Upstream)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        _: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.purges.fetch(&mut ctx.visit); // batoff
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.purges.answered(response, &mut ctx.visit); // batoff
        Ok(())
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<RespCacheable> {
        let control = CacheControl::from_resp_headers(response);
        let cacheable = filters::resp_cacheable(control.as_ref(), response.clone(), false, &DEFAULTS);
        self.purges.store(cacheable, &ctx.visit) // batoff
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.purges.answer(session, response, &ctx.visit) // batoff
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, config] = arguments.as_slice() else {
        eprintln!("usage: minimal LISTEN ORIGIN CONFIG, such as 127.0.0.1:8090 127.0.0.1:8000 node.toml");
        std::process::exit(64);
    };
    let opened = batoff_pingora::open(Path::new(config)); // batoff
    let (purges, daemon) = opened.unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(64);
    });
    let mut server = Server::new(None).unwrap_or_else(|error| panic!("{error}"));
    server.bootstrap();
    let proxy = Minimal { origin: origin.clone(), purges };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    server.add_service(background_service("batoff", daemon)); // batoff
    server.add_service(service);
    server.run_forever()
}
