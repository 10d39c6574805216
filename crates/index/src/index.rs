//! The facade: everything that a cache or the daemon may ask of the index. Decisions are made in `rules`, what is held
//! lies in `store`, and `publish` brings the two together; here is the order in which they are called and locked.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use batoff_types::{
    CacheTags, Cursor, FillToken, Generation, PurgeUrl, Record, Selector, SiteId, SiteTable, TaskId,
};
use parking_lot::{Mutex, MutexGuard};

use crate::place::Rule;
use crate::plan::Plan;
use crate::publish::Discarded;
use crate::rules::{CarriedTags, Ledger, Rules, Target};
use crate::state::State;
use crate::store::{Act, Held, Store};
use crate::sweep::{Pending, Sweep};
use crate::{Entry, Listing, Match, Matches, Place, Refused, Size, Snapshot, Stats, Variant, Verdict};

/// Rules forgotten at once; then a record that waits has its turn.
const FORGET_AT_ONCE: usize = 256;

/// Objects that are counted before it is asked whether to go on.
const COUNTED_AT_ONCE: usize = 256;

/// The limits of an index.
#[derive(Clone, Debug)]
pub struct IndexConfig {
    /// Rules kept, each an estimated 250 bytes with its URL. More than that, and the oldest are folded into their host's or
    /// site's rule: a purge of one URL becomes, for objects that old, a purge of its host. 0 turns every purge into a
    /// flush.
    pub rules_max: usize,
    /// Whether the caches' keys tell ports apart. If not, every URL and every selector that comes here is taken without
    /// its port: a purge hits whatever port it names. Not to be changed on an index with objects or rules. Such a cache must not keep two objects of one URL and variant.
    pub keys_have_ports: bool,
}

impl Default for IndexConfig {
    /// 262,144 rules: some 64 MiB when full; and keys with ports.
    fn default() -> Self {
        Self { rules_max: 262_144, keys_have_ports: true }
    }
}

/// What one node's caches hold and what was purged. A handle: clones are the same index.
///
/// `L` is the cache's own locator of an object. Every method takes `&self`, may be called from any thread, and blocks
/// only for others' short critical sections; none waits for a sweep.
#[derive(Clone)]
pub struct Index<L: Clone = ()> {
    inner: Arc<Inner<L>>,
}

/// Locks, in the order in which they are taken: `writer`, the store's, `pending`.
pub(crate) struct Inner<L> {
    pub(crate) config: IndexConfig,
    /// Held by what changes the state: records come one at a time.
    writer: Mutex<Ledger>,
    /// Read without a lock: a record, a reset and forgetting publish another one.
    pub(crate) state: ArcSwap<State>,
    pub(crate) store: Store<L>,
    pub(crate) pending: Mutex<Pending>,
    pub(crate) discarded: Mutex<Option<Discarded>>,
}

impl<L: Clone> Index<L> {
    /// An empty index at the start of a log, in generation 0, that knows no site. A node that joins a running log sets
    /// it with [`Index::reset`].
    pub fn new(config: IndexConfig) -> Self {
        Self::restore(
            config,
            Snapshot {
                generation: Generation::default(),
                cursor: Cursor::START,
                task: None,
                sites: SiteTable::default(),
                forgotten_through: Cursor::START,
                rules: Vec::new(),
            },
        )
    }

