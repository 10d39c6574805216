//! What is true, kept apart from everything that the system believes.

use std::fmt;

use crate::catalog::Hits;
use crate::world::seconds;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// I1: something was, or could have been, served though its purge was completed before.
    Served(String),
    /// I1: something that completions rest on does not hold, though nothing was served on that ground yet.
    Ground(String),
    /// I2: a purge did not reach a node.
    Missed(String),
    /// I3: a cursor or the watermark went back, or skipped.
    Cursor(String),
    /// I4: a purge was not completed within two seconds.
    Late(String),
    /// I4, by G4: two runs of one daemon hold leases at the same time.
    Leases(String),
    /// I5: something grew over its bound.
    Memory(String),
}

impl Violation {
    /// The invariant's number, 1 to 5.
    pub const fn invariant(&self) -> usize {
        match self {
            Self::Served(_) | Self::Ground(_) => 1,
            Self::Missed(_) => 2,
            Self::Cursor(_) => 3,
            Self::Late(_) | Self::Leases(_) => 4,
            Self::Memory(_) => 5,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Served(what)
        | Self::Ground(what)
        | Self::Missed(what)
        | Self::Cursor(what)
        | Self::Late(what)
        | Self::Leases(what)
        | Self::Memory(what)) = self;
        write!(f, "I{}: {what}", self.invariant())
    }
}

/// One record that was durable, and what it should have done.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) seq: u64,
    pub(crate) accepted: u64,
    pub(crate) completed: Option<u64>,
    /// Somebody was told 202.
    pub(crate) promised: bool,
    /// It was lost with the log's end when a backup was restored.
    pub(crate) lost: bool,
    pub(crate) soft: bool,
    pub(crate) hits: Vec<Hits>,
}

/// How much of the completed purges an object was compared with, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    through: usize,
    /// A completed hard purge hit it: it must not be served.
    pub(crate) hard: Option<usize>,
    /// A completed soft purge hit it: it must not be served as fresh.
    pub(crate) soft: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) truths: Vec<Truth>,
    /// Of each record of the present log, which truth it is.
    by_seq: Vec<usize>,
    /// In the order in which they were completed.
    completed: Vec<usize>,
    watermark: u64,
    pub(crate) violations: Vec<Violation>,
}

impl Oracle {
    pub(crate) fn accepted(&mut self, truth: Truth) {
        self.by_seq.push(self.truths.len());
        self.truths.push(truth);
    }

    /// The control plane says so of everything before that place.
    pub(crate) fn completed(&mut self, now: u64, after: u64, through: u64) {
        if through > self.by_seq.len() as u64 || after > self.watermark {
            self.fail(Violation::Cursor(format!(
                "|{after} to |{through} was completed at watermark |{}",
                self.watermark
            )));
            return;
        }
        for seq in self.watermark..through {
            let number = self.by_seq[seq as usize];
            if self.truths[number].completed.is_none() {
                self.truths[number].completed = Some(now);
                self.completed.push(number);
            }
        }
        self.watermark = self.watermark.max(through);
    }

    pub(crate) const fn watermark(&self) -> u64 {
        self.watermark
    }

    /// A backup was restored that ends there.
    pub(crate) fn restored(&mut self, through: u64) {
        for number in self.by_seq.drain(through as usize..) {
            self.truths[number].lost = true;
        }
        self.watermark = self.watermark.min(through);
    }

    /// Compares an object with what was completed since it was last compared. What became completed at `now` itself is
    /// not held against it yet.
    pub(crate) fn judge(&self, now: u64, judged: &mut Judged, url: usize, tags: u8, fetched_at: u64) {
        while let Some(&number) = self.completed.get(judged.through) {
            let truth = &self.truths[number];
            if truth.completed.is_none_or(|at| at >= now) {
                return;
            }
            judged.through += 1;
            if truth.accepted > fetched_at && truth.hits.iter().any(|hits| hits.hit(url, tags)) {
                let which = if truth.soft { &mut judged.soft } else { &mut judged.hard };
                which.get_or_insert(number);
            }
        }
    }

    /// The newest hard purge accepted after `fetched_at` that hits the object, completed or not.
    pub(crate) fn purged(&self, url: usize, tags: u8, fetched_at: u64) -> Option<&Truth> {
        let after = self.truths.partition_point(|truth| truth.accepted <= fetched_at);
        let mut newest = self.truths[after..].iter().rev();
        newest
            .find(|truth| truth.promised && !truth.soft && truth.hits.iter().any(|hits| hits.hit(url, tags)))
    }

    /// I4. Two seconds from acceptance, or from the last start (or thaw) before the completion. Gives the longest, in
    /// seconds.
    pub(crate) fn judge_delays(&mut self, starts: &[u64], from: u64, until: u64) -> f64 {
        let mut slowest = 0.0_f64;
        let mut late = Vec::new();
        for truth in &self.truths {
            if truth.lost || truth.accepted < from || truth.accepted > until {
                continue;
            }
            let completed = truth.completed.unwrap_or(seconds(99.0));
            let zero =
                starts.iter().copied().filter(|start| *start <= completed).fold(truth.accepted, u64::max);
            let took = (completed - zero) as f64 / 1e6;
            slowest = slowest.max(took);
            if took > 2.0 {
                let (seq, at) = (truth.seq, truth.accepted as f64 / 1e6);
                late.push(Violation::Late(format!("#{seq}, accepted at {at:.6}, took {took:.3} s")));
            }
        }
        late.into_iter().for_each(|violation| self.fail(violation));
        slowest
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

/// Violations of one run that are kept; who wants more has seen enough.
const VIOLATIONS_MAX: usize = 64;
