//! What the cache holds: objects by URL, in order, and by tag.

mod order;
mod page;
mod tagged;

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use batoff_types::{FillToken, PurgeUrl, SiteTable, Tag};
use dashmap::DashMap;
use dashmap::mapref::one::RefMut;

pub(crate) use self::order::Order;
pub(crate) use self::page::{Key, Page, Stored};
pub(crate) use self::tagged::Tagged;
use crate::rules::{Tags, Target};
use crate::stats::Stats;
use crate::{Entry, Refused, Variant, Verdict, admission};

/// Locks: a page's shard first, then at most one of `order` and `tagged`, never the other way round. Every object is in
/// all three or in none, as seen by whoever holds its page.
pub(crate) struct Store<L> {
    pages: DashMap<Key, Page<L>, foldhash::fast::RandomState>,
    pub(crate) order: Order,
    pub(crate) tagged: Tagged,
    next_id: AtomicU64,
    entries: AtomicU64,
    url_bytes: AtomicU64,
    tag_links: AtomicU64,
}

impl<L> Default for Store<L> {
    fn default() -> Self {
        Self {
            pages: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            order: Order::default(),
            tagged: Tagged::default(),
            next_id: AtomicU64::new(1),
            entries: AtomicU64::new(0),
            url_bytes: AtomicU64::new(0),
            tag_links: AtomicU64::new(0),
        }
    }
}

impl<L> Store<L> {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.load(Relaxed) == 0
    }

    /// Stores an object in the place of the one of the same URL and variant, unless `judge` says that it is Gone: asked
    /// before, and again when every walk finds the object and nobody can act on it yet.
    ///
    /// # Errors
    /// Gone. Whatever was stored before under this name is still stored, and no walk has missed it.
    pub(crate) fn put(
        &self,
        entry: Entry<L>,
        mut judge: impl FnMut(&Target<'_>, FillToken) -> Verdict,
    ) -> Result<(), Refused> {
        let Entry { url, variant, tags, token, locator } = entry;
        let object = Target { key: url.key(), host: url.host(), tags: Tags::Given(&tags) };
        admission::admit(
            || judge(&object, token),
            || fence(SeqCst),
            || self.enter(&url, variant, &tags, token, locator),
            |entered, verdict| entered.keep(verdict == Verdict::Stale),
            Entering::take_back,
        )
    }

    fn enter(
        &self,
        url: &PurgeUrl,
        variant: Variant,
        tags: &[Tag],
        token: FillToken,
        locator: L,
    ) -> Entering<'_, L> {
        let mut page = self.pages.entry(Key(Arc::new(url.clone()))).or_default();
        let key = page.key().clone();
        if page.is_empty() {
            self.url_bytes.fetch_add(url.as_str().len() as u64, Relaxed);
        }
        let replaced =
            page.iter().position(|stored| stored.variant == variant).map(|at| page.swap_remove(at));
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        tags.dedup();
        let id = self.next_id.fetch_add(1, Relaxed);
        let tags: Arc<[_]> = tags.into_iter().map(|tag| self.tagged.enter(tag, id, &key)).collect();
        self.order.enter(&key);
        self.entries.fetch_add(1, Relaxed);
        self.tag_links.fetch_add(tags.len() as u64, Relaxed);
        page.push(Stored { id, variant, token, stale: false, tags, locator });
        Entering { store: self, key, page, replaced }
    }

    /// Shows one object.
    pub(crate) fn look<T>(
        &self,
        url: &PurgeUrl,
        variant: Variant,
        show: impl FnOnce(&Key, &Stored<L>) -> T,
    ) -> Option<T> {
        let page = self.pages.get(url.key())?;
        let stored = page.iter().find(|stored| stored.variant == variant)?;
        Some(show(page.key(), stored))
    }

    /// Shows every object under a URL.
    pub(crate) fn look_at_all(&self, key: &str, mut show: impl FnMut(&Key, &Stored<L>)) {
        if let Some(page) = self.pages.get(key) {
            page.iter().for_each(|stored| show(page.key(), stored));
        }
    }

    /// The shared copy of a URL that some object has.
    pub(crate) fn key(&self, key: &str) -> Option<Key> {
        self.pages.get(key).map(|page| page.key().clone())
    }

    /// Goes through the objects under a URL: `leave` may change one, and says whether it must leave.
    pub(crate) fn revise(&self, key: &str, mut leave: impl FnMut(&Key, &mut Stored<L>) -> bool) {
        let emptied = {
            let Some(mut page) = self.pages.get_mut(key) else { return };
            let key = page.key().clone();
            let mut at = 0;
            while at < page.len() {
                if leave(&key, &mut page[at]) {
                    let gone = page.swap_remove(at);
                    self.unlink(&key, &gone, page.is_empty());
                } else {
                    at += 1;
                }
            }
            page.is_empty()
        };
        if emptied {
            // Another object may have come between the two locks.
            self.pages.remove_if(key, |_, page| page.is_empty());
        }
    }

    /// Fills in what the store knows.
    pub(crate) fn describe(&self, sites: &SiteTable, stats: &mut Stats) {
        stats.entries = self.entries.load(Relaxed);
        stats.unowned = self.order.unowned(sites);
        stats.urls = self.pages.len() as u64;
        stats.tags = self.tagged.len() as u64;
        let links = self.tag_links.load(Relaxed);
        // Hash maps are filled to 7/8 at most and 7/16 at least, B-tree nodes to 1/2 at least: an allowance of a half.
        let with_slack = |bytes: usize| (bytes + bytes / 2) as u64;
        let page = with_slack(size_of::<Key>() + size_of::<Page<L>>()) + (size_of::<PurgeUrl>() + 16) as u64;
        stats.bytes.urls = stats.urls * page
            + stats.entries.saturating_sub(stats.urls) * size_of::<Stored<L>>() as u64
            + self.url_bytes.load(Relaxed);
        stats.bytes.order = stats.urls * with_slack(size_of::<Key>());
        stats.bytes.tags = links * (with_slack(size_of::<(u64, Key)>()) + 16) + stats.tags * 64;
    }

    fn unlink(&self, key: &Key, stored: &Stored<L>, last: bool) {
        for tag in &*stored.tags {
            self.tagged.leave(tag, stored.id);
        }
        self.order.leave(key, last);
        self.entries.fetch_sub(1, Relaxed);
        self.tag_links.fetch_sub(stored.tags.len() as u64, Relaxed);
        if last {
            self.url_bytes.fetch_sub(key.0.as_str().len() as u64, Relaxed);
        }
    }
}

/// An object that every walk finds and nobody can act on: its page is held. What it replaces is not in the page, but
/// still in the order and with its tags, until this is decided.
struct Entering<'a, L> {
    store: &'a Store<L>,
    key: Key,
    page: RefMut<'a, Key, Page<L>>,
    replaced: Option<Stored<L>>,
}

impl<L> Entering<'_, L> {
    fn keep(mut self, stale: bool) {
        if let Some(entered) = self.page.last_mut() {
            entered.stale = stale;
        }
        if let Some(replaced) = self.replaced {
            self.store.unlink(&self.key, &replaced, false);
        }
    }

    fn take_back(mut self) {
        if let Some(entered) = self.page.pop() {
            self.page.extend(self.replaced);
            let emptied = self.page.is_empty();
            self.store.unlink(&self.key, &entered, emptied);
            drop(self.page);
            if emptied {
                self.store.pages.remove_if(self.key.text(), |_, page| page.is_empty());
            }
        }
    }
}
