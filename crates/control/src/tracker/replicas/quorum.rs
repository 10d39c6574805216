//! Who has stated what, and through where that makes purges completed here.
//!
//! ```text
//!  own roster ─ statement ─▶┐                         alone: at once
//!  others' statements ─────▶│ Statements ─ completed ─▶ the row `replicas/done` ─▶ done ─▶ State::decide
//!  records that change sets ▶                         several: by whoever is first
//! ```

use std::collections::{BTreeMap, VecDeque};

use batoff_delivery::{Completed, Roster, SetHistory, Statements};
use batoff_types::{Cursor, InstanceId, Moment, Replica, ReplicaSet, Seq, UnixMillis};

use super::clocks::HeardClocks;
use super::rows::{DoneRow, StatementRow};

/// Rises of `done` that are remembered, so that it can be said when a purge was completed whose row does not say so yet.
const RISES_MAX: usize = 1_024;

/// Through where all is completed, and who says so.
pub(in crate::tracker) struct Quorum {
    own: Replica,
    /// Nobody else can act or read, so nothing needs to be recorded before it is so.
    alone: bool,
    /// This run of the process, as `done` names who raised it.
    process: InstanceId,
    statements: Statements,
    /// Records through here were passed on to be told.
    decided: Cursor,
    /// What this process has raised `done` over and has not passed on, oldest first.
    declared: VecDeque<(Cursor, Cursor)>,
    /// How `done` was raised, newest last.
    rises: VecDeque<Rise>,
    clocks: HeardClocks,
    /// What is to be published next; `None` while this process may state nothing.
    stated: Option<Cursor>,
    /// The last that the others were told.
    published: Option<Cursor>,
    heard: BTreeMap<Replica, HeardReplica>,
}

/// `done` was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct Rise {
    /// To here.
    pub through: Cursor,
    /// Who did …
    pub by: Replica,
    /// … and what his clock showed just before.
    pub at: UnixMillis,
    /// When that was, at the latest, by the clock of this process.
    pub until: Moment,
}

/// The last that was heard of another replica.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct HeardReplica {
    pub at: Moment,
    pub said: StatementRow,
}

/// Records that are completed, all by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct Ruling {
    pub range: Completed,
    /// Whether it is for this process to write down what became of them.
    pub is_ours: bool,
}

impl Quorum {
    /// Of the only control plane, which knows the log through `tail` and finds everything through `completed` told.
    pub(in crate::tracker) fn alone(tail: Cursor, completed: Cursor) -> Self {
        let statements = Statements::new(SetHistory::new(Cursor::START, ReplicaSet::only()), tail, completed);
        Self::new(Replica::ONLY, true, statements, completed)
    }

    /// Of one of several. What became of the tasks through `known` is in their rows.
    pub(in crate::tracker) fn among(own: Replica, statements: Statements, known: Cursor) -> Self {
        Self::new(own, false, statements, known)
    }

    fn new(own: Replica, alone: bool, statements: Statements, decided: Cursor) -> Self {
        Self {
            own,
            alone,
            process: crate::ids::random_instance(),
            statements,
            decided,
            declared: VecDeque::new(),
            rises: VecDeque::new(),
            clocks: HeardClocks::default(),
            stated: None,
            published: None,
            heard: BTreeMap::new(),
        }
    }

    /// Whether nobody else writes this log.
    pub(in crate::tracker) const fn is_alone(&self) -> bool {
        self.alone
    }

    /// Which of them this is.
    pub(in crate::tracker) const fn own(&self) -> Replica {
        self.own
    }

    /// What they have stated.
    pub(in crate::tracker) const fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Records through here were passed on, and may be told if this is not the only control plane.
    pub(in crate::tracker) const fn decided(&self) -> Cursor {
        self.decided
    }

    /// What this process may state now; `None` while its seat is not known to be its own.
    pub(in crate::tracker) const fn stated(&self) -> Option<Cursor> {
        self.stated
    }

    /// The record `seq` says which replicas count from there on. To be told before the log's tail covers it.
    pub(in crate::tracker) fn handle_set(&mut self, seq: Seq, set: ReplicaSet) {
        self.statements.handle_set(seq, set);
    }

    /// Another replica has stated something.
    pub(in crate::tracker) fn handle_statement(&mut self, now: Moment, said: StatementRow) {
        let replica = Replica(said.replica);
        // Its own comes from its roster; what another process of its name has said is none of its business.
        if replica == self.own {
            return;
        }
        self.hear_clock(now, &said);
        if let Some(through) = said.through {
            self.statements.handle_stated(replica, Cursor::new(through));
        }
        self.note(now, replica, said);
    }

    /// What this replica has told the others last.
    pub(in crate::tracker) fn handle_published(&mut self, said: StatementRow, now: Moment) {
        self.published = said.through.map(Cursor::new);
        self.hear_clock(now, &said);
        self.note(now, self.own, said);
    }

