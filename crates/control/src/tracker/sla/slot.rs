//! What happened to the purges of one scope that were accepted within five minutes.

use batoff_types::{SiteId, TaskId};
use prost::Message;

use super::histogram::Histogram;
use super::view::{Breach, SlowPurge};
use crate::tracker::tasks::cause::LateCause;
use crate::tracker::tasks::progress::LateRow;
use crate::tracker::tasks::view::AwaitedNode;

/// Breaches kept of one slot, the newest.
const BREACHES_MAX: usize = 20;

/// What happened to the purges that were accepted within one slot of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TimeSlot {
    pub purges: u64,
    /// All accepted purges through this seq are counted in `purges`. Tells a count that was written before a crash from
    /// one that was not.
    pub accepted_through: u64,
    /// Completed within the target.
    pub within: u64,
    /// The slowest, in milliseconds.
    pub max: u64,
    /// Which that was.
    pub slowest: Option<SlowPurge>,
    /// Of all that are completed.
    pub took: Histogram,
    /// All completions through this seq are counted.
    pub completed_through: u64,
    /// Newest last.
    pub breaches: Vec<Breach>,
}

impl TimeSlot {
    pub(super) fn handle_accepted(&mut self, seq: u64) {
        if seq > self.accepted_through {
            self.purges += 1;
            self.accepted_through = seq;
        }
    }

    /// False when it was counted before.
    pub(super) fn handle_completed(&mut self, seq: u64, millis: u64, within: bool) -> bool {
        if seq <= self.completed_through {
            return false;
        }
        self.completed_through = seq;
        self.within += u64::from(within);
        self.max = self.max.max(millis);
        self.took.record(millis);
        true
    }

    /// A purge that was counted just now; only the slowest is kept.
    pub(super) fn handle_slow(&mut self, slow: &SlowPurge) {
        if slow.propagation_ms >= self.max {
            self.slowest = Some(slow.clone());
        }
    }

    /// What is known later of a breach takes the place of what was known before.
    pub(super) fn handle_breach(&mut self, breach: &Breach) {
        match self.breaches.iter_mut().find(|known| known.task == breach.task) {
            Some(known) => {
                known.propagation_ms = breach.propagation_ms.or(known.propagation_ms);
                if known.late.is_empty() {
                    known.late.clone_from(&breach.late);
                }
            }
            None => {
                if self.breaches.len() == BREACHES_MAX {
                    self.breaches.remove(0);
                }
                self.breaches.push(breach.clone());
            }
        }
    }

    /// Adds what happened since; each half only if it is not in here yet.
    pub(super) fn add(&mut self, since: &Self) {
        if since.accepted_through > self.accepted_through {
            self.purges += since.purges;
            self.accepted_through = since.accepted_through;
        }
        if since.completed_through > self.completed_through {
            self.within += since.within;
            self.take_slowest(since);
            self.took.add(&since.took);
            self.completed_through = since.completed_through;
        }
        since.breaches.iter().for_each(|breach| self.handle_breach(breach));
    }

    /// Adds a later slot, for a sum over time. Breaches are not added.
    pub(super) fn add_other(&mut self, other: &Self) {
        self.purges += other.purges;
        self.within += other.within;
        self.take_slowest(other);
        self.took.add(&other.took);
    }

