//! The Bloom filter in front of the rules: most questions end here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The smallest filter, in words of 64 bits, and the largest: 512 bytes and 1 MiB.
const WORDS: std::ops::RangeInclusive<usize> = 64..=131_072;

/// Places that one word stands for before a larger filter is due. With two bits each that is a false alarm in a
/// hundred questions.
const PLACES_PER_WORD: usize = 3;

/// Says of most places that have no rule that they have none, by one look at memory: a Bloom filter whose two bits lie
/// in one word.
///
/// Shared by all copies of the rules. Bits are only ever set, and set before the rules that need them are published; who
/// reads older rules is only sent to look in vain. It is made anew when it has become too full.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    words: Arc<[AtomicU64]>,
    entered: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self::with_room_for(0)
    }
}

impl Filter {
    /// An empty filter for so many places, and as many again.
    pub(crate) fn with_room_for(places: usize) -> Self {
        let wanted = (2 * places / PLACES_PER_WORD).next_power_of_two();
        let words = (0..wanted.clamp(*WORDS.start(), *WORDS.end())).map(|_| AtomicU64::new(0)).collect();
        Self { words, entered: 0 }
    }

    /// From now on the place may have a rule.
    pub(crate) fn enter(&mut self, print: u64) {
        // What is written here is published with the rules.
        self.words[self.word(print)].fetch_or(bits(print), Relaxed);
        self.entered += 1;
    }

    /// Whether the place may have a rule.
    #[inline]
    pub(crate) fn may_have(&self, print: u64) -> bool {
        let bits = bits(print);
        self.words[self.word(print)].load(Relaxed) & bits == bits
    }

    /// Whether it should be made anew, if `places` have a rule now.
    pub(crate) fn is_worn(&self, places: usize) -> bool {
        let full = self.entered > PLACES_PER_WORD * self.words.len();
        full && (self.words.len() < *WORDS.end() || self.entered > 2 * places)
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    // The table goes by the low bits: these are others.
    #[inline]
    fn word(&self, print: u64) -> usize {
        (print >> 44) as usize & (self.words.len() - 1)
    }
}

#[inline]
fn bits(print: u64) -> u64 {
    1 << (print >> 32 & 63) | 1 << (print >> 38 & 63)
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    /// The same each time.
    fn prints(from: usize, count: usize) -> impl ExactSizeIterator<Item = u64> {
        let hash = foldhash::quality::FixedState::with_seed(1);
        (from..from + count).map(move |number| hash.hash_one(number))
    }

    #[test]
    fn what_was_entered_is_never_denied_and_little_else_is_let_through() {
        let mut filter = Filter::with_room_for(10_000);
        prints(0, 20_000).for_each(|print| filter.enter(print));
        assert!(!filter.is_worn(20_000), "room for as many again");
        assert!(prints(0, 20_000).all(|print| filter.may_have(print)));
        let passed = prints(1_000_000, 100_000).filter(|&print| filter.may_have(print)).count();
        assert!(passed < 3_000, "{passed} false alarms of 100,000");
    }

    #[test]
    fn a_filter_wears_out_by_what_was_entered_and_does_not_grow_without_bound() {
        let mut filter = Filter::default();
        prints(0, 1_000).for_each(|print| filter.enter(print));
        assert!(filter.is_worn(1_000), "too small");
        let mut large = Filter::with_room_for(600_000);
        prints(0, 600_000).for_each(|print| large.enter(print));
        assert_eq!(large.bytes(), 1 << 20);
        assert!(!large.is_worn(600_000), "no larger one is to be had");
        prints(0, 700_000).for_each(|print| large.enter(print));
        assert!(large.is_worn(600_000), "half of it is about rules that have gone");
    }
}
