//! The node's end of its streams to all replicas, made one. Where a message leads is one function, `Feeds::dispatch`.
//!
//! Some replicas send every record at once, two by default, and the node takes whichever comes first; the others send what it
//! still has not confirmed after a while. So a record that one stream lost or delays costs nothing, and each replica is told
//! how far the node is, whoever brought it there.

mod arrivals;
mod greeting;
mod prompt;
mod reset;

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_types::message::{
    Ack, Count, GoAway, Heartbeat, Hello, LeaseGrant, LeasePolicy, Parents, Position, RecordReport, Reset,
    ResetReason, ToNode, Welcome, Whereabouts,
};
use batoff_types::{Body, Cursor, InstanceId, Moment, Record, Replica, Seq, TaskId, Term};

pub use self::arrivals::Arrivals;
use self::arrivals::RecentArrivals;
pub use self::greeting::HelloSaid;
use self::prompt::Review;
pub use self::prompt::{InvalidPromptFeeds, PromptFeeds};
use super::feed::{COUNTS_MAX, HEARTBEAT_INTERVAL_MIN, Phase, ReplicaFeed};
use super::queue::{Queue, Received};
use super::{InboxConfig, InboxError, OutOfOrder};
use crate::replicas::reached;
use crate::rules::Rule;
use crate::{Lease, ReplicaSet, SetHistory};

/// One connection to one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLine {
    /// To whom.
    pub replica: Replica,
    /// Which connection; higher than those before it to the same replica, by any run of the daemon.
    pub connection: u64,
}

/// The node's end of its streams, over all connections of one run of the daemon.
///
/// ```text
///   applied    handed     received
///      |  shell   |  queued   |   not here yet
/// ```
/// The cursor that is acknowledged is `applied`, and it moves only through [`Feeds::handle_applied`].
#[derive(Debug)]
pub struct Feeds {
    config: InboxConfig,
    instance: InstanceId,
    /// What the leases of a majority give.
    lease: Lease,
    /// Where everything before is applied; `None`: nowhere, all that is cached has to go.
    position: Option<Position>,
    handed: Cursor,
    received: Cursor,
    queue: Queue,
    reset: Option<Reset>,
    resetting: Option<Reset>,
    reset_from: Option<Replica>,
    /// What a majority says of the parents.
    parents: Parents,
    sets: SetHistory,
    /// Of an available node: the replicas of which a majority knows so, durably, as it is durable here.
    agreed: Option<ReplicaSet>,
    /// Whether those are the sets of the log in which the node stands, and not a guess.
    sets_are_known: bool,
    /// How often everything was dropped.
    resets: u64,
    /// Streams that nobody has welcomed yet.
    awaited: usize,
    arrivals: RecentArrivals,
    review: Review,
    replicas: BTreeMap<Replica, ReplicaFeed>,
}

impl Feeds {
    /// For a daemon that starts. `position` is what it stored, `None` when it stored nothing or must flush; `terms` are
    /// stored too, the highest seen of each replica.
    pub fn new(
        config: InboxConfig,
        instance: InstanceId,
        position: Option<Position>,
        terms: impl IntoIterator<Item = (Replica, Term)>,
    ) -> Self {
        let applied = position.map_or(Cursor::START, |position| position.cursor);
        let replicas = terms.into_iter().map(|(replica, term)| (replica, ReplicaFeed::new(term)));
        Self {
            queue: Queue::new(config.queue_records, config.queue_bytes),
            sets: SetHistory::new(Cursor::START, config.set.clone()),
            agreed: config.agreed.then(|| config.set.clone()),
            sets_are_known: config.set_is_known,
            resets: 0,
            awaited: 0,
            arrivals: RecentArrivals::default(),
            review: Review::default(),
            config,
            instance,
            lease: Lease::default(),
            position,
            handed: applied,
            received: applied,
            reset: None,
            resetting: None,
            reset_from: None,
            parents: Parents::default(),
            replicas: replicas.collect(),
        }
    }

    /// Begins a new connection, whose first message this is, and forgets the old one to that replica. What came and was
    /// not polled is forgotten, too, unless another replica sends records. Those that the shell has polled it must still
    /// report as applied.
    pub fn hello(&mut self, line: FeedLine) -> Hello {
        let (hello, _) = self.greet(line.connection);
        self.begin(line, self.position);
        hello
    }

