//! Which purge is where, and when is it completed? The clocked, durable shell of [`batoff_delivery::Roster`], which
//! alone decides what `completed` means.
//!
//! | room | answers |
//! | --- | --- |
//! | `state` | What is known, which room keeps it, and what does a step change? |
//! | `tasks` | Which purge is how far? Who says `completed`, in `tasks::decide`? |
//! | `nodes` | Which nodes are there, how are they reached, what is in their way? |
//! | `replicas` | What do several control planes call completed, and how does this one hear of it? |
//! | `sla` | How fast were purges? |
//! | `standstill` | Did the process stand still a moment ago, so that what others did is still unread? |
//! | `pulse` | How many were accepted in each of the last seconds? |
//! | `told` | What is a collector told of a traced purge? |
//! | `durable` | What is on the disk of all that, and what does a start make of it? |
//!
//! One plain state behind one lock, changed by small synchronous steps; beside it a task that makes completions durable
//! before they are told, and questions that are answered from memory where it knows and from the log's task rows where it
//! does not.
//!
//! **Locks**, in the order in which they may be taken. The first three are held while rows are written, and never two of
//! them by one task: `sla_writes`, `row_writes`, `confirmed_rows`. Then `state`, for a step, never across an `.await`. Under
//! it only those of `events` and of the watch channels. `saved`, `lease_max` and the desk's are held alone, for a line.

mod durable;
mod nodes;
mod pulse;
mod replicas;
mod sla;
mod standstill;
mod state;
mod tasks;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{HelloRefused, LeaseTimes, Resume, SetHistory};
use batoff_log::{LogState, Store, StoreError};
use batoff_program::traces::Traces;
use batoff_program::vital::Vital;
use batoff_types::message::{Ack, Counted, Heartbeat, Hello, LeaseGrant, Parents, Trouble};
use batoff_types::{
    Cursor, Moment, NodeName, Record, Replica, ReplicaSet, Selector, Seq, SiteId, Term, UnixMillis,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::durable::recover;
use self::durable::saved::{OwnRows, Through};
use self::nodes::mailbox::CountDesk;
use self::nodes::text::cut;
use self::replicas::shared_reads::SharedReads;
use self::sla::turn::SlaTurn;
use self::state::State;
use self::tasks::events::Events;
use self::tasks::live::Finished;
use crate::catalog::Catalog;
use crate::clock::{Clock, millis};
use crate::metrics;
use crate::seat::Tenure;

pub(crate) use self::durable::saved::saved_places;
pub use self::durable::saved::{least_term, leave_term};
pub(crate) use self::nodes::concerns::most_urgent;
pub use self::nodes::concerns::{CONCERNS_MAX, Concern, ConcernKind, FleetCounts, FleetState, LATE_FROM};
pub(crate) use self::nodes::mailbox::MAILBOX;
pub use self::nodes::mailbox::{COUNT_PATIENCE, Counts, Directive, Mailbox};
pub use self::nodes::roll::Membership;
pub(crate) use self::nodes::sent::{NodeLink, SentTimes};
pub use self::nodes::status::{NodeStatus, RemoveRefused, TagOverflow, TroubleView};
pub use self::pulse::PULSE_SECONDS;
pub(crate) use self::replicas::settings::MASTER_KEY;
pub use self::replicas::settings::SettingMarks;
pub use self::replicas::several::Several;
pub use self::replicas::view::{LIVE_WITHIN, ReplicaSaid, ReplicaView, ReplicasView, SetRefused};
pub use self::sla::ledger::SLA_SLOT;
pub use self::sla::view::{
    Breach, DAY, SLA_BREACHES_MAX, SLA_DAYS_MAX, SLA_REPORT_BREACHES_MAX, SlaDay, SlaReport, SlaView,
    SlowPurge, accepted_at, sla_kept_since,
};
pub use self::tasks::cause::LateCause;
pub use self::tasks::news::{NewsPlace, NoNewsPlace};
pub use self::tasks::propagation::{NodeLine, PopLine, Propagation};
pub use self::tasks::view::{
    AwaitedNode, NodeCounts, PopView, TaskEvent, TaskFilter, TaskPage, TaskState, TaskView,
};

/// How often time is told to the state. A lease's end is noticed at most so much later.
const TICK: Duration = Duration::from_millis(10);

/// How often cursors and places are made durable.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often gauges over all nodes are brought up to date.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Tracker {
    store: Arc<dyn Store>,
    clock: Clock,
    state: Mutex<State>,
    desk: CountDesk,
    events: Events,
    /// Told when something was decided that is to be made durable.
    wake: Notify,
    /// Told when there is something to be recorded as done.
    declare: Notify,
    /// Told when there is something to tell other replicas.
    publish: Notify,
    fresh: SharedReads,
    /// Of several control planes which this is; `None` for the only one.
    replica: Option<Replica>,
    sla_turn: Mutex<SlaTurn>,
    /// Tasks through here are completed, durably, and were told so.
    completed: watch::Sender<Cursor>,
    /// Records through here are known.
    known: watch::Sender<Cursor>,
    /// What the rows of confirmed cursors say.
    confirmed_rows: tokio::sync::Mutex<BTreeMap<u32, BTreeMap<String, u64>>>,
    lease_max: Mutex<Duration>,
    /// Held by whoever writes a node's row, from reading what is to be written: an older one must not come last.
    row_writes: tokio::sync::Mutex<()>,
    /// Held by whoever writes or reads the SLA's rows.
    sla_writes: tokio::sync::Mutex<()>,
    /// Through where nothing of the log needs to be read at the next start.
    saved: Mutex<Through>,
    tenure: Tenure,
    /// The sets of replicas that were saved last.
    saved_sets: Mutex<Option<SetHistory>>,
    /// The replicas of which figures were ever told: one that leaves the set is told to have left.
    shown_replicas: Mutex<BTreeSet<Replica>>,
    /// The settings of others that were told to differ.
    shown_apart: Mutex<BTreeSet<(Replica, String)>>,
    /// Those of this replica that all must have alike.
    settings: Arc<SettingMarks>,
    term: Term,
    times: LeaseTimes,
    stopping: CancellationToken,
    draining: CancellationToken,
    vital: Vital,
    traces: Traces,
}

