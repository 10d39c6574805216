use std::collections::BTreeMap;

use batoff_index::{Effect, Entry, Index, IndexConfig, Match, Snapshot, Variant, Verdict};
use batoff_types::message::Position;
use batoff_types::{CacheTags, Cursor, FillToken, Generation, Record, Seq, SiteTable};

use crate::catalog::{Catalog, URLS};
use crate::oracle::Judged;
use crate::switch::Switch;

/// Rules that a simulated node keeps: few, so that they are folded now and then.
pub(crate) const RULES_MAX: usize = 48;

/// Variants of each URL.
pub(crate) const VARIANTS: u8 = 2;

/// How a node's cache keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the daemon's process, with every object registered: each hit asks the index.
    Registered,
    /// In the daemon's process; the cache keeps token and tags itself, and each hit asks the rules.
    Unregistered,
    /// Another program's, which asks the daemon at each hit: its objects survive the daemon, and the daemon's rules only
    /// as far as they were stored. For strict nodes: it is G1 that makes up for the difference.
    Asking,
    /// Files of another program that knows no rules: what is there is served, and an ack waits for removal.
    Files,
}

/// Which response: the URL's number and its variant.
pub(crate) type Key = (usize, u8);

#[derive(Clone, Debug)]
pub(crate) struct Object {
    id: u64,
    pub(crate) token: FillToken,
    pub(crate) tags: u8,
    /// True time at which its fetch from the origin began, by whatever tier.
    pub(crate) fetched_at: u64,
    stale: bool,
    pub(crate) judged: Judged,
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) key: Key,
    pub(crate) token: FillToken,
    pub(crate) tags: u8,
    pub(crate) fetched_at: u64,
    /// Where the node stood when the fetch began: told to a parent.
    pub(crate) position: Option<Position>,
    /// Visitors who wait for it, besides the one for whom it began.
    pub(crate) joined: u64,
    /// What came was marked as stale by a parent.
    pub(crate) marked: bool,
    /// It began before the daemon had caught up: out of a parent's cache it may be older than what its predecessor has
    /// acknowledged.
    pub(crate) void: bool,
}

/// What became of a fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) key: Key,
    pub(crate) tags: u8,
    pub(crate) fetched_at: u64,
    /// It is in the cache; otherwise a purge overtook it.
    pub(crate) stored: bool,
    /// Visitors who waited for it and may be given it, as far as purges go.
    pub(crate) given: u64,
}

/// One node's cache with the real index beside it.
pub(crate) struct Cache {
    pub(crate) kind: Kind,
    without: Option<Switch>,
    pub(crate) index: Index<u64>,
    pub(crate) objects: BTreeMap<Key, Object>,
    pub(crate) fills: BTreeMap<u64, Fill>,
    ids: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("kind", &self.kind)
            .field("objects", &self.objects.len())
            .finish_non_exhaustive()
    }
}

const fn config() -> IndexConfig {
    IndexConfig { rules_max: RULES_MAX, keys_have_ports: true }
}

impl Cache {
    pub(crate) fn new(kind: Kind, without: Option<Switch>) -> Self {
        let index = Index::new(config());
        Self { kind, without, index, objects: BTreeMap::new(), fills: BTreeMap::new(), ids: 0 }
    }

    /// The daemon starts again; `None`: it has lost what it had stored, and whatever is there has to go.
    pub(crate) fn restart(&mut self, catalog: &Catalog, stored: Option<Snapshot>) {
        self.fills.clear();
        if matches!(self.kind, Kind::Registered | Kind::Unregistered) || stored.is_none() {
            self.objects.clear();
        }
        self.index = match stored {
            Some(snapshot) => Index::restore(config(), snapshot),
            None => Index::new(config()),
        };
        self.register_all(catalog);
    }

    /// Tells a new index what the cache holds, as a scan at the start does.
    fn register_all(&mut self, catalog: &Catalog) {
        let index = &self.index;
        if self.kind == Kind::Unregistered {
            return;
        }
        self.objects.retain(|key, object| {
            let taken = index.insert(entry(catalog, *key, object)).is_ok();
            let verdict = index.lookup(&catalog.urls[key.0], variant(*key)).map(|(verdict, _)| verdict);
            object.stale |= verdict == Some(Verdict::Stale);
            taken
        });
    }

    /// Applies a record; when this returns, the node may acknowledge it.
    pub(crate) fn apply(&mut self, catalog: &Catalog, record: &Record) -> u64 {
        let mut matches = self.index.apply(record);
        if self.kind == Kind::Files {
            // Only what is removed can no longer be served.
            while let Some(batch) = matches.next_batch(16) {
                batch.into_iter().for_each(|matched| self.carry_out(catalog, &matched));
            }
        }
        let found = matches.found();
        drop(matches);
        if self.without == Some(Switch::HardBeforeSoft) {
            self.rebuild(catalog, |snapshot| {
                for rule in snapshot.rules.iter_mut().filter(|rule| rule.soft > rule.hard) {
                    rule.hard = None;
                }
            });
        }
        found
    }

    fn carry_out(&mut self, catalog: &Catalog, matched: &Match<u64>) {
        let Some(url) = catalog.urls.iter().position(|url| url.key() == matched.url.key()) else { return };
        let key = (url, matched.variant.0 as u8);
        let Some(object) = self.objects.get_mut(&key).filter(|object| object.id == matched.locator) else {
            return;
        };
        match matched.effect {
            Effect::Evicted => drop(self.objects.remove(&key)),
            Effect::Stale => object.stale = true,
        }
    }

