//! A word about objects with tags that nobody knows: every purge of a tag of their site hits them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use batoff_types::message::{OVERFLOWED_AT_ONCE_MAX, OVERFLOWED_SITES_MAX, Overflowed};
use batoff_types::{CacheTags, PurgeUrl, SiteId, SiteTable};
use parking_lot::Mutex;

/// At most one line a site in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Sites remembered for that. Over it all are forgotten, and some may be logged twice in a minute.
const SITES_MAX: usize = 10_000;

/// Counts objects whose tags overflow ([`CacheTags::overflows`]), for the metric and by site for the control plane, and logs
/// them once a minute a site. One a daemon, shared by its caches.
#[derive(Debug, Default)]
pub struct Overflow {
    logged: Mutex<HashMap<String, Instant>>,
    sites: Mutex<OverflowBook>,
}

/// By site, and where to go on telling.
#[derive(Debug, Default)]
struct OverflowBook {
    figures: BTreeMap<SiteId, Figure>,
    last_told: Option<SiteId>,
}

/// What is known of a site.
#[derive(Clone, Copy, Debug)]
struct Figure {
    objects: u64,
    /// How many the control plane knows of.
    told: u64,
    last: Instant,
}

impl Overflow {
    /// An object under `url` with these tags has just been fetched.
    pub fn note(&self, tags: &CacheTags, url: &PurgeUrl, sites: &SiteTable) {
        if !tags.overflows() {
            return;
        }
        crate::metrics::tags_overflowed();
        let owner = sites.owner(url.host());
        if let Some(owner) = owner {
            self.count(owner, Instant::now());
        }
        let site = owner.map_or(url.host(), SiteId::as_str);
        if self.is_due(site, Instant::now()) {
            let (known, unknown, limit) = (tags.tags.len(), tags.ignored, sites.tags_max(url.host()));
            tracing::warn!(
                site, %url, known, unknown, limit,
                "an object has more tags than its site allows, or malformed ones: every purge of a tag of the site hits \
                 it; raise the site's tags_per_response, or send fewer tags"
            );
        }
    }

    fn count(&self, site: &SiteId, now: Instant) {
        let figures = &mut self.sites.lock().figures;
        if let Some(figure) = figures.get_mut(site) {
            figure.objects += 1;
            figure.last = now;
        } else if figures.len() < OVERFLOWED_SITES_MAX {
            figures.insert(site.clone(), Figure { objects: 1, told: 0, last: now });
        }
    }

    /// What the control plane has not been told yet, as much as one message holds; it counts as told from here on. Goes round
    /// the sites, so that a busy one does not keep the others back.
    pub(crate) fn take_news(&self, now: Instant) -> Vec<Overflowed> {
        let mut sites = self.sites.lock();
        let OverflowBook { figures, last_told } = &mut *sites;
        let is_news = |(_, figure): &(&SiteId, &Figure)| figure.objects > figure.told;
        let is_behind = |(site, _): &(&SiteId, &Figure)| last_told.as_ref().is_none_or(|last| *site > last);
        let behind = figures.iter().filter(is_behind);
        let before = figures.iter().filter(|entry| !is_behind(entry));
        let turn = behind.chain(before).filter(is_news).take(OVERFLOWED_AT_ONCE_MAX);
        let turn: Vec<SiteId> = turn.map(|(site, _)| site.clone()).collect();
        let mut news = Vec::with_capacity(turn.len());
        for site in turn {
            let Some(figure) = figures.get_mut(&site) else { continue };
            figure.told = figure.objects;
            news.push(Overflowed {
                site: site.clone(),
                objects: figure.objects,
                since: now.saturating_duration_since(figure.last),
            });
            *last_told = Some(site);
        }
        news
    }

    /// There is a new stream, whose other end knows nothing.
    pub(crate) fn tell_anew(&self) {
        self.sites.lock().figures.values_mut().for_each(|figure| figure.told = 0);
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

    fn site(name: &str) -> SiteId {
        name.parse().unwrap()
    }

    #[test]
    fn a_figure_is_told_when_it_has_risen_and_anew_on_a_new_stream() {
        let (overflow, shop, now) = (Overflow::default(), site("shop"), Instant::now());
        let figure = |objects, seconds| {
            vec![Overflowed { site: site("shop"), objects, since: Duration::from_secs(seconds) }]
        };
        assert_eq!(overflow.take_news(now), []);
        overflow.count(&shop, now);
        overflow.count(&shop, now);
        assert_eq!(overflow.take_news(now), figure(2, 0));
        assert_eq!(overflow.take_news(now), []);
        overflow.count(&shop, now);
        assert_eq!(overflow.take_news(now + Duration::from_secs(5)), figure(3, 5));
        overflow.tell_anew();
        assert_eq!(overflow.take_news(now + Duration::from_secs(9)), figure(3, 9));
    }

    #[test]
    fn what_one_message_does_not_hold_comes_next_however_busy_the_first_are() {
        let (overflow, now) = (Overflow::default(), Instant::now());
        let names: Vec<SiteId> = (0..OVERFLOWED_AT_ONCE_MAX + 5).map(|n| site(&format!("s{n:04}"))).collect();
        names.iter().for_each(|name| overflow.count(name, now));
        let told = overflow.take_news(now);
        assert_eq!(told.len(), OVERFLOWED_AT_ONCE_MAX);
        names[..OVERFLOWED_AT_ONCE_MAX].iter().for_each(|name| overflow.count(name, now));
        let told: Vec<SiteId> = overflow.take_news(now).into_iter().map(|told| told.site).collect();
        assert_eq!((told.len(), &told[..5]), (OVERFLOWED_AT_ONCE_MAX, &names[OVERFLOWED_AT_ONCE_MAX..]));
    }

    #[test]
    fn of_more_sites_than_can_be_kept_the_first_are_told() {
        let (overflow, now) = (Overflow::default(), Instant::now());
        for n in 0..OVERFLOWED_SITES_MAX + 5 {
            overflow.count(&site(&format!("site-{n}")), now);
        }
        let rounds = std::iter::from_fn(|| Some(overflow.take_news(now).len()).filter(|told| *told > 0));
        assert_eq!(rounds.sum::<usize>(), OVERFLOWED_SITES_MAX);
    }
}