    fn note(&mut self, now: Moment, replica: Replica, mut said: StatementRow) {
        // Not each time that it speaks does it tell its settings, which change with a start alone.
        if let Some(before) = self.heard.get(&replica).filter(|before| before.said.term == said.term) {
            said.settings = said.settings.or_else(|| before.said.settings.clone());
        }
        self.heard.insert(replica, HeardReplica { at: now, said });
    }

    fn hear_clock(&mut self, now: Moment, said: &StatementRow) {
        if said.at != 0 {
            self.clocks.handle_said(now, Replica(said.replica), said.term, UnixMillis(said.at));
        }
    }

    /// What the others' clocks show.
    pub(in crate::tracker) const fn clocks(&self) -> &HeardClocks {
        &self.clocks
    }

    /// Whether there is something to tell the others.
    pub(in crate::tracker) fn has_news(&self) -> bool {
        self.stated.is_some_and(|stated| self.published.is_none_or(|published| stated > published))
    }

    /// Whether there is something to be recorded.
    pub(in crate::tracker) fn has_to_record(&self) -> bool {
        !self.alone && self.statements.to_record().is_some()
    }

    /// The last that was heard of each replica, by its number.
    pub(in crate::tracker) fn heard(&self) -> impl Iterator<Item = (Replica, &HeardReplica)> {
        self.heard.iter().map(|(replica, heard)| (*replica, heard))
    }

    /// What `done` is to say next, in the place of what it says: through `after`; `None` when it says all that is known.
    pub(in crate::tracker) fn to_record(&self, wall: UnixMillis, after: Cursor) -> Option<DoneRow> {
        let through = self.statements.to_record().filter(|through| !self.alone && *through > after)?;
        Some(DoneRow {
            after: after.get(),
            through: through.get(),
            at: wall.0,
            by: self.own.0,
            process: self.process.to_string(),
        })
    }

    /// What `done` says, as it is heard now. True when it is for this process to write down what that means: it has written the row, and has not
    /// stood still meanwhile. If it has, others have known for longer when that was.
    pub(in crate::tracker) fn handle_done(&mut self, now: Moment, row: &DoneRow, stood_still: bool) -> bool {
        let through = Cursor::new(row.through);
        let is_ours = row.process == self.process.to_string() && !stood_still;
        if through > self.statements.done() {
            if is_ours {
                self.declared.push_back((Cursor::new(row.after), through));
            }
            if self.rises.len() == RISES_MAX {
                self.rises.pop_front();
            }
            let (by, at) = (Replica(row.by), UnixMillis(row.at));
            let until = self.clocks.moment(by, at).map_or(now, |until| until.min(now));
            self.rises.push_back(Rise { through, by, at, until });
        }
        self.statements.handle_done(through);
        is_ours
    }

    /// How `done` was raised over a record that it covers, as far as that is remembered.
    pub(in crate::tracker) fn raised_over(&self, seq: Seq) -> Option<&Rise> {
        let first = self.rises.partition_point(|rise| !rise.through.covers(seq));
        self.rises.get(first)
    }

    /// Takes in what the roster knows by now. To be called after every step.
    pub(in crate::tracker) fn handle_roster(&mut self, now: Moment, roster: &mut Roster) {
        // Alone, a completion is the roster's own, and whoever may have taken its place is asked before a lease is granted.
        let stated = if self.alone { Some(roster.watermark()) } else { roster.statement(now) };
        self.statements.handle_tail(roster.tail());
        if let Some(watermark) = stated {
            self.statements.handle_stated(self.own, watermark);
        }
        self.stated = stated;
        if self.alone {
            self.statements.handle_done(self.statements.completed());
        }
    }

