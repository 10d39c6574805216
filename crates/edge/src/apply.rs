//! From a record to an ack: the rule in force, then the objects out of the caches.
//!
//! ```text
//!            ┌ rule in force (µs) ┐      ┌ every cache that asks no index has evicted ┐
//!  record ──▶ index.apply ────────┴─────▶ lanes ──────────────────────────────────────┴─▶ applied ──▶ ack
//!                 └ objects ──▶ sweeper ──▶ lanes (memory given back) ──▶ later reports
//! ```
//! Runs beside the stream and never waits for a cache itself, so a slow cache costs no heartbeat.
//!
//! The nouns, in the order in which a record meets them:
//!
//! | noun | who makes it | who eats it |
//! | --- | --- | --- |
//! | [`Order`] | the stream: a [`Received`] record in its turn, or a reset | [`Applier::run`] |
//! | [`Ticket`] | the applier, one an order, rising | whoever asks which of two orders came first |
//! | `Pending` | the applier, when some cache is waited for | [`Applier::finished`], which makes [`Outcome::Applied`] of it |
//! | `Unswept` | the applier, for objects that are still to be found | the `Sweeper`, one after the other |
//! | `Job` | applier and sweeper: objects, a record, a flush, a mark | the `Jobs` of one cache's `Lane` |
//! | `Milestone` | sweeper (the end of a record), reset (the end of a flush) | the lane: everything before it is done, [`News::CacheDone`] |
//! | `Batch` | the sweeper: some objects of one record | one call of `evict` |
//! | `Group` | the queue: what waits and can be done in one go | the lane |
//! | `Step` | the group: flush, begin, purge, evict, finish | one call of the [`Cache`], repeated until it succeeds |
//! | [`News`] | lanes, the sweeper, the task that asks caches to hold back | [`Applier::handle_news`] |
//! | `held` | [`News::HeldBack`]: caches do without what records through this one hit | [`Applier::finished`], which need not wait for those |
//! | `early` | records that were acknowledged because of `held` | their last report, once they are out of every cache |
//! | `void_below` | a reset: what orders before it began counts no more | sweeper and applier, which drop it |
//! | [`Outcome`] | the applier, in the order of the log | the stream: acks, reports, troubles |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_delivery::Received;
use batoff_index::Index;
use batoff_program::vital::Vital;
use batoff_types::message::{RecordReport, Reset};
use batoff_types::{Body, Moment, Record};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::lane::Lane;
use self::news::{News, Ticket};
pub(crate) use self::news::{Order, Outcome};
use self::sweep::{BATCH_OBJECTS, Sweeper, Unswept};
use crate::cache::Cache;
use crate::metrics::EvictReason;
use crate::state_dir::StateDir;
use crate::{boottime, metrics};

mod lane;
mod news;
mod reset;
mod sweep;
#[cfg(test)]
mod tests;

/// Objects that are counted before an ack goes out. A record that hits more is acknowledged as soon as it cannot be
/// served, and the rest is reported later.
const OBJECTS_BEFORE_ACK: u64 = 1_000;

/// Attempts to find them before the ack goes out anyway: each looks at a few thousand objects at most, perhaps in vain.
const LOOKS_BEFORE_ACK: usize = 4;

/// Records whose objects may wait to be removed. Over it further records wait, and the control plane sees their acks
/// late.
const SWEEPS_MAX: usize = 8_192;

/// A record that is not out of every cache this long after it was received is late: caches are asked whether they can do
/// without what it hits. Well under the 700 ms of grace after which the node would lose its whole lease.
const HOLD_BACK_AFTER: Duration = Duration::from_millis(200);

/// Between two looks for late records.
const HOLD_BACK_CHECK: Duration = Duration::from_millis(25);

/// Orders and outcomes on their way between the stream and the applier.
const CHANNEL_RECORDS: usize = 1_024;

/// A record that is in force and not yet out of every cache.
struct Pending {
    ticket: Ticket,
    record: Arc<Record>,
    received_at: Moment,
    report: RecordReport,
}

/// The stream's end of the applier.
pub(crate) struct ApplyHandle {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) outcomes: mpsc::Receiver<Outcome>,
}

/// Applies records in their order; owns everything that is under way.
pub(crate) struct Applier<L: Clone> {
    index: Arc<Index<L>>,
    state: Arc<StateDir>,
    lanes: Arc<[Arc<Lane<L>>]>,
    /// Whether an ack has to wait for some cache.
    waits: bool,
    next_ticket: u64,
    void_below: Arc<AtomicU64>,
    pending: VecDeque<Pending>,
    /// Acknowledged because their caches hold back what they hit; still being removed.
    early: VecDeque<Pending>,
    /// What records through this one hit is held back by every cache that is not done with it.
    held: Option<Ticket>,
    /// Caches are being asked to hold something back.
    asking: bool,
    /// Ticket and reset whose flush is under way.
    resetting: Option<(Ticket, Reset)>,
    /// How far each cache that is waited for has come.
    done: BTreeMap<String, Ticket>,
    sweeps: mpsc::Sender<Unswept<L>>,
    news: mpsc::UnboundedSender<News>,
    outcomes: mpsc::Sender<Outcome>,
    vital: Vital,
}

