//! Quotas that several control planes spend together: the buckets stand in the store, and each takes slices from them.
//!
//! ```text
//!  quota/shop  {"at":…,"missing":[…,…]}     the two buckets, as of the last slice
//!      | compare-and-set: what waits here, and more while slices are taken often
//!      v
//!  what was taken and not spent here        spent without a write; what is left after 2 s goes back
//! ```
//!
//! A site that purges twice a second costs two writes a second, and one that purges a thousand times a second costs two or
//! three: a slice that follows the last within half a second is twice as large, up to a quarter of the bucket. What is taken
//! is taken from all, so together they grant what one grants that is alone; a control plane that dies loses its slice, which
//! flows in again. Without the store there are no slices, and 503: nothing could be made durable either.
//!
//! Buckets are filled by the wall clock of whoever takes. One that is ahead fills them earlier, once, and not more.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Store, StoreError, Version, Versioned, Write};
use batoff_types::{Moment, SiteId};
use dashmap::DashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use super::bucket::Bucket;
use super::items::Cost;
use super::quota::{Rates, Remaining, Short, short_of};
use crate::clock::Clock;
use crate::store::rows;

/// Under this prefix and a site's name are its buckets.
const QUOTAS: &str = "quota/";

/// How long a slice may be spent from; then what is left goes back.
const SLICE_LASTS: Duration = Duration::from_secs(2);

/// A slice that follows the last one so soon is larger.
const SOON: Duration = Duration::from_millis(500);

/// How long it is not asked again whether more has flowed in, once it did not suffice.
const SHORT_FOR: Duration = Duration::from_millis(350);

/// The first slice that is larger than what is needed is this part of the bucket …
const SLICE_FIRST_PART: u32 = 50;

/// … and the largest this one.
const SLICE_LARGEST_PART: u32 = 4;

/// Buckets that were filled later than this from now are another clock's, which is wrong.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// How often a write is tried again that another one came before.
const TRIES_MAX: usize = 32;

/// Sites remembered before those are forgotten of which nothing is held.
const SITES_MAX: usize = 65_536;

/// Why nothing was taken.
#[derive(Debug)]
pub enum NotTaken {
    /// It does not suffice.
    Short(Short),
    /// It cannot be known.
    Store(StoreError),
}

/// The slices of this control plane.
pub struct Slices {
    store: Arc<dyn Store>,
    clock: Clock,
    sites: DashMap<SiteId, Arc<SiteSlice>>,
}

/// What this control plane has of a site's quotas.
struct SiteSlice {
    key: Key,
    held: Mutex<SiteHoldings>,
    /// Held by the one who asks the store; the others wait for what he brings along.
    asking: AsyncMutex<()>,
}

struct SiteHoldings {
    /// Taken and not spent.
    left: Cost,
    /// Not spent from any more after this.
    good_until: Moment,
    /// What those need who wait for a slice.
    wanted: Cost,
    /// The last slice, beyond what was needed.
    extra: Cost,
    /// When items and prefixes were taken last.
    taken_at: [Option<Moment>; 2],
    /// Those of the last request.
    rates: Option<Rates>,
    /// The buckets as they were last seen, and when: not asked for again before.
    seen: Option<SeenBuckets>,
    /// Somebody will give back what is left.
    is_watched: bool,
}

#[derive(Clone)]
struct SeenBuckets {
    buckets: SiteBuckets,
    version: Option<Version>,
    /// They did not suffice then.
    short_at: Option<Moment>,
}

/// The two buckets of a site, by wall clock.
#[derive(Clone, Copy, Debug)]
struct SiteBuckets([Bucket; 2]);

#[derive(Serialize, Deserialize)]
struct BucketsRow {
    /// Milliseconds of Unix time at which they were filled last.
    at: u64,
    /// Parts of tokens that are missing: of items, of prefixes.
    missing: [u64; 2],
}

impl SiteBuckets {
    const fn full(now: Moment) -> Self {
        Self([Bucket::full(now); 2])
    }