    /// What is completed and was not passed on yet, as far as this process knows the log: through `tail`.
    pub(in crate::tracker) fn poll_ruling(&mut self, tail: Cursor) -> Option<Ruling> {
        let done = self.statements.done().min(tail);
        let after = self.decided;
        if done <= after {
            return None;
        }
        if self.alone {
            self.decided = done;
            return Some(Ruling { range: Completed { after, through: done }, is_ours: true });
        }
        self.declared.retain(|(_, through)| *through > after);
        let (is_ours, through) = match self.declared.front() {
            Some((from, through)) if *from <= after => (true, done.min(*through)),
            Some((from, _)) => (false, done.min(*from)),
            None => (false, done),
        };
        self.decided = through;
        Some(Ruling { range: Completed { after, through }, is_ours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(own: u8) -> Quorum {
        let set = ReplicaSet::new([1, 2, 3].map(Replica)).unwrap();
        let statements = Statements::new(SetHistory::new(Cursor::START, set), Cursor::new(20), Cursor::START);
        Quorum::among(Replica(own), statements, Cursor::START)
    }

    fn said(replica: u8, through: u64) -> StatementRow {
        StatementRow { replica, through: Some(through), ..StatementRow::default() }
    }

    fn at(ms: u64) -> Moment {
        Moment::ZERO + std::time::Duration::from_millis(ms)
    }

    fn range(after: u64, through: u64) -> Completed {
        Completed { after: Cursor::new(after), through: Cursor::new(through) }
    }

    #[test]
    fn a_majority_is_recorded_before_it_is_passed_on() {
        let mut quorum = three(1);
        quorum.handle_statement(Moment::ZERO, said(2, 9));
        assert_eq!(quorum.to_record(UnixMillis(7), Cursor::START), None);
        quorum.handle_statement(Moment::ZERO, said(3, 6));
        assert_eq!(quorum.poll_ruling(Cursor::new(20)), None, "not recorded");
        let row = quorum.to_record(UnixMillis(7), Cursor::START).unwrap();
        assert_eq!((row.after, row.through, row.by), (0, 6, 1));
        assert!(quorum.handle_done(at(9), &row, false));
        let ruling = quorum.poll_ruling(Cursor::new(20));
        assert_eq!(ruling, Some(Ruling { range: range(0, 6), is_ours: true }));
        assert_eq!(
            (quorum.poll_ruling(Cursor::new(20)), quorum.to_record(UnixMillis(8), Cursor::new(6))),
            (None, None)
        );
        let rise = Rise { through: Cursor::new(6), by: Replica(1), at: UnixMillis(7), until: at(9) };
        assert_eq!(quorum.raised_over(Seq::new(6).unwrap()), Some(&rise));
        assert_eq!(quorum.raised_over(Seq::new(7).unwrap()), None);
    }

    #[test]
    fn when_it_was_done_is_told_by_what_was_heard_of_the_clock_that_says_so() {
        let mut quorum = three(1);
        // Its clock is an hour behind, and shows the second second when this process is 90 s old.
        let tick = |ms| StatementRow { at: ms, ..said(2, 3) };
        quorum.handle_statement(at(90_005), tick(2_000));
        let row = DoneRow { after: 0, through: 3, at: 4_000, by: 2, process: String::new() };
        quorum.handle_done(at(99_000), &row, true);
        let until = |seq| quorum.raised_over(Seq::new(seq).unwrap()).unwrap().until;
        assert_eq!(until(3), at(92_005));
        // Not after it was heard, whatever a clock says that was set forward.
        let row = DoneRow { after: 3, through: 4, at: 4_000_000, by: 2, process: String::new() };
        quorum.handle_done(at(99_000), &row, true);
        let until = |seq| quorum.raised_over(Seq::new(seq).unwrap()).unwrap().until;
        assert_eq!(until(4), at(99_000));
    }

    #[test]
    fn each_record_is_written_down_by_who_declared_it() {
        let (mut quorum, mut other) = (three(1), three(2));
        let (a, b) = (|through| said(2, through), |through| said(3, through));
        for one in [&mut quorum, &mut other] {
            one.handle_statement(Moment::ZERO, a(5));
            one.handle_statement(Moment::ZERO, b(5));
        }
        other.statements.handle_stated(Replica(2), Cursor::new(5));
        let theirs = other.to_record(UnixMillis(1), Cursor::START).unwrap();
        quorum.handle_done(at(9), &theirs, false);
        quorum.handle_statement(Moment::ZERO, a(9));
        quorum.handle_statement(Moment::ZERO, b(9));
        let ours = quorum.to_record(UnixMillis(2), Cursor::new(5)).unwrap();
        quorum.handle_done(at(9), &ours, false);
        // It knows the log through 8 only.
        let rulings: Vec<_> = std::iter::from_fn(|| quorum.poll_ruling(Cursor::new(8))).collect();
        let of = |range, is_ours| Ruling { range, is_ours };
        assert_eq!(rulings, [of(range(0, 5), false), of(range(5, 8), true)]);
        assert_eq!(quorum.poll_ruling(Cursor::new(20)), Some(of(range(8, 9), true)));
        // The same row again, and an older one.
        quorum.handle_done(at(9), &ours, false);
        quorum.handle_done(at(9), &theirs, false);
        assert_eq!(quorum.poll_ruling(Cursor::new(20)), None);
    }

    #[test]
    fn who_stood_still_leaves_it_to_others_to_write_down_what_it_declared() {
        for stood_still in [false, true] {
            let mut quorum = three(1);
            quorum.handle_statement(Moment::ZERO, said(2, 9));
            quorum.handle_statement(Moment::ZERO, said(3, 6));
            let row = quorum.to_record(UnixMillis(7), Cursor::START).unwrap();
            assert_eq!(quorum.handle_done(at(9), &row, stood_still), !stood_still);
            let ruling = quorum.poll_ruling(Cursor::new(20));
            assert_eq!(ruling, Some(Ruling { range: range(0, 6), is_ours: !stood_still }));
        }
    }
}