    /// The index that was remembered, without its objects: the same question gets the same verdict. What the caches
    /// still hold is to be [inserted](Index::insert) again, each object with its old token.
    pub fn restore(config: IndexConfig, snapshot: Snapshot) -> Self {
        let mut state = State {
            generation: snapshot.generation,
            applied: snapshot.cursor,
            task: snapshot.task,
            sites: Arc::new(snapshot.sites),
            forgotten_through: snapshot.forgotten_through,
            rules: Rules::default(),
            folded: 0,
        };
        let mut ledger = Ledger::default();
        for Rule { place, hard, soft } in &snapshot.rules {
            for (seq, soft) in [(hard, false), (soft, true)] {
                if let Some(seq) = seq {
                    let purge = (seq.get(), soft);
                    ledger.raise(&mut state.rules, &state.sites, place, purge, u64::MAX);
                }
            }
        }
        let store = Store::new(state.rules.printer().clone());
        let inner = Inner {
            config,
            writer: Mutex::default(),
            state: ArcSwap::from_pointee(state),
            store,
            pending: Mutex::default(),
            discarded: Mutex::default(),
        };
        // Nothing is held, so nothing has to be swept.
        inner.keep_bounded(&mut ledger);
        *inner.writer.lock() = ledger;
        Self { inner: Arc::new(inner) }
    }

    /// To be called before the request to the origin is sent, and kept with the object: every purge that is applied
    /// after this hits what is being fetched.
    pub fn begin_fill(&self) -> FillToken {
        self.inner.state.load().token()
    }

