//! What is true, kept apart from everything that the system believes.

use std::collections::BTreeMap;

use batoff_types::{Cursor, Replica};

use super::cluster::{Cluster, END, JUDGED, Step};
use super::daemon::name;
use super::engine::Entry;
use super::{SeveralOutcome, Temper};
use crate::oracle::Violation;
use crate::world::seconds;

/// Violations of one run that are kept; who wants more has seen enough.
const VIOLATIONS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What some replica calls completed.
    completed: Cursor,
    /// What the processes of each replica have stated.
    stated: BTreeMap<Replica, Cursor>,
    /// When each record was recorded as done.
    done_at: Vec<u64>,
    pub(super) violations: Vec<Violation>,
}

impl Verdict {
    pub(super) fn done(&mut self, now: u64, through: Cursor) {
        self.done_at.resize(self.done_at.len().max(through.get() as usize), now);
    }

    pub(super) fn fail(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

impl Cluster {
    /// A process calls everything before that completed.
    pub(super) fn judge_completed(&mut self, process: usize, through: Cursor) {
        let through = through.min(self.engine.head());
        if through <= self.verdict.completed {
            return;
        }
        self.verdict.completed = through;
        let replica = self.processes[process].replica.to_string();
        self.say(&replica, || format!("process {process} completes {through:?}"));
        for daemon in 0..self.daemons.len() {
            self.judge_daemon(daemon, "completed");
        }
    }

    /// A process of that replica states its watermark.
    pub(super) fn judge_statement(&mut self, replica: Replica, through: Cursor) {
        let stated = self.verdict.stated.entry(replica).or_default();
        if through <= *stated {
            return;
        }
        *stated = through;
        for daemon in 0..self.daemons.len() {
            self.judge_daemon(daemon, "statement");
        }
    }

    /// I1: whether that node serves what it must not.
    pub(super) fn judge_daemon(&mut self, daemon: usize, why: &str) {
        if !self.runs(daemon) {
            return;
        }
        let (moment, place, feeds) =
            (self.moment_of(daemon), self.place_of(daemon), &self.daemons[daemon].feeds);
        let completed = self.verdict.completed;
        let serves = feeds.may_serve(moment);
        let untrue =
            self.verdict.stated.iter().find(|(replica, stated)| {
                feeds.granted_until(**replica) > moment && feeds.cursor() < **stated
            });
        let node = || name(self.daemons[daemon].node);
        let untrue = untrue.map(|(replica, stated)| {
            format!(
                "{} holds a lease of {replica} at {:?}, which has stated {stated:?} ({why})",
                node(),
                feeds.cursor()
            )
        });
        let served = (serves && place < completed).then(|| {
            format!(
                "{} (daemon {daemon}) serves at {place:?}, and {completed:?} is completed ({why})",
                node()
            )
        });
        let left = self.machines[self.daemons[daemon].machine].left.iter();
        let beside = left.filter(|(replica, term, until)| {
            *until > moment && feeds.granted_until(*replica) > moment && feeds.max_term(*replica) == *term
        });
        let beside = beside.map(|(replica, ..)| *replica).next();
        let beside = beside.map(|it| {
            format!("{} holds a lease of {it} beside one that was granted to its last daemon", node())
        });
        if let Some(what) = beside {
            self.fail(Violation::Leases(what));
        }
        if let Some(what) = untrue {
            self.fail(Violation::Ground(what));
        }
        if let Some(what) = served {
            self.fail(Violation::Served(what));
        }
    }

    pub(super) fn look(&mut self) {
        if self.now > seconds(3.0) {
            for daemon in 0..self.daemons.len() {
                if self.daemons[daemon].up {
                    self.outcome.looks += 1;
                    self.outcome.leased += u64::from(self.is_leased(daemon));
                }
            }
            self.look_at_the_well_one();
        }
        self.after(0.02, Step::Look);
    }

    /// I4: while one replica is faulty, a node without a fault of its own keeps its lease.
    fn look_at_the_well_one(&mut self) {
        let set = self.engine.set_at(self.engine.head());
        let faulty = self.faulty.iter().filter(|(replica, until)| {
            **until > self.now && replica.is_some_and(|replica| set.contains(replica))
        });
        let gentle = self.temper == Temper::Gentle;
        if !gentle || set.members().len() < 3 || self.engine.initial.members().len() < 3 {
            return;
        }
        let one = faulty.count() == 1;
        let Some(daemon) = self.machines[0].daemon else { return };
        self.outcome.looks_at_well += u64::from(one);
        if !self.is_leased(daemon) {
            self.outcome.unleased += 1;
            let what = format!("{} has no lease, though nothing is wrong with it", name(0));
            self.fail(Violation::Leases(what));
        }
    }

    pub(super) fn finish(mut self) -> SeveralOutcome {
        if self.verdict.violations.is_empty() {
            self.judge_delays();
            self.judge_the_end();
        }
        self.outcome.violations = std::mem::take(&mut self.verdict.violations);
        self.outcome
    }

    /// I4: two seconds from acceptance, or from the end of what excuses.
    fn judge_delays(&mut self) {
        if matches!(self.temper, Temper::Wild | Temper::Twins) {
            return;
        }
        // While a single replica grows into several, it is still the only one.
        let promised = self.engine.initial.members().len() > 1 || !self.features.sets;
        let mut late = Vec::new();
        for (index, (accepted, _)) in self.engine.entries.iter().enumerate() {
            let done = self.verdict.done_at.get(index).copied().unwrap_or(seconds(99.0));
            let base = self.excused.iter().filter(|(from, until)| *from < done && until > accepted);
            let base = base.map(|(_, until)| *until).fold(*accepted, u64::max);
            // The first wait is not over before.
            if *accepted < seconds(2.5) || base > seconds(END - 3.0) {
                continue;
            }
            let took = done.saturating_sub(base) as f64 / 1e6;
            self.outcome.took.push(took);
            if took > 2.0 {
                self.outcome.late += 1;
                late.push(format!(
                    "#{}, accepted at {:.3}, took {took:.3} s",
                    index + 1,
                    *accepted as f64 / 1e6
                ));
            }
        }
        for what in late.into_iter().filter(|_| promised) {
            self.fail(Violation::Late(what));
        }
    }

    /// I2: all is quiet; everything has reached everybody, and is done.
    fn judge_the_end(&mut self) {
        let quiet =
            self.engine.entries.iter().take_while(|(accepted, _)| *accepted < seconds(JUDGED)).count() as u64;
        if self.engine.done.get() < quiet {
            let what = format!("{:?} is done in the end, and #{quiet} was accepted", self.engine.done);
            self.fail(Violation::Missed(what));
        }
        for daemon in 0..self.daemons.len() {
            let (node, cursor) = (self.daemons[daemon].node, self.daemons[daemon].feeds.cursor());
            if self.daemons[daemon].up && !self.removed.contains(&node) && cursor.get() < quiet {
                let what = format!("{} ends at {cursor:?}, and #{quiet} was accepted", name(node));
                self.fail(Violation::Missed(what));
            }
        }
    }

    /// A client asks a replica that is there.
    pub(super) fn purge(&mut self) {
        let can = self
            .processes
            .iter()
            .any(|it| it.open.is_some() && it.frozen_until <= self.now && it.cut_until <= self.now);
        if can && self.engine.down_until <= self.now {
            self.append(Entry::Purge);
        }
        let mean = self.random.pick(&[0.083, 0.5]);
        let next = self.random.around(mean);
        self.after(next, Step::Purge);
    }
}
