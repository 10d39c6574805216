//! Which replicas count, and from which record on.

use batoff_types::{Cursor, Replica, ReplicaSet, Seq};

use crate::rules::{Rule, RuleSet};

/// What a majority of the set has reached, each having reached what `of` says: the m-th largest, m being the majority.
/// Without `rule` one fewer is enough.
pub(crate) fn reached<T: Ord>(
    set: &ReplicaSet,
    rule: Rule,
    rules: RuleSet,
    of: impl FnMut(Replica) -> T,
) -> Option<T> {
    let mut reached: Vec<T> = set.members().iter().copied().map(of).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    let needed = set.majority() - 1;
    let needed = if rules.in_force(rule) { needed } else { needed.saturating_sub(1) };
    reached.into_iter().nth(needed)
}

/// The sets of a log: which one counts at which place.
///
/// A change is a record in the log, so everybody who has come as far as that knows it, and nobody else goes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetHistory {
    from: Cursor,
    first: ReplicaSet,
    /// In the order of the log.
    later: Vec<(Cursor, ReplicaSet)>,
}

impl SetHistory {
    /// `set` counts at `from` and after it, until another one does.
    pub const fn new(from: Cursor, set: ReplicaSet) -> Self {
        Self { from, first: set, later: Vec::new() }
    }

    /// The record `seq` says that these count from there on. Records come in their order; repeats change nothing.
    pub fn handle_set(&mut self, seq: Seq, set: ReplicaSet) {
        let from = Cursor::after(seq);
        if from > self.newest_from() {
            self.later.push((from, set));
        }
    }

    /// The set that counts at this place; the oldest known for places before.
    pub fn as_of(&self, cursor: Cursor) -> &ReplicaSet {
        let later = self.later.iter().rev().find(|(from, _)| *from <= cursor);
        later.map_or(&self.first, |(_, set)| set)
    }

    /// The newest, and the place from which it counts.
    pub fn newest(&self) -> (Cursor, &ReplicaSet) {
        self.later.last().map_or((self.from, &self.first), |(from, set)| (*from, set))
    }

    fn newest_from(&self) -> Cursor {
        self.later.last().map_or(self.from, |(from, _)| *from)
    }

    /// Forgets sets that have been replaced before this place (I5).
    pub fn forget_before(&mut self, cursor: Cursor) {
        let replaced = self.later.iter().take_while(|(from, _)| *from <= cursor).count();
        if let Some((from, set)) = self.later.drain(..replaced).next_back() {
            (self.from, self.first) = (from, set);
        }
    }

    /// All sets from the oldest on, each with the place from which it counts.
    pub fn iter(&self) -> impl Iterator<Item = (Cursor, &ReplicaSet)> {
        let later = self.later.iter().map(|(from, set)| (*from, set));
        std::iter::once((self.from, &self.first)).chain(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: &[u8]) -> ReplicaSet {
        ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
    }

    #[test]
    fn a_majority_has_reached_what_the_mth_has() {
        let check = |numbers: &[u64], expected| {
            let members: Vec<_> = (0..numbers.len() as u8).collect();
            let number = |replica: Replica| numbers[usize::from(replica.0)];
            let reached = reached(&set(&members), Rule::LeaseMajority, RuleSet::default(), number);
            assert_eq!(reached, Some(expected), "{numbers:?}");
        };
        check(&[5], 5);
        check(&[5, 9], 5);
        check(&[1, 9, 5], 5);
        check(&[9, 9, 0], 9);
        check(&[1, 2, 3, 4], 2);
        check(&[3, 1, 5, 2, 4], 3);
    }

    #[test]
    fn a_set_counts_from_its_record_on() {
        let mut sets = SetHistory::new(Cursor::START, set(&[1]));
        sets.handle_set(Seq::new(7).unwrap(), set(&[1, 2, 3]));
        sets.handle_set(Seq::new(7).unwrap(), set(&[9]));
        sets.handle_set(Seq::new(9).unwrap(), set(&[2, 3, 4]));
        assert_eq!(sets.as_of(Cursor::new(6)), &set(&[1]));
        assert_eq!(sets.as_of(Cursor::new(7)), &set(&[1, 2, 3]));
        assert_eq!(sets.as_of(Cursor::new(99)), &set(&[2, 3, 4]));
        assert_eq!(sets.newest(), (Cursor::new(9), &set(&[2, 3, 4])));
        sets.forget_before(Cursor::new(8));
        assert_eq!(sets.iter().count(), 2);
        assert_eq!(sets.as_of(Cursor::new(8)), &set(&[1, 2, 3]));
        assert_eq!(sets.as_of(Cursor::new(9)), &set(&[2, 3, 4]));
    }
}