    /// That connection has ended. Of no effect when it is not the present one.
    pub fn handle_disconnected(&mut self, line: FeedLine) {
        let Some(feed) = self.replicas.get_mut(&line.replica) else { return };
        if feed.connection == line.connection {
            feed.end();
            self.weigh_again();
        }
    }

    /// The present connection to a replica; number 0 when there was none yet.
    pub fn line(&self, replica: Replica) -> FeedLine {
        let connection = self.replicas.get(&replica).map_or(0, |feed| feed.connection);
        FeedLine { replica, connection }
    }

    /// Takes in a message. After an error nothing more is accepted on that connection. What comes on another one than the
    /// present is dropped.
    pub fn handle(&mut self, now: Moment, from: FeedLine, message: ToNode) -> Result<(), InboxError> {
        let is_answer = matches!(message, ToNode::Welcome(_) | ToNode::LeaseGrant(_));
        let rules = self.config.rules;
        let Some(feed) = self.replicas.get(&from.replica) else { return Ok(()) };
        if feed.connection != from.connection && rules.in_force(Rule::PresentConnection) {
            return Ok(());
        }
        let outcome = self.dispatch(now, from.replica, message);
        if let Some(feed) = self.replicas.get_mut(&from.replica) {
            if is_answer || (feed.heard.is_some() && !rules.in_force(Rule::Answers)) {
                feed.heard = Some(now);
            }
            if outcome.is_err() {
                feed.end();
            }
        }
        outcome
    }

    fn dispatch(&mut self, now: Moment, from: Replica, message: ToNode) -> Result<(), InboxError> {
        let Some(feed) = self.replicas.get_mut(&from) else { return Ok(()) };
        match (feed.phase, message) {
            (Phase::Silent, _) => {
                Err(InboxError::Unexpected("a message on a stream without Hello, or after an error"))
            }
            (Phase::Greeting, ToNode::Welcome(welcome)) => self.handle_welcome(now, from, welcome),
            (_, ToNode::GoAway(go_away)) => {
                feed.go_away = Some(go_away);
                Ok(())
            }
            (Phase::Greeting, _) => Err(InboxError::Unexpected("a message before Welcome")),
            (_, ToNode::Welcome(_)) => Err(InboxError::Unexpected("a second Welcome")),
            (Phase::Resetting | Phase::Asking, ToNode::Reset(_)) => {
                Err(InboxError::Unexpected("a Reset during a Reset"))
            }
            (Phase::Welcomed { .. } | Phase::Following, ToNode::Reset(reset)) => {
                self.handle_reset(from, reset);
                Ok(())
            }
            (Phase::Welcomed { reset_due: true }, _) => {
                Err(InboxError::Unexpected("no Reset, though our position cannot be in that log"))
            }
            (Phase::Welcomed { reset_due: false }, message) => {
                feed.phase = Phase::Following;
                feed.catch_up.handle_accepted();
                self.learn_set(from);
                self.moved();
                self.handle_following(now, from, message)
            }
            // They come after a place that the node has not been put to.
            (Phase::Asking, ToNode::Records(_)) => {
                feed.skipped = true;
                Ok(())
            }
            (Phase::Following | Phase::Asking | Phase::Resetting, message) => {
                self.handle_following(now, from, message)
            }
        }
    }

    fn handle_welcome(&mut self, now: Moment, from: Replica, welcome: Welcome) -> Result<(), InboxError> {
        let rules = self.config.rules;
        let Some(feed) = self.replicas.get_mut(&from) else { return Ok(()) };
        feed.granted.handle_term(welcome.term)?;
        // What others send may have brought the node further since.
        let reset_due =
            feed.said.is_none_or(|said| said.log_id != welcome.log_id || said.cursor > welcome.tail);
        feed.phase = Phase::Welcomed { reset_due };
        feed.heartbeat_interval = welcome.heartbeat_interval.max(HEARTBEAT_INTERVAL_MIN);
        feed.next_heartbeat = Some(now);
        feed.since = now;
        feed.catch_up.handle_welcome(&welcome, rules);
        feed.set = Some(welcome.set.clone());
        feed.welcome = Some(welcome);
        if !rules.in_force(Rule::CaughtUpInLog) {
            // Without the rule a place counts in whichever log is welcomed, and what counts is said at once.
            self.moved();
        }
        Ok(())
    }

