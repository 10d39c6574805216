//! Clean-up of purges that hit many objects: in batches, beside the records that follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_index::{Index, Matches};
use batoff_types::message::RecordReport;
use batoff_types::{Moment, Record};
use tokio::sync::mpsc;

use super::lane::Lane;
use super::news::{News, Ticket};
use crate::metrics::EvictReason;
use crate::{boottime, metrics};

/// Objects handed to the caches at once. Between two batches everything else gets its turn.
pub(super) const BATCH_OBJECTS: usize = 1_000;

/// Between two looks for clean-up that belongs to no record under way: of resets, of rules that were folded.
const LEFTOVERS_EVERY: Duration = Duration::from_millis(250);

/// A record whose rule is in force and whose objects are still to be removed.
pub(super) struct Unswept<L: Clone> {
    pub(super) ticket: Ticket,
    pub(super) record: Arc<Record>,
    pub(super) received_at: Moment,
    pub(super) report: RecordReport,
    pub(super) matches: Matches<L>,
}

/// Removes the objects of one record after the other.
pub(super) struct Sweeper<L: Clone> {
    pub(super) index: Arc<Index<L>>,
    pub(super) lanes: Arc<[Arc<Lane<L>>]>,
    /// Sweeps of tickets below this are void: a reset came in between.
    pub(super) void_below: Arc<AtomicU64>,
    pub(super) news: mpsc::UnboundedSender<News>,
}

impl<L: Clone + Send + Sync + 'static> Sweeper<L> {
    pub(super) async fn run(self, mut sweeps: mpsc::Receiver<Unswept<L>>) {
        let mut leftovers = tokio::time::interval(LEFTOVERS_EVERY);
        leftovers.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                sweep = sweeps.recv() => match sweep {
                    Some(sweep) => self.sweep(sweep).await,
                    None => return,
                },
                _ = leftovers.tick() => self.sweep_leftovers(&sweeps).await,
            }
        }
    }

    async fn sweep(&self, mut sweep: Unswept<L>) {
        let reason = EvictReason::of(&sweep.record);
        while let Some(batch) = sweep.matches.next_batch(BATCH_OBJECTS) {
            let batch: Arc<[_]> = batch.into();
            metrics::evicted(reason, batch.len() as u64);
            sweep.report.objects += batch.len() as u64;
            if !self.is_void(sweep.ticket) {
                for lane in self.lanes.iter() {
                    lane.push_objects(Some(sweep.record.seq), &batch);
                }
                for lane in self.lanes.iter() {
                    lane.has_room().await;
                }
            }
            tokio::task::yield_now().await;
        }
        if self.is_void(sweep.ticket) {
            return;
        }
        for lane in self.lanes.iter().filter(|lane| lane.is_waited_for()) {
            lane.push_mark(sweep.ticket, sweep.record.seq);
        }
        sweep.report.evicted_after = boottime().since(sweep.received_at);
        sweep.report.last = true;
        // Fails only when the daemon is stopping.
        let _ = self.news.send(News::Swept { ticket: sweep.ticket, report: sweep.report });
    }

    /// Until nothing is left or a record needs sweeping.
    async fn sweep_leftovers(&self, sweeps: &mpsc::Receiver<Unswept<L>>) {
        while sweeps.is_empty()
            && let Some(batch) = self.index.sweep(BATCH_OBJECTS)
        {
            let batch: Arc<[_]> = batch.into();
            metrics::evicted(EvictReason::Leftover, batch.len() as u64);
            for lane in self.lanes.iter() {
                lane.push_objects(None, &batch);
            }
            tokio::task::yield_now().await;
        }
    }

    fn is_void(&self, ticket: Ticket) -> bool {
        ticket.0 < self.void_below.load(Ordering::Acquire)
    }
}