    fn of_row(row: &[u8], now: Moment) -> Result<Self, &'static str> {
        let row: BucketsRow = serde_json::from_slice(row).map_err(|_| "is not the JSON of two buckets")?;
        let at = Moment::from_micros(row.at.saturating_mul(1_000));
        let at = if at > now + AHEAD_MAX { now } else { at };
        Ok(Self(row.missing.map(|missing| Bucket::of_parts(missing, at))))
    }

    fn row(&self) -> Vec<u8> {
        let (missing, at) = (self.0.map(|bucket| bucket.parts().0), self.0[0].parts().1);
        rows::json(&BucketsRow { at: at.as_micros() / 1_000, missing })
    }

    fn refill(&mut self, rates: Rates, now: Moment) {
        let [items, prefixes] = &mut self.0;
        items.refill(rates.items, now);
        prefixes.refill(rates.prefixes, now);
    }

    fn there(&self, rates: Rates) -> Cost {
        let [items, prefixes] = &self.0;
        Cost { items: items.remaining(rates.items), prefixes: prefixes.remaining(rates.prefixes) }
    }

    fn take(&mut self, cost: Cost) {
        let [items, prefixes] = &mut self.0;
        items.take(cost.items);
        prefixes.take(cost.prefixes);
    }

    fn give_back(&mut self, cost: Cost) {
        let [items, prefixes] = &mut self.0;
        items.give_back(cost.items);
        prefixes.give_back(cost.prefixes);
    }

    fn short(&self, rates: Rates, cost: Cost) -> Option<Short> {
        let [items, prefixes] = &self.0;
        short_of([items, prefixes], rates, cost)
    }
}

/// Somebody waits for a slice.
struct Waits<'a>(&'a SiteSlice, Cost);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut held = self.0.held.lock();
        held.wanted = less(held.wanted, self.1);
    }
}

