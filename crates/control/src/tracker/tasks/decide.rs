//! Who says `completed`?
//!
//! ```text
//!  a node acks, or its lease ends          delivery::Roster       through where no node can serve: the watermark
//!        │ poll_completed                                         delivery::Completed, a range of records
//!        ▼
//!  State::decide           here            Completion::Decided    true, and told to nobody: a crash would take it back
//!        │ next_decided, at most a batch of a DecidedSpan
//!        ▼
//!  Tracker::resolve        tasks/resolve   put_completions        on the disk, with those of tasks that memory has forgotten
//!        │ handle_stored
//!        ▼
//!  State::handle_stored    here            Completion::Stored     durable, so it may be told
//!        ├─▶ SlaLedger     sla/ledger      Judged                 within the two seconds, or a breach
//!        ├─▶ Events        tasks/events    TaskState::Completed   to those who listen
//!        └─▶ `completed`   Tracker         a cursor               to those who wait, and to every later question
//! ```
//!
//! Nothing but the roster's watermark makes a task completed, and nothing is called so before that is durable: what a
//! question is answered with (`LiveTask::view`, `query`) looks at `Stored` alone. What passes its target meanwhile becomes
//! late, and `partial` when a node that may serve without a lease is away.
//!
//! Among several control planes it is a majority's watermarks, and what is decided is recorded in the store before
//! (`replicas::done`): it cannot be taken back, every replica tells it, and so does this one from that moment on. The one
//! that recorded it writes the rows; the others take over what these say (`replicas::adopt`).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::PURGE_TARGET;
use batoff_types::{Cursor, Moment, Seq, SiteId, UnixMillis};

use super::live::{Completion, CountsByPop, Decided, DecidedSpan, Finished, LiveTask};
use super::propagation::Fences;
use super::took::{SeenWhen, TaskBegan, TaskEnded, took};
use super::view::{AwaitedNode, NodeCounts, TaskState};
use crate::metrics;
use crate::tracker::sla::ledger::Judged;
use crate::tracker::sla::view::Breach;
use crate::tracker::state::State;

/// Late nodes kept with a task that missed the target.
const LATE_MAX: usize = 16;

/// Bytes of a reason that are kept with each.
const REASON_BYTES_MAX: usize = 256;

/// So long after a time of day.
pub(super) fn after(at: UnixMillis, took: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(crate::clock::millis(took)))
}

impl State {
    /// These records are completed, which is to be made durable next.
    pub(in crate::tracker) fn decide(&mut self, span: DecidedSpan) {
        self.decide_live(&span);
        if span.is_ours { self.tasks.decided.push_back(span) } else { self.tasks.foreign.push_back(span) }
    }