    fn handle_following(&mut self, now: Moment, from: Replica, message: ToNode) -> Result<(), InboxError> {
        match message {
            ToNode::Records(records) => self.handle_records(now, from, records),
            ToNode::LeaseGrant(grant) => self.handle_grant(now, from, &grant),
            ToNode::Count(count) => {
                if let Some(feed) = self.replicas.get_mut(&from) {
                    if feed.counts.len() == COUNTS_MAX {
                        feed.counts.pop_front();
                    }
                    feed.counts.push_back(count);
                }
                Ok(())
            }
            ToNode::Parents(parents) => {
                self.handle_parents(from, parents);
                Ok(())
            }
            ToNode::Replicas(replicas) => {
                if let Some(feed) = self.replicas.get_mut(&from) {
                    feed.replicas = Some(replicas);
                }
                Ok(())
            }
            ToNode::Welcome(_) | ToNode::Reset(_) | ToNode::GoAway(_) => {
                Err(InboxError::Unexpected("a message out of its place"))
            }
        }
    }

    fn handle_records(&mut self, now: Moment, from: Replica, records: Vec<Record>) -> Result<(), InboxError> {
        if let (Some(last), Some(feed)) = (records.last(), self.replicas.get_mut(&from)) {
            feed.knows = feed.knows.max(Cursor::after(last.seq));
        }
        for record in records {
            let expected = self.received.next();
            if self.received.covers(record.seq) {
                // Another replica was faster, or it is sent again after a reconnect, while the shell still has it.
                self.came_later(now, from, record.seq);
                continue;
            }
            if record.seq != expected {
                return Err(InboxError::Gap { expected, got: record.seq });
            }
            self.came_first(now, from, record.seq);
            self.received = Cursor::after(record.seq);
            self.queue.push(Received { record, at: now });
        }
        Ok(())
    }

    fn handle_grant(&mut self, now: Moment, from: Replica, grant: &LeaseGrant) -> Result<(), InboxError> {
        let rules = self.config.rules;
        let Some(feed) = self.replicas.get_mut(&from) else { return Ok(()) };
        if feed.last_heartbeat.is_none_or(|sent| grant.echo > sent) {
            return Err(InboxError::Unexpected("a lease for a heartbeat that was never sent"));
        }
        if feed.phase != Phase::Following {
            // The old objects are still here; a lease is for what remains.
            return Ok(feed.granted.handle_term(grant.term)?);
        }
        feed.granted.handle_grant(grant, rules)?;
        feed.handle_answer(now, grant);
        feed.refused = grant.duration.is_zero();
        // A control plane that says nothing knows nothing of parents.
        let through = grant.parents_through.unwrap_or(Cursor::START);
        if through != feed.parents.through {
            self.handle_parents(from, Parents { through, why: String::new() });
        }
        self.settle();
        Ok(())
    }

    fn handle_parents(&mut self, from: Replica, parents: Parents) {
        let Some(feed) = self.replicas.get_mut(&from) else { return };
        // While everything is being dropped it would be taken for a place in the old order.
        if feed.phase == Phase::Following && !self.config.parents.is_empty() {
            feed.parents = parents;
            self.settle();
        }
    }

    /// What follows from what each replica said and granted: the lease by a majority, and the parents' place by one.
    fn settle(&mut self) {
        let rules = self.config.rules;
        let (_, newest) = self.sets.newest();
        let set = if rules.in_force(Rule::SetAtCursor) { self.sets.as_of(self.cursor()) } else { newest };
        let until = reached(set, Rule::LeaseMajority, rules, |replica| self.granted_until(replica));
        let until = until.unwrap_or_default();
        let mut said: Vec<_> = set
            .members()
            .iter()
            .map(|replica| self.replicas.get(replica).map(|feed| &feed.parents))
            .collect();
        said.sort_by_key(|parents| std::cmp::Reverse(parents.map(|parents| parents.through)));
        let parents = said.get(set.majority() - 1).copied().flatten();
        if parents.is_none_or(|parents| *parents != self.parents) {
            self.parents = parents.cloned().unwrap_or_default();
        }
        self.lease.set(until);
    }

