//! What a site may submit: two token buckets, taken together and whole, or not at all.

use std::time::Duration;

use batoff_types::{Moment, SiteId, SiteLimits};
use dashmap::DashMap;

use super::bucket::{Bucket, Rate};
use super::items::Cost;

/// URL and tag items a site a minute, and at once, unless configured otherwise.
pub const ITEMS_PER_MINUTE: u32 = 10_000;

/// Prefixes, hosts and *everything* a site a minute, and at once, unless configured otherwise.
pub const PREFIXES_PER_MINUTE: u32 = 60;

/// Sites whose buckets are remembered before full ones are forgotten, which changes nothing for their owners.
const SITES_MAX: usize = 65_536;

/// The window that the rates are told in, in seconds.
const WINDOW_SECS: u64 = 60;

/// The two rates that hold for one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// URL and tag items.
    pub items: Rate,
    /// Prefixes, hosts and *everything*.
    pub prefixes: Rate,
}

impl Rates {
    /// The site's own where it has them, else the control plane's. A rate of 0 counts as 1: a site is closed by revoking
    /// its tokens, not by a bucket that never fills.
    pub fn of(site: SiteLimits, default: SiteLimits) -> Self {
        let rate = |own: Option<u32>, configured: Option<u32>, fallback| {
            let per_minute = own.or(configured).unwrap_or(fallback).max(1);
            Rate { burst: per_minute, per_minute }
        };
        Self {
            items: rate(site.items_per_minute, default.items_per_minute, ITEMS_PER_MINUTE),
            prefixes: rate(site.prefixes_per_minute, default.prefixes_per_minute, PREFIXES_PER_MINUTE),
        }
    }

    /// The most that can ever be taken at once.
    pub const fn burst(self) -> Cost {
        Cost { items: self.items.burst, prefixes: self.prefixes.burst }
    }

    /// The field `RateLimit-Policy`.
    pub fn policy(self) -> String {
        format!(
            "\"items\";q={};w={WINDOW_SECS}, \"prefixes\";q={};w={WINDOW_SECS}",
            self.items.per_minute, self.prefixes.per_minute
        )
    }
}

/// What a site may still submit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// What is left, and how long until it is all there again.
    pub items: (u32, Duration),
    /// The same for prefixes.
    pub prefixes: (u32, Duration),
}

impl Remaining {
    /// The field `RateLimit`.
    pub fn field(&self) -> String {
        let secs = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        format!(
            "\"items\";r={};t={}, \"prefixes\";r={};t={}",
            self.items.0,
            secs(self.items.1),
            self.prefixes.0,
            secs(self.prefixes.1)
        )
    }
}

/// A quota that does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// When it would.
    pub wait: Duration,
    /// What it counts, in words.
    pub what: &'static str,
    /// Its name in `RateLimit`.
    pub quota: &'static str,
    /// Its rate.
    pub per_minute: u32,
    /// What is left of it.
    pub left: u32,
    /// What the request needs.
    pub needed: u32,
}

/// Which of the two does not suffice, the one that takes longer; `None` when both do. They were refilled just now.
pub(super) fn short_of([items, prefixes]: [&Bucket; 2], rates: Rates, cost: Cost) -> Option<Short> {
    let for_items = items.wait_for(rates.items, cost.items);
    let for_prefixes = prefixes.wait_for(rates.prefixes, cost.prefixes);
    let short = if for_prefixes > for_items {
        Short {
            wait: for_prefixes,
            what: "prefixes, hosts and everything",
            quota: "prefixes",
            per_minute: rates.prefixes.per_minute,
            left: prefixes.remaining(rates.prefixes),
            needed: cost.prefixes,
        }
    } else {
        Short {
            wait: for_items,
            what: "URLs and tags",
            quota: "items",
            per_minute: rates.items.per_minute,
            left: items.remaining(rates.items),
            needed: cost.items,
        }
    };
    (short.wait > Duration::ZERO).then_some(short)
}

/// All sites' buckets.
#[derive(Debug, Default)]
pub struct Quotas {
    sites: DashMap<SiteId, [Bucket; 2]>,
}