    /// May an object with this URL, these tags and this token be served? From the rules alone, for a cache that keeps
    /// token and tags with the object itself.
    ///
    /// Tags beyond those that a response may have do no harm but cost time. What is older than
    /// [`Index::forget`] went is Gone: such a cache must not have rules forgotten, or must ask
    /// [`Index::check_registered`].
    ///
    /// Before such a cache stores an object, it asks [`Index::admit`].
    pub fn check(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Verdict {
        if !self.inner.config.keys_have_ports
            && let Some(url) = url.without_port()
        {
            return self.inner.state.load().verdict_on_arrival(&target(&url, tags), token);
        }
        self.inner.state.load().verdict_on_arrival(&target(url, tags), token)
    }

    /// As [`Index::check`], for an object that the caller knows to be registered: it was [inserted](Index::insert)
    /// with this token and these tags, and every match and every removal that the index handed out up to the place that
    /// [`Index::forget`] was given has been carried out; that it became stale the caller remembers. Forgotten rules do
    /// not make it Gone: they did not hit it.
    pub fn check_registered(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Verdict {
        let url = self.own(url);
        self.inner.state.load().verdict(&target(&url, tags), token)
    }

    /// May an object whose fetch has just ended be stored? As [`Index::insert`] answers, for a cache that registers
    /// nothing and asks [`Index::check`] at each hit.
    ///
    /// # Errors
    /// As of [`Index::insert`].
    pub fn admit(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Result<Verdict, Refused> {
        let url = self.own(url);
        self.inner.state.load().admit(&target(&url, tags), token)
    }

    /// The URL as keys have it here.
    #[inline]
    fn own<'a>(&self, url: &'a PurgeUrl) -> Cow<'a, PurgeUrl> {
        if self.inner.config.keys_have_ports {
            return Cow::Borrowed(url);
        }
        url.without_port().map_or(Cow::Borrowed(url), Cow::Owned)
    }

    /// Registers an object that a cache has stored, in the place of the one with the same URL and variant.
    ///
    /// A stale one is taken, as stale.
    ///
    /// # Errors
    /// [`Refused::Gone`] when a purge, a reset or the forgotten past lies between the beginning of its fetch and now.
    /// [`Refused::Unowned`] when its hostname belongs to no site, [`Refused::Future`] when this index never gave its token
    /// out. Then the cache must drop what it stored; whatever was registered before under this name is still registered.
    pub fn insert(&self, mut entry: Entry<L>) -> Result<(), Refused> {
        if let Cow::Owned(url) = self.own(&entry.url) {
            entry.url = url;
        }
        let mut last: Option<(Guard<Arc<State>>, Verdict)> = None;
        let mut why = Refused::Gone;
        let put = self.inner.store.put(entry, |object, token| {
            let state = self.inner.state.load();
            // Asked again, and mostly nothing has come between.
            if let Some((seen, verdict)) = &last
                && Arc::ptr_eq(seen, &state)
            {
                return *verdict;
            }
            let verdict = state.admit(object, token).unwrap_or_else(|refused| {
                why = refused;
                Verdict::Gone
            });
            last = Some((state, verdict));
            verdict
        });
        put.map_err(|_| why)
    }

    /// An object that its cache has dropped by itself. Gives its locator back if it was registered.
    pub fn remove(&self, url: &PurgeUrl, variant: Variant) -> Option<L> {
        self.remove_if(url, variant, |_, _| true)
    }

    /// As [`Index::remove`], if `same` says so of the object's locator and token: for a cache that hears of a removal
    /// late, when a newer fill may have taken the name.
    pub fn remove_if(
        &self,
        url: &PurgeUrl,
        variant: Variant,
        same: impl Fn(&L, FillToken) -> bool,
    ) -> Option<L> {
        let mut removed = None;
        self.inner.store.revise(self.own(url).key(), |held| {
            if held.variant != variant || !same(held.locator, held.token) {
                return Act::Keep;
            }
            removed = Some(held.locator.clone());
            Act::Leave
        });
        removed
    }

    /// A registered object, and whether it may be served: for a cache that keeps neither token nor tags. One that was
    /// purged is found, as Gone, until its purge is swept.
    pub fn lookup(&self, url: &PurgeUrl, variant: Variant) -> Option<(Verdict, L)> {
        // The rules are loaded when the object has been found: they are as new as its token.
        let state = &self.inner.state;
        let look = |held: &Held<'_, L>| (state.load().verdict_on(held), held.locator.clone());
        self.inner.store.look(&self.own(url), variant, look)
    }

    /// Applies a record of the log. When this returns, it is in force, however many objects it hits; the matches are
    /// for clean-up.
    ///
    /// Records are expected in their order without a gap. One that was applied before changes nothing; a rule may come
    /// late.
    pub fn apply(&self, record: &Record) -> Matches<L> {
        let inner = &self.inner;
        let mut ledger = inner.writer.lock();
        let state = inner.state.load();
        let late = state.applied.covers(record.seq);
        let seq = record.seq.get();
        let before = state.sites.clone();
        let Plan { places, soft, sites } = Plan::of(record, &before, late, inner.config.keys_have_ports);
        // Open before the rule is in force, so that nobody takes the record for swept.
        let (id, swept) = {
            let mut pending = inner.pending.lock();
            ((!places.is_empty()).then(|| pending.open(seq)), pending.swept_through())
        };

        let mut next = State::clone(&state);
        for place in &places {
            ledger.raise(&mut next.rules, &before, place, (seq, soft), swept);
        }
        if !late {
            next.applied = Cursor::after(record.seq);
            next.task = Some(record.task);
            if let Some(sites) = sites {
                next.sites = Arc::new(sites);
            }
        }
        let generation = next.generation;
        drop(state);
        let nothing_held = inner.put_in_force(next);
        inner.keep_bounded(&mut ledger);

        let sweep = id.map(|id| Sweep::of_record(id, soft, generation, before, places));
        let sweep = match sweep {
            Some(sweep) if nothing_held => {
                inner.pending.lock().finish(&sweep);
                None
            }
            sweep => sweep,
        };
        Matches::new(inner.clone(), sweep)
    }

    /// Drops everything and goes on from `cursor`, in a generation that this node has never had, with the site table as
    /// of there. Every token given out so far is void. What was registered is handed out by [`Index::sweep`].
    pub fn reset(&self, generation: Generation, cursor: Cursor, sites: SiteTable) {
        let mut ledger = self.inner.writer.lock();
        self.inner.restart(&mut ledger, generation, cursor, None, Arc::new(sites));
    }

    /// Drops everything and stays where it is; the new generation, which must be stored before anything is served
    /// again. What was registered is handed out by [`Index::sweep`].
    pub fn flush(&self) -> Generation {
        let mut ledger = self.inner.writer.lock();
        let state = self.inner.state.load_full();
        let generation = Generation(state.generation.0 + 1);
        self.inner.restart(&mut ledger, generation, state.applied, state.task, state.sites.clone());
        generation
    }

    /// Goes on with clean-up that nobody does: [`Matches`] dropped half way, resets, folded rules. Up to `max` matches
    /// that the cache must act on; `None` when nothing is left, an empty batch when there may be more.
    pub fn sweep(&self, max: usize) -> Option<Vec<Match<L>>> {
        let discarded = self.inner.discarded.lock().take();
        drop(discarded);
        let mut sweep = self.inner.pending.lock().take()?;
        match sweep.run(&self.inner, max) {
            Some(batch) => {
                self.inner.pending.lock().put_back(sweep);
                Some(batch)
            }
            None => {
                self.inner.pending.lock().finish(&sweep);
                Some(Vec::new())
            }
        }
    }

    /// Drops the rules of records before `through` that are swept, and gives back how far that went.
    ///
    /// From then on whatever *arrives* with an older token is Gone: a fill that is open since, a scanned file, an
    /// object of [`Index::check`]. What is registered is not: the rules that go did not hit it. So this is only for a
    /// node whose caches register all they hold and have carried out every match handed out so far, and `through`
    /// should lie as long ago as the longest fill (an hour), or younger fills are refused.
    pub fn forget(&self, through: Cursor) -> Cursor {
        let mut rules_left = true;
        while rules_left {
            let mut ledger = self.inner.writer.lock();
            // Asked anew each time: a record may come late in between.
            let swept = self.inner.pending.lock().swept_through();
            let mut next = State::clone(&self.inner.state.load());
            let through = through.get().min(swept).min(next.applied.get());
            next.forgotten_through = next.forgotten_through.max(Cursor::new(through));
            rules_left = ledger.forget(&mut next.rules, through, FORGET_AT_ONCE) == FORGET_AT_ONCE;
            self.inner.publish(next);
            if !rules_left {
                self.inner.keep_bounded(&mut ledger);
            }
            // Records that wait have their turn.
            MutexGuard::unlock_fair(ledger);
        }
        self.forgotten_through()
    }

    /// How many objects a purge would hit that may still be served, fresh or stale: for dry runs, not for the hot path.
    ///
    /// While nothing is left to sweep, no object has to be looked at for a host, for everything, for a prefix that ends
    /// in a slash (but every directory under it), and for a tag as long as all hosts here have one owner. Otherwise it
    /// walks over the objects in steps.
    pub fn count(&self, site: &SiteId, selector: &Selector) -> u64 {
        self.count_while(site, selector, || true).unwrap_or(u64::MAX)
    }

    /// The same, as long as `goes_on` says so, which is asked every few hundred objects; `None` when it said no.
    pub fn count_while(
        &self,
        site: &SiteId,
        selector: &Selector,
        mut goes_on: impl FnMut() -> bool,
    ) -> Option<u64> {
        // With nothing to be swept, nothing is registered that is Gone.
        if self.inner.pending.lock().len() == 0
            && let Some(objects) = self.inner.store.count(&self.place(site, selector), &self.sites())
        {
            return Some(objects);
        }
        let (mut objects, mut seen) = (0, 0_usize);
        for object in self.list(site, selector) {
            seen += 1;
            if seen.is_multiple_of(COUNTED_AT_ONCE) && !goes_on() {
                return None;
            }
            objects += u64::from(object.verdict < Verdict::Gone);
        }
        Some(objects)
    }

    /// The registered objects that a purge would hit, whatever their verdict, fetched as they are asked for.
    pub fn list(&self, site: &SiteId, selector: &Selector) -> Listing<L> {
        Listing::new(self.inner.clone(), self.place(site, selector))
    }

    fn place(&self, site: &SiteId, selector: &Selector) -> Place {
        let place = Place::of(site, selector);
        if self.inner.config.keys_have_ports { place } else { place.without_port() }
    }

    /// All registered objects, fetched as they are asked for: by host, by directory (the URL up to the last slash of its
    /// path), and within a directory those that came last first.
    pub fn iter(&self) -> Listing<L> {
        Listing::new(self.inner.clone(), Place::Whole)
    }

    /// What has been applied.
    pub fn applied(&self) -> Cursor {
        self.inner.state.load().applied
    }

    /// The task of the record right before [`Index::applied`].
    pub fn task(&self) -> Option<TaskId> {
        self.inner.state.load().task
    }

    /// The generation.
    pub fn generation(&self) -> Generation {
        self.inner.state.load().generation
    }

    /// What arrives with an older token is Gone.
    pub fn forgotten_through(&self) -> Cursor {
        self.inner.state.load().forgotten_through
    }

    /// Whether over three quarters of [`IndexConfig::rules_max`] are taken: then [`Index::forget`] is better called
    /// sooner than later, or rules are folded.
    pub fn is_crowded(&self) -> bool {
        let (rules, most) = (self.inner.state.load().rules.len(), self.inner.config.rules_max);
        rules > most - most / 4
    }

    /// How many tags of a response under that hostname are to be read: its site's setting, or the default.
    pub fn tags_max(&self, host: &str) -> usize {
        self.inner.state.load().sites.tags_max(host)
    }

    /// Whose each hostname is.
    pub fn sites(&self) -> Arc<SiteTable> {
        self.inner.state.load().sites.clone()
    }

    /// How many objects there are, and the memory of it all. Costs a look at each part, however many objects and hosts
    /// there are.
    pub fn size(&self) -> Size {
        let mut stats = Stats::default();
        stats.bytes.rules = self.inner.state.load().rules.bytes();
        self.inner.store.describe_size(&mut stats);
        Size { entries: stats.entries, bytes: stats.bytes.total() }
    }

    /// Sizes and places. Looks at every host once: for metrics, not for the hot path.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { backlog: self.inner.pending.lock().len() as u64, ..Stats::default() };
        let sites = {
            let state = self.inner.state.load();
            stats.rules = state.rules.len() as u64;
            stats.bytes.rules = state.rules.bytes();
            stats.folded = state.folded;
            stats.applied = state.applied;
            stats.forgotten_through = state.forgotten_through;
            state.sites.clone()
        };
        self.inner.store.describe(&sites, &mut stats);
        stats
    }