    fn decide_live(&mut self, span: &DecidedSpan) {
        let (Some(first), Some(last)) = (Some(span.after.next()), span.through.last()) else { return };
        if self.tasks.live.range(first..=last).next().is_none() {
            return;
        }
        // Both ends alike: so is everything between, for what a node has confirmed only ends somewhere once.
        let ((at_first, _), (at_last, heard_last)) =
            (self.pops_of_completed(first), self.pops_of_completed(last));
        let alike = at_first == at_last;
        let fences_at_last = self.fences_with(span.moment, last, &at_last);
        let stood_still = !span.is_ours && self.standstill.is_catching_up(span.moment);
        let heard_late = span.raised.filter(|_| stood_still);
        let seqs: Vec<Seq> = self.tasks.live.range(first..=last).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            let (by_pop, is_heard_here) =
                if alike { (Arc::clone(&at_last), heard_last) } else { self.pops_of_completed(seq) };
            let nodes = sum(&by_pop);
            let fences =
                if alike { Arc::clone(&fences_at_last) } else { self.fences_with(span.moment, seq, &by_pop) };
            let Some(task) = self.tasks.live.get_mut(&seq) else { continue };
            let alone = self.quorum.is_alone();
            let is_near = !alone && !task.accepted_here;
            let approximate = is_near || !is_heard_here || heard_late.is_some();
            let took = if alone {
                span.moment.since(task.durable_at)
            } else {
                let seen = if task.accepted_here { SeenWhen::Soon } else { task.seen };
                // This process may have stood still. The purge did not, and others have told so meanwhile.
                let end = TaskEnded { heard: span.moment, wall: span.at, raised: heard_late };
                let maker = crate::ids::maker_of(task.task);
                let accepted = self.quorum.clocks().moment(maker, task.accepted_at);
                took(seen, TaskBegan { seen_at: task.durable_at, wall: task.accepted_at, accepted }, &end)
            };
            // Among several by the clock that the record's time is of, for theirs may be hours apart.
            let at = if alone { span.at } else { after(task.accepted_at, took) };
            if span.is_ours {
                metrics::propagation(took);
            }
            task.row_is_ours = span.is_ours;
            let by = (!alone).then(|| self.quorum.own());
            let decided = Decided { at, took, nodes, by_pop, fences, by, is_recorded: !alone, approximate };
            task.completion = Completion::Decided(decided);
            if !alone {
                let view = task.view(seq, TaskState::Completed, nodes);
                self.tasks.news.push(view);
            }
        }
    }

    fn fences_with(&self, now: Moment, seq: Seq, by_pop: &[(Arc<str>, NodeCounts)]) -> Arc<Fences> {
        let any = by_pop.iter().any(|(_, nodes)| nodes.fenced > 0);
        if any { Arc::new(self.fences_at(now, seq)) } else { Arc::default() }
    }

    /// What is to be made durable next: at most `max` records of one span.
    pub(in crate::tracker) fn next_decided(&self, max: u64) -> Option<DecidedSpan> {
        self.tasks.decided.front().map(|span| span.first(max))
    }

    /// The completions of this span, as [`State::next_decided`] gave it, are durable; `spilled` are those that were not in
    /// memory, which are older.
    pub(in crate::tracker) fn handle_stored(&mut self, span: &DecidedSpan, spilled: &[Judged]) {
        spilled.iter().for_each(|completed| self.ledger.handle_completed(completed));
        let seqs: Vec<Seq> =
            self.tasks.live.range(span.after.next()..span.through.next()).map(|(seq, _)| *seq).collect();
        seqs.into_iter().for_each(|seq| self.handle_row_stored(seq));
        self.tasks.handle_span_done(span);
    }

    /// The row of a task that is completed, and that this control plane writes, is durable.
    pub(in crate::tracker) fn handle_row_stored(&mut self, seq: Seq) {
        let Some(task) = self.tasks.live.get_mut(&seq) else { return };
        match std::mem::replace(&mut task.completion, Completion::Open) {
            Completion::Decided(decided) => {
                let nodes = decided.nodes;
                let mut judged = Judged::of_live(seq, task, decided.took);
                if self.ledger.is_slowest(&task.site, task.accepted_at, decided.took) {
                    judged = judged.with_slow(task.task, &task.slow_lines(&decided.fences, &self.roll));
                }
                self.ledger.handle_completed(&judged);
                let is_told = decided.is_recorded;
                task.completion = Completion::Stored(decided);
                let view = task.view(seq, TaskState::Completed, nodes);
                if !is_told {
                    self.tasks.news.push(view.clone());
                }
                self.tasks.finished.push(Finished {
                    task: view,
                    slowest: task.slowest.take(),
                    trace: task.trace,
                });
            }
            before => task.completion = before,
        }
        if task.dirty && task.row_is_ours {
            self.tasks.dirty.insert(seq);
        } else if task.is_settled() {
            self.forget(seq);
        }
    }

    /// Everything through here is completed, durably so, and told.
    pub(in crate::tracker) fn completed_through(&self) -> Cursor {
        if self.quorum.is_alone() { self.stored_through() } else { self.quorum.decided() }
    }

    /// Everything through here is completed, and what became of it is in the rows.
    pub(in crate::tracker) fn stored_through(&self) -> Cursor {
        let fronts = [self.tasks.decided.front(), self.tasks.foreign.front()];
        let first = fronts.into_iter().flatten().map(|span| span.after).min();
        first.unwrap_or_else(|| self.quorum.decided())
    }

    /// Looks at tasks whose target has passed. To be called before every step: what completes a task late must not hide
    /// which nodes it was waiting for. One of several that stood still hears first what the others did meanwhile, for which it
    /// is given a second of its own running.
    pub(in crate::tracker) fn judge_overdue(&mut self, now: Moment) {
        self.standstill.handle_step(now);
        let is_alone = self.quorum.is_alone();
        while let Some((&seq, task)) = self.tasks.live.range(self.tasks.overdue_through.next()..).next()
            && now.since(task.durable_at) >= PURGE_TARGET
            && (is_alone || self.standstill.has_read(task.durable_at + PURGE_TARGET, now))
        {
            self.tasks.overdue_through = Cursor::after(seq);
            if task.is_open() {
                self.handle_overdue(now, seq);
            }
        }
    }

    pub(in crate::tracker) fn handle_overdue(&mut self, now: Moment, seq: Seq) {
        metrics::sla_breach();
        let late = self.late_at(now, seq);
        let Some(task) = self.tasks.live.get_mut(&seq) else { return };
        tracing::warn!(task = %task.task, site = %task.site, request_id = &*task.request_id,
            late = ?late.iter().map(|late| format!("{} {}", late.node, late.reason)).collect::<Vec<_>>(),
            "purge not completed within the target");
        task.late = late;
        let breach = Breach {
            site: task.site.clone(),
            task: task.task,
            propagation_ms: None,
            late: task.late.clone(),
        };
        self.ledger.handle_breach(&breach, task.accepted_at);
    }

    /// When the site's tasks (all sites' for `None`) were accepted that are past the target and not completed: since then,
    /// and as far as they are in memory.
    pub(in crate::tracker) fn overdue_at(&self, site: Option<&SiteId>, since: UnixMillis) -> Vec<UnixMillis> {
        let open = self.tasks.live.range(
            self.completed_through().next()
                ..self.tasks.overdue_through.next().max(self.completed_through().next()),
        );
        let counts = |task: &LiveTask| {
            task.completed().is_none()
                && task.accepted_at >= since
                && site.is_none_or(|site| task.site == *site)
        };
        open.filter(|(_, task)| counts(task)).map(|(_, task)| task.accepted_at).collect()
    }

    /// A node that keeps a purge from being completed keeps every later one from it too: so the newest tells whether
    /// there is anything to do.
    pub(in crate::tracker) fn mark_partial(&mut self, now: Moment) {
        let open = |(_, task): &(&Seq, &LiveTask)| task.is_open() && !task.partial;
        let candidates = self.tasks.live.range(..self.tasks.overdue_through.next()).rev();
        let found: Vec<Seq> = candidates
            .take_while(|(_, task)| task.is_open())
            .filter(open)
            .map(|(seq, _)| *seq)
            .take_while(|seq| self.roster.is_partial(now, *seq))
            .collect();
        for seq in found.into_iter().rev() {
            let counts = self.counts_at(seq);
            if let Some(task) = self.tasks.live.get_mut(&seq) {
                task.partial = true;
                self.tasks.news.push(task.view(seq, TaskState::Partial, counts));
            }
        }
    }

    /// The state of a task whose completion is not durable.
    pub(in crate::tracker) fn open_state(&self, now: Moment, seq: Seq, partial: bool) -> TaskState {
        if !self.roster.tail().covers(seq) {
            // Durable, and not heard of here yet: it is as young as can be.
            TaskState::Pending
        } else if partial || self.roster.is_partial(now, seq) {
            TaskState::Partial
        } else if self.tasks.sent_through.covers(seq) {
            TaskState::InProgress
        } else {
            TaskState::Pending
        }
    }

    pub(in crate::tracker) fn counts_at(&self, seq: Seq) -> NodeCounts {
        self.roster.counts_at(seq)
    }

    /// The counts of all records from `first` through `last`, if they are the same.
    pub(in crate::tracker) fn counts_between(&self, first: Seq, last: Seq) -> Option<NodeCounts> {
        let at_last = self.counts_at(last);
        (first == last || self.counts_at(first) == at_last).then_some(at_last)
    }

    pub(in crate::tracker) fn pops_at(&self, seq: Seq) -> CountsByPop {
        self.roster.counts_by_pop(seq).into_iter().map(|(pop, nodes)| (Arc::from(pop), nodes)).collect()
    }

    /// The same of a record that is completed, and whether all of that was heard here. Of several control planes a majority has
    /// stated that each node has confirmed the record or cannot serve; some of that only others may have heard yet.
    pub(in crate::tracker) fn pops_of_completed(&self, seq: Seq) -> (CountsByPop, bool) {
        let heard = self.pops_at(seq);
        let is_whole = heard.iter().all(|(_, nodes)| nodes.confirmed + nodes.fenced == nodes.total);
        if is_whole || self.quorum.is_alone() {
            return (heard, true);
        }
        let vouched = heard.iter().map(|(pop, nodes)| {
            let confirmed = nodes.total.saturating_sub(nodes.fenced);
            (Arc::clone(pop), NodeCounts { confirmed, unreachable: 0, ..*nodes })
        });
        (vouched.collect(), false)
    }

    pub(in crate::tracker) fn late_at(&self, now: Moment, seq: Seq) -> Vec<AwaitedNode> {
        let late = self.roster.late_at(seq).into_iter().take(LATE_MAX);
        late.map(|late| AwaitedNode { reason: self.reason(now, &late), node: late.node }).collect()
    }

    /// Why a node is late: what the rules say, and what it said itself.
    pub(in crate::tracker) fn reason(&self, now: Moment, late: &batoff_delivery::LateNode) -> Arc<str> {
        let mut reason = late.why.as_str().to_owned();
        let view = self.roster.node(now, &late.node);
        let connected = view.as_ref().is_some_and(|view| view.connected);
        reason.push_str(if connected { ", connected" } else { ", no connection" });
        if let Some(view) = view {
            let plural = if view.lag_records == 1 { "" } else { "s" };
            let _ = write!(reason, ", {} record{plural} behind", view.lag_records);
        }
        for (cache, trouble) in self.roll.troubles_of(&late.node) {
            let _ = write!(reason, "; {cache}: {}", trouble.message);
            if let Some(stuck) = trouble.stuck {
                let _ = write!(reason, " (since seq {stuck})");
            }
        }
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.into()
    }
}

pub(in crate::tracker) fn sum(by_pop: &[(Arc<str>, NodeCounts)]) -> NodeCounts {
    by_pop.iter().fold(NodeCounts::default(), |sum, (_, nodes)| NodeCounts {
        total: sum.total + nodes.total,
        confirmed: sum.confirmed + nodes.confirmed,
        fenced: sum.fenced + nodes.fenced,
        unreachable: sum.unreachable + nodes.unreachable,
    })
}
