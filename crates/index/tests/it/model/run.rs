use batoff_index::{Effect, Entry, Index, IndexConfig, Match, Matches, Variant, Verdict};
use batoff_types::{Body, CacheTags, Cursor, FillToken, Generation, PurgeUrl, Record, Selector, SiteTable};
use proptest::prelude::*;

use super::naive::{Held, Naive};
use super::operation::{Fate, Operation, SITES, SLOTS, Stored, URLS};
use crate::fixture::*;

type Checked = Result<(), TestCaseError>;

/// The index and the model, side by side.
pub struct Run {
    /// No rule is ever folded: verdicts, counts and matches must be equal. Otherwise they may only be wider.
    exact: bool,
    config: IndexConfig,
    node: Node,
    model: Naive,
    kept: Vec<Matches<u32>>,
    slots: [FillToken; SLOTS],
    locators: u32,
    urls: Vec<PurgeUrl>,
    tag_sets: Vec<CacheTags>,
}

impl Run {
    pub fn new(rules_max: usize, keys_have_ports: bool) -> Self {
        let config = IndexConfig { rules_max, keys_have_ports };
        let node = Node::new(config.clone());
        let token = node.begin_fill();
        let mut run = Self {
            exact: rules_max == usize::MAX,
            config,
            node,
            model: Naive::default(),
            kept: Vec::new(),
            slots: [token; SLOTS],
            locators: 0,
            urls: URLS.iter().map(|text| text.parse().unwrap()).collect(),
            tag_sets: vec![tags(&[]), tags(&["t"]), tags(&["u", "v"]), overflowing(&["u"])],
        };
        for (owner, hostnames) in [(SITES[0], &["a.test", "*.w.test"][..]), (SITES[1], &["x.w.test"])] {
            run.apply(ownership(owner, Some(hostnames), &[]), 1, Fate::Taken(1)).unwrap();
        }
        run
    }

    pub fn step(&mut self, operation: Operation) -> Checked {
        match operation {
            Operation::BeginFill(slot) => {
                self.slots[slot] = self.node.begin_fill();
                prop_assert_eq!(self.slots[slot], self.model.token());
            }
            Operation::Insert(slot, stored) => {
                let token = slot.map_or(self.model.token(), |slot| self.slots[slot]);
                self.insert(token, stored)?;
            }
            Operation::Remove(url, variant) => {
                let removed = self.node.remove(&url, Variant(variant));
                let expected = self.model.drop_named(&self.own(&url), variant);
                prop_assert_eq!(removed, expected.map(|held| held.locator));
            }
            Operation::Apply(body, semantics, fate) => self.apply(body, semantics, fate)?,
            Operation::Again(at) => {
                if !self.model.log.is_empty() {
                    let record = at.get(&self.model.log).0.clone();
                    let matches = self.node.apply(&record);
                    self.take(matches, 2)?;
                }
            }
            Operation::TakeKept(at, max) => {
                if !self.kept.is_empty() {
                    let matches = self.kept.swap_remove(at.index(self.kept.len()));
                    self.take(matches, max)?;
                }
            }
            Operation::Sweep(max) => {
                let found = self.node.sweep(max).unwrap_or_default();
                prop_assert!(found.len() <= max);
                self.account(&found)?;
            }
            Operation::Count(owner, selector) => {
                let counted = self.node.count(&site(owner), &selector);
                let expected = self.model.count(&site(owner), &self.own_selector(selector));
                prop_assert!(counted == expected || !self.exact && counted < expected);
            }
            Operation::Forget(back) => {
                let wanted = Cursor::new(self.model.applied.get().saturating_sub(back));
                let went = self.node.forget(wanted);
                prop_assert!(went <= wanted.max(self.model.floor) && went >= self.model.floor);
                self.model.floor = went;
            }
            Operation::Flush => {
                let generation = self.node.flush();
                self.model.reset(generation, self.model.applied, self.model.sites.clone());
            }
            Operation::Reset(cursor, owners) => {
                let mut sites = SiteTable::default();
                for (owner, patterns) in owners {
                    sites.set(&site(owner), Some(&names(&patterns)));
                }
                let generation = Generation(self.model.generation.0 + 1);
                self.node.reset(generation, Cursor::new(cursor), sites.clone());
                self.model.reset(generation, Cursor::new(cursor), sites);
            }
            Operation::Restart => self.restart()?,
        }
        self.compare()
    }

