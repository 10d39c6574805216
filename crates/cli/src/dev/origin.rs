//! The origin of `batoff dev`: it answers every path, says which one, and counts how often it was asked.

mod page;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::page::{Counters, PageSpec};

/// The longest that `/slow/<ms>/…` waits, in milliseconds; longer wishes are cut to it.
const SLOW_MS_MAX: u64 = 60_000;

/// An origin that listens.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
}

struct Shop {
    /// `Last-Modified` of every page: nothing has changed since the start.
    opened: SystemTime,
    counters: Counters,
}

impl Origin {
    /// Binds and serves until `stop` is cancelled.
    pub async fn start(listen: SocketAddr, stop: CancellationToken) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shop = Arc::new(Shop { opened: SystemTime::now(), counters: Counters::default() });
        let app = Router::new().fallback(answer).with_state(shop);
        let server = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        tokio::spawn(server.into_future());
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn answer(State(shop): State<Arc<Shop>>, request: Request) -> Response {
    let page = PageSpec::of(request.uri(), request.headers());
    if let Some(ms) = page.slow_ms {
        tokio::time::sleep(Duration::from_millis(ms.min(SLOW_MS_MAX))).await;
    }
    let number = shop.counters.count(&page.name);
    let modified = httpdate::fmt_http_date(shop.opened);
    let etag = page.etag(&modified);
    let unchanged = page.status == StatusCode::OK && is_current(request.headers(), &etag, shop.opened);
    let status = if unchanged { StatusCode::NOT_MODIFIED } else { page.status };

    let mut response = Response::builder()
        .status(status)
        .header(header::CACHE_CONTROL, "max-age=3600")
        .header(header::ETAG, etag)
        .header(header::LAST_MODIFIED, modified)
        .header("x-origin-requests", number);
    if let Some(tags) = &page.tags {
        response = response.header("cache-tag", tags);
    }
    if page.language.is_some() {
        response = response.header(header::VARY, "Accept-Language");
    }
    let has_body = !unchanged && !matches!(page.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if has_body {
        response = response.header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        Body::from(page.body(number))
    } else {
        Body::empty()
    };
    response.body(body).unwrap_or_else(|_| Response::default())
}

/// Whether the visitor's copy is good (RFC 9110, section 13): an `If-None-Match` decides alone.
fn is_current(headers: &HeaderMap, etag: &str, opened: SystemTime) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        return tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag) == opaque(etag));
    }
    // The header has whole seconds, so the comparison is made in the header's own form.
    text(header::IF_MODIFIED_SINCE).and_then(|text| httpdate::parse_http_date(text).ok()).is_some_and(
        |since| {
            httpdate::parse_http_date(&httpdate::fmt_http_date(opened)).is_ok_and(|opened| opened <= since)
        },
    )
}

#[cfg(test)]
mod tests;
