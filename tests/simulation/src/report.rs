use std::fmt;
use std::ops::AddAssign;

use crate::Violation;

/// Faults that a run injected, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A cut of one direction between a node and the control plane.
    pub cuts_one_way: u64,
    /// A cut of both.
    pub cuts: u64,
    /// Messages lost, to cuts or at random: each breaks its stream.
    pub messages_lost: u64,
    /// A node's machine stood still for a while.
    pub node_freezes: u64,
    /// A daemon died.
    pub node_crashes: u64,
    /// Of those, it also lost what it had stored.
    pub states_lost: u64,
    /// Of those, its cache went on serving by the lease it had.
    pub caches_orphaned: u64,
    /// The control plane stood still for a while.
    pub control_freezes: u64,
    /// The control plane died.
    pub control_crashes: u64,
    /// The control plane stood still, lost its disk, and was replaced; later it woke up beside its successor.
    pub takeovers: u64,
    /// The control plane was stopped as it should be.
    pub drains: u64,
    /// A second daemon was started under a node's name.
    pub twins: u64,
    /// The log took no appends for a while.
    pub log_failures: u64,
    /// An append ended with nobody knowing whether it was durable.
    pub appends_unknown: u64,
    /// A backup of the log was restored: the end was lost, the identity is new.
    pub logs_replaced: u64,
    /// The log was trimmed, perhaps over a node's head.
    pub trims: u64,
    /// A node was decommissioned, or admitted again.
    pub registrations: u64,
    /// A daemon started again with the other policy.
    pub policies_changed: u64,
    /// A host moved between sites.
    pub hosts_moved: u64,
}

impl Faults {
    /// Each kind with its name.
    pub const fn by_kind(&self) -> [(&'static str, u64); 19] {
        [
            ("one-way cuts", self.cuts_one_way),
            ("two-way cuts", self.cuts),
            ("messages lost", self.messages_lost),
            ("node freezes", self.node_freezes),
            ("node crashes", self.node_crashes),
            ("node states lost", self.states_lost),
            ("caches orphaned", self.caches_orphaned),
            ("control plane freezes", self.control_freezes),
            ("control plane crashes", self.control_crashes),
            ("control planes that wake up replaced", self.takeovers),
            ("control plane drained", self.drains),
            ("second daemons of a name", self.twins),
            ("log failures", self.log_failures),
            ("appends of unknown outcome", self.appends_unknown),
            ("backups restored", self.logs_replaced),
            ("trims", self.trims),
            ("nodes removed or admitted", self.registrations),
            ("policies changed", self.policies_changed),
            ("hosts moved", self.hosts_moved),
        ]
    }
}

/// What one run has shown.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The run's seed.
    pub seed: u64,
    /// Purges that were promised to a client.
    pub purges: u64,
    /// Those that were completed.
    pub completed: u64,
    /// The longest that a completion took, in seconds, in worlds of strict nodes.
    pub slowest: f64,
    /// Lookups by visitors.
    pub lookups: u64,
    /// Of those, on a node that held a lease.
    pub lookups_under_lease: u64,
    /// Of those, answered from the cache.
    pub hits: u64,
    /// Of those that were not, given what had been fetched for another visitor.
    pub joined: u64,
    /// Objects fetched.
    pub fills: u64,
    /// Objects that a purge overtook on their way, and that were not stored.
    pub fills_refused: u64,
    /// Objects that a parent's cache gave to a child.
    pub fills_from_parent: u64,
    /// Nodes that had to drop everything.
    pub resets: u64,
    /// Questions how much a purge would hit that were answered.
    pub counts: u64,
    /// Alerts that one name was seen from two live daemons.
    pub alerts: u64,
    /// Streams that a node ended because a later control plane had spoken to it.
    pub lower_terms: u64,
    /// Messages sent.
    pub messages: u64,
    /// What was done to it.
    pub faults: Faults,
    /// What did not hold, in the order of discovery.
    pub violations: Vec<Violation>,
}

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Seeds with a violation.
    pub bad: Vec<u64>,
    /// How many seeds broke each invariant, I1 first.
    pub bad_by_invariant: [u64; 5],
    /// All figures added up; of violations the first bad seed's.
    pub total: Outcome,
}

