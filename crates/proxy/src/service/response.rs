//! Whether and how long a response may be kept.

use std::time::Duration;

use http::{StatusCode, header};
use pingora::cache::cache_control::{CacheControl, InterpretCacheControl};
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheMeta, CacheMetaDefaults, NoCacheReason, RespCacheable, VarianceBuilder, filters};
use pingora::http::{RequestHeader, ResponseHeader};

/// How long an object may be served stale after a soft purge when its origin said nothing about it, in seconds.
pub(super) const SOFT_STALE_SECONDS: u32 = 60;

/// Nothing is kept that its origin did not give a time to.
const fn no_default(_: StatusCode) -> Option<Duration> {
    None
}

const DEFAULTS: CacheMetaDefaults = CacheMetaDefaults::new(no_default, SOFT_STALE_SECONDS, 0);

/// A response that may be kept.
pub(super) struct Cacheable {
    pub(super) meta: CacheMeta,
    /// The time for which it may be served stale is ours and not its origin's.
    pub(super) supplied_stale_window: bool,
}

/// Judges a response, `age` seconds old when it came, to a request with or without `Authorization`.
pub(super) fn judge(
    response: &ResponseHeader,
    age: u64,
    authorized: bool,
    body_bytes_max: u64,
) -> Result<Cacheable, NoCacheReason> {
    let varies_on_everything = response
        .headers
        .get_all(header::VARY)
        .iter()
        .any(|value| value.as_bytes().split(|&b| b == b',').any(|name| name.trim_ascii() == b"*"));
    let is_partial = matches!(response.status, StatusCode::PARTIAL_CONTENT | StatusCode::SWITCHING_PROTOCOLS);
    if varies_on_everything || is_partial || response.headers.contains_key(header::SET_COOKIE) {
        return Err(NoCacheReason::OriginNotCache);
    }
    let length =
        response.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > body_bytes_max) {
        return Err(NoCacheReason::ResponseTooLarge);
    }
    let control = CacheControl::from_resp_headers(response);
    let supplied =
        control.as_ref().is_none_or(|control| control.serve_stale_while_revalidate_duration().is_none());
    match filters::resp_cacheable(control.as_ref(), response.clone(), authorized, &DEFAULTS) {
        RespCacheable::Cacheable(mut meta) => {
            // What another cache has kept it for counts (RFC 9111, section 4.2); `Expires` is a time of day.
            if control.is_some_and(|control| control.fresh_duration().is_some())
                && let Some(expires) = meta.fresh_until().checked_sub(Duration::from_secs(age))
            {
                meta.expire_at(expires);
            }
            Ok(Cacheable { meta, supplied_stale_window: supplied })
        }
        RespCacheable::Uncacheable(reason) => Err(reason),
    }
}

/// How old a response was when it came, in seconds (RFC 9111, section 5.1).
pub(super) fn age(response: &ResponseHeader) -> u64 {
    response.headers.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
}

/// Which variant of a page `request` gets, by the `Vary` of a stored response; `None` when there is only one.
pub(super) fn variance(stored: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    let mut variance = VarianceBuilder::new();
    let names = stored.headers().get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    for name in names.flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let mut value = Vec::new();
        for line in request.headers.get_all(name) {
            value.extend_from_slice(line.as_bytes());
            value.push(b',');
        }
        variance.add_owned_name_value(name.to_ascii_lowercase(), value);
    }
    variance.finalize()
}