/// What a tracker is made with.
#[derive(Clone, Debug)]
pub struct TrackerOptions {
    /// The times that leases are granted by; checked.
    pub times: LeaseTimes,
    /// What is so of a control plane beside a log that others may write, too; `None` for the only one, beside a log of its
    /// own.
    pub several: Option<Several>,
    /// Tasks in memory at most; older ones are answered, and completed, from the log.
    pub live_max: usize,
    /// Ends long waits and subscriptions.
    pub draining: CancellationToken,
    /// Cancelled after it: ends the tracker's own tasks.
    pub stopping: CancellationToken,
    /// Told when a panic has left the state half changed.
    pub vital: Vital,
    /// Which replica's this is.
    pub tenure: Tenure,
    /// Where traced purges are told of.
    pub traces: Traces,
}

impl Tracker {
    /// Raises the term, reads what is durable, and replays the log's end into the catalog and into memory.
    pub async fn recover(
        store: Arc<dyn Store>,
        catalog: Arc<Catalog>,
        log: &LogState,
        clock: Clock,
        options: TrackerOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let TrackerOptions { times, several, live_max, draining, stopping, vital, tenure, traces } = options;
        let replica = several.as_ref().map(|several| several.own);
        let settings = several.as_ref().map(|several| Arc::clone(&several.settings)).unwrap_or_default();
        let (now, rows) = ((clock.now(), clock.wall()), (&store, &tenure));
        let found = recover::recover(rows, &catalog, log, times, several, now, live_max).await?;
        let term = found.state.roster.term();
        let tracker = Arc::new(Self {
            store,
            clock,
            desk: CountDesk::new(),
            events: Events::new(origin(term, replica)),
            wake: Notify::new(),
            declare: Notify::new(),
            publish: Notify::new(),
            fresh: SharedReads::default(),
            replica,
            sla_turn: Mutex::default(),
            completed: watch::Sender::new(Cursor::new(found.through.completed).min(log.tail)),
            known: watch::Sender::new(log.tail),
            confirmed_rows: tokio::sync::Mutex::default(),
            lease_max: Mutex::new(found.lease_max),
            row_writes: tokio::sync::Mutex::default(),
            sla_writes: tokio::sync::Mutex::default(),
            saved: Mutex::new(found.through),
            tenure,
            saved_sets: Mutex::default(),
            shown_replicas: Mutex::default(),
            shown_apart: Mutex::default(),
            settings,
            term,
            times,
            stopping,
            draining,
            vital,
            traces,
            state: Mutex::new(found.state),
        });
        tracker.step(|_, _, _| ());
        Ok(tracker)
    }