impl Slices {
    /// Nothing is taken yet.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, sites: DashMap::new() }
    }

    /// Takes from what is held; false when that does not suffice, and the store must be [asked](Slices::take).
    pub fn take_held(&self, site: &SiteId, cost: Cost) -> bool {
        self.sites.get(site).is_some_and(|slice| slice.held.lock().spend(self.clock.now(), cost))
    }

    /// Takes what a request costs from both buckets, or nothing.
    ///
    /// # Errors
    /// It does not suffice, or the store does not say.
    pub async fn take(&self, site: &SiteId, rates: Rates, cost: Cost) -> Result<(), NotTaken> {
        let slice = self.slice(site);
        slice.held.lock().wants(rates, cost);
        let _waits = Waits(&slice, cost);
        let _asking = slice.asking.lock().await;
        let now = self.clock.now();
        {
            let held = slice.held.lock();
            if let Some(short) = held.still_short(now, self.wall(), rates, cost) {
                return Err(NotTaken::Short(short));
            }
        }
        if slice.held.lock().spend(now, cost) {
            return Ok(());
        }
        let taken = self.ask(&slice, rates, cost).await?;
        if !taken.is_all_needed {
            self.give_back_later(&slice);
        }
        Ok(())
    }

    /// Gives back what a request took that was not accepted after all: to what is held here.
    pub fn give_back(&self, site: &SiteId, cost: Cost) {
        if cost == Cost::default() {
            return;
        }
        let slice = self.slice(site);
        {
            let mut held = slice.held.lock();
            held.left = more(held.left, cost);
        }
        self.give_back_later(&slice);
    }

    /// How the site stands, as far as it is known here.
    pub fn remaining(&self, site: &SiteId, rates: Rates) -> Remaining {
        let now = self.wall();
        let mut buckets = SiteBuckets::full(now);
        if let Some(slice) = self.sites.get(site) {
            let held = slice.held.lock();
            if let Some(seen) = &held.seen {
                buckets = seen.buckets;
            }
            buckets.refill(rates, now);
            buckets.give_back(held.left);
        }
        let [items, prefixes] = &buckets.0;
        Remaining {
            items: (items.remaining(rates.items), items.until_full(rates.items)),
            prefixes: (prefixes.remaining(rates.prefixes), prefixes.until_full(rates.prefixes)),
        }
    }

    fn wall(&self) -> Moment {
        Moment::from_micros(self.clock.wall().0.saturating_mul(1_000))
    }

    fn slice(&self, site: &SiteId) -> Arc<SiteSlice> {
        if self.sites.len() >= SITES_MAX {
            self.sites
                .retain(|_, slice| Arc::strong_count(slice) > 1 || slice.held.lock().left != Cost::default());
        }
        let entry = self.sites.entry(site.clone()).or_insert_with(|| {
            let key = Key::from(format!("{QUOTAS}{site}"));
            Arc::new(SiteSlice {
                key,
                held: Mutex::new(SiteHoldings::nothing(self.clock.now())),
                asking: AsyncMutex::default(),
            })
        });
        Arc::clone(entry.value())
    }

    /// Takes what this request needs and what others here wait for, gives back what is left of an old slice.
    async fn ask(&self, slice: &SiteSlice, rates: Rates, cost: Cost) -> Result<TakenSlice, NotTaken> {
        let seen = slice.held.lock().seen.clone();
        // Mostly nobody else has taken from it since.
        let mut row = match seen {
            Some(seen) if seen.version.is_some() => {
                StoredBuckets { buckets: seen.buckets, version: seen.version }
            }
            _ => self.read(slice).await?,
        };
        for _ in 0..TRIES_MAX {
            let now = self.clock.now();
            let plan = {
                let mut held = slice.held.lock();
                row.buckets.refill(rates, self.wall());
                held.plan(now, row.buckets, rates, cost)
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(short) => {
                    // What was seen a while ago may be wrong by now: others give back.
                    if row.version.is_some() && slice.held.lock().seen_is(row.version) {
                        slice.held.lock().seen = None;
                        row = self.read(slice).await?;
                        continue;
                    }
                    let seen =
                        SeenBuckets { buckets: row.buckets, version: row.version, short_at: Some(now) };
                    slice.held.lock().seen = Some(seen);
                    return Err(NotTaken::Short(short));
                }
            };
            let expect = row.version.map_or(Expect::Absent, Expect::Version);
            let write = Write::Put { value: plan.buckets.row().into(), ttl: None };
            match self.store.kv().cas(&slice.key, expect, write).await {
                Ok(version) => {
                    let mut held = slice.held.lock();
                    held.took(self.clock.now(), &plan, version, cost);
                    return Ok(TakenSlice { is_all_needed: held.left == Cost::default() });
                }
                Err(CasError::Conflict(found)) => {
                    slice.held.lock().keeps(&plan);
                    row = self.stored(slice, found)?;
                }
                Err(CasError::Store(error)) => {
                    match error {
                        // It may be with the others now.
                        StoreError::Unknown { .. } => slice.held.lock().seen = None,
                        _ => slice.held.lock().keeps(&plan),
                    }
                    return Err(NotTaken::Store(error));
                }
            }
        }
        Err(NotTaken::Store(StoreError::Unavailable { retry_after: Duration::from_secs(1) }))
    }

    async fn read(&self, slice: &SiteSlice) -> Result<StoredBuckets, NotTaken> {
        let found = self.store.kv().get(&slice.key).await.map_err(NotTaken::Store)?;
        self.stored(slice, found)
    }

    fn stored(&self, slice: &SiteSlice, found: Option<Versioned>) -> Result<StoredBuckets, NotTaken> {
        let now = self.wall();
        let Some(found) = found else {
            return Ok(StoredBuckets { buckets: SiteBuckets::full(now), version: None });
        };
        match SiteBuckets::of_row(&found.value, now) {
            Ok(buckets) => Ok(StoredBuckets { buckets, version: Some(found.version) }),
            Err(why) => Err(NotTaken::Store(rows::unreadable(&slice.key, why))),
        }
    }

    /// What nobody spends here is there for others again, in a moment.
    fn give_back_later(&self, slice: &Arc<SiteSlice>) {
        // Without a runtime the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        if std::mem::replace(&mut slice.held.lock().is_watched, true) {
            return;
        }
        let (slice, mine) = (Arc::clone(slice), Self::new(Arc::clone(&self.store), self.clock.clone()));
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(SLICE_LASTS).await;
                let _asking = slice.asking.lock().await;
                let rates = {
                    let mut held = slice.held.lock();
                    let Some(rates) = held.rates.filter(|_| held.left != Cost::default()) else {
                        held.is_watched = false;
                        return;
                    };
                    if mine.clock.now() < held.good_until {
                        continue;
                    }
                    rates
                };
                if let Err(NotTaken::Store(error)) = mine.ask(&slice, rates, Cost::default()).await {
                    tracing::debug!(%error, "what is left of a quota's slice is not given back yet");
                }
            }
        });
    }
}

