//! The rules in force: what decides whether an object may be served.

mod level;
mod trie;

use std::collections::BTreeSet;
use std::sync::Arc;

use batoff_types::{HostPattern, Hostname, Seq, SiteId, SiteTable, Tag};

pub(crate) use self::level::Level;
use self::trie::Trie;
use crate::place::host_of;
use crate::{Place, Rule, Verdict};

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// An object as the rules see it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) key: &'a str,
    pub(crate) host: &'a str,
    pub(crate) tags: Tags<'a>,
}

/// The tags that an object carries: as its cache names them, or as the store keeps them.
#[derive(Clone, Copy)]
pub(crate) enum Tags<'a> {
    Given(&'a [Tag]),
    Kept(&'a dyn Carries),
}

/// What carries tags, and shows their texts one by one.
pub(crate) trait Carries {
    fn each(&self, show: &mut dyn FnMut(&str));
}

impl Tags<'_> {
    pub(crate) fn each(&self, mut show: impl FnMut(&str)) {
        match self {
            Self::Given(tags) => tags.iter().for_each(|tag| show(tag.as_str())),
            Self::Kept(object) => object.each(&mut show),
        }
    }
}

/// One [`Level`] a purged place. A question walks the few places that an object lies in, and no entry.
#[derive(Default)]
pub(crate) struct Rules {
    whole: Level,
    sites: Map<SiteId, Level>,
    hosts: Map<Hostname, Level>,
    under: Map<Hostname, Level>,
    prefixes: Trie<Level>,
    urls: Map<Arc<str>, Level>,
    tags: Map<SiteId, Map<Tag, Level>>,
    ages: Ages,
}

/// A rule that was widened: what the wider one must have swept.
pub(crate) struct Folded {
    pub(crate) into: Place,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

impl Rules {
    /// How many places have a rule; the whole index is not counted, it is always there.
    pub(crate) fn len(&self) -> usize {
        self.ages.len()
    }

    /// Every rule that may hit the object, tags and sites by who owns its hostname in `sites`.
    fn each(&self, sites: &SiteTable, object: &Target<'_>, mut found: impl FnMut(&Level)) {
        found(&self.whole);
        if let Some(level) = self.urls.get(object.key) {
            found(level);
        }
        self.prefixes.along(object.key.as_bytes(), &mut found);
        if let Some(level) = self.hosts.get(object.host) {
            found(level);
        }
        if !self.under.is_empty() {
            let mut rest = object.host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(level) = self.under.get(parent) {
                    found(level);
                }
                rest = parent;
            }
        }
        if self.sites.is_empty() && self.tags.is_empty() {
            return;
        }
        let Some(site) = sites.owner(object.host) else { return };
        if let Some(level) = self.sites.get(site) {
            found(level);
        }
        if let Some(purged) = self.tags.get(site) {
            object.tags.each(|tag| {
                if let Some(level) = purged.get(tag) {
                    found(level);
                }
            });
        }
    }

    /// Gone if a matching rule's `hard` is greater than what was applied when the fetch began, else Stale if a matching
    /// `soft` is, else Fresh.
    pub(crate) fn verdict(&self, sites: &SiteTable, object: &Target<'_>, applied: u64) -> Verdict {
        let (mut hard, mut soft) = (0, 0);
        self.each(sites, object, |level| {
            hard = hard.max(level.hard.newest());
            soft = soft.max(level.soft.newest());
        });
        match (hard > applied, soft > applied) {
            (true, _) => Verdict::Gone,
            (false, true) => Verdict::Stale,
            (false, false) => Verdict::Fresh,
        }
    }

    /// What records before `seq` made of the object, as far as they may not have been swept: it is theirs.
    pub(crate) fn verdict_before(
        &self,
        sites: &SiteTable,
        object: &Target<'_>,
        applied: u64,
        seq: u64,
    ) -> Verdict {
        let (mut hard, mut soft) = (false, false);
        self.each(sites, object, |level| {
            hard |= level.hard.any_between(applied, seq);
            soft |= level.soft.any_between(applied, seq);
        });
        match (hard, soft) {
            (true, _) => Verdict::Gone,
            (false, true) => Verdict::Stale,
            (false, false) => Verdict::Fresh,
        }
    }

    /// Writes a record's purge at a place. Twice or late changes nothing.
    pub(crate) fn raise(&mut self, place: &Place, seq: u64, soft: bool, swept: u64) {
        self.change(place, |level| level.raise(seq, soft, swept));
    }

    /// Folds the oldest rule of the most numerous class into its host's or site's: wider, and each strength into its
    /// own. `None` when nothing is left to fold.
    pub(crate) fn fold_oldest(&mut self, sites: &SiteTable) -> Option<Folded> {
        let place = self.ages.oldest()?;
        let into = wider(&place, sites);
        let level = self.remove(&place);
        self.change(&into, |wider| wider.fold(&level));
        Some(Folded { into, hard: level.hard.newest(), soft: level.soft.newest() })
    }

    /// Drops up to `max` rules that say nothing about anything newer than `through`; how many it dropped.
    pub(crate) fn forget(&mut self, through: u64, max: usize) -> usize {
        let mut dropped = 0;
        while dropped < max
            && let Some(place) = self.ages.not_newer_than(through)
        {
            self.remove(&place);
            dropped += 1;
        }
        dropped
    }

    /// The rules that were raised after `cursor`.
    pub(crate) fn since(&self, cursor: u64) -> Vec<Rule> {
        let whole = (self.whole.newest() > cursor).then_some(&Place::Whole);
        let aged = self.ages.after(cursor);
        whole.into_iter().chain(aged).filter_map(|place| self.rule(place)).collect()
    }

