//! A word about objects with tags that nobody knows: every purge of a tag of their site hits them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use batoff_types::{CacheTags, PurgeUrl, SiteTable};
use parking_lot::Mutex;

/// At most one line a site in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Sites remembered for that. Over it all are forgotten, and some may be logged twice in a minute.
const SITES_MAX: usize = 10_000;

/// Counts objects whose tags overflow ([`CacheTags::overflows`]), and logs them once a minute a site. One a cache.
#[derive(Debug, Default)]
pub struct Overflow {
    logged: Mutex<HashMap<String, Instant>>,
}

impl Overflow {
    /// An object under `url` with these tags has just been fetched.
    pub fn note(&self, tags: &CacheTags, url: &PurgeUrl, sites: &SiteTable) {
        if !tags.overflows() {
            return;
        }
        crate::metrics::tags_overflowed();
        let site = sites.owner(url.host()).map_or(url.host(), |site| site.as_str());
        if self.is_due(site, Instant::now()) {
            let (known, unknown, limit) = (tags.tags.len(), tags.ignored, sites.tags_max(url.host()));
            tracing::warn!(
                site, %url, known, unknown, limit,
                "an object has more tags than its site allows, or malformed ones: every purge of a tag of the site hits \
                 it; raise the site's tags_per_response, or send fewer tags"
            );
        }
    }

    fn is_due(&self, site: &str, now: Instant) -> bool {
        let mut logged = self.logged.lock();
        if logged.get(site).is_some_and(|last| now.duration_since(*last) < LOG_EVERY) {
            return false;
        }
        if logged.len() >= SITES_MAX {
            logged.clear();
        }
        logged.insert(site.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_logged_once_a_minute() {
        let (overflow, now) = (Overflow::default(), Instant::now());
        assert!(overflow.is_due("shop", now) && overflow.is_due("news", now));
        assert!(!overflow.is_due("shop", now + LOG_EVERY / 2));
        assert!(overflow.is_due("shop", now + LOG_EVERY));
    }
}