impl Quotas {
    /// Takes what a request costs from both buckets, or nothing; then says which is short, and when it would be there.
    pub fn take(&self, now: Moment, site: &SiteId, rates: Rates, cost: Cost) -> Result<(), Short> {
        self.forget_full(now);
        let mut entry = self.sites.entry(site.clone()).or_insert_with(|| [Bucket::full(now); 2]);
        let [items, prefixes] = entry.value_mut();
        items.refill(rates.items, now);
        prefixes.refill(rates.prefixes, now);
        if let Some(short) = short_of([items, prefixes], rates, cost) {
            return Err(short);
        }
        items.take(cost.items);
        prefixes.take(cost.prefixes);
        Ok(())
    }

    /// Gives back what a request took that was not accepted after all.
    pub fn give_back(&self, site: &SiteId, cost: Cost) {
        if let Some(mut entry) = self.sites.get_mut(site) {
            let [items, prefixes] = entry.value_mut();
            items.give_back(cost.items);
            prefixes.give_back(cost.prefixes);
        }
    }

    /// How the site stands now.
    pub fn remaining(&self, now: Moment, site: &SiteId, rates: Rates) -> Remaining {
        let [mut items, mut prefixes] =
            self.sites.get(site).map_or([Bucket::full(now); 2], |entry| *entry.value());
        items.refill(rates.items, now);
        prefixes.refill(rates.prefixes, now);
        Remaining {
            items: (items.remaining(rates.items), items.until_full(rates.items)),
            prefixes: (prefixes.remaining(rates.prefixes), prefixes.until_full(rates.prefixes)),
        }
    }

    /// Buckets that nobody took from for a minute are full: every rate fills its burst in one.
    fn forget_full(&self, now: Moment) {
        if self.sites.len() < SITES_MAX {
            return;
        }
        self.sites.retain(|_, buckets| buckets.iter().any(|bucket| !bucket.rested(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_micros(secs * 1_000_000)
    }

    fn shop() -> SiteId {
        "shop".parse().unwrap()
    }

    fn rates() -> Rates {
        Rates::of(SiteLimits::default(), SiteLimits::default())
    }

    #[test]
    fn a_request_is_taken_whole_or_not_at_all() {
        let quotas = Quotas::default();
        let cost = |items, prefixes| Cost { items, prefixes };
        assert_eq!(quotas.take(at(0), &shop(), rates(), cost(100, 59)), Ok(()));
        let short = quotas.take(at(0), &shop(), rates(), cost(100, 2));
        assert_eq!(short.map_err(|short| short.wait), Err(Duration::from_secs(1)));
        assert_eq!(short.map_err(|short| (short.quota, short.left, short.needed)), Err(("prefixes", 1, 2)));
        let remaining = quotas.remaining(at(0), &shop(), rates());
        assert_eq!((remaining.items.0, remaining.prefixes.0), (9_900, 1));
        assert_eq!(remaining.field(), "\"items\";r=9900;t=1, \"prefixes\";r=1;t=59");
        assert_eq!(quotas.take(at(1), &shop(), rates(), cost(100, 2)), Ok(()));
    }

    #[test]
    fn what_was_taken_in_vain_is_given_back() {
        let quotas = Quotas::default();
        let cost = Cost { items: 10_000, prefixes: 60 };
        assert_eq!(quotas.take(at(0), &shop(), rates(), cost), Ok(()));
        quotas.give_back(&shop(), cost);
        assert_eq!(quotas.take(at(0), &shop(), rates(), cost), Ok(()));
    }

    #[test]
    fn a_sites_own_limits_win_over_the_configured_and_those_over_the_defaults() {
        let own = SiteLimits { items_per_minute: Some(5), ..SiteLimits::default() };
        let configured =
            SiteLimits { items_per_minute: Some(7), prefixes_per_minute: Some(0), ..SiteLimits::default() };
        let rates = Rates::of(own, configured);
        assert_eq!(rates.burst(), Cost { items: 5, prefixes: 1 });
        assert_eq!(rates.policy(), "\"items\";q=5;w=60, \"prefixes\";q=1;w=60");
        assert_eq!(
            Rates::of(SiteLimits::default(), SiteLimits::default()).policy(),
            "\"items\";q=10000;w=60, \"prefixes\";q=60;w=60"
        );
    }

    #[test]
    fn two_sites_do_not_share_a_bucket() {
        let quotas = Quotas::default();
        let cost = Cost { items: 0, prefixes: 60 };
        assert_eq!(quotas.take(at(0), &shop(), rates(), cost), Ok(()));
        assert_eq!(quotas.take(at(0), &"blog".parse().unwrap(), rates(), cost), Ok(()));
    }
}
