//! What becomes of a request before the cache is asked.

use std::time::{Duration, Instant};

use batoff_pingora::Page;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use crate::shield::{Asked, Shield, X_BATOFF_SEQ};

/// What the answer to `TRACE` offers instead.
const ALLOWED: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// A visitor's body may come as slowly as this, in bytes a second.
const UPLOAD_RATE_MIN: u64 = 128;

/// It is not measured before it has taken so long.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(30);

/// What has come of a request's body, and since when.
#[derive(Debug, Default)]
pub(super) struct Upload {
    began: Option<Instant>,
    bytes: u64,
}

impl Upload {
    /// Another piece of it is there; whether all of it together trickles, so that it would hold its place for ever.
    pub(super) fn is_too_slow(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let took = self.began.get_or_insert_with(Instant::now).elapsed();
        took > UPLOAD_PATIENCE && self.bytes / took.as_secs().max(1) < UPLOAD_RATE_MIN
    }
}

/// What a child wants, if this request is a child's.
pub(super) fn asked(session: &Session, shield: &Shield) -> Option<Asked> {
    let value = session.req_header().headers.get(X_BATOFF_SEQ)?;
    let from = session.client_addr()?.as_inet()?.ip();
    shield.asked(from, value.as_bytes())
}

/// Whether this request comes from a child's address.
pub(super) fn is_child(session: &Session, shield: &Shield) -> bool {
    let from = session.client_addr().and_then(|address| address.as_inet());
    from.is_some_and(|from| shield.is_child(from.ip()))
}

/// The page that a request names. Its host is written as the key will say it, so that key, `Vary` and origin have one
/// value.
pub(super) fn named(request: &mut RequestHeader) -> Result<Option<Page>> {
    let Some(page) = Page::named(request) else { return Ok(None) };
    if batoff_pingora::authority(request) != Some(page.authority()) {
        request.insert_header(header::HOST, page.authority())?;
    }
    Ok(Some(page))
}

/// `TRACE` would show a visitor what this proxy adds for the origin, and ends here (RFC 9110, section 9.3.8).
pub(super) fn ends_here(request: &RequestHeader) -> bool {
    request.method == Method::TRACE || request.method.as_str() == "TRACK"
}

/// The answer to what [`ends_here`].
pub(super) fn not_allowed() -> Result<ResponseHeader> {
    let mut response = ResponseHeader::build(StatusCode::METHOD_NOT_ALLOWED, Some(3))?;
    response.insert_header(header::ALLOW, ALLOWED)?;
    response.insert_header(header::CONTENT_LENGTH, 0)?;
    response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    Ok(response)
}

/// Whether an answer that is no error means that the page has changed: to every method that is not known to be safe
/// (RFC 9111, section 4.4).
pub(super) fn may_change(request: &RequestHeader) -> bool {
    !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The pages that such an answer says have changed: the one asked for, and those of the same host that `Location` and
/// `Content-Location` name.
pub(super) fn changed(page: &Page, response: &ResponseHeader) -> Vec<batoff_types::PurgeUrl> {
    let mut changed = vec![page.url.clone()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let named = response.headers.get(name).and_then(|value| value.to_str().ok());
        let url = named.and_then(|named| {
            if named.starts_with('/') && !named.starts_with("//") {
                format!("http://{}{named}", page.authority()).parse::<batoff_types::PurgeUrl>().ok()
            } else {
                named.parse().ok()
            }
        });
        // Another host's is none of this one's business.
        changed.extend(url.filter(|url| url.host() == page.url.host() && url.key() != page.url.key()));
    }
    changed
}
