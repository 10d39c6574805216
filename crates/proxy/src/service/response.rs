//! Whether and how long a response may be kept.

use std::time::SystemTime;

use http::{StatusCode, header};
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheMeta, NoCacheReason, VarianceBuilder};
use pingora::http::{RequestHeader, ResponseHeader};

use super::fields;
use super::freshness::{self, Policy};

/// A response that may be kept.
pub(super) struct Cacheable {
    pub(super) meta: CacheMeta,
    /// The time for which it may be served stale counts after a soft purge only.
    pub(super) stale_after_soft_purge_only: bool,
}

/// Judges a response, `age` seconds old when it came, to a request with or without `Authorization`.
pub(super) fn judge(
    response: &ResponseHeader,
    age: u64,
    authorized: bool,
    body_bytes_max: u64,
) -> Result<Cacheable, NoCacheReason> {
    let varies_on_everything =
        response.headers.get_all(header::VARY).iter().any(|value| {
            value.to_str().map_or(true, |names| names.split(',').any(|name| name.trim() == "*"))
        });
    let is_partial = matches!(response.status, StatusCode::PARTIAL_CONTENT | StatusCode::SWITCHING_PROTOCOLS);
    // A cookie is one visitor's, whatever is said about keeping the response.
    if varies_on_everything || is_partial || response.headers.contains_key(header::SET_COOKIE) {
        return Err(NoCacheReason::OriginNotCache);
    }
    let length =
        response.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > body_bytes_max) {
        return Err(NoCacheReason::ResponseTooLarge);
    }
    let (policy, now) = (Policy::of(response), SystemTime::now());
    if !policy.allows_keeping(response.status, authorized) {
        return Err(NoCacheReason::OriginNotCache);
    }
    // Nothing is kept that its origin did not give a time to.
    let lifetime = policy.lifetime(response, now).ok_or(NoCacheReason::OriginNotCache)?;
    let fresh_until = freshness::fresh_until(now, lifetime, age);
    let window = policy.stale_window();
    let mut header = fields::kept(response.clone());
    policy.strip(&mut header);
    let meta = CacheMeta::new(fresh_until, now, window.seconds, policy.stale_if_error(), header);
    Ok(Cacheable { meta, stale_after_soft_purge_only: window.after_soft_purge_only })
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
