//! What is completed, when several replicas state what they know.

use std::collections::BTreeMap;

use batoff_types::{Cursor, Replica, ReplicaSet, Seq};

use super::sets::{SetHistory, reached};
use crate::rules::{Rule, RuleSet};

/// What each replica has stated, as one of them knows it, and through where that makes every purge completed.
///
/// A statement once made stays true. So the highest of each replica counts for ever, and messages between replicas may be
/// lost, late, repeated and out of order.
///
/// ```text
///   done          completed           tail
///     |  recorded by nobody  |  not stated by a majority
/// ```
/// Nothing is told as completed that is not recorded as `done` in the engine, where all replicas find it: then no reader
/// sees a purge go back, whichever replica answers.
#[derive(Debug)]
pub struct Statements {
    sets: SetHistory,
    stated: BTreeMap<Replica, Cursor>,
    tail: Cursor,
    completed: Cursor,
    done: Cursor,
    rules: RuleSet,
}

impl Statements {
    /// For a process that knows the log, and the sets in it, through `tail`, and finds `done` recorded.
    pub fn new(mut sets: SetHistory, tail: Cursor, done: Cursor) -> Self {
        // Those in a set that was replaced before may be gone, and need not state anything any more.
        sets.forget_before(done.min(tail));
        let mut statements =
            Self { sets, stated: BTreeMap::new(), tail, completed: done, done, rules: RuleSet::default() };
        statements.raise();
        statements
    }

