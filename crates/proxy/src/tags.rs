//! A word about tags that are not indexed: a purge by them would miss.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use batoff_types::{PurgeUrl, SiteTable};
use parking_lot::Mutex;

use crate::figures;

/// At most one line a site in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Sites remembered for that. Over it all are forgotten, and some may be logged twice in a minute.
const SITES_MAX: usize = 10_000;

/// Counts members of `Cache-Tag` that were not indexed, and logs them once a minute a site.
#[derive(Debug, Default)]
pub(crate) struct IgnoredTags {
    logged: Mutex<HashMap<String, Instant>>,
}

impl IgnoredTags {
    /// `members` of the response under `url` were over the limit or outside the grammar.
    pub(crate) fn note(&self, members: usize, url: &PurgeUrl, sites: &SiteTable) {
        if members == 0 {
            return;
        }
        figures::tags_ignored(members);
        let site = sites.owner(url.host()).map_or(url.host(), |site| site.as_str());
        if self.is_due(site, Instant::now()) {
            tracing::warn!(site, %url, ignored = members, "tags are not indexed: over 16 a response, or malformed");
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
        let (ignored, now) = (IgnoredTags::default(), Instant::now());
        assert!(ignored.is_due("shop", now) && ignored.is_due("news", now));
        assert!(!ignored.is_due("shop", now + LOG_EVERY / 2));
        assert!(ignored.is_due("shop", now + LOG_EVERY));
    }
}