    /// As the node's keys have it.
    fn own(&self, url: &PurgeUrl) -> PurgeUrl {
        let without = if self.config.keys_have_ports { None } else { url.without_port() };
        without.unwrap_or_else(|| url.clone())
    }

    fn own_selector(&self, selector: Selector) -> Selector {
        match selector {
            Selector::Url(url) => Selector::Url(self.own(&url)),
            Selector::Prefix(prefix) if !self.config.keys_have_ports => {
                Selector::Prefix(prefix.without_port().unwrap_or(prefix))
            }
            other => other,
        }
    }

    fn insert(&mut self, token: FillToken, Stored { url, variant, tags }: Stored) -> Checked {
        self.locators += 1;
        let locator = self.locators;
        let admitted = self.node.admit(&url, &tags, token);
        let entry = Entry { url: url.clone(), variant: Variant(variant), tags: tags.clone(), token, locator };
        let inserted = self.node.insert(entry);
        prop_assert_eq!(admitted.err(), inserted.err());
        let url = self.own(&url);
        let expected = self.model.admit(&url, &tags, token);
        match inserted {
            Ok(()) => {
                prop_assert!(expected.is_ok(), "{url:?} was taken");
                self.model.hold(Held { url, variant, tags, token, locator, owed: None });
            }
            Err(refused) if self.exact => prop_assert_eq!(Some(refused), expected.err(), "{:?}", url),
            Err(_) => {}
        }
        Ok(())
    }

