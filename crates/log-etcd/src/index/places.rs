//! Which groups are there, and which of them hold what is asked for.

use std::collections::VecDeque;

use batoff_types::{Cursor, Seq};

use crate::rpc::KeyRange;
use crate::stored::First;

/// Where a group lies, and what can be told without reading it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupEntry {
    /// The number of its first record, or of the next one when it has none.
    pub(crate) first_seq: u64,
    pub(crate) records: u64,
    /// The latest `accepted_at` of its records.
    pub(crate) high: u64,
    /// Its size, about.
    pub(crate) bytes: usize,
    /// Its parts, when it lies in some.
    pub(crate) parts: Option<KeyRange>,
}

/// Where records lie that are to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadPlan {
    /// In these groups, the last included.
    Groups {
        first: u64,
        last: u64,
    },
    /// There is none yet.
    Nothing,
    Trimmed {
        first: Seq,
    },
    AheadOfLog {
        tail: Cursor,
    },
}

/// The groups that are there, without a gap.
pub(super) struct GroupDirectory {
    first_group: u64,
    first_seq: u64,
    places: VecDeque<GroupEntry>,
}

impl GroupDirectory {
    pub(super) fn beginning(first_group: u64, first_seq: u64) -> Self {
        Self { first_group, first_seq, places: VecDeque::new() }
    }

    pub(super) fn push(&mut self, place: GroupEntry) {
        self.places.push_back(place);
    }

    pub(super) fn first_group(&self) -> u64 {
        self.first_group
    }

    pub(super) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Lets the log begin later; false when it begins there or later already.
    pub(super) fn trim(&mut self, group: u64, seq: u64) -> bool {
        if group <= self.first_group {
            return false;
        }
        let gone = usize::try_from(group - self.first_group).unwrap_or(usize::MAX);
        self.places.drain(..gone.min(self.places.len()));
        (self.first_group, self.first_seq) = (group, seq);
        true
    }

    pub(super) fn plan(&self, from: u64, tail: Cursor, max_items: usize, max_bytes: usize) -> ReadPlan {
        if from < self.first_seq {
            return ReadPlan::Trimmed { first: Seq::new(self.first_seq).unwrap_or(Seq::FIRST) };
        }
        let next = tail.next().get();
        if from >= next {
            return if from == next { ReadPlan::Nothing } else { ReadPlan::AheadOfLog { tail } };
        }
        // The last group that begins at or before it and has records: those without one begin where the next does.
        let begin = self.places.partition_point(|place| place.first_seq + place.records <= from);
        let (mut items, mut bytes, mut last) = (0, 0, begin);
        for (at, place) in self.places.iter().enumerate().skip(begin) {
            last = at;
            items += usize::try_from(place.records).unwrap_or(usize::MAX);
            bytes += place.bytes;
            // What lies before `from` in the first one does not count.
            if at > begin && (items >= max_items || bytes >= max_bytes) {
                break;
            }
            if at == begin {
                items = usize::try_from(place.first_seq + place.records - from).unwrap_or(usize::MAX);
                if items >= max_items || bytes >= max_bytes {
                    break;
                }
            }
        }
        ReadPlan::Groups { first: self.first_group + begin as u64, last: self.first_group + last as u64 }
    }

    pub(super) fn since(&self, at: u64) -> Option<(u64, Seq)> {
        let found = self.places.iter().position(|place| place.records > 0 && place.high >= at)?;
        let seq = Seq::new(self.places.get(found)?.first_seq)?;
        Some((self.first_group + found as u64, seq))
    }

    pub(super) fn trim_target(&self, keep_from: u64, tail: Cursor, max: u64) -> First {
        let keep_from = keep_from.min(tail.next().get());
        // All of whose records lie before it; groups without records go with those before them.
        let gone =
            self.places.iter().take_while(|place| place.first_seq + place.records <= keep_from).count();
        let gone = gone.min(usize::try_from(max).unwrap_or(usize::MAX));
        let seq = match self.places.get(gone) {
            Some(place) => place.first_seq,
            None => tail.next().get(),
        };
        First { group: self.first_group + gone as u64, seq: seq.max(self.first_seq) }
    }

    pub(super) fn before(&self, group: u64) -> impl Iterator<Item = &GroupEntry> {
        let count = usize::try_from(group.saturating_sub(self.first_group)).unwrap_or(usize::MAX);
        self.places.iter().take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of 3 records, of none, and of 5: records 10 to 17 in groups 4, 5 and 6.
    fn places() -> GroupDirectory {
        let mut places = GroupDirectory::beginning(4, 10);
        for (first_seq, records, high) in [(10, 3, 100), (13, 0, 0), (13, 5, 300)] {
            places.push(GroupEntry { first_seq, records, high, bytes: 100, parts: None });
        }
        places
    }

    #[test]
    fn a_plan_covers_what_was_asked_for() {
        let (places, tail) = (places(), Cursor::new(17));
        let plan = |from, items, bytes| places.plan(from, tail, items, bytes);
        assert_eq!(plan(9, 1, 1), ReadPlan::Trimmed { first: Seq::new(10).unwrap() });
        assert_eq!(plan(10, 3, 1_000), ReadPlan::Groups { first: 4, last: 4 });
        assert_eq!(plan(11, 3, 1_000), ReadPlan::Groups { first: 4, last: 6 });
        assert_eq!(plan(13, 1, 1), ReadPlan::Groups { first: 6, last: 6 });
        assert_eq!(plan(17, 99, 1_000), ReadPlan::Groups { first: 6, last: 6 });
        assert_eq!(plan(18, 1, 1), ReadPlan::Nothing);
        assert_eq!(plan(19, 1, 1), ReadPlan::AheadOfLog { tail });
    }

    #[test]
    fn trimming_takes_whole_groups_and_those_without_records_behind_them() {
        let (mut places, tail) = (places(), Cursor::new(17));
        let target = |keep_from, max| places.trim_target(keep_from, tail, max);
        assert_eq!(target(12, 9), First { group: 4, seq: 10 });
        assert_eq!(target(13, 9), First { group: 6, seq: 13 });
        assert_eq!(target(13, 1), First { group: 5, seq: 13 });
        assert_eq!(target(1_000, 9), First { group: 7, seq: 18 });
        assert!(places.trim(6, 13) && !places.trim(5, 13));
        assert_eq!(places.plan(13, tail, 9, 9), ReadPlan::Groups { first: 6, last: 6 });
        assert_eq!(places.since(100), Some((6, Seq::new(13).unwrap())));
        assert_eq!(places.since(301), None);
    }
}
