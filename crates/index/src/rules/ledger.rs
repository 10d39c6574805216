//! The rules as records see them: by name and by age, to be raised, folded and forgotten.

use std::collections::BTreeMap;

use batoff_types::{HostPattern, Seq, SiteTable};

use super::{Level, Rules};
use crate::place::host_of;
use crate::{Place, Rule};

type FastMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// What records know of the rules beyond what verdicts need: the places by name, and by age. Kept by whoever may change
/// the rules, and changed together with them.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By fingerprint.
    known: FastMap<u64, Known>,
    ages: Ages,
    next_number: u64,
}

struct Known {
    place: Place,
    /// The newest purge there, and the order in which places of the same age came.
    age: Age,
}

/// A rule that was widened: what the wider one must have swept.
pub(crate) struct Folded {
    pub(crate) into: Place,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

impl Ledger {
    /// Writes a record's purge at a place. Twice or late changes nothing. Everything through `swept` has been swept.
    pub(crate) fn raise(
        &mut self,
        rules: &mut Rules,
        sites: &SiteTable,
        place: &Place,
        (seq, soft): (u64, bool),
        swept: u64,
    ) {
        self.change(rules, sites, place, |level| level.raise(seq, soft, swept));
    }

    /// Folds the oldest rule of the most numerous class into its host's or site's: wider, and each strength into its
    /// own. `None` when nothing is left to fold.
    pub(crate) fn fold_oldest(&mut self, rules: &mut Rules, sites: &SiteTable) -> Option<Folded> {
        let print = self.ages.oldest()?;
        let (place, level) = self.remove(rules, print)?;
        let into = wider(&place, sites);
        self.change(rules, sites, &into, |wider| wider.fold(&level));
        Some(Folded { into, hard: level.hard.newest(), soft: level.soft.newest() })
    }

    /// Drops up to `max` rules that say nothing about anything newer than `through`; how many it dropped.
    pub(crate) fn forget(&mut self, rules: &mut Rules, through: u64, max: usize) -> usize {
        let mut dropped = 0;
        while dropped < max
            && let Some(print) = self.ages.not_newer_than(through)
        {
            self.remove(rules, print);
            dropped += 1;
        }
        dropped
    }

    /// Whether the filter lets too much through.
    pub(crate) fn is_filter_worn(&self, rules: &Rules) -> bool {
        rules.filter.is_worn(self.known.len())
    }

    /// Makes the filter anew. With hundreds of thousands of rules that takes some milliseconds.
    pub(crate) fn renew_filter(&self, rules: &mut Rules) {
        rules.renew_filter(self.known.iter().map(|(&print, known)| (&known.place, print)));
    }

    /// The rules that were raised after `cursor`.
    pub(crate) fn since(&self, rules: &Rules, cursor: u64) -> Vec<Rule> {
        let whole = (rules.whole.newest() > cursor).then(|| rule(&Place::Whole, &rules.whole));
        let aged = self.ages.after(cursor).filter_map(|print| {
            let Known { place, .. } = self.known.get(&print)?;
            Some(rule(place, &rules.level(place, print)))
        });
        whole.into_iter().chain(aged).collect()
    }

    fn change(
        &mut self,
        rules: &mut Rules,
        sites: &SiteTable,
        place: &Place,
        change: impl FnOnce(&mut Level),
    ) {
        let mut place = place.clone();
        let print = loop {
            let Some(print) = rules.printer.place(&place) else {
                change(std::sync::Arc::make_mut(&mut rules.whole));
                return;
            };
            if self.known.get(&print).is_none_or(|known| known.place == place) {
                break print;
            }
            // Another place has this fingerprint, and with it the rule here. Under its own name neither could be taken
            // away without the other.
            place = wider(&place, sites);
        };
        let mut level = rules.level(&place, print);
        let before = level.newest();
        change(&mut level);
        let after = level.newest();
        rules.put(&place, print, level);
        if before == after {
            return;
        }
        let class = Ages::class(&place);
        let known = self.known.entry(print).or_insert_with(|| {
            self.next_number += 1;
            Known { place, age: (0, self.next_number) }
        });
        self.ages.leave(class, known.age);
        known.age.0 = after;
        self.ages.enter(class, known.age, print);
    }

    fn remove(&mut self, rules: &mut Rules, print: u64) -> Option<(Place, Level)> {
        let Known { place, age } = self.known.remove(&print)?;
        self.ages.leave(Ages::class(&place), age);
        let level = rules.level(&place, print);
        rules.remove(&place, print);
        Some((place, level))
    }
}

fn rule(place: &Place, level: &Level) -> Rule {
    let newest = level.newest_seqs();
    Rule { place: place.clone(), hard: Seq::new(newest.hard), soft: Seq::new(newest.soft) }
}

/// What surely hits all that a rule at `place` hits, and more.
fn wider(place: &Place, sites: &SiteTable) -> Place {
    match place {
        Place::Url(key) | Place::Prefix(key) => match host_of(key).parse() {
            Ok(host) => Place::Host(HostPattern::Exact(host)),
            Err(_) => Place::Whole,
        },
        Place::Tag(site, _) | Place::Overflow(site) => Place::Site(site.clone()),
        // Its site's rule loses sight of the host when the host moves; but then the host gets a newer rule.
        Place::Host(HostPattern::Exact(name)) => {
            sites.owner(name.as_str()).map_or(Place::Whole, |site| Place::Site(site.clone()))
        }
        // Names under it may belong to several sites.
        Place::Host(HostPattern::Under(_)) | Place::Site(_) | Place::Whole => Place::Whole,
    }
}

/// A seq, and a number that tells places of the same seq apart.
type Age = (u64, u64);

/// The fingerprints of the places that have a rule by the newest purge there, in three classes: what lies within a host
/// or a site, hosts, sites.
///
/// What is folded comes from the class that has the most, of equals from the narrowest. The oldest of all would not do:
/// a rule that was just folded is the oldest, and would be folded on, from the host to the site to everything.
#[derive(Default)]
struct Ages([BTreeMap<Age, u64>; 3]);

impl Ages {
    fn class(place: &Place) -> usize {
        match place {
            Place::Url(_) | Place::Prefix(_) | Place::Tag(..) | Place::Overflow(_) => 0,
            Place::Host(_) => 1,
            Place::Site(_) | Place::Whole => 2,
        }
    }

    fn enter(&mut self, class: usize, age: Age, print: u64) {
        self.0[class].insert(age, print);
    }

    fn leave(&mut self, class: usize, age: Age) {
        self.0[class].remove(&age);
    }

    fn oldest(&self) -> Option<u64> {
        let mut most = &self.0[0];
        for class in &self.0[1..] {
            if class.len() > most.len() {
                most = class;
            }
        }
        most.first_key_value().map(|(_, &print)| print)
    }

    fn not_newer_than(&self, through: u64) -> Option<u64> {
        let mut oldest = self.0.iter().filter_map(BTreeMap::first_key_value);
        oldest.find(|((newest, _), _)| *newest <= through).map(|(_, &print)| print)
    }

    fn after(&self, cursor: u64) -> impl Iterator<Item = u64> {
        let from = (cursor.saturating_add(1), 0);
        self.0.iter().flat_map(move |class| class.range(from..)).map(|(_, &print)| print)
    }
}

#[cfg(test)]
mod tests;