    /// One step of the state, and what follows from it.
    fn step<T>(&self, change: impl FnOnce(&mut State, Moment, UnixMillis) -> T) -> T {
        let _whole = self.vital.unharmed("tracker");
        let wall = self.clock.wall();
        let mut state = self.state.lock();
        let now = self.clock.now();
        if let Some(until) = self.tenure.held_until() {
            state.roster.handle_seated(until);
        }
        state.judge_overdue(now);
        let outcome = change(&mut state, now, wall);
        state.settle(now, wall);
        let work = state.tasks.have_work();
        let (declare, publish) = match self.replica {
            None => (false, false),
            Some(_) => (state.quorum.has_to_record(), state.quorum.has_news()),
        };
        let completed = state.completed_through();
        // Told under the lock, so that subscribers see events in the order in which they happened.
        let (news, finished) = state.tasks.take_news();
        let handed = state.tasks.take_handed();
        self.events.push(news, state.told());
        drop(state);
        // Not under the lock: whoever reads the log may be slow.
        finished.iter().for_each(log_finished);
        told::handed(&self.traces, &self.clock, &handed);
        told::completed(&self.traces, &self.clock, &finished);
        if *self.completed.borrow() < completed {
            self.completed.send_if_modified(|told| {
                *told < completed && {
                    *told = completed;
                    true
                }
            });
        }
        if work {
            self.wake.notify_one();
        }
        if declare {
            self.declare.notify_one();
        }
        if publish {
            self.publish.notify_one();
        }
        outcome
    }

    /// The next records of the log, in order. To be called before any of them is sent to a node.
    pub(crate) fn handle_records(&self, records: &[Record]) {
        self.step(|state, now, _| state.handle_records(now, records));
        if let Some(last) = records.last() {
            self.known.send_replace(Cursor::after(last.seq));
        }
    }

    /// Waits until the record is known here.
    pub(crate) async fn knows(&self, seq: Seq) {
        // The sender lives as long as `self`.
        let _ = self.known.subscribe().wait_for(|known| known.covers(seq)).await;
    }

    /// May this name have a stream?
    pub fn membership(&self, node: &NodeName) -> Membership {
        self.state.lock().roll.membership(node)
    }

    /// A node says `Hello` and resumes at `resume`. Its policy is durable when this returns.
    pub(crate) async fn handle_hello(
        &self,
        hello: &Hello,
        resume: &Resume,
        connection: u64,
        line: NodeLink,
    ) -> Result<Result<(), HelloRefused>, StoreError> {
        let greeted = self.step(|state, now, _| state.handle_hello(now, hello, resume, connection, line));
        if let Err(refused) = greeted {
            return Ok(Err(refused));
        }
        // Not only when it has just changed: the write may have failed at the Hello before this one.
        if self.state.lock().roster.unsaved_word(&hello.node).is_some() {
            self.save_node(&hello.node).await?;
        }
        Ok(self.step(|state, now, _| state.roster.may_welcome(now, &hello.node, connection)))
    }

    /// The answer to a heartbeat; `None` when the connection is no longer the node's.
    pub(crate) fn handle_heartbeat(
        &self,
        node: &NodeName,
        connection: u64,
        heartbeat: &Heartbeat,
    ) -> Option<LeaseGrant> {
        self.step(|state, now, wall| state.handle_heartbeat(now, wall, node, connection, heartbeat))
    }

    /// An ack. False when the connection is no longer the node's.
    pub(crate) fn handle_ack(&self, node: &NodeName, connection: u64, ack: &Ack) -> bool {
        self.step(|state, now, wall| {
            let is_current = state.handle_ack(now, node, connection, ack);
            if is_current {
                state.roll.handle_overflowed(node, wall, &ack.overflowed);
            }
            is_current
        })
    }

    /// What is said of the parents that the node's `Hello` names, from now on; `None` when it names none.
    pub(crate) fn watch_parents(&self, node: &NodeName) -> Option<watch::Receiver<Parents>> {
        self.step(|state, _, _| state.watch_parents(node))
    }

    /// A node's answer to a count.
    pub(crate) fn handle_counted(&self, node: &NodeName, counted: &Counted) {
        self.desk.handle_counted(node, counted);
    }

