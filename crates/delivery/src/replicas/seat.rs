//! Which process may act for a replica.
//!
//! A replica is a seat that one process after the other takes. What a process granted or stated binds the next one, so
//! two must never act at the same time, wherever they run. A process registers in the engine, and from then on acts only
//! within [`SEAT`] of the start of its last proof that nobody has registered since. So whoever registers next knows after
//! how long its predecessor has certainly stopped, and waits for that. Refusing lower terms at the nodes would not do: a
//! node may never have met the new process.
//!
//! After that wait, and not before, it asks the engine where the log ends: that place is the floor of every node, since
//! whatever was completed on a predecessor's word lies before it.
//!
//! A process that is stopped in order *releases* its seat: it grants and states nothing from then on, whatever becomes of
//! it, and then has that written into the record. Its successor, wherever it runs, knows by it what a free lock tells one
//! in the same place, and need not wait for the seat either. The leases that were granted may still run: for those the
//! roster waits after every start. A release that nobody knows the outcome of does no harm: it is true before it is sent.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Cursor, InstanceId, Moment, Replica, Term};

use crate::LeaseTimes;
use crate::rules::{Rule, RuleSet};

/// How long a process may act after it has shown that its seat is its own. It is how long the engine may be out of reach
/// before nodes lose their leases, and how long a successor on another machine has to wait.
pub const SEAT: Duration = Duration::from_secs(30);

/// How often that is shown anew.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// After the engine did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Who wants a seat.
#[derive(Clone, Debug)]
pub struct SeatConfig {
    /// Which seat.
    pub replica: Replica,
    /// This process, by a random number of its own.
    pub process: InstanceId,
    /// Where this process holds a lock that is freed when it ends, and only then: the machine, and the file there. While
    /// it is held nobody else acts from this place. `None`: there is no such lock.
    pub place: Option<Arc<str>>,
    /// How long a proof counts, [`SEAT`] where nothing speaks against it. The same for every process that ever takes the
    /// seat, or a successor's wait is too short.
    pub seat: Duration,
    /// The term is at least this one: higher than any that the replica had before it had a record in the engine, or after
    /// the copy of the engine's data was made that is in use now.
    pub term_least: Term,
    /// For the rates of clocks.
    pub times: LeaseTimes,
}

/// What the engine keeps of a seat: the process that took it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatRecord {
    /// Its term, one higher than its predecessor's.
    pub term: Term,
    /// The process.
    pub process: InstanceId,
    /// Where it holds its lock.
    pub place: Option<Arc<str>>,
    /// Whether it has waited until its predecessor had certainly stopped, or need not.
    pub waited: bool,
    /// Whether it has said that it will never act again.
    pub released: bool,
}

/// What the shell is to ask of the engine. All of it is linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatRequest {
    /// The seat's record.
    Read,
    /// Replace the record, if it is still the one that is expected.
    Replace {
        /// What must be there; `None`: nothing.
        expected: Option<SeatRecord>,
        /// What is to be there.
        new: SeatRecord,
    },
    /// Where the log ends.
    Head,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatAnswer {
    /// The record, if there is one.
    Record(Option<SeatRecord>),
    /// The record was replaced, durably.
    Replaced,
    /// Another record was there.
    Conflict,
    /// The log ends there.
    Head(Cursor),
    /// The engine did not answer, or nobody knows what it did.
    Unknown,
}

/// A process's hold on its seat: from registering to the first grant, and after that the proof, again and again, that
/// nobody has registered since.
///
/// The shell polls a request, carries it out, and hands the answer back; there is never more than one under way.
#[derive(Debug)]
pub struct Seat {
    config: SeatConfig,
    stage: Stage,
    /// The request under way, and when it began.
    asked: Option<(SeatRequest, Moment)>,
    /// No request before that.
    next: Moment,
    /// It may act until then, once it may act at all.
    held_until: Moment,
    rules: RuleSet,
    /// Where the log ended before the wait, for simulations of doing it in that order.
    early: Option<Cursor>,
}

/// How far a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The record has to be read.
    New,
    /// The record can be replaced, if it is this one.
    Known(Option<SeatRecord>),
    /// It is registered, and its predecessor may act until then.
    Waiting { own: SeatRecord, until: Moment },
    /// Its predecessor has stopped for good.
    Alone { own: SeatRecord },
    /// It may act.
    Seated { own: SeatRecord, floor: Cursor },
    /// It does not act any more, and is about to say so.
    Releasing { own: SeatRecord },
    /// It does not act any more, and has said so if anybody is to hear it.
    Released,
    /// Another process has registered.
    Lost,
}