/// What the store holds.
struct StoredBuckets {
    buckets: SiteBuckets,
    version: Option<Version>,
}

struct TakenSlice {
    is_all_needed: bool,
}

/// A slice that is about to be taken.
struct SlicePlan {
    /// As they are to be.
    buckets: SiteBuckets,
    /// What of it is held here afterwards, before the request is paid for.
    left: Cost,
    extra: Cost,
    /// What was held here until then, and is held by nobody before it is written.
    returned: Cost,
}

impl SiteHoldings {
    const fn nothing(now: Moment) -> Self {
        let none = Cost { items: 0, prefixes: 0 };
        Self {
            left: none,
            good_until: now,
            wanted: none,
            extra: none,
            taken_at: [None; 2],
            rates: None,
            seen: None,
            is_watched: false,
        }
    }

    fn wants(&mut self, rates: Rates, cost: Cost) {
        self.rates = Some(rates);
        self.wanted = more(self.wanted, cost);
    }

    fn spend(&mut self, now: Moment, cost: Cost) -> bool {
        let is_there =
            now < self.good_until && cost.items <= self.left.items && cost.prefixes <= self.left.prefixes;
        if is_there {
            self.left = less(self.left, cost);
        }
        is_there
    }

    /// It did not suffice a moment ago.
    fn still_short(&self, now: Moment, wall: Moment, rates: Rates, cost: Cost) -> Option<Short> {
        let seen = self.seen.as_ref()?;
        if now.since(seen.short_at?) >= SHORT_FOR {
            return None;
        }
        let mut buckets = seen.buckets;
        buckets.refill(rates, wall);
        buckets.give_back(self.left);
        buckets.short(rates, cost)
    }

    fn seen_is(&self, version: Option<Version>) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.version == version)
    }

    /// What to take from these buckets, with all that is held given back first.
    fn plan(
        &mut self,
        now: Moment,
        mut buckets: SiteBuckets,
        rates: Rates,
        cost: Cost,
    ) -> Result<SlicePlan, Short> {
        let returned = self.left;
        buckets.give_back(returned);
        if let Some(short) = buckets.short(rates, cost) {
            return Err(short);
        }
        let there = buckets.there(rates);
        let is_soon = |taken_at: Option<Moment>| taken_at.is_some_and(|taken_at| now.since(taken_at) < SOON);
        let grown = |taken_at, last: u32, burst: u32, cost: u32| match is_soon(taken_at) && cost > 0 {
            true => {
                last.saturating_mul(2).max(burst / SLICE_FIRST_PART).max(1).min(burst / SLICE_LARGEST_PART)
            }
            false => 0,
        };
        let extra = Cost {
            items: grown(self.taken_at[0], self.extra.items, rates.items.burst, cost.items),
            prefixes: grown(self.taken_at[1], self.extra.prefixes, rates.prefixes.burst, cost.prefixes),
        };
        // Those who wait here are paid for next; nobody waits for what is only given back.
        let wanted = if cost == Cost::default() { cost } else { more(self.wanted, extra) };
        let left = Cost {
            items: wanted.items.max(cost.items).min(there.items),
            prefixes: wanted.prefixes.max(cost.prefixes).min(there.prefixes),
        };
        buckets.take(left);
        self.left = Cost::default();
        Ok(SlicePlan { buckets, left, extra, returned })
    }

    /// Nothing came of a plan.
    fn keeps(&mut self, plan: &SlicePlan) {
        self.left = more(self.left, plan.returned);
        self.seen = None;
    }

    fn took(&mut self, now: Moment, plan: &SlicePlan, version: Version, cost: Cost) {
        self.left = more(self.left, less(plan.left, cost));
        self.good_until = now + SLICE_LASTS;
        self.seen = Some(SeenBuckets { buckets: plan.buckets, version: Some(version), short_at: None });
        if cost != Cost::default() {
            self.extra = plan.extra;
            let [items, prefixes] = &mut self.taken_at;
            *items = if cost.items > 0 { Some(now) } else { *items };
            *prefixes = if cost.prefixes > 0 { Some(now) } else { *prefixes };
        }
    }
}

