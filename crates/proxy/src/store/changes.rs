use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_types::PurgeUrl;
use parking_lot::Mutex;

/// Pages remembered. Over it all are forgotten, and no fetch that is under way by then is stored.
const PAGES_MAX: usize = 65_536;

/// Pages that a visitor has changed (RFC 9111, section 4.4), so that a fetch which began before a change is not stored
/// after it. What was stored before it is dropped by whoever notes the change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Changes so far.
    count: AtomicU64,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The last change of each, by what a purge hits.
    changed: HashMap<Box<str>, u64>,
    /// Every page counts as changed then.
    all_changed: u64,
}

/// How many changes there had been when a fetch began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun(u64);

impl Changes {
    /// A fetch begins.
    pub(crate) fn begin(&self) -> Begun {
        Begun(self.count.load(Ordering::SeqCst))
    }

    /// The page has been changed.
    pub(crate) fn note(&self, url: &PurgeUrl) {
        let mut pages = self.pages.lock();
        let now = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if pages.changed.len() >= PAGES_MAX {
            pages.changed.clear();
            pages.all_changed = now;
        }
        pages.changed.insert(url.key().into(), now);
    }

    /// Whether the page has been changed since that fetch began.
    pub(crate) fn since(&self, begun: Begun, url: &PurgeUrl) -> bool {
        if self.begin() == begun {
            return false;
        }
        let pages = self.pages.lock();
        let last = pages.changed.get(url.key()).copied().unwrap_or(0).max(pages.all_changed);
        begun.0 < last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(number: usize) -> PurgeUrl {
        format!("https://www.example.test/{number}").parse().unwrap()
    }

    #[test]
    fn a_fetch_that_began_before_a_change_of_its_page_is_known() {
        let changes = Changes::default();
        let before = changes.begin();
        changes.note(&url(1));
        assert!(changes.since(before, &url(1)) && !changes.since(before, &url(2)));
        let after = changes.begin();
        changes.note(&url(2));
        assert!(!changes.since(after, &url(1)) && changes.since(after, &url(2)));
    }

    #[test]
    fn what_is_forgotten_counts_as_changed() {
        let changes = Changes::default();
        let before = changes.begin();
        for number in 0..PAGES_MAX {
            changes.note(&url(number));
        }
        assert!(!changes.since(before, &url(PAGES_MAX + 1)));
        changes.note(&url(0));
        assert!(changes.since(before, &url(PAGES_MAX + 1)));
        assert!(!changes.since(changes.begin(), &url(1)), "a later fetch is not concerned");
    }
}