    fn apply(&mut self, body: Body, semantics: u32, fate: Fate) -> Checked {
        let record = Record { semantics, ..record(self.model.applied.next().get(), body) };
        let mut known = record.clone();
        if let Body::Purge(purge) = &mut known.body {
            let selectors = std::mem::take(&mut purge.selectors);
            purge.selectors = selectors.into_iter().map(|selector| self.own_selector(selector)).collect();
        }
        let mut hit = self.model.apply(&known);
        let mut matches = self.node.apply(&record);
        match fate {
            Fate::Taken(max) => {
                let mut found = self.take(matches, max)?;
                hit.sort_unstable_by_key(|(locator, _)| *locator);
                found.sort_unstable_by_key(|(locator, _)| *locator);
                if self.exact {
                    prop_assert_eq!(found, hit, "matches of {:?}", record);
                }
            }
            Fate::Kept => self.kept.push(matches),
            Fate::Dropped(max) => {
                let batch = matches.next_batch(max).unwrap_or_default();
                prop_assert!(batch.len() <= max);
                self.account(&batch)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, mut matches: Matches<u32>, max: usize) -> Result<Vec<(u32, Effect)>, TestCaseError> {
        let mut found = Vec::new();
        while let Some(batch) = matches.next_batch(max) {
            prop_assert!(batch.len() <= max);
            self.account(&batch)?;
            found.extend(batch.iter().map(|found| (found.locator, found.effect)));
        }
        prop_assert_eq!(matches.found(), found.len() as u64);
        Ok(found)
    }

    /// What is handed out was held, was hit, and is handed out once.
    fn account(&mut self, found: &[Match<u32>]) -> Checked {
        for found in found {
            let at = self.model.held.iter().position(|held| held.locator == found.locator);
            let Some(at) = at else { return Err(TestCaseError::fail(format!("{found:?} is not held"))) };
            let held = &mut self.model.held[at];
            prop_assert_eq!((found.url.key(), found.variant.0), (held.url.key(), held.variant));
            match found.effect {
                Effect::Evicted => {
                    let held = self.model.held.swap_remove(at);
                    prop_assert!(!self.exact || held.owed == Some(Effect::Evicted), "{held:?}");
                }
                // One that became Gone since may still be handed out as stale before.
                Effect::Stale => {
                    prop_assert!(!self.exact || held.owed.is_some(), "{held:?}");
                    held.owed = held.owed.filter(|owed| *owed == Effect::Evicted);
                }
            }
        }
        Ok(())
    }

    /// The process dies and comes back with its snapshot; the cache is scanned.
    fn restart(&mut self) -> Checked {
        let snapshot = self.node.snapshot();
        self.kept.clear();
        self.node = Index::restore(self.config.clone(), snapshot.clone());
        let mut again = self.node.snapshot();
        let mut before = snapshot;
        before.rules.sort_unstable();
        again.rules.sort_unstable();
        prop_assert_eq!(before, again);
        for Held { url, variant, tags, token, locator, .. } in std::mem::take(&mut self.model.held) {
            let verdict = self.model.verdict_on_arrival(&url, &tags, token);
            let entry =
                Entry { url: url.clone(), variant: Variant(variant), tags: tags.clone(), token, locator };
            let taken = self.node.insert(entry).is_ok();
            let allowed = verdict < Verdict::Gone;
            prop_assert!(taken == allowed || !self.exact && !taken);
            if taken {
                self.model.hold(Held { url, variant, tags, token, locator, owed: None });
            }
        }
        Ok(())
    }

    fn compare(&self) -> Checked {
        let model = &self.model;
        prop_assert_eq!((self.node.generation(), self.node.applied()), (model.generation, model.applied));
        prop_assert_eq!(&*self.node.sites(), &model.sites);
        let now = model.token();
        for url in &self.urls {
            for tags in &self.tag_sets {
                for &token in &self.slots {
                    let verdict = self.node.check(url, tags, token);
                    let expected = model.verdict_on_arrival(&self.own(url), tags, token);
                    let agree = if self.exact { verdict == expected } else { verdict >= expected };
                    prop_assert!(agree, "{url:?} {tags:?} {token:?}: {verdict:?}, not {expected:?}");
                }
                prop_assert_eq!(self.node.check(url, tags, now), Verdict::Fresh);
            }
        }
        for held in &model.held {
            let expected = model.verdict(&held.url, &held.tags, held.token);
            let (verdict, locator) = self.node.lookup(&held.url, Variant(held.variant)).unwrap();
            prop_assert_eq!(locator, held.locator);
            let agree = if self.exact { verdict == expected } else { verdict >= expected };
            prop_assert!(agree, "{held:?}: {verdict:?}, not {expected:?}");
            let registered = self.node.check_registered(&held.url, &held.tags, held.token);
            // A soft rule may be forgotten; that the object is stale the entry knows.
            prop_assert!(
                registered <= verdict && (registered == Verdict::Gone) == (verdict == Verdict::Gone)
            );
        }
        let stats = self.node.stats();
        prop_assert_eq!(stats.entries, model.held.len() as u64);
        let unowned = model.held.iter().filter(|held| model.sites.owner(held.url.host()).is_none());
        prop_assert_eq!(stats.unowned, unowned.count() as u64);
        let overflowing = model.held.iter().filter(|held| held.tags.overflows());
        prop_assert_eq!(stats.overflowing, overflowing.count() as u64);
        prop_assert!(stats.rules as usize <= self.config.rules_max);
        let size = self.node.size();
        prop_assert_eq!((size.entries, size.bytes), (stats.entries, stats.bytes.total()));
        Ok(())
    }

    /// Everything owed is handed out in the end, and the index holds exactly what may be served.
    pub fn end(mut self) -> Checked {
        while let Some(matches) = self.kept.pop() {
            self.take(matches, 3)?;
        }
        while let Some(found) = self.node.sweep(3) {
            self.account(&found)?;
        }
        self.compare()?;
        prop_assert_eq!(self.node.stats().backlog, 0);
        // With a folded rule it may have arrived as stale already.
        let due = |held: &&Held| held.owed == Some(Effect::Evicted) || self.exact && held.owed.is_some();
        let owed: Vec<_> = self.model.held.iter().filter(due).collect();
        prop_assert!(owed.is_empty(), "never handed out: {owed:?}");

        let listed: Vec<_> = self.node.iter().collect();
        prop_assert_eq!(listed.len(), self.model.held.len());
        prop_assert!(listed.iter().all(|object| object.verdict < Verdict::Gone));
        prop_assert!(listed.iter().all(|object| self.urls.iter().any(|url| self.own(url) == *object.url)));
        let urls = listed.iter().map(|object| object.url.key());
        prop_assert!(urls.collect::<std::collections::BTreeSet<_>>().len() as u64 == self.node.stats().urls);

        self.apply(Body::Unknown, 1, Fate::Taken(3))?;
        prop_assert!(self.model.held.is_empty());
        let stats = self.node.stats();
        prop_assert_eq!((stats.entries, stats.urls, stats.tags, stats.backlog), (0, 0, 0, 0));
        for owner in SITES {
            prop_assert_eq!(self.node.count(&site(owner), &Selector::Everything), 0);
        }
        Ok(())
    }
}