    /// Leaves out one rule, so that a simulation can show that it notices. For tests only.
    #[cfg(any(test, feature = "mutations"))]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.rules = RuleSet { off: Some(rule) };
        self
    }

    /// A replica has stated its watermark; this one's own counts as any other's. One that is in no set may say so early,
    /// and counts as soon as it is.
    pub fn handle_stated(&mut self, replica: Replica, watermark: Cursor) {
        let stated = self.stated.entry(replica).or_default();
        if watermark > *stated {
            *stated = watermark;
            self.raise();
        }
    }

    /// This replica knows the log through there. Records that change the set are to be told first, by
    /// [`Statements::handle_set`].
    pub fn handle_tail(&mut self, tail: Cursor) {
        if tail > self.tail {
            self.tail = tail;
            self.raise();
        }
    }

    /// The record `seq` changes the set of replicas.
    pub fn handle_set(&mut self, seq: Seq, set: ReplicaSet) {
        self.sets.handle_set(seq, set);
    }

    /// The engine has that recorded as done.
    pub fn handle_done(&mut self, done: Cursor) {
        self.done = self.done.max(done);
        self.completed = self.completed.max(done);
        // What is done was completed by the sets before it.
        self.sets.forget_before(self.done.min(self.tail));
        self.raise();
    }

    /// What is to be recorded as done, by a compare-and-set that only ever raises it; `None` when it is.
    pub fn to_record(&self) -> Option<Cursor> {
        (self.completed > self.done).then_some(self.completed)
    }

    /// Every purge before this place is completed, and is told so by every replica.
    pub const fn done(&self) -> Cursor {
        self.done
    }

    /// Every purge before this place is completed, though maybe nobody can be told yet. Never goes back.
    pub const fn completed(&self) -> Cursor {
        self.completed
    }

    /// Which replicas count where, as far as that is still of interest.
    pub const fn sets(&self) -> &SetHistory {
        &self.sets
    }

    /// What a replica is known to have stated; [`Cursor::START`] when nothing is.
    pub fn stated_by(&self, replica: Replica) -> Cursor {
        self.stated.get(&replica).copied().unwrap_or_default()
    }

    /// Whether a replica is still needed: it is in the newest set, or in one before it whose end is not done yet. One that
    /// is not may be stopped for good, by somebody who knows that no later record takes it in again.
    pub fn needs(&self, replica: Replica) -> bool {
        self.sets.iter().any(|(_, set)| set.contains(replica))
    }

    fn raise(&mut self) {
        self.completed = self.completed.max(self.level());
    }

    /// Through where a majority has stated: of each set up to the record that ends it, and then of the next one, too. So
    /// nothing is completed by a new set alone before a majority of the old one has let go of what was before.
    fn level(&self) -> Cursor {
        let stated = |replica| self.stated_by(replica);
        let cap = if self.rules.in_force(Rule::OwnTail) { self.tail } else { Cursor::new(u64::MAX) };
        if !self.rules.in_force(Rule::JointMajorities) {
            let set = self.sets.as_of(self.tail);
            let reached = reached(set, Rule::StatementMajority, self.rules, stated);
            return reached.unwrap_or_default().min(cap);
        }
        let mut level = None;
        for (from, set) in self.sets.iter() {
            if from > self.tail || level.is_some_and(|level| level < from) {
                break;
            }
            let reached = reached(set, Rule::StatementMajority, self.rules, stated);
            level = Some(from.max(reached.unwrap_or_default()));
        }
        // The oldest set that is known counts from a place that was completed before.
        level.unwrap_or_default().min(cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: &[u8]) -> ReplicaSet {
        ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn statements(members: &[u8], tail: u64) -> Statements {
        let sets = SetHistory::new(Cursor::START, set(members));
        Statements::new(sets, Cursor::new(tail), Cursor::START)
    }

    fn state(statements: &mut Statements, stated: &[(u8, u64)]) -> u64 {
        for (replica, through) in stated {
            statements.handle_stated(Replica(*replica), Cursor::new(*through));
        }
        statements.completed().get()
    }

    #[test]
    fn alone_a_replica_completes_what_it_states() {
        let mut alone = statements(&[1], 10);
        assert_eq!(state(&mut alone, &[(1, 7)]), 7);
    }

    #[test]
    fn a_majority_completes_and_one_replica_does_not() {
        let mut three = statements(&[1, 2, 3], 10);
        assert_eq!(state(&mut three, &[(1, 9)]), 0);
        assert_eq!(state(&mut three, &[(3, 6)]), 6);
        assert_eq!(state(&mut three, &[(2, 8)]), 8);
        let mut five = statements(&[1, 2, 3, 4, 5], 10);
        assert_eq!(state(&mut five, &[(1, 9), (2, 9)]), 0);
        assert_eq!(state(&mut five, &[(5, 4)]), 4);
    }

    #[test]
    fn late_repeated_and_reordered_statements_change_nothing() {
        let mut three = statements(&[1, 2, 3], 10);
        assert_eq!(state(&mut three, &[(1, 9), (2, 8), (2, 3), (1, 9), (1, 0)]), 8);
        assert_eq!(three.stated_by(Replica(2)), Cursor::new(8));
    }

    #[test]
    fn nothing_is_completed_beyond_what_this_replica_knows_of_the_log() {
        let mut three = statements(&[1, 2, 3], 5);
        assert_eq!(state(&mut three, &[(1, 9), (2, 9)]), 5);
        three.handle_tail(Cursor::new(7));
        assert_eq!(three.completed().get(), 7);
    }

    #[test]
    fn who_is_in_no_set_does_not_count_until_it_is() {
        let mut growing = statements(&[1], 10);
        assert_eq!(state(&mut growing, &[(2, 9), (3, 9)]), 0);
        growing.handle_set(seq(8), set(&[1, 2, 3]));
        assert_eq!(state(&mut growing, &[(1, 7)]), 7, "the old set counts through the record that ends it");
        assert_eq!(state(&mut growing, &[(1, 8)]), 9);
    }

    #[test]
    fn after_a_change_the_old_majority_must_have_reached_it_and_the_new_one_the_purge() {
        let mut changing = statements(&[1, 2, 3], 20);
        changing.handle_set(seq(10), set(&[3, 4, 5]));
        assert_eq!(state(&mut changing, &[(4, 15), (5, 15)]), 0, "the new ones alone complete nothing");
        assert_eq!(state(&mut changing, &[(1, 15), (2, 9)]), 9);
        assert_eq!(state(&mut changing, &[(2, 10)]), 15);
        // Overlapping: the second change while the first is not completed.
        let mut twice = statements(&[1, 2, 3], 20);
        twice.handle_set(seq(10), set(&[3, 4, 5]));
        twice.handle_set(seq(12), set(&[6]));
        assert_eq!(state(&mut twice, &[(6, 20), (1, 20), (2, 20)]), 10);
        assert_eq!(state(&mut twice, &[(4, 11), (5, 13)]), 11);
        assert_eq!(state(&mut twice, &[(3, 12)]), 20);
    }

    #[test]
    fn what_is_completed_is_recorded_and_never_goes_back() {
        let mut three = statements(&[1, 2, 3], 10);
        state(&mut three, &[(1, 9), (2, 6)]);
        assert_eq!((three.to_record(), three.done().get()), (Some(Cursor::new(6)), 0));
        three.handle_done(Cursor::new(6));
        assert_eq!((three.to_record(), three.done().get()), (None, 6));
        // Another replica knew more.
        three.handle_done(Cursor::new(9));
        three.handle_done(Cursor::new(7));
        assert_eq!((three.completed().get(), three.done().get()), (9, 9));
        // A process that starts takes over what is recorded, and asks for no statement about it.
        let again =
            Statements::new(SetHistory::new(Cursor::START, set(&[1, 2, 3])), Cursor::new(10), three.done());
        assert_eq!((again.completed().get(), again.to_record()), (9, None));
    }

    #[test]
    fn who_has_retired_is_not_waited_for_by_a_process_that_starts_later() {
        let mut sets = SetHistory::new(Cursor::START, set(&[1, 2, 3]));
        sets.handle_set(seq(10), set(&[3]));
        let mut later = Statements::new(sets.clone(), Cursor::new(15), Cursor::new(10));
        assert_eq!(state(&mut later, &[(3, 14)]), 14);
        let mut early = Statements::new(sets, Cursor::new(15), Cursor::new(9));
        assert_eq!(state(&mut early, &[(3, 14)]), 9, "the change itself is not completed");
    }

    #[test]
    fn a_replica_retires_when_the_change_that_drops_it_is_done() {
        let mut changing = statements(&[1, 2, 3], 20);
        changing.handle_set(seq(10), set(&[2, 3, 4]));
        assert!([1, 2, 3, 4].map(Replica).iter().all(|replica| changing.needs(*replica)));
        state(&mut changing, &[(1, 12), (2, 12)]);
        changing.handle_done(Cursor::new(9));
        assert!(changing.needs(Replica(1)));
        state(&mut changing, &[(3, 12), (4, 12)]);
        changing.handle_done(Cursor::new(12));
        assert!(!changing.needs(Replica(1)) && changing.needs(Replica(2)) && !changing.needs(Replica(7)));
    }
}
