//! What waits for one cache, and what of it is done at once.

use std::collections::VecDeque;
use std::sync::Arc;

use batoff_index::Match;
use batoff_types::{Record, Seq};

use crate::apply::news::Ticket;

/// Batches of objects in one group. More, and a purge of one URL behind a purge of a million would wait for all of them
/// in one go, and could not be told of before.
const GROUP_BATCHES_MAX: usize = 4;

/// Records in one group, for caches that are told selectors.
const GROUP_RECORDS_MAX: usize = 1_024;

/// Everything before is done in this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Milestone {
    pub(super) ticket: Ticket,
    /// The record that it is the end of; `None` for a reset.
    pub(super) through: Option<Seq>,
}

pub(super) enum Job<L> {
    Evict { stuck: Option<Seq>, objects: Arc<[Match<L>]> },
    Purge(Arc<Record>),
    Flush { stuck: Option<Seq> },
    Milestone(Milestone),
}

pub(super) struct Jobs<L> {
    /// Rules in force that the cache has not heard of. Ahead of everything else.
    begins: Vec<Arc<Record>>,
    jobs: VecDeque<Job<L>>,
    objects: usize,
}

/// What is done in one go.
pub(super) struct Group<L> {
    flush: Option<Flush>,
    begins: Vec<Arc<Record>>,
    records: Vec<Arc<Record>>,
    batches: Vec<Batch<L>>,
    pub(super) mark: Option<Milestone>,
}

struct Batch<L> {
    stuck: Option<Seq>,
    objects: Arc<[Match<L>]>,
}

#[derive(Clone, Copy)]
struct Flush {
    stuck: Option<Seq>,
}

/// One call of the cache.
pub(super) enum Step<'a, L> {
    Flush { stuck: Option<Seq> },
    Begin(&'a [Arc<Record>]),
    Purge(&'a [Arc<Record>]),
    Evict { stuck: Option<Seq>, objects: &'a [Match<L>] },
    Finish { stuck: Option<Seq> },
}

impl<L> Default for Jobs<L> {
    fn default() -> Self {
        Self { begins: Vec::new(), jobs: VecDeque::new(), objects: 0 }
    }
}

impl<L> Jobs<L> {
    pub(super) fn push_begin(&mut self, record: Arc<Record>) {
        self.begins.push(record);
    }

    pub(super) fn push(&mut self, job: Job<L>) {
        if let Job::Evict { objects, .. } = &job {
            self.objects += objects.len();
        }
        self.jobs.push_back(job);
    }

    /// Objects that wait.
    pub(super) const fn objects(&self) -> usize {
        self.objects
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn pop(&mut self) -> Option<Group<L>> {
        if self.begins.is_empty() && self.jobs.is_empty() {
            return None;
        }
        let mut group = Group {
            flush: None,
            begins: std::mem::take(&mut self.begins),
            records: Vec::new(),
            batches: Vec::new(),
            mark: None,
        };
        while group.batches.len() < GROUP_BATCHES_MAX && group.records.len() < GROUP_RECORDS_MAX {
            match self.jobs.pop_front() {
                Some(Job::Flush { stuck }) => group.flush = Some(Flush { stuck }),
                Some(Job::Purge(record)) => group.records.push(record),
                Some(Job::Milestone(mark)) => group.mark = Some(mark),
                Some(Job::Evict { stuck, objects }) => {
                    self.objects -= objects.len();
                    group.batches.push(Batch { stuck, objects });
                }
                None => break,
            }
        }
        // What directly follows costs nothing more, and is what the acks wait for.
        while let Some(Job::Milestone(mark)) = self.jobs.front() {
            group.mark = Some(*mark);
            self.jobs.pop_front();
        }
        Some(group)
    }

    pub(super) fn begins_with_flush(&self) -> bool {
        matches!(self.jobs.front(), Some(Job::Flush { .. }))
    }

    /// Nothing of what waits but a flush.
    pub(super) fn flush(&mut self, mark: Option<Milestone>) {
        self.clear();
        self.jobs.push_back(Job::Flush { stuck: None });
        self.jobs.extend(mark.map(Job::Milestone));
    }

    /// One flush in place of everything that waits.
    pub(super) fn collapse(&mut self) {
        let stuck = self.jobs.iter().find_map(Job::seq);
        let mark = self.jobs.iter().rev().find_map(|job| match job {
            Job::Milestone(mark) => Some(*mark),
            Job::Evict { .. } | Job::Purge(_) | Job::Flush { .. } => None,
        });
        self.flush(mark);
        if let Some(Job::Flush { stuck: told }) = self.jobs.front_mut() {
            *told = stuck;
        }
    }

    /// A group was given up for the flush at the front, whose end is the end of the group too.
    pub(super) fn carry(&mut self, mark: Option<Milestone>) {
        let Some(mark) = mark else { return };
        let there = |job: &Job<L>| matches!(job, Job::Milestone(later) if later.ticket > mark.ticket);
        if !self.jobs.iter().any(there) {
            self.jobs.insert(1.min(self.jobs.len()), Job::Milestone(mark));
        }
    }

    fn clear(&mut self) {
        self.begins.clear();
        self.jobs.clear();
        self.objects = 0;
    }
}

impl<L> Job<L> {
    fn seq(&self) -> Option<Seq> {
        match self {
            Self::Purge(record) => Some(record.seq),
            Self::Evict { stuck, .. } | Self::Flush { stuck } => *stuck,
            Self::Milestone(_) => None,
        }
    }
}

impl<L> Group<L> {
    pub(super) fn steps(&self) -> impl Iterator<Item = Step<'_, L>> {
        let flush = self.flush.map(|Flush { stuck }| Step::Flush { stuck });
        let begin = (!self.begins.is_empty()).then_some(Step::Begin(&self.begins));
        let purge = (!self.records.is_empty()).then_some(Step::Purge(&self.records));
        let evict =
            self.batches.iter().map(|batch| Step::Evict { stuck: batch.stuck, objects: &batch.objects });
        let finish = self.mark.map(|mark| Step::Finish { stuck: mark.through });
        flush.into_iter().chain(begin).chain(purge).chain(evict).chain(finish)
    }
}

impl<L> Step<'_, L> {
    pub(super) fn stuck(&self) -> Option<Seq> {
        match self {
            Self::Begin(records) | Self::Purge(records) => records.first().map(|record| record.seq),
            Self::Flush { stuck } | Self::Evict { stuck, .. } | Self::Finish { stuck } => *stuck,
        }
    }
}