    /// The `Welcome` of a replica's connection, once: the sites' table as of the place where the stream resumes, and the
    /// reconnect delays. To be polled before anything else.
    pub fn poll_welcome(&mut self, replica: Replica) -> Option<Welcome> {
        self.replicas.get_mut(&replica)?.welcome.take()
    }

    /// The next record to apply, in order. Every one that was polled must be reported by [`Feeds::handle_applied`].
    pub fn poll_record(&mut self) -> Option<Received> {
        // Not while a reset is under way, even when its stream has ended since.
        self.position?;
        let received = self.queue.pop()?;
        debug_assert_eq!(received.record.seq, self.handed.next(), "I3");
        self.handed = Cursor::after(received.record.seq);
        if let Body::ReplicaSet(set) = &received.record.body {
            self.handle_set(received.record.seq, set.clone());
        }
        Some(received)
    }

    /// A question to answer from the index, to the replica that asks it, without touching the cursor.
    pub fn poll_count(&mut self, replica: Replica) -> Option<Count> {
        self.replicas.get_mut(&replica)?.counts.pop_front()
    }

    /// Where a replica last said that each of them is, once.
    pub fn poll_replicas(&mut self, replica: Replica) -> Option<Whereabouts> {
        self.replicas.get_mut(&replica)?.replicas.take()
    }

    /// The replica wants its stream to end.
    pub fn poll_go_away(&mut self, replica: Replica) -> Option<GoAway> {
        self.replicas.get_mut(&replica)?.go_away.take()
    }

    /// Whether the connection to a replica is of no use any more, for what its `Hello` said is no longer so, or after an
    /// error: a new one is to begin.
    pub fn is_void(&self, replica: Replica) -> bool {
        self.replicas.get(&replica).is_none_or(|feed| feed.phase == Phase::Silent)
    }

    /// The record `seq`, which is on its way to be applied, says which replicas count from there on.
    ///
    /// An available node has agreed with those before, and the new ones may take it for a strict one. So before it reports
    /// that record as applied it makes durable that it has not agreed; it does so anew when [`Feeds::wants_to_agree`] says so.
    pub fn handle_set(&mut self, seq: Seq, set: ReplicaSet) {
        self.sets.handle_set(seq, set);
        self.settle();
    }

    /// The node does not know which replicas count where it stands, as it stored nothing of it; this one has accepted its
    /// place, and so can tell.
    fn learn_set(&mut self, from: Replica) {
        let said = self.replicas.get(&from).and_then(|feed| feed.set.clone());
        if let Some(set) = said.filter(|_| !self.sets_are_known) {
            self.sets = SetHistory::new(Cursor::START, set);
            self.sets_are_known = true;
        }
    }

    /// The replicas that count where the node stands, to be stored with its position; a guess unless
    /// [`Feeds::knows_set`].
    pub fn set(&self) -> &ReplicaSet {
        self.sets.as_of(self.cursor())
    }

    /// Whether [`Feeds::set`] comes from the log in which the node stands.
    pub const fn knows_set(&self) -> bool {
        self.sets_are_known
    }

    /// Whether a replica counts where the node stands, or after that as far as is known.
    pub fn concerns(&self, replica: Replica) -> bool {
        self.sets.iter().any(|(_, set)| set.contains(replica))
    }

    /// A record is in force here: nothing that it hits can be served from any cache of this node. `task` is the
    /// record's, `report` goes out with the next ack. Repeats are ignored.
    pub fn handle_applied(&mut self, seq: Seq, task: TaskId, report: RecordReport) -> Result<(), OutOfOrder> {
        let Some(position) = &mut self.position else {
            // Polled before a reset, and void with everything else.
            return Ok(());
        };
        if position.cursor.covers(seq) {
            return Ok(());
        }
        let expected = position.cursor.next();
        if seq != expected {
            return Err(OutOfOrder { expected, got: seq });
        }
        debug_assert!(self.handed.covers(seq), "I3: {seq:?} was applied before it was polled");
        position.cursor = Cursor::after(seq);
        position.task = Some(task);
        self.handed = self.handed.max(position.cursor);
        self.received = self.received.max(position.cursor);
        self.tell_all(report);
        self.moved();
        self.replicas.values_mut().filter(|feed| feed.refused).for_each(ReplicaFeed::ask_sooner);
        Ok(())
    }