impl AddAssign<Outcome> for Summary {
    fn add_assign(&mut self, outcome: Outcome) {
        self.seeds += 1;
        let total = &mut self.total;
        total.purges += outcome.purges;
        total.completed += outcome.completed;
        total.slowest = total.slowest.max(outcome.slowest);
        total.lookups += outcome.lookups;
        total.lookups_under_lease += outcome.lookups_under_lease;
        total.hits += outcome.hits;
        total.joined += outcome.joined;
        total.fills += outcome.fills;
        total.fills_refused += outcome.fills_refused;
        total.fills_from_parent += outcome.fills_from_parent;
        total.resets += outcome.resets;
        total.counts += outcome.counts;
        total.alerts += outcome.alerts;
        total.lower_terms += outcome.lower_terms;
        total.messages += outcome.messages;
        total.faults += outcome.faults;
        if outcome.violations.is_empty() {
            return;
        }
        for (index, count) in self.bad_by_invariant.iter_mut().enumerate() {
            *count +=
                u64::from(outcome.violations.iter().any(|violation| violation.invariant() == index + 1));
        }
        if self.bad.is_empty() {
            total.seed = outcome.seed;
            total.violations = outcome.violations;
        }
        self.bad.push(outcome.seed);
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.cuts_one_way += other.cuts_one_way;
        self.cuts += other.cuts;
        self.messages_lost += other.messages_lost;
        self.node_freezes += other.node_freezes;
        self.node_crashes += other.node_crashes;
        self.states_lost += other.states_lost;
        self.caches_orphaned += other.caches_orphaned;
        self.control_freezes += other.control_freezes;
        self.control_crashes += other.control_crashes;
        self.takeovers += other.takeovers;
        self.drains += other.drains;
        self.twins += other.twins;
        self.log_failures += other.log_failures;
        self.appends_unknown += other.appends_unknown;
        self.logs_replaced += other.logs_replaced;
        self.trims += other.trims;
        self.registrations += other.registrations;
        self.policies_changed += other.policies_changed;
        self.hosts_moved += other.hosts_moved;
    }
}

impl Summary {
    /// The share of lookups that were made on a node with a lease: an oracle that sees few proves little.
    pub fn share_under_lease(&self) -> f64 {
        self.total.lookups_under_lease as f64 / self.total.lookups.max(1) as f64
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        let mut line = |name: &str, value: String| writeln!(f, "{name:<44}{value:>14}");
        line("seeds", self.seeds.to_string())?;
        line("seeds with a violation", self.bad.len().to_string())?;
        for (index, count) in self.bad_by_invariant.iter().enumerate() {
            line(&format!("  of I{}", index + 1), count.to_string())?;
        }
        line("purges accepted", total.purges.to_string())?;
        line("purges completed", total.completed.to_string())?;
        line("slowest completion, strict worlds", format!("{:.3} s", total.slowest))?;
        line("lookups", total.lookups.to_string())?;
        line("  under a lease", format!("{:.1} %", 100.0 * self.share_under_lease()))?;
        line("  answered from cache", total.hits.to_string())?;
        line("  given another's fetch", total.joined.to_string())?;
        line("fills", total.fills.to_string())?;
        line("  refused: purged on their way", total.fills_refused.to_string())?;
        line("  from a parent's cache", total.fills_from_parent.to_string())?;
        line("resets of nodes", total.resets.to_string())?;
        line("counts answered", total.counts.to_string())?;
        line("alerts of two live daemons", total.alerts.to_string())?;
        line("lower terms refused", total.lower_terms.to_string())?;
        line("messages", total.messages.to_string())?;
        for (name, count) in total.faults.by_kind() {
            line(&format!("faults: {name}"), count.to_string())?;
        }
        Ok(())
    }
}
