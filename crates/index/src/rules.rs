//! The rules in force: what decides whether an object may be served.

mod filter;
mod ledger;
mod level;
mod print;
mod table;
mod target;
mod trie;

use std::sync::Arc;

use batoff_types::SiteTable;
use smallvec::SmallVec;

use self::filter::Filter;
pub(crate) use self::ledger::Ledger;
pub(crate) use self::level::Level;
use self::level::NewestSeqs;
pub(crate) use self::print::Printer;
use self::print::{Class, of_class, tag_of};
use self::table::PrintMap;
pub(crate) use self::target::{CarriedTags, Carries, Target};
use self::trie::Trie;
use crate::place::{OVERFLOW, authority_of};
use crate::{Place, Verdict};

/// Memory of a rule beside its texts: its slot and its part of the branches above it (50), its place among the known and
/// among the ages (110). By the sizes of what is stored; not measured from outside.
const BYTES_EACH: usize = 160;

/// One rule a purged place, as those see it who ask for a verdict. A question walks the few places that an object lies
/// in, and no entry.
///
/// Copies share what did not change, so that a record can prepare its own and publish it while others read the one
/// before. What only records need (the places themselves, and which is the oldest) is in the [`Ledger`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    printer: Printer,
    whole: Arc<Level>,
    /// Of all classes but prefixes, by fingerprint.
    places: PrintMap<NewestSeqs>,
    /// By the fingerprint of the authority (`host[:port]`) that all of them begin with.
    prefixes: PrintMap<Trie<Prefixed>>,
    /// The places, by fingerprint, of which the newest seqs do not say all.
    history: PrintMap<Arc<Level>>,
    filter: Filter,
    /// By class: the newest seq that ever was there since it was empty; 0: none. What a fill knew need not be asked for.
    newest: [u64; Class::COUNT],
    counts: [usize; Class::COUNT],
    text_bytes: usize,
}

/// The rule of a purged prefix, and the fingerprint of its place.
#[derive(Clone, Copy, Debug)]
struct Prefixed {
    print: u64,
    newest: NewestSeqs,
}

impl Rules {
    /// No rules, with the same fingerprints.
    pub(crate) fn emptied(&self) -> Self {
        Self { printer: self.printer.clone(), ..Self::default() }
    }

    /// What makes the fingerprints; the same as long as the index is.
    pub(crate) fn printer(&self) -> &Printer {
        &self.printer
    }

    /// How many places have a rule; the whole index is not counted, it is always there.
    pub(crate) fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Gone if a matching rule's `hard` is greater than what was applied when the fetch began, else Stale if a matching
    /// `soft` is, else Fresh.
    #[inline]
    pub(crate) fn verdict(&self, sites: &SiteTable, object: &Target<'_>, applied: u64) -> Verdict {
        let mut verdict = self.whole.newest_seqs().verdict(applied);
        self.each(sites, object, applied, |newest, _| verdict = verdict.max(newest.verdict(applied)));
        verdict
    }

    /// What records before `seq` made of the object, as far as they may not have been swept: it is theirs.
    pub(crate) fn verdict_before(
        &self,
        sites: &SiteTable,
        object: &Target<'_>,
        applied: u64,
        seq: u64,
    ) -> Verdict {
        let mut verdict = self.whole.verdict_between(applied, seq);
        self.each(sites, object, applied, |newest, print| {
            let this = match self.history.get(print) {
                Some(level) => level.verdict_between(applied, seq),
                None => newest.verdict_between(applied, seq),
            };
            verdict = verdict.max(this);
        });
        verdict
    }

    /// Every rule that may hit the object and say something newer than `applied`, tags and sites by who owns its
    /// hostname in `sites`; with the fingerprint of its place.
    #[inline]
    fn each(
        &self,
        sites: &SiteTable,
        object: &Target<'_>,
        applied: u64,
        mut found: impl FnMut(NewestSeqs, u64),
    ) {
        let is_newer = |class: Class| self.newest[class as usize] > applied;
        let mut look = |print: u64| {
            if self.filter.may_have(print)
                && let Some(&newest) = self.places.get(print)
            {
                found(newest, print);
            }
        };
        if is_newer(Class::Url) {
            look(of_class(Class::Url, self.printer.text(object.key)));
        }
        if is_newer(Class::Host) {
            look(of_class(Class::Host, self.printer.text(object.host)));
        }
        if is_newer(Class::Under) {
            let mut rest = object.host;
            while let Some((_, parent)) = rest.split_once('.') {
                look(of_class(Class::Under, self.printer.text(parent)));
                rest = parent;
            }
        }
        // Whose the hostname is, is asked only when it matters: it costs as much as all the rest.
        let tags = if is_newer(Class::Tag) { self.suspects(&object.tags) } else { SmallVec::new() };
        if (!tags.is_empty() || is_newer(Class::Site))
            && let Some(site) = sites.owner(object.host)
        {
            let site = self.printer.text(site.as_str());
            if is_newer(Class::Site) {
                look(of_class(Class::Site, site));
            }
            tags.iter().for_each(|&tag| look(tag_of(site, tag)));
        }
        if is_newer(Class::Prefix) {
            let authority = of_class(Class::Prefix, self.printer.text(authority_of(object.key)));
            if self.filter.may_have(authority)
                && let Some(prefixes) = self.prefixes.get(authority)
            {
                prefixes.along(object.key.as_bytes(), |at| found(at.newest, at.print));
            }
        }
    }