    /// All that must be remembered across a restart. Copies every rule: with hundreds of thousands of them records wait
    /// for some ten milliseconds.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_since(Cursor::START)
    }

    /// As [`Index::snapshot`], but only with rules that were raised after `cursor`. Restored together with those of an
    /// earlier snapshot of the same generation, no verdict on a purge is lost: a rule that was folded or forgotten
    /// since is still in the earlier one.
    pub fn snapshot_since(&self, cursor: Cursor) -> Snapshot {
        let ledger = self.inner.writer.lock();
        let state = self.inner.state.load();
        Snapshot {
            generation: state.generation,
            cursor: state.applied,
            task: state.task,
            sites: SiteTable::clone(&state.sites),
            forgotten_through: state.forgotten_through,
            rules: ledger.since(&state.rules, cursor.get()),
        }
    }
}

#[inline]
fn target<'a>(url: &'a PurgeUrl, tags: &'a CacheTags) -> Target<'a> {
    Target { key: url.key(), host: url.host(), tags: CarriedTags::Given(tags) }
}

impl<L: Clone> std::fmt::Debug for Index<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.inner.state.load();
        f.debug_struct("Index")
            .field("generation", &state.generation)
            .field("applied", &state.applied)
            .field("rules", &state.rules.len())
            .finish_non_exhaustive()
    }
}