impl Seat {
    /// For a process that starts at `now`.
    pub fn new(config: SeatConfig, now: Moment) -> Self {
        Self {
            config,
            stage: Stage::New,
            asked: None,
            next: now,
            held_until: Moment::ZERO,
            rules: RuleSet::default(),
            early: None,
        }
    }

    /// Leaves out one rule, so that a simulation can show that it notices. For tests only.
    #[cfg(any(test, feature = "mutations"))]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.rules = RuleSet { off: Some(rule) };
        self
    }

    /// What to ask next. To be asked again at [`Seat::next_timeout`], and after each answer.
    pub fn poll_request(&mut self, now: Moment) -> Option<SeatRequest> {
        if self.asked.is_some() || now < self.next {
            return None;
        }
        let early = !self.rules.in_force(Rule::HeadAfterWait) && self.early.is_none();
        let request = match &self.stage {
            Stage::New | Stage::Seated { .. } => SeatRequest::Read,
            Stage::Known(found) => {
                SeatRequest::Replace { expected: found.clone(), new: self.successor(found.as_ref()) }
            }
            Stage::Waiting { .. } if early => SeatRequest::Head,
            Stage::Waiting { own, until } if now > *until => SeatRequest::Replace {
                expected: Some(own.clone()),
                new: SeatRecord { waited: true, ..own.clone() },
            },
            Stage::Waiting { .. } => SeatRequest::Read,
            Stage::Alone { .. } => SeatRequest::Head,
            Stage::Releasing { own } => SeatRequest::Replace {
                expected: Some(own.clone()),
                new: SeatRecord { released: true, ..own.clone() },
            },
            Stage::Released | Stage::Lost => return None,
        };
        self.asked = Some((request.clone(), now));
        Some(request)
    }

    /// The record by which this process takes the seat after that one.
    fn successor(&self, found: Option<&SeatRecord>) -> SeatRecord {
        let waited = match found {
            // Nobody has ever acted.
            None => true,
            // The lock is held here now, or that process has said so itself: it is gone. But what it was still waiting for
            // may act.
            Some(last) => {
                let here = last.place.is_some() && last.place == self.config.place;
                (here || last.released) && (last.waited || !self.rules.in_force(Rule::SeatChain))
            }
        };
        SeatRecord {
            term: Term(found.map_or(0, |last| last.term.0).saturating_add(1)).max(self.config.term_least),
            process: self.config.process,
            place: self.config.place.clone(),
            waited: waited || !self.rules.in_force(Rule::SeatWait),
            released: false,
        }
    }

    /// The answer to the request under way. Every request must get one, [`SeatAnswer::Unknown`] when its time is over.
    pub fn handle_answer(&mut self, now: Moment, answer: SeatAnswer) {
        let Some((request, began)) = self.asked.take() else { return };
        self.next = now;
        let stage = std::mem::replace(&mut self.stage, Stage::New);
        self.stage = match (stage, request, answer) {
            (Stage::Lost, _, _) => Stage::Lost,
            // Nothing that comes now makes it act again.
            (Stage::Released, _, _) => Stage::Released,
            // In the way of it stands what an earlier try has written, or a successor, who has not waited for this.
            (
                Stage::Releasing { .. },
                SeatRequest::Replace { .. },
                SeatAnswer::Replaced | SeatAnswer::Conflict,
            ) => Stage::Released,
            (Stage::Releasing { own }, _, answer) => {
                if answer == SeatAnswer::Unknown {
                    self.next = now + RETRY_AFTER;
                }
                Stage::Releasing { own }
            }
            (stage, _, SeatAnswer::Unknown) => {
                self.next = now + RETRY_AFTER;
                match stage {
                    // It may have been written. So what is there is read anew, and may be this process's own.
                    Stage::Known(_) => Stage::New,
                    other => other,
                }
            }
            (Stage::New, SeatRequest::Read, SeatAnswer::Record(found)) => match found {
                Some(own) if own.process == self.config.process => self.take_seat(now, began, own),
                other => Stage::Known(other),
            },
            (Stage::Known(_), SeatRequest::Replace { new, .. }, SeatAnswer::Replaced) => {
                self.take_seat(now, began, new)
            }
            (Stage::Known(_), _, _) => Stage::New,
            (stage, SeatRequest::Read, SeatAnswer::Record(found)) => self.check(now, began, stage, found),
            (Stage::Waiting { .. }, SeatRequest::Replace { new, .. }, SeatAnswer::Replaced) => {
                self.prove(now, began);
                self.next = now;
                Stage::Alone { own: new }
            }
            // Somebody else has registered, or an answer to an earlier try was lost: the record tells.
            (Stage::Waiting { own, .. }, SeatRequest::Replace { .. }, _) => {
                Stage::Waiting { own, until: now + RETRY_AFTER }
            }
            (Stage::Waiting { own, until }, SeatRequest::Head, SeatAnswer::Head(head)) => {
                self.early = Some(head);
                Stage::Waiting { own, until }
            }
            (Stage::Alone { own }, SeatRequest::Head, SeatAnswer::Head(head)) => {
                Stage::Seated { own, floor: self.early.unwrap_or(head) }
            }
            // No answer to that request.
            (stage, _, _) => stage,
        };
    }

    /// It is registered; the request that did so, or showed so, began at `began`.
    fn take_seat(&mut self, now: Moment, began: Moment, own: SeatRecord) -> Stage {
        self.prove(now, began);
        self.next = now;
        if own.waited {
            return Stage::Alone { own };
        }
        // Counted from now: the predecessor's last proof began before this process was registered.
        let until = now + self.config.times.held_for(self.config.seat);
        Stage::Waiting { own, until }
    }

    /// The record was read to see whose the seat is.
    fn check(&mut self, now: Moment, began: Moment, stage: Stage, found: Option<SeatRecord>) -> Stage {
        let is_own = found.as_ref().is_some_and(|found| found.process == self.config.process);
        if !is_own {
            return Stage::Lost;
        }
        self.prove(now, began);
        match (stage, found) {
            (Stage::Waiting { .. }, Some(own)) if own.waited => {
                self.next = now;
                Stage::Alone { own }
            }
            (Stage::Waiting { own, until }, _) => {
                self.next = self.next.min(until + Duration::from_micros(1));
                Stage::Waiting { own, until }
            }
            (stage, _) => stage,
        }
    }

    /// A request that began then has shown that the seat is this process's own.
    fn prove(&mut self, now: Moment, began: Moment) {
        self.held_until = self.held_until.max(began + self.config.seat);
        self.next = now + CHECK_EVERY.min(self.config.seat / 8);
    }

    /// A proof that begins now is wanted: this process may have stood still, and grants nothing before it knows better
    /// ([`crate::Roster::stood_still`]). Of no effect while a request is under way.
    pub fn hurry(&mut self, now: Moment) {
        if matches!(self.stage, Stage::Seated { .. }) {
            self.next = self.next.min(now);
        }
    }

    /// This process stops in order: from now on it may not act, and as soon as no request is under way it asks for that
    /// to be recorded, so that its successor need not wait. Of one that still waits for its own predecessor nothing is
    /// recorded: what that one may do is not this one's to release.
    pub fn release(&mut self, now: Moment) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::New) {
            Stage::Alone { own } | Stage::Seated { own, .. } | Stage::Releasing { own } => {
                Stage::Releasing { own }
            }
            Stage::New | Stage::Known(_) | Stage::Waiting { .. } | Stage::Released => Stage::Released,
            Stage::Lost => Stage::Lost,
        };
        if self.rules.in_force(Rule::ReleaseLast) {
            self.held_until = Moment::ZERO;
        }
        self.next = self.next.min(now);
    }

    /// When to poll next; `None` while a request is under way, or when there is nothing to ask any more.
    pub fn next_timeout(&self) -> Option<Moment> {
        let is_over = matches!(self.stage, Stage::Lost | Stage::Released);
        (self.asked.is_none() && !is_over).then_some(self.next)
    }

    /// The floor of every node, once this process may act: where the log ended after its predecessor had stopped. The
    /// roster starts with it as its tail, when this process has read the log through there.
    pub const fn floor(&self) -> Option<Cursor> {
        match &self.stage {
            Stage::Seated { floor, .. } => Some(*floor),
            _ => None,
        }
    }

    /// The term of this process, once it is registered.
    pub const fn term(&self) -> Option<Term> {
        match &self.stage {
            Stage::Waiting { own, .. }
            | Stage::Alone { own }
            | Stage::Seated { own, .. }
            | Stage::Releasing { own } => Some(own.term),
            Stage::New | Stage::Known(_) | Stage::Released | Stage::Lost => None,
        }
    }

    /// Until when this process may grant leases and state its watermark, once it has a [`Seat::floor`]. To be told to the
    /// roster whenever it moves ([`crate::Roster::handle_seated`]).
    pub const fn held_until(&self) -> Moment {
        self.held_until
    }

    /// Another process has taken the seat. This one is to end: whatever it says from now on nobody may believe.
    pub fn is_lost(&self) -> bool {
        self.stage == Stage::Lost
    }

    /// It does not act any more, and has nothing left to ask.
    pub fn is_released(&self) -> bool {
        self.stage == Stage::Released
    }

    /// Until when a predecessor may act, while this process waits for that.
    pub const fn waits_until(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// The seat.
    pub const fn replica(&self) -> Replica {
        self.config.replica
    }
}

#[cfg(test)]
mod tests;