    /// The fingerprints of those tags that may have a rule of any site.
    #[inline]
    fn suspects(&self, tags: &CarriedTags<'_>) -> SmallVec<[u64; 4]> {
        let may = |tag: u64| self.filter.may_have(any_sites_tag(tag));
        let mut suspects = SmallVec::new();
        match tags {
            CarriedTags::Given(tags) => {
                let prints = tags.tags.iter().map(|tag| self.printer.text(tag.as_str()));
                suspects.extend(prints.filter(|&print| may(print)));
                if tags.overflows() {
                    suspects.push(self.printer.text(OVERFLOW));
                }
            }
            CarriedTags::Printed(tags) => {
                suspects.extend(tags.iter().map(|&(print, _)| print).filter(|&print| may(print)));
            }
            CarriedTags::Kept(object) => {
                object.suspects(&|half| may(half.into()), &mut |text| suspects.push(self.printer.text(text)));
            }
        }
        suspects
    }

    /// Estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.len() * BYTES_EACH + self.text_bytes + self.filter.bytes()) as u64
    }

    /// All that is known of a place's purges.
    fn level(&self, place: &Place, print: u64) -> Level {
        if let Some(level) = self.history.get(print) {
            return Level::clone(level);
        }
        let newest = match place {
            Place::Prefix(text) => {
                let prefixes = self.prefixes.get(self.prefix_print(text));
                prefixes.and_then(|prefixes| prefixes.get(text.as_bytes())).map(|at| at.newest)
            }
            _ => self.places.get(print).copied(),
        };
        newest.map_or_else(Level::default, Level::from)
    }

    /// Puts a rule at a place that has none, or another.
    fn put(&mut self, place: &Place, print: u64, level: Level) {
        let Some(class) = Class::of(place) else { return };
        let newest = level.newest_seqs();
        let is_new = match place {
            Place::Prefix(text) => {
                let authority = self.prefix_print(text);
                let value = Prefixed { print, newest };
                if let Some(prefixes) = self.prefixes.get_mut(authority) {
                    let is_new = prefixes.get(text.as_bytes()).is_none();
                    prefixes.set(text.as_bytes(), value);
                    is_new
                } else {
                    let mut prefixes = Trie::default();
                    prefixes.set(text.as_bytes(), value);
                    self.prefixes.set(authority, prefixes);
                    true
                }
            }
            _ => {
                let is_new = self.places.get(print).is_none();
                self.places.set(print, newest);
                is_new
            }
        };
        if is_new {
            self.enter(place, print);
            self.counts[class as usize] += 1;
            self.text_bytes += place.text_bytes();
        }
        if level.is_all_in_newest() {
            self.history.remove(print);
        } else {
            self.history.set(print, Arc::new(level));
        }
        let newest_of_class = &mut self.newest[class as usize];
        *newest_of_class = (*newest_of_class).max(newest.any());
    }

    /// Takes the rule at a place away.
    fn remove(&mut self, place: &Place, print: u64) {
        let Some(class) = Class::of(place) else { return };
        let was_there = match place {
            Place::Prefix(text) => {
                let authority = self.prefix_print(text);
                let prefixes = self.prefixes.get_mut(authority);
                let (was_there, is_empty) = prefixes.map_or((false, false), |prefixes| {
                    (prefixes.remove(text.as_bytes()).is_some(), prefixes.is_empty())
                });
                if is_empty {
                    self.prefixes.remove(authority);
                }
                was_there
            }
            _ => self.places.remove(print).is_some(),
        };
        if was_there {
            self.history.remove(print);
            let count = &mut self.counts[class as usize];
            *count -= 1;
            if *count == 0 {
                self.newest[class as usize] = 0;
            }
            self.text_bytes -= place.text_bytes();
        }
    }

    /// Makes the filter anew; `places` are all that have a rule.
    fn renew_filter<'a>(&mut self, places: impl ExactSizeIterator<Item = (&'a Place, u64)>) {
        self.filter = Filter::with_room_for(places.len());
        places.for_each(|(place, print)| self.enter(place, print));
    }

    fn enter(&mut self, place: &Place, print: u64) {
        let asked = match place {
            Place::Prefix(text) => self.prefix_print(text),
            Place::Tag(_, tag) => {
                self.filter.enter(any_sites_tag(self.printer.text(tag.as_str())));
                print
            }
            Place::Overflow(_) => {
                self.filter.enter(any_sites_tag(self.printer.text(OVERFLOW)));
                print
            }
            _ => print,
        };
        self.filter.enter(asked);
    }

    /// The fingerprint under which the prefixes of this one's authority are kept.
    fn prefix_print(&self, prefix: &str) -> u64 {
        of_class(Class::Prefix, self.printer.text(authority_of(prefix)))
    }
}

/// What the filter is asked before the site is known. Tags of no site would have this fingerprint. The filter looks at
/// bits that follow from the low half of `tag` alone, so half a fingerprint gets the same answer.
#[inline]
fn any_sites_tag(tag: u64) -> u64 {
    tag_of(0, tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_fingerprint_gets_the_answer_of_the_whole() {
        let printer = Printer::default();
        let tag = |number: usize| printer.text(&format!("product:{number}"));
        // More than the smallest filter, so that high bits choose among its words.
        let mut filter = Filter::with_room_for(200_000);
        (0..200_000).for_each(|number| filter.enter(any_sites_tag(tag(number))));
        let answers = (0..400_000).map(|number| {
            let half = u64::from(tag(number) as u32);
            assert_eq!(
                filter.may_have(any_sites_tag(half)),
                filter.may_have(any_sites_tag(tag(number))),
                "{number}"
            );
            filter.may_have(any_sites_tag(half))
        });
        let answers: Vec<_> = answers.collect();
        assert!(answers[..200_000].iter().all(|&may| may));
        assert!(answers[200_000..].iter().filter(|&&may| may).count() < 10_000);
    }
}