    /// A cache is in the way of a node, or no longer is.
    pub(crate) fn handle_trouble(&self, node: &NodeName, trouble: &Trouble) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let news = self.state.lock().roll.handle_trouble(now, wall, node, trouble);
        // What a node says again and again is told once.
        if news {
            let (cache, message) = (cut(&trouble.cache), cut(&trouble.message));
            tracing::warn!(%node, cache, message, stuck = ?trouble.stuck, "trouble");
        }
    }

    /// A stream was handed everything through `through`.
    pub(crate) fn handle_sent(&self, sent: &SentTimes, through: Seq) {
        sent.record(self.clock.now(), through);
        if !self.state.lock().tasks.is_sent(through) {
            self.step(|state, _, _| state.handle_sent(through));
        }
    }

    /// A connection has ended.
    pub(crate) fn handle_disconnected(&self, node: &NodeName, connection: u64) {
        self.step(|state, now, _| state.handle_disconnected(now, node, connection));
    }

    /// The control planes that count at this place of the log.
    pub(crate) fn set_at(&self, at: Cursor) -> ReplicaSet {
        self.state.lock().quorum.statements().sets().as_of(at).clone()
    }

    /// The control planes that count from now on.
    pub(crate) fn newest_set(&self) -> ReplicaSet {
        self.state.lock().quorum.statements().sets().newest().1.clone()
    }

    /// Whether this is the only control plane beside its log.
    pub const fn is_alone(&self) -> bool {
        self.replica.is_none()
    }

    /// The term of this start.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The times that leases are granted by.
    pub const fn times(&self) -> &LeaseTimes {
        &self.times
    }

    /// Every purge before this place is completed, whether or not that is durable and told yet.
    pub fn watermark(&self) -> Cursor {
        self.state.lock().quorum.decided()
    }

    /// Through where the log is known.
    #[cfg(test)]
    pub(crate) fn tail(&self) -> Cursor {
        *self.known.borrow()
    }

    /// Through where rows say what became of tasks.
    #[cfg(test)]
    pub(crate) fn stored_through(&self) -> Cursor {
        self.state.lock().stored_through()
    }

    /// Records through here need not be read at the next start for the sake of nodes.
    pub(crate) fn saved_through(&self) -> Cursor {
        Cursor::new(self.saved.lock().nodes)
    }

    /// Asks every connected node how many objects the selectors would hit; waits at most [`COUNT_PATIENCE`].
    pub async fn count(&self, site: &SiteId, selectors: &[Selector]) -> Counts {
        let total = self.state.lock().roll.present().len();
        let streams = || self.state.lock().roll.streams();
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        // A strict node without a lease can serve nothing, so nothing of it is in danger.
        let counting = || {
            let now = self.clock.now();
            let state = self.state.lock();
            let views = state.roster.nodes(now);
            views.filter(|view| !(view.is_strict() && view.has_no_lease())).map(|view| view.name).collect()
        };
        self.desk.ask(site, selectors, total, streams, counting).await
    }

    /// Tells the state the time, saves what is to survive a start, and keeps the gauges; until the process stops.
    pub(crate) async fn run_clock(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        let mut saving = tokio::task::JoinSet::new();
        let mut asking = tokio::task::JoinSet::new();
        // The last standstill for which a proof was asked for.
        let mut hurried = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let noticed = self.step(|state, now, _| {
                        state.handle_tick(now);
                        state.roster.stood_still()
                    });
                    // With a seat, its keeper shows again and again whose the log is.
                    if let Some(noticed) = noticed && self.tenure.has_seat() {
                        if self.tenure.is_own_since(noticed) {
                            self.step(|state, _, _| state.roster.handle_still_ours(noticed));
                        } else if hurried.replace(noticed) != Some(noticed) {
                            self.tenure.hurry();
                        }
                    } else if let Some(noticed) = noticed && asking.is_empty() {
                        asking.spawn(Arc::clone(&self).ask_whose_the_log_is(noticed));
                    }
                }
                Some(_) = asking.join_next() => {}
                _ = gauges.tick() => self.show_gauges(),
                // A store that hangs must not stop the clock.
                _ = save.tick(), if saving.is_empty() => {
                    let tracker = Arc::clone(&self);
                    saving.spawn(async move {
                        if let Err(error) = tracker.save().await {
                            tracing::warn!(%error, "cursors are not saved yet");
                        }
                    });
                }
                Some(_) = saving.join_next() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Makes nodes, cursors and places durable.
    pub(crate) async fn save(&self) -> Result<(), StoreError> {
        let sla = self.save_sla().await?;
        let (through, nodes, sets) = {
            let mut state = self.state.lock();
            let now = self.clock.now();
            state.handle_aging(now);
            let completed = state.stored_through().get();
            let through = Through { completed, nodes: state.roster.tail().get(), sla };
            let sets = (!state.quorum.is_alone()).then(|| {
                let statements = state.quorum.statements();
                (statements.sets().clone(), statements.done())
            });
            (through, state.confirmed_to_save(now), sets)
        };
        // Before it is said that the records which say so need not be read again, and may be trimmed.
        if let Some((sets, done)) = sets
            && self.saved_sets.lock().as_ref() != Some(&sets)
        {
            replicas::rows::save_sets(self.store.kv(), &sets, done).await?;
            *self.saved_sets.lock() = Some(sets);
        }
        self.save_unsaved().await?;
        self.own_rows().set_confirmed(&nodes, &mut *self.confirmed_rows.lock().await).await?;
        if *self.saved.lock() != through {
            self.own_rows().set_through(through).await?;
            *self.saved.lock() = through;
        }
        self.lower_lease_max().await
    }

    fn own_rows(&self) -> OwnRows<'_> {
        OwnRows::new(self.store.kv(), &self.tenure)
    }

    /// A longer lease of the past is forgotten when it has certainly run out.
    async fn lower_lease_max(&self) -> Result<(), StoreError> {
        let waiting_until = self.state.lock().roster.waiting_until();
        if *self.lease_max.lock() > self.times.lease && self.clock.now() > waiting_until {
            self.own_rows().set_lease_max(self.times.lease).await?;
            *self.lease_max.lock() = self.times.lease;
        }
        Ok(())
    }

    async fn save_unsaved(&self) -> Result<(), StoreError> {
        let _one_after_another = self.row_writes.lock().await;
        let mut unsaved = self.state.lock().roll.take_unsaved().into_iter();
        while let Some((name, row)) = unsaved.next() {
            if let Err(error) = self.own_rows().set_node(&name, row.as_ref()).await {
                let mut state = self.state.lock();
                state.roll.mark_unsaved(name);
                unsaved.for_each(|(name, _)| state.roll.mark_unsaved(name));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn save_node(&self, name: &NodeName) -> Result<(), StoreError> {
        let _one_after_another = self.row_writes.lock().await;
        let row = self.state.lock().roll.row(name).cloned();
        self.own_rows().set_node(name, row.as_ref()).await?;
        if let Some(word) = row.and_then(|row| row.word()) {
            self.state.lock().roster.handle_word_saved(name, word);
        }
        Ok(())
    }

    fn show_gauges(&self) {
        let now = self.clock.now();
        let (views, watermark, live, leases_lost, index_sizes) = {
            let state = self.state.lock();
            let views: Vec<_> = state.roster.nodes(now).collect();
            let (live, leases_lost) = (state.tasks.len(), state.roster.leases_lost());
            (views, state.roster.watermark(), live, leases_lost, state.roll.index_sizes())
        };
        metrics::watermark(watermark);
        metrics::leases_lost(leases_lost);
        metrics::live_tasks(live);
        metrics::index_sizes(index_sizes);
        self.show_replicas();
        for state in batoff_delivery::NodeState::ALL {
            metrics::nodes(state, views.iter().filter(|view| view.state == state).count());
        }
        for view in views {
            metrics::node_lag(&view.name, view.lag, view.lag_records);
        }
    }
}

/// What tells places in the news of one start from those of another. Replicas count their terms each for itself.
fn origin(term: Term, replica: Option<Replica>) -> Term {
    replica.map_or(term, |Replica(number)| Term((u64::from(number) << 40) | term.0))
}

/// The end of a purge's story: one line, found by its request id or its task.
fn log_finished(Finished { task, slowest, trace }: &Finished) {
    let (slowest, slowest_ms) = match slowest {
        Some((node, after)) => (&**node, Some(millis(*after))),
        None => ("-", None),
    };
    let trace = trace.map(tracing::field::display);
    tracing::info!(
        site = %task.site, task = %task.task, seq = %task.seq, trace, request_id = &*task.request_id,
        propagation_ms = task.propagation_ms, slowest, slowest_ms, nodes = task.nodes.total,
        confirmed = task.nodes.confirmed, fenced = task.nodes.fenced, objects = task.objects_evicted,
        "purge completed"
    );
}