    fn take_slowest(&mut self, other: &Self) {
        if other.max > self.max || (other.max == self.max && self.slowest.is_none()) {
            self.max = other.max;
            self.slowest.clone_from(&other.slowest);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (buckets, counts) = self.took.pairs().unzip();
        let breach = |breach: &Breach| BreachRow {
            site: breach.site.to_string(),
            task: breach.task.to_string(),
            propagation_ms: breach.propagation_ms,
            late: breach.late.iter().map(LateRow::from).collect(),
        };
        SlotRow {
            purges: self.purges,
            accepted_through: self.accepted_through,
            within: self.within,
            max: self.max,
            completed_through: self.completed_through,
            buckets,
            counts,
            breaches: self.breaches.iter().map(breach).collect(),
            slowest: self.slowest.as_ref().map(SlowestRow::from),
        }
        .encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let row = SlotRow::decode(bytes).ok()?;
        let breach = |breach: BreachRow| {
            Some(Breach {
                site: breach.site.parse::<SiteId>().ok()?,
                task: breach.task.parse::<TaskId>().ok()?,
                propagation_ms: breach.propagation_ms,
                late: breach.late.into_iter().filter_map(AwaitedNode::from_row).collect(),
            })
        };
        Some(Self {
            purges: row.purges,
            accepted_through: row.accepted_through,
            within: row.within,
            max: row.max,
            took: Histogram::from_pairs(row.buckets.into_iter().zip(row.counts)),
            completed_through: row.completed_through,
            breaches: row.breaches.into_iter().filter_map(breach).collect(),
            slowest: row.slowest.and_then(SlowestRow::into_purge),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct SlotRow {
    #[prost(uint64, tag = "1")]
    purges: u64,
    #[prost(uint64, tag = "2")]
    accepted_through: u64,
    #[prost(uint64, tag = "3")]
    within: u64,
    #[prost(uint64, tag = "4")]
    max: u64,
    #[prost(uint64, tag = "5")]
    completed_through: u64,
    #[prost(uint32, repeated, tag = "6")]
    buckets: Vec<u32>,
    #[prost(uint64, repeated, tag = "7")]
    counts: Vec<u64>,
    #[prost(message, repeated, tag = "8")]
    breaches: Vec<BreachRow>,
    #[prost(message, optional, tag = "9")]
    slowest: Option<SlowestRow>,
}

#[derive(Clone, PartialEq, Message)]
struct SlowestRow {
    #[prost(string, tag = "1")]
    site: String,
    #[prost(string, tag = "2")]
    task: String,
    #[prost(uint64, tag = "3")]
    propagation_ms: u64,
    /// Empty: not known.
    #[prost(string, tag = "4")]
    node: String,
    #[prost(uint32, tag = "5")]
    cause: u32,
    #[prost(string, tag = "6")]
    detail: String,
}

impl From<&SlowPurge> for SlowestRow {
    fn from(slow: &SlowPurge) -> Self {
        Self {
            site: slow.site.to_string(),
            task: slow.task.to_string(),
            propagation_ms: slow.propagation_ms,
            node: slow.node.as_ref().map(|(node, _)| node.to_string()).unwrap_or_default(),
            cause: slow.node.as_ref().map(|(_, cause)| cause.number()).unwrap_or_default(),
            detail: slow.detail.to_string(),
        }
    }
}

impl SlowestRow {
    fn into_purge(self) -> Option<SlowPurge> {
        let node = self.node.parse().ok();
        Some(SlowPurge {
            site: self.site.parse().ok()?,
            task: self.task.parse().ok()?,
            propagation_ms: self.propagation_ms,
            node: node.map(|node| (node, LateCause::from_number(self.cause))),
            detail: self.detail.into(),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct BreachRow {
    #[prost(string, tag = "1")]
    site: String,
    #[prost(string, tag = "2")]
    task: String,
    #[prost(uint64, optional, tag = "3")]
    propagation_ms: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    late: Vec<LateRow>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(task: u128, took: Option<u64>, late: bool) -> Breach {
        let late = late.then(|| AwaitedNode { node: "fra1/edge-1".parse().unwrap(), reason: "away".into() });
        Breach {
            site: "shop".parse().unwrap(),
            task: ulid::Ulid(task).to_string().parse().unwrap(),
            propagation_ms: took,
            late: late.into_iter().collect(),
        }
    }

    fn slow(task: u128, propagation_ms: u64) -> SlowPurge {
        SlowPurge {
            site: "shop".parse().unwrap(),
            task: ulid::Ulid(task).to_string().parse().unwrap(),
            propagation_ms,
            node: Some(("waw1/edge-2".parse().unwrap(), LateCause::CacheBusy)),
            detail: "".into(),
        }
    }

    #[test]
    fn the_slowest_purge_is_kept_over_slots_too() {
        let mut slot = TimeSlot::default();
        for (seq, took) in [(1, 40), (2, 900), (3, 70)] {
            slot.handle_accepted(seq);
            slot.handle_completed(seq, took, true);
            slot.handle_slow(&slow(seq.into(), took));
        }
        let mut sum = TimeSlot::default();
        sum.add_other(&TimeSlot { max: 90, slowest: Some(slow(9, 90)), ..TimeSlot::default() });
        sum.add_other(&slot);
        assert_eq!((sum.max, sum.slowest), (900, Some(slow(2, 900))));
        // A row of an earlier version knows how slow, and not which.
        sum = TimeSlot { max: 5_000, ..TimeSlot::default() };
        sum.add_other(&slot);
        assert_eq!((sum.max, sum.slowest), (5_000, None));
    }

    #[test]
    fn a_slot_is_read_back_as_it_was_written() {
        let mut slot = TimeSlot::default();
        slot.handle_accepted(7);
        slot.handle_completed(7, 2_345, false);
        slot.handle_breach(&breach(1, Some(2_345), true));
        slot.handle_slow(&slow(1, 2_345));
        assert!(slot.slowest.is_some());
        assert_eq!(TimeSlot::decode(&slot.encode()), Some(slot));
        assert_eq!(TimeSlot::decode(b"\xff\xff"), None);
    }

    #[test]
    fn what_was_counted_before_a_crash_is_not_counted_after_it() {
        let mut row = TimeSlot::default();
        let mut since = TimeSlot::default();
        for seq in 1..=3 {
            since.handle_accepted(seq);
            since.handle_completed(seq, 10, true);
        }
        row.add(&since);
        row.add(&since);
        assert_eq!((row.purges, row.within, row.took.count()), (3, 3, 3));
        row.handle_accepted(3);
        assert!(!row.handle_completed(3, 10, true));
        row.handle_accepted(4);
        assert!(row.handle_completed(4, 99, true));
        assert_eq!((row.purges, row.within, row.max), (4, 4, 99));
    }

    #[test]
    fn a_breach_is_told_once_with_all_that_is_known_of_it() {
        let mut slot = TimeSlot::default();
        slot.handle_breach(&breach(1, None, true));
        slot.handle_breach(&breach(1, Some(2_100), false));
        assert_eq!(slot.breaches, [breach(1, Some(2_100), true)]);
        (2..100).for_each(|task| slot.handle_breach(&breach(task, None, false)));
        assert_eq!(slot.breaches.len(), BREACHES_MAX);
        assert_eq!(slot.breaches.last(), Some(&breach(99, None, false)));
    }
}
