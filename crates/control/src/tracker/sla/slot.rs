//! What happened to the purges of one scope that were accepted within five minutes.

use batoff_types::{SiteId, TaskId};
use prost::Message;

use super::histogram::Histogram;
use super::view::Breach;
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
            self.max = self.max.max(since.max);
            self.took.add(&since.took);
            self.completed_through = since.completed_through;
        }
        since.breaches.iter().for_each(|breach| self.handle_breach(breach));
    }

    /// Adds a later slot, for a sum over time. Breaches are not added.
    pub(super) fn add_other(&mut self, other: &Self) {
        self.purges += other.purges;
        self.within += other.within;
        self.max = self.max.max(other.max);
        self.took.add(&other.took);
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

    #[test]
    fn a_slot_is_read_back_as_it_was_written() {
        let mut slot = TimeSlot::default();
        slot.handle_accepted(7);
        slot.handle_completed(7, 2_345, false);
        slot.handle_breach(&breach(1, Some(2_345), true));
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