    /// Goes on with clean-up; at most `batches` of it.
    pub(crate) fn sweep(&mut self, catalog: &Catalog, batches: usize) {
        for _ in 0..batches {
            let Some(batch) = self.index.sweep(4) else { return };
            batch.into_iter().for_each(|matched| self.carry_out(catalog, &matched));
        }
    }

    /// Drops rules that all registered objects have outlived.
    pub(crate) fn forget(&mut self, catalog: &Catalog, through: Cursor) {
        if self.kind == Kind::Unregistered {
            return;
        }
        self.sweep(catalog, usize::MAX);
        self.index.forget(through);
        if self.without == Some(Switch::ForgottenThrough) {
            self.rebuild(catalog, |snapshot| snapshot.forgotten_through = Cursor::START);
        }
    }

    /// Everything cached goes.
    pub(crate) fn reset(&mut self, generation: Generation, cursor: Cursor, sites: SiteTable) {
        let generation =
            if self.without == Some(Switch::Generation) { self.index.generation() } else { generation };
        self.index.reset(generation, cursor, sites);
        if self.kind == Kind::Files {
            self.objects.clear();
        }
    }

    pub(crate) fn begin_fill(&mut self, fill: Fill) -> u64 {
        self.ids += 1;
        self.fills.insert(self.ids, fill);
        self.ids
    }

    pub(crate) fn is_filling(&self, key: Key) -> bool {
        self.fills.values().any(|fill| fill.key == key)
    }

    /// A visitor waits for a fetch that was begun for another, unless its page was purged since. Its tags are not known
    /// yet; what they say is asked when it is here.
    pub(crate) fn join_fill(&mut self, catalog: &Catalog, key: Key) -> bool {
        let (index, without) = (&self.index, self.without);
        let fresh = |fill: &Fill| {
            without == Some(Switch::Collapsing)
                || index.check(&catalog.urls[key.0], &CacheTags::default(), fill.token) == Verdict::Fresh
        };
        let found = self.fills.values_mut().find(|fill| fill.key == key && fresh(fill));
        found.map(|fill| fill.joined += 1).is_some()
    }

    /// The response is here.
    pub(crate) fn finish_fill(&mut self, catalog: &Catalog, id: u64) -> Option<Filled> {
        let fill = self.fills.remove(&id)?;
        let marked = fill.marked && self.without != Some(Switch::StaleMark);
        if marked || fill.void {
            let Fill { key, tags, fetched_at, .. } = fill;
            return Some(Filled { key, tags, fetched_at, stored: false, given: 0 });
        }
        let late = self.without == Some(Switch::FillToken);
        let token = if late { self.index.begin_fill() } else { fill.token };
        let mut object = Object {
            id,
            token,
            tags: fill.tags,
            fetched_at: fill.fetched_at,
            stale: false,
            judged: Judged::default(),
        };
        let (url, key) = (&catalog.urls[fill.key.0], fill.key);
        let verdict = if self.kind == Kind::Unregistered {
            self.index.check(url, &catalog.tags_of(fill.tags), token)
        } else if self.index.insert(entry(catalog, key, &object)).is_ok() {
            self.index.lookup(url, variant(key)).map_or(Verdict::Gone, |(verdict, _)| verdict)
        } else {
            Verdict::Gone
        };
        let stored = verdict != Verdict::Gone;
        let gives = verdict == Verdict::Fresh || self.without == Some(Switch::Collapsing);
        let (tags, fetched_at) = (fill.tags, fill.fetched_at);
        if stored {
            object.stale = verdict == Verdict::Stale;
            self.objects.insert(key, object);
        }
        Some(Filled { key, tags, fetched_at, stored, given: if gives { fill.joined } else { 0 } })
    }

    /// What a hit would be answered with, as far as purges go; `None`: nothing is there.
    pub(crate) fn verdict(&self, catalog: &Catalog, key: Key) -> Option<Verdict> {
        let object = self.objects.get(&key)?;
        let url = &catalog.urls[key.0];
        match self.kind {
            Kind::Registered | Kind::Asking => {
                self.index.lookup(url, variant(key)).map(|(verdict, _)| verdict)
            }
            Kind::Unregistered => Some(self.index.check(url, &catalog.tags_of(object.tags), object.token)),
            Kind::Files if object.stale => Some(Verdict::Stale),
            Kind::Files => Some(Verdict::Fresh),
        }
    }

    /// The cache drops an object by itself: it expired, or room was needed.
    pub(crate) fn discard(&mut self, catalog: &Catalog, key: Key) {
        if let Some(object) = self.objects.remove(&key) {
            self.index.remove_if(&catalog.urls[key.0], variant(key), |id, _| *id == object.id);
        }
    }

    /// What an index would be that broke one of its own rules.
    fn rebuild(&mut self, catalog: &Catalog, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.index.snapshot();
        change(&mut snapshot);
        self.index = Index::restore(config(), snapshot);
        self.register_all(catalog);
    }

    /// I5.
    pub(crate) fn is_bounded(&self) -> bool {
        let entries = URLS * usize::from(VARIANTS);
        self.objects.len() <= entries && self.index.stats().rules <= RULES_MAX as u64
    }

    /// I3: the record is the next.
    pub(crate) fn is_next(&self, seq: Seq) -> bool {
        self.index.applied().next() == seq
    }
}

fn variant((_, variant): Key) -> Variant {
    Variant(u128::from(variant))
}

fn entry(catalog: &Catalog, key: Key, object: &Object) -> Entry<u64> {
    Entry {
        url: catalog.urls[key.0].clone(),
        variant: variant(key),
        tags: catalog.tags_of(object.tags),
        token: object.token,
        locator: object.id,
    }
}