const fn more(one: Cost, other: Cost) -> Cost {
    Cost {
        items: one.items.saturating_add(other.items),
        prefixes: one.prefixes.saturating_add(other.prefixes),
    }
}

const fn less(one: Cost, other: Cost) -> Cost {
    Cost {
        items: one.items.saturating_sub(other.items),
        prefixes: one.prefixes.saturating_sub(other.prefixes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::system_clock;
    use batoff_types::{SiteLimits, UnixMillis};
    use tempfile::TempDir;

    use super::*;
    use crate::store::SharedStore;

    /// Several control planes, and a wall clock that stands until it is told to go on.
    struct Rig {
        each: Vec<(Arc<SharedStore>, Slices)>,
        wall: Arc<AtomicU64>,
        store: Arc<EmbeddedStore>,
        _dir: TempDir,
    }

    impl Rig {
        fn of(count: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
            let wall = Arc::new(AtomicU64::new(1_776_672_751_000));
            let each = (0..count).map(|_| {
                let shared = SharedStore::over(store.clone());
                let wall = Arc::clone(&wall);
                let clock = Clock::with_wall(move || UnixMillis(wall.load(Ordering::SeqCst)));
                (Arc::clone(&shared), Slices::new(shared, clock))
            });
            Self { each: each.collect(), wall, store, _dir: dir }
        }

        async fn take(&self, at: usize, cost: Cost) -> bool {
            let slices = &self.each[at].1;
            if slices.take_held(&shop(), cost) {
                return true;
            }
            match slices.take(&shop(), rates(), cost).await {
                Ok(()) => true,
                Err(NotTaken::Short(_)) => false,
                Err(NotTaken::Store(error)) => panic!("{error}"),
            }
        }

        /// How much this one gets, `cost` at a time, until it gets no more.
        async fn take_all(&self, at: usize, cost: Cost) -> u32 {
            let mut taken = 0;
            while self.take(at, cost).await {
                taken += cost.items + cost.prefixes;
            }
            taken
        }

        fn writes(&self) -> u64 {
            self.each.iter().map(|(store, _)| store.writes()).sum()
        }

        /// Until those who took too much have given it back.
        async fn rest(&self) {
            tokio::time::sleep(SLICE_LASTS * 3).await;
        }
    }

    fn shop() -> SiteId {
        "shop".parse().unwrap()
    }

    fn rates() -> Rates {
        Rates::of(SiteLimits::default(), SiteLimits::default())
    }

    const fn items(items: u32) -> Cost {
        Cost { items, prefixes: 0 }
    }

    const fn prefixes(prefixes: u32) -> Cost {
        Cost { items: 0, prefixes }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn together_they_grant_what_one_grants_alone_and_one_that_is_busy_gets_nearly_all() {
        let rig = Rig::of(3);
        assert!(rig.take(1, items(1)).await && rig.take(2, items(1)).await);
        let busy = rig.take_all(0, items(7)).await;
        assert!((9_900..=9_998).contains(&busy), "{busy}");
        rig.rest().await;
        let others = rig.take_all(1, items(1)).await + rig.take_all(2, items(1)).await;
        assert_eq!(busy + others, 9_998, "no token is lost, and none is granted twice");
        // A minute later all is there again, once.
        rig.rest().await;
        rig.wall.fetch_add(60_000, Ordering::SeqCst);
        let (one, two) = tokio::join!(rig.take_all(0, items(10)), rig.take_all(1, items(10)));
        rig.rest().await;
        let three = rig.take_all(2, items(1)).await;
        assert_eq!(one + two + three, 10_000, "{one} {two} {three}");
        rig.store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_busy_site_costs_few_writes_and_a_quiet_one_holds_nothing_from_the_others() {
        let rig = Rig::of(2);
        assert_eq!(rig.take_all(0, items(1)).await, 10_000);
        let busy = rig.writes();
        assert!(busy < 40, "{busy} writes for 10,000 requests");
        assert!(rig.take(0, prefixes(1)).await);
        assert_eq!(rig.take_all(1, prefixes(1)).await, 59);
        rig.store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thousand_at_one_time_share_slices() {
        let rig = Arc::new(Rig::of(1));
        let requests: Vec<_> = (0..1_000)
            .map(|_| {
                let rig = Arc::clone(&rig);
                tokio::spawn(async move { rig.take(0, items(20)).await })
            })
            .collect();
        let mut granted = 0;
        for request in requests {
            granted += u32::from(request.await.unwrap());
        }
        assert_eq!(granted, 500);
        assert!(rig.writes() < 40, "{}", rig.writes());
        rig.store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_in_vain_is_there_again_and_a_request_is_taken_whole_or_not_at_all() {
        let rig = Rig::of(2);
        let all = Cost { items: 10_000, prefixes: 60 };
        assert!(rig.take(0, all).await);
        rig.each[0].1.give_back(&shop(), all);
        assert!(rig.take(0, Cost { items: 100, prefixes: 59 }).await);
        assert!(!rig.take(0, Cost { items: 100, prefixes: 2 }).await);
        let remaining = rig.each[0].1.remaining(&shop(), rates());
        assert_eq!((remaining.items.0, remaining.prefixes.0), (9_900, 1));
        rig.rest().await;
        assert!(rig.take(1, Cost { items: 9_900, prefixes: 1 }).await, "given back to all");
        rig.store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_the_store_there_are_no_slices() {
        let rig = Rig::of(1);
        let (store, slices) = &rig.each[0];
        assert!(rig.take(0, items(1)).await);
        store.cut_off(true);
        let refused = slices.take(&shop(), rates(), items(1)).await;
        assert!(matches!(refused, Err(NotTaken::Store(StoreError::Unavailable { .. }))), "{refused:?}");
        store.cut_off(false);
        assert_eq!(rig.take_all(0, items(1)).await, 9_999);
        rig.store.close().await;
    }

    #[test]
    fn buckets_that_a_wrong_clock_has_filled_are_filled_again() {
        let now = Moment::from_micros(1_000_000_000_000);
        let mut buckets = SiteBuckets::full(now + Duration::from_secs(7_200));
        buckets.take(items(10_000));
        let mut read = SiteBuckets::of_row(&buckets.row(), now).unwrap();
        read.refill(rates(), now + Duration::from_secs(30));
        assert_eq!(read.there(rates()).items, 5_000);
        let mut close = SiteBuckets::full(now + Duration::from_secs(10));
        close.take(items(10_000));
        let mut read = SiteBuckets::of_row(&close.row(), now).unwrap();
        read.refill(rates(), now + Duration::from_secs(40));
        assert_eq!(read.there(rates()).items, 5_000, "what the other clock has counted is not counted again");
    }
}
