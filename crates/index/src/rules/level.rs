//! What one place has seen: the seqs of its hard and its soft purges, and the verdict that follows.

use crate::Verdict;

/// Older purges of one place that are remembered until their objects are swept.
/// One more makes the oldest forgotten here: what it hit and nobody has swept yet is then counted for a later record.
/// Verdicts are not affected: they need the newest only.
const UNSWEPT_MAX: usize = 64;

/// The purges that one place has seen, of one strength.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seqs {
    /// The newest record's; 0: none.
    recorded: u64,
    /// The newest of narrower rules that were folded into this one; 0: none. It decides verdicts as a record's does, but
    /// not whose hit an object was: no record's walk goes over all that it hits.
    folded: u64,
    /// Older records' whose objects may not all be swept, rising. They decide whose hit an object was, so that it is
    /// counted once, for the record that hit it first.
    unswept: Vec<u64>,
}

impl Seqs {
    /// The newest; 0: none. It alone decides verdicts.
    pub(crate) fn newest(&self) -> u64 {
        self.recorded.max(self.folded)
    }

    /// Takes in what a narrower rule says.
    fn fold(&mut self, newest: u64) {
        self.folded = self.folded.max(newest);
    }

    /// Takes a record's purge in, whenever it comes. Everything through `swept` has been swept.
    fn raise(&mut self, seq: u64, swept: u64) {
        if seq == self.recorded {
            return;
        }
        let older = if seq > self.recorded { std::mem::replace(&mut self.recorded, seq) } else { seq };
        self.unswept.retain(|&known| known > swept);
        if older <= swept {
            return;
        }
        if let Err(at) = self.unswept.binary_search(&older) {
            self.unswept.insert(at, older);
        }
        if self.unswept.len() > UNSWEPT_MAX {
            self.unswept.remove(0);
        }
    }

    /// Whether the newest says all: it is a record's, and no older one is remembered.
    fn is_all_in_newest(&self) -> bool {
        self.folded == 0 && self.unswept.is_empty()
    }

    /// Whether a remembered record lies after `after` and before `before`.
    pub(crate) fn any_between(&self, after: u64, before: u64) -> bool {
        let lies_between = |seq: u64| after < seq && seq < before;
        lies_between(self.recorded) || self.unswept.iter().any(|&seq| lies_between(seq))
    }
}

/// A rule: two strengths, kept apart so that a later soft purge never weakens an earlier hard one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    pub(crate) hard: Seqs,
    pub(crate) soft: Seqs,
}

impl Level {
    pub(crate) fn newest(&self) -> u64 {
        self.hard.newest().max(self.soft.newest())
    }

    pub(crate) fn newest_seqs(&self) -> NewestSeqs {
        NewestSeqs { hard: self.hard.newest(), soft: self.soft.newest() }
    }

    /// Whether it is the same again when it is made from [`Level::newest_seqs`].
    pub(crate) fn is_all_in_newest(&self) -> bool {
        self.hard.is_all_in_newest() && self.soft.is_all_in_newest()
    }

    /// What remembered records after `after` and before `before` made of what the place holds.
    pub(crate) fn verdict_between(&self, after: u64, before: u64) -> Verdict {
        verdict(self.hard.any_between(after, before), self.soft.any_between(after, before))
    }

    /// Takes in a narrower rule, each strength into its own.
    pub(crate) fn fold(&mut self, narrower: &Self) {
        self.hard.fold(narrower.hard.newest());
        self.soft.fold(narrower.soft.newest());
    }

    pub(crate) fn raise(&mut self, seq: u64, soft: bool, swept: u64) {
        if soft { self.soft.raise(seq, swept) } else { self.hard.raise(seq, swept) }
    }
}

/// What of a [`Level`] decides verdicts: of each strength the newest seq; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewestSeqs {
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

impl NewestSeqs {
    /// Of whichever strength.
    pub(crate) fn any(self) -> u64 {
        self.hard.max(self.soft)
    }

    /// The verdict on an object in the place whose fetch began when this much was applied.
    #[inline]
    pub(crate) fn verdict(self, applied: u64) -> Verdict {
        verdict(self.hard > applied, self.soft > applied)
    }

    /// As [`Level::verdict_between`], when these are all records.
    pub(crate) fn verdict_between(self, after: u64, before: u64) -> Verdict {
        let lies_between = |seq: u64| after < seq && seq < before;
        verdict(lies_between(self.hard), lies_between(self.soft))
    }
}

impl From<NewestSeqs> for Level {
    fn from(newest: NewestSeqs) -> Self {
        let of = |recorded| Seqs { recorded, ..Seqs::default() };
        Self { hard: of(newest.hard), soft: of(newest.soft) }
    }
}

#[inline]
fn verdict(hard: bool, soft: bool) -> Verdict {
    match (hard, soft) {
        (true, _) => Verdict::Gone,
        (false, true) => Verdict::Stale,
        (false, false) => Verdict::Fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_decides_in_whatever_order_purges_come() {
        for order in [[3, 5, 9], [9, 3, 5], [5, 9, 3]] {
            let mut seqs = Seqs::default();
            order.into_iter().for_each(|seq| seqs.raise(seq, 0));
            assert_eq!(seqs.newest(), 9);
            assert_eq!(seqs.unswept, [3, 5]);
        }
    }

    #[test]
    fn swept_purges_are_dropped_when_the_next_one_comes() {
        let mut seqs = Seqs::default();
        (1..=4).for_each(|seq| seqs.raise(seq, 0));
        seqs.raise(5, 3);
        assert_eq!(seqs.unswept, [4]);
        assert!(seqs.any_between(3, 5));
        assert!(!seqs.any_between(4, 5));
    }

    #[test]
    fn a_folded_rule_decides_verdicts_and_nothing_else() {
        let mut seqs = Seqs::default();
        seqs.raise(3, 0);
        seqs.fold(7);
        seqs.fold(5);
        assert_eq!(seqs.newest(), 7);
        assert!(!seqs.any_between(3, 9));
    }

    #[test]
    fn memory_of_unswept_purges_is_bounded() {
        let mut seqs = Seqs::default();
        (1..=1_000).for_each(|seq| seqs.raise(seq, 0));
        assert_eq!(seqs.unswept.len(), UNSWEPT_MAX);
    }
}
