//! Fingerprints: what rules are found by.

use std::hash::{BuildHasher, Hasher};

use batoff_types::HostPattern;
use foldhash::quality::RandomState;

use crate::Place;
use crate::place::OVERFLOW;

/// What narrows a place down, apart from its text. Texts of different classes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Url,
    Prefix,
    Host,
    Under,
    Site,
    Tag,
}

impl Class {
    pub(crate) const COUNT: usize = 6;

    /// `None`: the whole index.
    pub(crate) fn of(place: &Place) -> Option<Self> {
        match place {
            Place::Whole => None,
            Place::Site(_) => Some(Self::Site),
            Place::Host(HostPattern::Exact(_)) => Some(Self::Host),
            Place::Host(HostPattern::Under(_)) => Some(Self::Under),
            Place::Prefix(_) => Some(Self::Prefix),
            Place::Url(_) => Some(Self::Url),
            Place::Tag(..) | Place::Overflow(_) => Some(Self::Tag),
        }
    }
}

/// Fingerprints of texts, 64 bits under a key that is drawn at the start.
///
/// Two texts with one fingerprint are to be expected after some four billion of them, and not to be had on purpose by
/// somebody who does not see the key. Rules are found by fingerprints alone, so such a text would meet the other's rule:
/// a wider invalidation, never a narrower one ([`Ledger`](super::Ledger) sees to it that neither rule takes the other
/// away).
#[derive(Clone, Debug, Default)]
pub(crate) struct Printer {
    key: RandomState,
    /// Bits that all fingerprints have, so that different places meet.
    #[cfg(test)]
    pub(super) same: u64,
}

impl Printer {
    /// The fingerprint of a text, the same for all classes: [`of_class`] tells them apart.
    #[inline]
    pub(crate) fn text(&self, text: &str) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(text.as_bytes());
        #[cfg(test)]
        return hasher.finish() | self.same;
        #[cfg(not(test))]
        hasher.finish()
    }

    /// The fingerprint of a place; `None` for the whole index, which needs none.
    pub(crate) fn place(&self, place: &Place) -> Option<u64> {
        let class = Class::of(place)?;
        Some(match place {
            Place::Whole => return None,
            Place::Site(site) => of_class(class, self.text(site.as_str())),
            Place::Host(HostPattern::Exact(name) | HostPattern::Under(name)) => {
                of_class(class, self.text(name.as_str()))
            }
            Place::Prefix(text) | Place::Url(text) => of_class(class, self.text(text)),
            Place::Tag(site, tag) => tag_of(self.text(site.as_str()), self.text(tag.as_str())),
            Place::Overflow(site) => tag_of(self.text(site.as_str()), self.text(OVERFLOW)),
        })
    }
}

/// The fingerprint of a text as one of its class.
#[inline]
pub(crate) fn of_class(class: Class, text: u64) -> u64 {
    // Each step can be undone, so that no two texts of a class meet here.
    (text ^ ((class as u64 + 1) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

/// The fingerprint of a tag of a site.
#[inline]
pub(crate) fn tag_of(site: u64, tag: u64) -> u64 {
    of_class(Class::Tag, tag ^ site.rotate_left(23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_has_another_fingerprint_in_each_class() {
        let printer = Printer::default();
        let text = printer.text("shop.example.com");
        let classes = [Class::Url, Class::Prefix, Class::Host, Class::Under, Class::Site, Class::Tag];
        let mut prints = classes.map(|class| of_class(class, text)).to_vec();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), Class::COUNT);
    }
}