    /// More became of a record that was applied before: objects that were still being swept.
    pub fn handle_report(&mut self, report: RecordReport) {
        if self.position.is_some_and(|position| position.cursor.covers(report.seq)) {
            self.tell_all(report);
        }
    }

    fn tell_all(&mut self, report: RecordReport) {
        self.replicas.values_mut().for_each(|feed| feed.reports.add(report));
    }

    /// The position may be another one, or count in another log, or under another set of replicas.
    fn moved(&mut self) {
        let Some(position) = self.position else { return };
        for feed in self.replicas.values_mut() {
            feed.catch_up.handle_moved(position.cursor, self.config.rules);
            // Others have brought the node over what this one had lost.
            let filled = feed.asks.as_ref().is_some_and(|asks| {
                matches!(asks.reason, ResetReason::Trimmed | ResetReason::BeyondTail)
                    && asks.log_id == position.log_id
                    && asks.cursor <= position.cursor
            });
            if filled && feed.phase == Phase::Asking {
                feed.end();
            }
        }
        self.sets.forget_before(position.cursor);
        self.settle();
    }

    /// Terms of a replica up to this one are stored: what was granted in them may be used.
    pub fn handle_term_durable(&mut self, replica: Replica, term: Term) {
        if let Some(feed) = self.replicas.get_mut(&replica) {
            feed.granted.handle_durable(term, self.config.rules);
            self.settle();
        }
    }

    /// Whether this run has applied all that there was when it was welcomed, by a majority, since its start or its last
    /// reset. Until then it may stand before what its predecessor has acknowledged, or before what was completed while it
    /// counted as fenced.
    pub fn has_caught_up(&self) -> bool {
        let is_done = |replica| self.replicas.get(&replica).is_some_and(|feed| feed.catch_up.is_done());
        reached(self.set(), Rule::LeaseMajority, self.config.rules, is_done).unwrap_or_default()
    }

    /// An available node, whose control planes know so by now: that is to be made durable, and then told by
    /// [`Feeds::handle_agreed`]. True until then.
    pub fn wants_to_agree(&self) -> bool {
        let (set_from, _) = self.sets.newest();
        self.config.policy == LeasePolicy::Serve
            && !self.has_agreed()
            && set_from <= self.cursor()
            && self.has_caught_up()
    }

    /// It is durable that this node has not agreed, before it was told so by a set or a reset: it is to agree anew.
    pub fn handle_disagreed(&mut self) {
        self.agreed = None;
    }

    /// It is durable that the control planes know that this node serves without a lease.
    pub fn handle_agreed(&mut self) {
        self.agreed = Some(self.set().clone());
    }

    /// Whether the replicas that count where the node stands know that it serves without a lease.
    pub fn has_agreed(&self) -> bool {
        match &self.agreed {
            Some(with) => with == self.set() || !self.config.rules.in_force(Rule::AgreedWithSet),
            None => false,
        }
    }

    /// Whether an object may be served from the cache at `now`, as far as the leases go. An available node that has not
    /// agreed so with its control planes may still count as strict, and so is strict.
    pub fn may_serve(&self, now: Moment) -> bool {
        match self.config.policy {
            LeasePolicy::Serve if self.has_agreed() => true,
            LeasePolicy::Serve | LeasePolicy::Revalidate => self.lease.may_serve(now),
        }
    }

    /// What the node may say to have applied where another cache answers from what it holds on that ground; `None` until
    /// it has caught up.
    pub fn vouches_for(&self) -> Option<Position> {
        self.position.filter(|_| self.has_caught_up() || !self.config.rules.in_force(Rule::Vouching))
    }

    /// When the stream to a replica is to be given up because nothing was answered, if nothing is until then; `None`
    /// before `Welcome`, and while the queue is full, as it is the node itself that does not listen then.
    pub fn silent_at(&self, replica: Replica) -> Option<Moment> {
        let heard = self.replicas.get(&replica)?.heard.filter(|_| self.wants_more())?;
        Some(heard + self.config.silence_max)
    }

    /// How long [`Feeds::silent_at`] lets a stream go without an answer.
    pub const fn silence_max(&self) -> Duration {
        self.config.silence_max
    }

    /// The shell has not read until now, so that nothing was heard says nothing.
    pub fn handle_not_read(&mut self, now: Moment) {
        for heard in self.replicas.values_mut().filter_map(|feed| feed.heard.as_mut()) {
            *heard = (*heard).max(now);
        }
    }