impl<L: Clone + Send + Sync + 'static> Applier<L> {
    /// Starts the applier, its sweeper and a lane for each cache. They end when `stop` is cancelled.
    pub(crate) fn spawn(
        index: Arc<Index<L>>,
        caches: Vec<Arc<dyn Cache<L>>>,
        state: Arc<StateDir>,
        stop: &CancellationToken,
        vital: &Vital,
    ) -> ApplyHandle {
        let (orders, orders_in) = mpsc::channel(CHANNEL_RECORDS);
        let (outcomes, outcomes_out) = mpsc::channel(CHANNEL_RECORDS);
        // As long as what is under way: the applier must be able to wait for the sweeper without the sweeper waiting for it.
        let (news, news_in) = mpsc::unbounded_channel();
        let (sweeps, sweeps_in) = mpsc::channel(SWEEPS_MAX);
        let lanes: Arc<[_]> = caches.into_iter().map(|cache| Arc::new(Lane::new(cache))).collect();
        for lane in lanes.iter() {
            let run = Arc::clone(lane).run(news.clone());
            spawn_until(stop, vital, run);
        }
        let void_below = Arc::new(AtomicU64::new(0));
        let sweeper = Sweeper {
            index: Arc::clone(&index),
            lanes: Arc::clone(&lanes),
            void_below: Arc::clone(&void_below),
            news: news.clone(),
        };
        spawn_until(stop, vital, sweeper.run(sweeps_in));
        let applier = Self {
            index,
            state,
            waits: lanes.iter().any(|lane| lane.is_waited_for()),
            lanes,
            next_ticket: 1,
            void_below,
            pending: VecDeque::new(),
            early: VecDeque::new(),
            held: None,
            asking: false,
            resetting: None,
            done: BTreeMap::new(),
            sweeps,
            news,
            outcomes,
            vital: vital.clone(),
        };
        spawn_until(stop, vital, applier.run(orders_in, news_in));
        ApplyHandle { orders, outcomes: outcomes_out }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut news: mpsc::UnboundedReceiver<News>) {
        let mut late = tokio::time::interval(HOLD_BACK_CHECK);
        late.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcomes = tokio::select! {
                // What is finished goes out before more is begun.
                biased;
                Some(news) = news.recv() => self.handle_news(news),
                _ = late.tick(), if self.waits_for_late() => {
                    self.ask_to_hold_back();
                    Vec::new()
                }
                Some(order) = orders.recv() => match order {
                    Order::Record(received) => match self.handle_record(received).await {
                        Some(outcomes) => outcomes,
                        None => return,
                    },
                    Order::Reset { reset, sites } => self.handle_reset(reset, sites).await,
                },
                else => return,
            };
            for outcome in outcomes {
                if self.outcomes.send(outcome).await.is_err() {
                    return;
                }
            }
        }
    }

    /// `None` when the daemon is stopping.
    async fn handle_record(&mut self, received: Received) -> Option<Vec<Outcome>> {
        let Received { record, at } = received;
        let record = Arc::new(record);
        let ticket = self.ticket();
        let mut matches = self.index.apply(&record);
        let in_force_after = boottime().since(at);
        let trace = record.trace.map(tracing::field::display);
        tracing::debug!(seq = %record.seq, task = %record.task, request_id = %record.request_id, trace, "rule in force");
        metrics::applied(self.index.applied());
        let mut report = RecordReport {
            seq: record.seq,
            objects: 0,
            last: false,
            in_force_after,
            evicted_after: in_force_after,
        };
        if purges(&record) {
            for lane in self.lanes.iter() {
                lane.push_record(&record);
            }
        }
        if self.waits {
            self.pending.push_back(Pending { ticket, record: Arc::clone(&record), received_at: at, report });
            let sweep = Unswept { ticket, record, received_at: at, report, matches };
            self.sweeps.send(sweep).await.ok()?;
            return Some(Vec::new());
        }

        for _ in 0..LOOKS_BEFORE_ACK {
            if matches.found() >= OBJECTS_BEFORE_ACK {
                break;
            }
            let Some(batch) = matches.next_batch(BATCH_OBJECTS) else { break };
            let batch: Arc<[_]> = batch.into();
            for lane in self.lanes.iter() {
                lane.push_objects(Some(record.seq), &batch);
            }
        }
        report.objects = matches.found();
        report.last = matches.is_finished();
        report.evicted_after = boottime().since(at);
        metrics::evicted(EvictReason::of(&record), report.objects);
        let applied = Outcome::Applied { seq: record.seq, task: record.task, report };
        if !report.last {
            report.objects = 0;
            self.sweeps.send(Unswept { ticket, record, received_at: at, report, matches }).await.ok()?;
        }
        Some(vec![applied])
    }

    fn handle_news(&mut self, news: News) -> Vec<Outcome> {
        match news {
            News::Trouble(trouble) => vec![Outcome::Trouble(trouble)],
            News::CacheDone { cache, ticket } => {
                let done = self.done.entry(cache).or_insert(ticket);
                *done = ticket.max(*done);
                self.finished()
            }
            News::HeldBack { asked, held } => {
                self.asking = false;
                let void_below = self.void_below.load(Ordering::Acquire);
                if asked.0 < void_below {
                    // Nothing else is held yet: one question is asked at a time.
                    self.lanes.iter().for_each(|lane| lane.held_in_vain());
                }
                let through = held.then_some(asked).filter(|asked| asked.0 >= void_below);
                self.held = self.held.max(through);
                self.finished()
            }
            News::Swept { ticket, .. } if ticket.0 < self.void_below.load(Ordering::Acquire) => Vec::new(),
            News::Swept { ticket, report } => {
                let mut under_way = self.early.iter_mut().chain(&mut self.pending);
                match under_way.find(|entry| entry.ticket == ticket) {
                    Some(pending) => {
                        pending.report = report;
                        self.finished()
                    }
                    None => vec![Outcome::Report(report)],
                }
            }
        }
    }

    /// What every cache that is waited for has now behind it, or holds back.
    fn finished(&mut self) -> Vec<Outcome> {
        let waited_for = self.lanes.iter().filter(|lane| lane.is_waited_for()).count();
        let all_spoke = self.done.len() >= waited_for;
        let done = self.done.values().copied().min().filter(|_| all_spoke).unwrap_or(Ticket(0));
        let mut outcomes = Vec::new();
        if let Some((_, reset)) = self.resetting.take_if(|(ticket, _)| *ticket <= done) {
            outcomes.push(Outcome::Reset(reset));
        }
        if self.resetting.is_some() {
            return outcomes;
        }
        let is_done = |entry: &Pending| entry.ticket <= done && entry.report.last;
        while let Some(entry) = self.early.pop_front_if(|front| is_done(front)) {
            outcomes.push(Outcome::Report(entry.report_now()));
        }
        while let Some(entry) =
            self.pending.pop_front_if(|front| is_done(front) || Some(front.ticket) <= self.held)
        {
            let (seq, task) = (entry.record.seq, entry.record.task);
            if is_done(&entry) {
                outcomes.push(Outcome::Applied { seq, task, report: entry.report_now() });
                continue;
            }
            let report = RecordReport { objects: 0, last: false, ..entry.report_now() };
            outcomes.push(Outcome::Applied { seq, task, report });
            self.early.push_back(entry);
        }
        outcomes
    }

    /// Whether some record may soon be late.
    fn waits_for_late(&self) -> bool {
        self.waits && !self.asking && self.pending.back().is_some_and(|last| Some(last.ticket) > self.held)
    }

    /// Asks the caches that are behind to do without what late records hit, so that the acks need not wait for them.
    fn ask_to_hold_back(&mut self) {
        let now = boottime();
        let late = self.pending.iter().skip_while(|entry| Some(entry.ticket) <= self.held);
        let late: Vec<_> = late.take_while(|entry| now.since(entry.received_at) >= HOLD_BACK_AFTER).collect();
        let Some(through) = late.last().map(|entry| entry.ticket) else { return };
        let records: Vec<_> = late.iter().map(|entry| Arc::clone(&entry.record)).collect();
        let behind = self.lanes.iter().filter(|lane| {
            lane.is_waited_for() && self.done.get(lane.name()).is_none_or(|done| *done < through)
        });
        let behind: Vec<_> = behind.cloned().collect();
        self.asking = true;
        let (news, vital) = (self.news.clone(), self.vital.clone());
        tokio::spawn(async move {
            let _whole = vital.unharmed("applier");
            let mut held = true;
            for lane in behind {
                held = held && lane.hold_back(&records).await;
            }
            // Fails only when the daemon is stopping.
            let _ = news.send(News::HeldBack { asked: through, held });
        });
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }
}

impl Pending {
    /// Its report, as of now.
    fn report_now(&self) -> RecordReport {
        RecordReport { evicted_after: boottime().since(self.received_at), ..self.report }
    }
}

fn spawn_until(stop: &CancellationToken, vital: &Vital, run: impl Future<Output = ()> + Send + 'static) {
    let (stop, vital) = (stop.clone(), vital.clone());
    tokio::spawn(async move {
        let _whole = vital.unharmed("applier");
        stop.run_until_cancelled(run).await
    });
}

const fn purges(record: &Record) -> bool {
    match record.body {
        Body::Purge(_) | Body::Site(_) | Body::Unknown => true,
        Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => false,
    }
}
