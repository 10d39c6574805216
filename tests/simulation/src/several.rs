//! Several control planes beside one log, in virtual time: the real `Seat`, `Roster`, `Outbox`, `Statements` and `Feeds`, an
//! engine that fails, links that fail each way, and an oracle that looks at every node whenever something is completed
//! and whenever a node may begin to serve.
//!
//! Caches are not in it: an object is what its node's cursor says (for an available node, the furthest it ever applied,
//! since it removes objects before it acknowledges). What is checked:
//!
//! - **I1** no node serves at a cursor below what is completed; and what a replica has stated is true: no lease of its, by
//!   whichever process, is held by a node below that;
//! - **I2** every record reaches every node, and is recorded as done, when the faults are over;
//! - **I3** no stream has a gap, nothing goes back;
//! - **I4** in worlds with one replica faulty at a time: nothing is completed later than two seconds after it was accepted
//!   (or after an outage of the engine), and the node that has no fault of its own never loses its lease.
//!
//! Half of the worlds are *gentle*, with one faulty replica at a time and one node without faults; half are *wild*, with
//! everything at once, two processes of one replica or one node, sets that change while they change, and a log that is
//! trimmed over nodes' heads.

mod chaos;
mod cluster;
mod daemon;
mod engine;
mod process;
mod verdict;

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use batoff_delivery::PromptFeeds;

use crate::{Switch, Violation};

/// How cruel a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// One replica faulty at a time, and the first node never.
    Gentle,
    /// Everything at once.
    Wild,
    /// No fault at all: what a completion costs.
    Calm,
    /// One rare story again and again: a replica with two processes, one cut off from the engine, and a node that dies.
    Twins,
}

impl Temper {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gentle, Self::Wild, Self::Calm, Self::Twins];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gentle => "gentle",
            Self::Wild => "wild",
            Self::Calm => "calm",
            Self::Twins => "twins",
        }
    }

    const fn of(seed: u64) -> Self {
        if seed % 2 == 1 { Self::Gentle } else { Self::Wild }
    }
}

impl FromStr for Temper {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|temper| temper.as_str() == text);
        let names = || Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("no temper is named {text:?}; there are {}", names()))
    }
}

/// How to make a run.
#[derive(Clone, Copy, Debug)]
pub struct SeveralOptions {
    /// Replicas in the first set.
    pub replicas: u8,
    /// The rule to leave out, if any. Those of the state machines need the feature `mutations`.
    pub without: Option<Switch>,
    /// How cruel; `None`: the seed chooses.
    pub temper: Option<Temper>,
    /// How many streams of a node bring records at once; `None`: the seed chooses between one, two and all.
    pub feeds: Option<PromptFeeds>,
    /// Print what happens, a line each.
    pub trace: bool,
}

impl Default for SeveralOptions {
    fn default() -> Self {
        Self { replicas: 3, without: None, temper: None, feeds: None, trace: false }
    }
}

/// Makes one run.
pub fn run_several(seed: u64, options: SeveralOptions) -> SeveralOutcome {
    cluster::Cluster::new(seed, options).run()
}

/// Makes runs until one is violated, or all are made.
pub fn search_several(seeds: std::ops::Range<u64>, options: SeveralOptions) -> SeveralSummary {
    let mut summary = SeveralSummary::default();
    for seed in seeds {
        summary += run_several(seed, options);
        if !summary.bad.is_empty() {
            break;
        }
    }
    summary
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeveralOutcome {
    /// Its seed.
    pub seed: u64,
    /// Records accepted.
    pub records: u64,
    /// Of those that were to be completed in time, how many were not.
    pub late: u64,
    /// The seconds that each of them took.
    pub took: Vec<f64>,
    /// Looks at nodes, and how many of them had a lease.
    pub looks: u64,
    /// See above.
    pub leased: u64,
    /// Looks at the node without faults while one replica was faulty.
    pub looks_at_well: u64,
    /// How many of those found it without a lease.
    pub unleased: u64,
    /// Nodes that dropped everything.
    pub resets: u64,
    /// Changes of the set.
    pub changes: u64,
    /// Seats that were lost to another process.
    pub seats_lost: u64,
    /// Messages sent between nodes and replicas.
    pub messages: u64,
    /// Records sent to nodes, each on each stream.
    pub records_sent: u64,
    /// Of those, on streams that only fill in.
    pub filled_in: u64,
    /// What did not hold, in the order of discovery.
    pub violations: Vec<Violation>,
}

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct SeveralSummary {
    /// Runs.
    pub seeds: u64,
    /// Seeds with a violation.
    pub bad: Vec<u64>,
    /// All figures added up; of violations the first bad seed's.
    pub total: SeveralOutcome,
}

impl AddAssign<SeveralOutcome> for SeveralSummary {
    fn add_assign(&mut self, outcome: SeveralOutcome) {
        self.seeds += 1;
        let total = &mut self.total;
        total.records += outcome.records;
        total.late += outcome.late;
        total.took.extend(&outcome.took);
        total.looks += outcome.looks;
        total.leased += outcome.leased;
        total.looks_at_well += outcome.looks_at_well;
        total.unleased += outcome.unleased;
        total.resets += outcome.resets;
        total.changes += outcome.changes;
        total.seats_lost += outcome.seats_lost;
        total.messages += outcome.messages;
        total.records_sent += outcome.records_sent;
        total.filled_in += outcome.filled_in;
        if outcome.violations.is_empty() {
            return;
        }
        if self.bad.is_empty() {
            total.seed = outcome.seed;
            total.violations = outcome.violations;
        }
        self.bad.push(outcome.seed);
    }
}

impl SeveralSummary {
    /// The share of looks at nodes that found a lease: an oracle that sees few proves little.
    pub fn share_leased(&self) -> f64 {
        self.total.leased as f64 / self.total.looks.max(1) as f64
    }
}

impl fmt::Display for SeveralSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        let mut took = total.took.clone();
        took.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let index = (share * took.len().saturating_sub(1) as f64) as usize;
            took.get(index).map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"))
        };
        let mut line = |name: &str, value: String| writeln!(f, "{name:<44}{value:>14}");
        line("seeds", self.seeds.to_string())?;
        line("seeds with a violation", self.bad.len().to_string())?;
        line("records accepted", total.records.to_string())?;
        line("  of those judged by time", took.len().to_string())?;
        line("  later than two seconds", total.late.to_string())?;
        line("  completed after, p50", quantile(0.5))?;
        line("  completed after, p99", quantile(0.99))?;
        line("  completed after, slowest", quantile(1.0))?;
        line("nodes leased, of all looks", format!("{:.1} %", 100.0 * self.share_leased()))?;
        line("looks at the node without faults", total.looks_at_well.to_string())?;
        line("  that found it without a lease", total.unleased.to_string())?;
        line("resets of nodes", total.resets.to_string())?;
        line("changes of the set", total.changes.to_string())?;
        line("seats lost to another process", total.seats_lost.to_string())?;
        line("messages", total.messages.to_string())?;
        line("records sent to nodes", total.records_sent.to_string())?;
        line("  by streams that fill in", total.filled_in.to_string())
    }
}
