use std::collections::{BTreeSet, VecDeque};

use super::Sweep;

/// Sweeps left to [`Index::sweep`](crate::Index::sweep). More than these are replaced by one sweep over everything:
/// slower, and as complete.
const LEFT_MAX: usize = 4_096;

/// The sweeps that are not finished: held by whoever applied the record, or left.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// By record.
    open: BTreeSet<(u64, u64)>,
    left: VecDeque<Sweep>,
    next_id: u64,
}

impl Pending {
    /// A new sweep for record `seq` is open from here on.
    pub(crate) fn open(&mut self, seq: u64) -> (u64, u64) {
        self.next_id += 1;
        self.open.insert((seq, self.next_id));
        (seq, self.next_id)
    }

    pub(crate) fn finish(&mut self, sweep: &Sweep) {
        self.open.remove(&(sweep.seq, sweep.id));
    }

    /// Nobody will go on with it but [`Index::sweep`](crate::Index::sweep).
    pub(crate) fn leave(&mut self, sweep: Sweep) {
        if !self.open.contains(&(sweep.seq, sweep.id)) {
            return;
        }
        self.left.push_back(sweep);
        if self.left.len() > LEFT_MAX {
            let oldest = self.left.iter().map(|sweep| sweep.seq).min().unwrap_or_default();
            for sweep in std::mem::take(&mut self.left) {
                self.finish(&sweep);
            }
            let id = self.open(oldest);
            self.left.push_back(Sweep::of_anything(id));
        }
    }

    pub(crate) fn take(&mut self) -> Option<Sweep> {
        self.left.pop_front()
    }

    /// Goes on with this one first.
    pub(crate) fn put_back(&mut self, sweep: Sweep) {
        if self.open.contains(&(sweep.seq, sweep.id)) {
            self.left.push_front(sweep);
        }
    }

    /// Everything is Gone: all sweeps are void, and one over everything follows if anything is held.
    pub(crate) fn restart(&mut self, any: bool) {
        self.open.clear();
        self.left.clear();
        if !any {
            return;
        }
        // It holds nothing back: no rule is older than the reset, and objects of another generation stay Gone.
        let id = self.open(u64::MAX);
        self.left.push_back(Sweep::of_anything(id));
    }

    /// Everything through this seq has been swept, as far as it was applied.
    pub(crate) fn swept_through(&self) -> u64 {
        self.open.first().map_or(u64::MAX, |(seq, _)| seq - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}
