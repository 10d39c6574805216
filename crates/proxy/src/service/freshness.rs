//! For how long a response is fresh, and for how long it may be stale.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::cache::cache_control::{CacheControl, Cacheable, InterpretCacheControl};
use pingora::http::ResponseHeader;

/// How long an object may be served stale after a soft purge when its origin said nothing about it, in seconds.
pub(super) const SOFT_STALE_SECONDS: u32 = 60;

/// A longer time than anything stays here, in seconds (RFC 9111, section 1.2.2).
const FOR_EVER: u64 = 1 << 31;

/// The field that speaks to CDNs only.
const CDN_CACHE_CONTROL: &str = "cdn-cache-control";

/// What an origin says about keeping its response.
pub(super) struct Policy {
    control: Option<CacheControl>,
    /// It was said to CDNs only, so nothing that is said to everybody counts.
    is_targeted: bool,
}

/// The seconds for which an object may be served stale while it is fetched anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StaleWindow {
    pub(super) seconds: u32,
    /// It is not its origin's word for every expiry, and counts after a soft purge only.
    pub(super) after_soft_purge_only: bool,
}

impl Policy {
    /// `CDN-Cache-Control` when it is there and well-formed, and then nothing else (RFC 9213, section 2.2).
    pub(super) fn of(response: &ResponseHeader) -> Self {
        if let Some(control) = targeted(&response.headers) {
            return Self { control: Some(control), is_targeted: true };
        }
        Self { control: CacheControl::from_resp_headers(response), is_targeted: false }
    }

    /// Whether the answer to a request, with or without `Authorization`, may be kept at all (RFC 9111, sections 3 and
    /// 3.5).
    pub(super) fn allows_keeping(&self, status: StatusCode, authorized: bool) -> bool {
        let control = self.control.as_ref();
        let must_understand = control.is_some_and(|control| control.has_key("must-understand"));
        // Section 5.2.2.3: a status that nobody has heard of may say something about keeping it.
        if must_understand && status.canonical_reason().is_none() {
            return false;
        }
        let is_forbidden = control.is_some_and(|control| control.is_cacheable() == Cacheable::No);
        let needs_leave = authorized && !control.is_some_and(CacheControl::allow_caching_authorized_req);
        !is_forbidden && !needs_leave
    }

    /// For how long it is fresh, counted from its birth (RFC 9111, section 4.2.1); `None` when its origin says nothing.
    pub(super) fn lifetime(&self, response: &ResponseHeader, now: SystemTime) -> Option<Duration> {
        if let Some(control) = &self.control {
            if let Some(seconds) = control.fresh_duration() {
                return Some(seconds);
            }
            // A time that cannot be read is none (section 4.2.1), and no other one stands in for it.
            if control.has_key("max-age") || control.has_key("s-maxage") {
                return Some(Duration::ZERO);
            }
        }
        if self.is_targeted {
            return None;
        }
        let mut lines = response.headers.get_all(header::EXPIRES).iter();
        let (Some(expires), None) = (lines.next(), lines.next()) else { return None };
        // The origin's own clock, so that one that is wrong makes nothing longer or shorter. An `Expires` that is no
        // date means that it has expired (section 5.3).
        let born = response.headers.get(header::DATE).and_then(date).unwrap_or(now);
        Some(date(expires).and_then(|expires| expires.duration_since(born).ok()).unwrap_or_default())
    }

    /// How long it may be served stale while it is fetched anew.
    ///
    /// `must-revalidate` and `proxy-revalidate` (RFC 9111, sections 5.2.2.2 and 5.2.2.8) and `no-cache` forbid it after a
    /// soft purge, too. `s-maxage` forbids it after a normal expiry (section 5.2.2.10); after a soft purge it does not,
    /// because there the site's owner asks for it.
    pub(super) fn stale_window(&self) -> StaleWindow {
        let supplied = StaleWindow { seconds: SOFT_STALE_SECONDS, after_soft_purge_only: true };
        let Some(control) = &self.control else { return supplied };
        if control.must_revalidate() || control.proxy_revalidate() || control.no_cache() {
            return StaleWindow { seconds: 0, after_soft_purge_only: false };
        }
        match control.stale_while_revalidate().unwrap_or(None) {
            Some(seconds) => StaleWindow { seconds, after_soft_purge_only: control.has_key("s-maxage") },
            None => supplied,
        }
    }

    /// How long it may be served stale when its origin fails, in seconds.
    pub(super) fn stale_if_error(&self) -> u32 {
        let control = self.control.as_ref().filter(|control| !control.no_cache());
        let allowed = control.and_then(InterpretCacheControl::serve_stale_if_error_duration);
        allowed.map_or(0, |allowed| u32::try_from(allowed.as_secs()).unwrap_or(u32::MAX))
    }

    /// Takes out the fields that are not to be kept (RFC 9111, sections 5.2.2.4 and 5.2.2.7).
    pub(super) fn strip(&self, response: &mut ResponseHeader) {
        if let Some(control) = &self.control {
            control.strip_private_headers(response);
        }
    }
}

/// `CDN-Cache-Control` as directives; `None` when it is not there, empty, or no Dictionary (RFC 9213, section 2.1).
fn targeted(headers: &HeaderMap) -> Option<CacheControl> {
    let lines: Vec<_> = headers.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return None;
    }
    let members =
        sfv::Parser::parse_dictionary(&lines.join(&b',')).ok().filter(|members| !members.is_empty())?;
    // In the syntax of Cache-Control, so that the directives have one meaning. Parameters say nothing here, and a value
    // of a type that no directive has leaves its directive out.
    let directives = members.iter().filter_map(|(name, member)| {
        let sfv::ListEntry::Item(sfv::Item { bare_item, .. }) = member else { return None };
        match bare_item {
            sfv::BareItem::Boolean(true) => Some(name.clone()),
            sfv::BareItem::Integer(seconds) if *seconds >= 0 => Some(format!("{name}={seconds}")),
            sfv::BareItem::Token(text) | sfv::BareItem::String(text) if !text.contains(['"', '\\']) => {
                Some(format!("{name}=\"{text}\""))
            }
            _ => None,
        }
    });
    let value = HeaderValue::try_from(directives.collect::<Vec<_>>().join(", ")).ok()?;
    let map = HeaderMap::from_iter([(header::CACHE_CONTROL, value)]);
    CacheControl::from_headers_named(header::CACHE_CONTROL.as_str(), &map)
}

/// How old a response was when it came, in seconds (RFC 9111, section 5.1): the one number that `Age` says, whatever
/// stands behind it. What begins with no number, and what says several, was never young.
pub(super) fn age(response: &ResponseHeader) -> u64 {
    let mut lines = response.headers.get_all(header::AGE).iter();
    let Some(value) = lines.next() else { return 0 };
    let value = value.as_bytes().trim_ascii();
    if lines.next().is_some() || value.contains(&b',') {
        return FOR_EVER;
    }
    let digits = value.iter().copied().take_while(u8::is_ascii_digit).collect();
    let seconds = String::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    seconds.map_or(FOR_EVER, |seconds: u64| seconds.min(FOR_EVER))
}

/// When a response of that lifetime that was `age` seconds old at `now` is no longer fresh.
pub(super) fn fresh_until(now: SystemTime, lifetime: Duration, age: u64) -> SystemTime {
    let left = lifetime.min(Duration::from_secs(FOR_EVER)).checked_sub(Duration::from_secs(age));
    match left.filter(|left| !left.is_zero()) {
        Some(left) => now.checked_add(left).unwrap_or(now),
        None => now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
    }
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests;