    /// How far the node is, for a replica, with what happened on the way. Acks are cumulative; however many records were
    /// applied since the last, one says it. More follow only when there are more reports than fit. Each
    /// replica hears all of them: whichever completes a purge has to know what it did.
    pub fn poll_ack(&mut self, replica: Replica) -> Option<Ack> {
        let position = self.position?;
        let feed = self.replicas.get_mut(&replica)?;
        if feed.phase != Phase::Following || (feed.acked == Some(position.cursor) && feed.reports.is_empty())
        {
            return None;
        }
        feed.acked = Some(position.cursor);
        Some(Ack { cursor: position.cursor, reports: feed.reports.take(), overflowed: Vec::new() })
    }

    /// The heartbeat to a replica, when it is due. Its time is `now`, so it must be sent at once: a lease counts from it.
    pub fn poll_heartbeat(&mut self, now: Moment, replica: Replica) -> Option<Heartbeat> {
        let applied = self.cursor();
        self.choose_prompt(now);
        let feed = self.replicas.get_mut(&replica)?;
        if now < feed.next_heartbeat? {
            return None;
        }
        feed.next_heartbeat = Some(now + feed.heartbeat_interval);
        feed.last_heartbeat = Some(now);
        let cursor = if feed.phase == Phase::Following { applied } else { Cursor::START };
        if feed.phase == Phase::Following {
            feed.acked = Some(cursor);
        }
        Some(Heartbeat { sent_at: now, cursor, index: None, fill_in_after: feed.fill_in_after() })
    }

    /// When [`Feeds::poll_heartbeat`] has something next for any replica; `None` while there is no stream.
    pub fn next_heartbeat_at(&self) -> Option<Moment> {
        self.replicas.values().filter_map(|feed| feed.next_heartbeat).min()
    }

    /// The same for one replica.
    pub fn next_heartbeat_of(&self, replica: Replica) -> Option<Moment> {
        self.replicas.get(&replica)?.next_heartbeat
    }

    /// Whether to go on reading the streams. False while the queue is full: poll records first.
    pub fn wants_more(&self) -> bool {
        !self.queue.is_full()
    }

    /// The node's lease: what the leases of a majority give.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What a majority knows of the parents in the log that is followed: nothing ([`Cursor::START`]) until it has said so,
    /// and after a reset until it says so anew. What was said on an earlier stream counts on, as it stays true.
    pub const fn parents(&self) -> &Parents {
        &self.parents
    }

    /// What the node does when its lease ends.
    pub const fn policy(&self) -> LeasePolicy {
        self.config.policy
    }

    /// Everything before this place is applied; [`Cursor::START`] when the node stands nowhere.
    pub fn cursor(&self) -> Cursor {
        self.position.map_or(Cursor::START, |position| position.cursor)
    }

    /// Where the node stands, to be stored; `None`: nowhere.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// The highest term seen of a replica, to be stored before anything that came in it is acted upon.
    pub fn max_term(&self, replica: Replica) -> Term {
        self.replicas.get(&replica).map_or(Term(0), |feed| feed.granted.term())
    }

    /// Until when the lease of one replica runs, by the node's clock; [`Moment::ZERO`]: it has granted none that counts.
    pub fn granted_until(&self, replica: Replica) -> Moment {
        self.replicas.get(&replica).map_or(Moment::ZERO, |feed| feed.granted.valid_until())
    }

    /// Whether a replica has accepted the position: records flow, or would if there were any.
    pub fn is_following(&self, replica: Replica) -> bool {
        self.replicas.get(&replica).is_some_and(|feed| feed.phase == Phase::Following)
    }

    /// Records received and not yet polled.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Reports that were given up because too many waited to be sent to a replica that counts. They are figures for people;
    /// the cursor is not among them.
    pub fn reports_dropped(&self) -> u64 {
        let members = self.set().members().iter().filter_map(|replica| self.replicas.get(replica));
        members.map(|feed| feed.reports.dropped()).sum()
    }

    #[cfg(test)]
    pub(super) fn phase(&self, replica: Replica) -> Phase {
        self.replicas.get(&replica).map_or(Phase::Silent, |feed| feed.phase)
    }
}

#[cfg(test)]
mod tests;