    /// Estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        // The key's text (by the average of a URL), its place among the ages, the level, and the containers' slack.
        let each = 70 + 2 * size_of::<(u64, Place)>() + 2 * size_of::<Level>();
        (self.len() * each) as u64
    }

    fn rule(&self, place: &Place) -> Option<Rule> {
        let level = match place {
            Place::Whole => Some(&self.whole),
            Place::Site(site) => self.sites.get(site),
            Place::Host(HostPattern::Exact(name)) => self.hosts.get(name),
            Place::Host(HostPattern::Under(name)) => self.under.get(name),
            Place::Prefix(prefix) => self.prefixes.get(prefix.as_bytes()),
            Place::Url(key) => self.urls.get(key),
            Place::Tag(site, tag) => self.tags.get(site).and_then(|tags| tags.get(tag)),
        }?;
        let (hard, soft) = (Seq::new(level.hard.newest()), Seq::new(level.soft.newest()));
        Some(Rule { place: place.clone(), hard, soft })
    }

    fn change(&mut self, place: &Place, change: impl FnOnce(&mut Level)) {
        let level = self.level(place);
        let before = level.newest();
        change(level);
        let after = level.newest();
        self.ages.moved(place, before, after);
    }

    fn level(&mut self, place: &Place) -> &mut Level {
        match place {
            Place::Whole => &mut self.whole,
            Place::Site(site) => self.sites.entry(site.clone()).or_default(),
            Place::Host(HostPattern::Exact(name)) => self.hosts.entry(name.clone()).or_default(),
            Place::Host(HostPattern::Under(name)) => self.under.entry(name.clone()).or_default(),
            Place::Prefix(prefix) => self.prefixes.get_or_default(prefix.as_bytes()),
            Place::Url(key) => self.urls.entry(key.clone()).or_default(),
            Place::Tag(site, tag) => {
                self.tags.entry(site.clone()).or_default().entry(tag.clone()).or_default()
            }
        }
    }

    fn remove(&mut self, place: &Place) -> Level {
        let level = match place {
            Place::Whole => Some(std::mem::take(&mut self.whole)),
            Place::Site(site) => self.sites.remove(site),
            Place::Host(HostPattern::Exact(name)) => self.hosts.remove(name),
            Place::Host(HostPattern::Under(name)) => self.under.remove(name),
            Place::Prefix(prefix) => self.prefixes.remove(prefix.as_bytes()),
            Place::Url(key) => self.urls.remove(key),
            Place::Tag(site, tag) => {
                let tags = self.tags.get_mut(site);
                let (level, empty) = tags.map_or((None, false), |tags| (tags.remove(tag), tags.is_empty()));
                if empty {
                    self.tags.remove(site);
                }
                level
            }
        }
        .unwrap_or_default();
        self.ages.moved(place, level.newest(), 0);
        level
    }
}

/// What surely hits all that a rule at `place` hits, and more.
fn wider(place: &Place, sites: &SiteTable) -> Place {
    match place {
        Place::Url(key) | Place::Prefix(key) => match host_of(key).parse() {
            Ok(host) => Place::Host(HostPattern::Exact(host)),
            Err(_) => Place::Whole,
        },
        Place::Tag(site, _) => Place::Site(site.clone()),
        // Its site's rule loses sight of the host when the host moves; but then the host gets a newer rule.
        Place::Host(HostPattern::Exact(name)) => {
            sites.owner(name.as_str()).map_or(Place::Whole, |site| Place::Site(site.clone()))
        }
        // Names under it may belong to several sites.
        Place::Host(HostPattern::Under(_)) | Place::Site(_) | Place::Whole => Place::Whole,
    }
}

/// The places that have a rule by the newest purge there, in three classes: what lies within a host or a site, hosts,
/// sites.
///
/// What is folded comes from the class that has the most, of equals from the narrowest. The oldest of all would not do:
/// a rule that was just folded is the oldest, and would be folded on, from the host to the site to everything.
#[derive(Default)]
struct Ages([BTreeSet<(u64, Place)>; 3]);

impl Ages {
    fn len(&self) -> usize {
        self.0.iter().map(BTreeSet::len).sum()
    }

    fn moved(&mut self, place: &Place, before: u64, after: u64) {
        let class = match place {
            Place::Url(_) | Place::Prefix(_) | Place::Tag(..) => 0,
            Place::Host(_) => 1,
            Place::Site(_) => 2,
            Place::Whole => return,
        };
        if before == after {
            return;
        }
        let mut aged = (before, place.clone());
        if before > 0 {
            self.0[class].remove(&aged);
        }
        if after > 0 {
            aged.0 = after;
            self.0[class].insert(aged);
        }
    }

    fn oldest(&self) -> Option<Place> {
        let mut most = &self.0[0];
        for class in &self.0[1..] {
            if class.len() > most.len() {
                most = class;
            }
        }
        most.first().map(|(_, place)| place.clone())
    }

    fn not_newer_than(&self, through: u64) -> Option<Place> {
        let mut oldest = self.0.iter().filter_map(BTreeSet::first);
        oldest.find(|(newest, _)| *newest <= through).map(|(_, place)| place.clone())
    }

    fn after(&self, cursor: u64) -> impl Iterator<Item = &Place> {
        // `Whole` is the least place, and never among them.
        let from = (cursor.saturating_add(1), Place::Whole);
        self.0.iter().flat_map(move |class| class.range(from.clone()..)).map(|(_, place)| place)
    }
}
