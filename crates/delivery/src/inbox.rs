//! The node's end of its stream: records in order, the cursor, acks and heartbeats, the lease, and whether the node may
//! serve. Where a message leads is one function, `Inbox::dispatch`.

mod catch_up;
mod queue;
mod reports;

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::message::{
    Ack, Count, GoAway, Heartbeat, Hello, LeaseGrant, LeasePolicy, PROTOCOL_VERSION, Parents, Position,
    RecordReport, Reset, ToNode, Welcome,
};
use batoff_types::{
    Cursor, InstanceId, Moment, NodeName, Parent, Record, SEMANTICS_VERSION, Seq, TaskId, Term,
};

use self::catch_up::CatchUp;
use self::queue::Queue;
pub use self::queue::Received;
use self::reports::Reports;
use crate::Lease;
use crate::lease::LowerTerm;
use crate::rules::{Rule, RuleSet};

/// Questions kept until the shell takes them. Of more than these the oldest go unanswered; whoever asked has a time
/// limit for the answer.
const COUNTS_MAX: usize = 64;

/// Every heartbeat is answered. A stream on which no answer came for so long is dead, whatever TCP says and records do.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// No control plane is believed that wants heartbeats more often than this.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(5);

/// What an [`Inbox`] says of its node, and what it may hold.
#[derive(Clone, Debug)]
pub struct InboxConfig {
    /// The node's name.
    pub node: NodeName,
    /// What it does when its lease ends.
    pub policy: LeasePolicy,
    /// The caches between its own and the origins.
    pub parents: Vec<Parent>,
    /// The daemon's version, for people.
    pub version: String,
    /// The caches that it drives, for people.
    pub caches: Vec<String>,
    /// Records received and not yet applied, at most, give or take one message (I5). At the limit
    /// [`Inbox::wants_more`] turns false, and a shell that then stops reading pushes back on the control plane.
    pub queue_records: usize,
    /// The same in bytes of memory, approximately.
    pub queue_bytes: usize,
    /// An available node: a control plane knows so, durably, and this node has made durable that it does.
    pub agreed: bool,
    /// Without an answer to heartbeats for so long the stream is dead.
    pub silence_max: Duration,
    rules: RuleSet,
}

impl InboxConfig {
    /// With the default limits: 4,096 records, 8 MiB; 3 s of silence. Nothing is agreed.
    pub fn new(node: NodeName, policy: LeasePolicy) -> Self {
        Self {
            node,
            policy,
            parents: Vec::new(),
            version: String::new(),
            caches: Vec::new(),
            queue_records: 4_096,
            queue_bytes: 8 << 20,
            agreed: false,
            silence_max: SILENCE_MAX,
            rules: RuleSet::default(),
        }
    }

    /// Leaves out one rule, so that a simulation can show that it notices. For tests only.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.rules = RuleSet { off: Some(rule) };
        self
    }
}

/// The connection is to be dropped; a new one resumes at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// A record is missing. This must never happen, and is worth a counter and an alert.
    #[error("I3: record {expected} should have come next, but {got} came")]
    Gap {
        /// The record that should have come.
        expected: Seq,
        /// The record that came.
        got: Seq,
    },
    /// A control plane that a later one has replaced.
    #[error("the control plane speaks in term {given}, but term {seen} has been seen: it has been replaced", given = given.0, seen = seen.0)]
    LowerTerm {
        /// The term it speaks in.
        given: Term,
        /// The highest term seen.
        seen: Term,
    },
    /// A message that cannot come now.
    #[error("protocol: {0}")]
    Unexpected(&'static str),
}

impl From<LowerTerm> for InboxError {
    fn from(LowerTerm { given, seen }: LowerTerm) -> Self {
        Self::LowerTerm { given, seen }
    }
}

/// The shell reported a record as applied out of order, which would make the cursor skip one (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("I3: record {got} was reported as applied, but record {expected} is next")]
pub struct OutOfOrder {
    /// The record that is next.
    pub expected: Seq,
    /// The record that was reported.
    pub got: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No stream, or one that broke the protocol.
    Silent,
    /// `Hello` was given out, `Welcome` has not come.
    Greeting,
    /// `Welcome` has come; the next message tells whether our position was accepted. Until then our cursor may be a
    /// place in another log, so it is not said.
    Welcomed { reset_due: bool },
    /// Our position is a place in their log.
    Following,
    /// Everything is being dropped.
    Resetting,
}

/// The node's end of its stream, over all connections of one run of the daemon.
///
/// ```text
///   applied    handed     received
///      |  shell   |  queued   |   not here yet
/// ```
/// The cursor that is acknowledged is `applied`, and it moves only through [`Inbox::handle_applied`].
#[derive(Debug)]
pub struct Inbox {
    config: InboxConfig,
    instance: InstanceId,
    lease: Lease,
    /// Where everything before is applied; `None`: nowhere, all that is cached has to go.
    position: Option<Position>,
    handed: Cursor,
    received: Cursor,
    phase: Phase,
    queue: Queue,
    welcome: Option<Welcome>,
    reset: Option<Reset>,
    resetting: Option<Reset>,
    counts: VecDeque<Count>,
    go_away: Option<GoAway>,
    reports: Reports,
    /// What this stream has acknowledged.
    acked: Option<Cursor>,
    heartbeat_interval: Duration,
    next_heartbeat: Option<Moment>,
    last_heartbeat: Option<Moment>,
    /// The last heartbeat was answered without a lease.
    refused: bool,
    /// What was last said of the parents in the log that is followed.
    parents: Parents,
    catch_up: CatchUp,
    /// When the control plane last answered, on the present stream.
    heard: Option<Moment>,
}

impl Inbox {
    /// For a daemon that starts. `position` is what it stored, `None` when it stored nothing or must flush;
    /// `max_term_seen` is stored too, 0 when nothing was.
    pub fn new(
        config: InboxConfig,
        instance: InstanceId,
        position: Option<Position>,
        max_term_seen: Term,
    ) -> Self {
        let applied = position.map_or(Cursor::START, |position| position.cursor);
        Self {
            queue: Queue::new(config.queue_records, config.queue_bytes),
            config,
            instance,
            lease: Lease::new(max_term_seen),
            position,
            handed: applied,
            received: applied,
            phase: Phase::Silent,
            welcome: None,
            reset: None,
            resetting: None,
            counts: VecDeque::new(),
            go_away: None,
            reports: Reports::default(),
            acked: None,
            heartbeat_interval: HEARTBEAT_INTERVAL_MIN,
            next_heartbeat: None,
            last_heartbeat: None,
            refused: false,
            parents: Parents::default(),
            catch_up: CatchUp::default(),
            heard: None,
        }
    }

    /// Begins a new connection, whose first message this is, and forgets the old one with all that came on it and was
    /// not yet polled. Records that the shell has polled it must still report as applied.
    pub fn hello(&mut self) -> Hello {
        self.queue.clear();
        self.received = self.handed;
        self.phase = Phase::Greeting;
        self.welcome = None;
        self.reset = None;
        self.resetting = None;
        self.counts.clear();
        self.go_away = None;
        self.acked = self.position.map(|position| position.cursor);
        self.next_heartbeat = None;
        self.last_heartbeat = None;
        self.refused = false;
        self.heard = None;
        Hello {
            node: self.config.node.clone(),
            instance: self.instance,
            position: self.position,
            protocol: PROTOCOL_VERSION,
            semantics: SEMANTICS_VERSION,
            version: self.config.version.clone(),
            caches: self.config.caches.clone(),
            policy: self.config.policy,
            parents: self.config.parents.clone(),
        }
    }

    /// Takes in a message. After an error nothing more is accepted until the next [`Inbox::hello`].
    pub fn handle(&mut self, now: Moment, message: ToNode) -> Result<(), InboxError> {
        let is_answer = matches!(message, ToNode::Welcome(_) | ToNode::LeaseGrant(_));
        let outcome = self.dispatch(now, message);
        if is_answer || (self.heard.is_some() && !self.config.rules.in_force(Rule::Answers)) {
            self.heard = Some(now);
        }
        if outcome.is_err() {
            self.phase = Phase::Silent;
            self.next_heartbeat = None;
        }
        outcome
    }

    fn dispatch(&mut self, now: Moment, message: ToNode) -> Result<(), InboxError> {
        match (self.phase, message) {
            (Phase::Silent, _) => {
                Err(InboxError::Unexpected("a message on a stream without Hello, or after an error"))
            }
            (Phase::Greeting, ToNode::Welcome(welcome)) => self.handle_welcome(now, welcome),
            (_, ToNode::GoAway(go_away)) => {
                self.go_away = Some(go_away);
                Ok(())
            }
            (Phase::Greeting, _) => Err(InboxError::Unexpected("a message before Welcome")),
            (_, ToNode::Welcome(_)) => Err(InboxError::Unexpected("a second Welcome")),
            (Phase::Resetting, ToNode::Reset(_)) => Err(InboxError::Unexpected("a Reset during a Reset")),
            (Phase::Welcomed { .. } | Phase::Following, ToNode::Reset(reset)) => {
                self.handle_reset(reset);
                Ok(())
            }
            (Phase::Welcomed { reset_due: true }, _) => {
                Err(InboxError::Unexpected("no Reset, though our position cannot be in that log"))
            }
            (Phase::Welcomed { reset_due: false }, message) => {
                self.phase = Phase::Following;
                self.catch_up.handle_accepted();
                self.moved();
                self.handle_following(now, message)
            }
            (Phase::Following, message) => self.handle_following(now, message),
            (Phase::Resetting, message) => self.handle_following(now, message),
        }
    }

    fn handle_welcome(&mut self, now: Moment, welcome: Welcome) -> Result<(), InboxError> {
        self.lease.handle_term(welcome.term)?;
        let reset_due =
            self.position.is_none_or(|ours| ours.log_id != welcome.log_id || ours.cursor > welcome.tail);
        self.phase = Phase::Welcomed { reset_due };
        self.heartbeat_interval = welcome.heartbeat_interval.max(HEARTBEAT_INTERVAL_MIN);
        self.next_heartbeat = Some(now);
        self.catch_up.handle_welcome(&welcome, self.config.rules);
        if !self.config.rules.in_force(Rule::CaughtUpInLog) {
            // Without the rule a place counts in whichever log is welcomed, and what counts is said at once.
            self.moved();
        }
        self.welcome = Some(welcome);
        Ok(())
    }

    fn handle_reset(&mut self, reset: Reset) {
        // Whatever the lease was granted on lies before the reset.
        self.lease.void();
        self.catch_up.handle_reset(&reset);
        self.position = None;
        // That was a place in another order.
        self.parents = Parents::default();
        self.acked = None;
        self.queue.clear();
        self.reports.clear();
        self.handed = reset.cursor;
        self.received = reset.cursor;
        self.phase = Phase::Resetting;
        self.resetting = Some(reset.clone());
        self.reset = Some(reset);
    }

    fn handle_following(&mut self, now: Moment, message: ToNode) -> Result<(), InboxError> {
        match message {
            ToNode::Records(records) => self.handle_records(now, records),
            ToNode::LeaseGrant(grant) => self.handle_grant(&grant),
            ToNode::Count(count) => {
                if self.counts.len() == COUNTS_MAX {
                    self.counts.pop_front();
                }
                self.counts.push_back(count);
                Ok(())
            }
            ToNode::Parents(parents) => {
                self.handle_parents(parents);
                Ok(())
            }
            ToNode::Welcome(_) | ToNode::Reset(_) | ToNode::GoAway(_) => {
                Err(InboxError::Unexpected("a message out of its place"))
            }
        }
    }

    fn handle_records(&mut self, now: Moment, records: Vec<Record>) -> Result<(), InboxError> {
        for record in records {
            let expected = self.received.next();
            if self.received.covers(record.seq) {
                // Sent again after a reconnect, while the shell still has it.
                continue;
            }
            if record.seq != expected {
                return Err(InboxError::Gap { expected, got: record.seq });
            }
            self.received = Cursor::after(record.seq);
            self.queue.push(Received { record, at: now });
        }
        Ok(())
    }

    fn handle_grant(&mut self, grant: &LeaseGrant) -> Result<(), InboxError> {
        if self.last_heartbeat.is_none_or(|sent| grant.echo > sent) {
            return Err(InboxError::Unexpected("a lease for a heartbeat that was never sent"));
        }
        if self.phase == Phase::Resetting {
            // The old objects are still here; a lease is for what remains.
            return Ok(self.lease.handle_term(grant.term)?);
        }
        self.lease.handle_grant(grant, self.config.rules)?;
        self.refused = grant.duration.is_zero();
        // A control plane that says nothing knows nothing of parents.
        let through = grant.parents_through.unwrap_or(Cursor::START);
        if through != self.parents.through {
            self.handle_parents(Parents { through, why: String::new() });
        }
        Ok(())
    }

    fn handle_parents(&mut self, parents: Parents) {
        // While everything is being dropped it would be taken for a place in the old order.
        if self.phase == Phase::Following && !self.config.parents.is_empty() {
            self.parents = parents;
        }
    }

    /// The `Welcome` of this connection, once: the sites' table as of the place where the stream resumes, and the
    /// reconnect delays. To be polled before anything else.
    pub fn poll_welcome(&mut self) -> Option<Welcome> {
        self.welcome.take()
    }

    /// Everything cached has to go. To be polled before records; none are given out until
    /// [`Inbox::handle_reset_applied`].
    pub fn poll_reset(&mut self) -> Option<Reset> {
        self.reset.take()
    }

    /// The next record to apply, in order. Every one that was polled must be reported by [`Inbox::handle_applied`].
    pub fn poll_record(&mut self) -> Option<Received> {
        // Not while a reset is under way, even when its stream has ended since.
        self.position?;
        let received = self.queue.pop()?;
        debug_assert_eq!(received.record.seq, self.handed.next(), "I3");
        self.handed = Cursor::after(received.record.seq);
        Some(received)
    }

    /// A question to answer from the index, without touching the cursor.
    pub fn poll_count(&mut self) -> Option<Count> {
        self.counts.pop_front()
    }

    /// The control plane wants the stream to end.
    pub fn poll_go_away(&mut self) -> Option<GoAway> {
        self.go_away.take()
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
        self.reports.add(report);
        self.moved();
        if self.refused {
            self.ask_sooner();
        }
        Ok(())
    }

    /// A refused node that gets on asks again before the interval is over, so that it is not without a lease for
    /// longer than it must be; but not so often that thousands of them are a burden.
    fn ask_sooner(&mut self) {
        if let (Some(next), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.next_heartbeat = Some(next.min(last + self.heartbeat_interval / 4));
        }
    }

    /// More became of a record that was applied before: objects that were still being swept.
    pub fn handle_report(&mut self, report: RecordReport) {
        if self.position.is_some_and(|position| position.cursor.covers(report.seq)) {
            self.reports.add(report);
        }
    }

    /// Everything cached is gone, or can no longer be served, and the node stands where `reset` says. Of no effect
    /// when another connection has begun since: that one brings a reset of its own. Records polled before the reset
    /// must not be reported after this.
    pub fn handle_reset_applied(&mut self, reset: &Reset) {
        if self.resetting.as_ref() != Some(reset) {
            return;
        }
        self.resetting = None;
        self.position = Some(Position { log_id: reset.log_id, cursor: reset.cursor, task: None });
        if self.phase == Phase::Resetting {
            self.phase = Phase::Following;
        }
        self.moved();
        self.ask_sooner();
    }

    /// The position may be another one, or count in another log.
    fn moved(&mut self) {
        if let Some(position) = self.position {
            self.catch_up.handle_moved(position.cursor, self.config.rules);
        }
    }

    /// Terms up to this one are stored: what was granted in them may be used.
    pub fn handle_term_durable(&mut self, term: Term) {
        self.lease.handle_durable(term, self.config.rules);
    }

    /// Whether this run has applied all that there was when it was welcomed, since its start or its last reset. Until
    /// then it may stand before what its predecessor has acknowledged, or before what was completed while it counted as
    /// fenced.
    pub const fn has_caught_up(&self) -> bool {
        self.catch_up.is_done()
    }

    /// An available node, whose control plane knows so by now: that is to be made durable, and then told by
    /// [`Inbox::handle_agreed`]. True until then.
    pub fn wants_to_agree(&self) -> bool {
        self.config.policy == LeasePolicy::Serve && !self.config.agreed && self.has_caught_up()
    }

    /// It is durable that the control plane knows that this node serves without a lease.
    pub fn handle_agreed(&mut self) {
        self.config.agreed = true;
    }

    /// Whether an object may be served from the cache at `now`, as far as the lease goes. An available node that has not
    /// agreed so with its control plane may still count as strict, and so is strict.
    pub fn may_serve(&self, now: Moment) -> bool {
        match self.config.policy {
            LeasePolicy::Serve if self.config.agreed => true,
            LeasePolicy::Serve | LeasePolicy::Revalidate => self.lease.may_serve(now),
        }
    }

    /// What the node may say to have applied where another cache answers from what it holds on that ground; `None` until
    /// it has caught up.
    pub fn vouches_for(&self) -> Option<Position> {
        self.position.filter(|_| self.has_caught_up() || !self.config.rules.in_force(Rule::Vouching))
    }

    /// When the stream is to be given up because nothing was answered, if nothing is until then; `None` before `Welcome`,
    /// and while the queue is full, as it is the node itself that does not listen then.
    pub fn silent_at(&self) -> Option<Moment> {
        self.heard.filter(|_| self.wants_more()).map(|heard| heard + self.config.silence_max)
    }

    /// How long [`Inbox::silent_at`] lets a stream go without an answer.
    pub const fn silence_max(&self) -> Duration {
        self.config.silence_max
    }

    /// The shell has not read until now, so that nothing was heard says nothing.
    pub fn handle_not_read(&mut self, now: Moment) {
        if let Some(heard) = &mut self.heard {
            *heard = (*heard).max(now);
        }
    }

    /// How far the node is, with what happened on the way. Acks are cumulative; however many records were applied since
    /// the last, one says it. More follow only when there are more reports than fit.
    pub fn poll_ack(&mut self) -> Option<Ack> {
        let position = self.position?;
        if self.phase != Phase::Following || (self.acked == Some(position.cursor) && self.reports.is_empty())
        {
            return None;
        }
        self.acked = Some(position.cursor);
        Some(Ack { cursor: position.cursor, reports: self.reports.take(), overflowed: Vec::new() })
    }

    /// The heartbeat, when it is due. Its time is `now`, so it must be sent at once: a lease counts from it.
    pub fn poll_heartbeat(&mut self, now: Moment) -> Option<Heartbeat> {
        if now < self.next_heartbeat? {
            return None;
        }
        self.next_heartbeat = Some(now + self.heartbeat_interval);
        self.last_heartbeat = Some(now);
        let cursor = match self.phase {
            Phase::Following => self.cursor(),
            Phase::Silent | Phase::Greeting | Phase::Welcomed { .. } | Phase::Resetting => Cursor::START,
        };
        if self.phase == Phase::Following {
            self.acked = Some(cursor);
        }
        Some(Heartbeat { sent_at: now, cursor })
    }

    /// When [`Inbox::poll_heartbeat`] has something next; `None` while there is no stream.
    pub const fn next_heartbeat_at(&self) -> Option<Moment> {
        self.next_heartbeat
    }

    /// Whether to go on reading the stream. False while the queue is full: poll records first.
    pub fn wants_more(&self) -> bool {
        !self.queue.is_full()
    }

    /// The node's lease.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What is known of the parents in the log that is followed: nothing ([`Cursor::START`]) until the control plane has
    /// said so, and after a reset until it says so anew. What was said on an earlier stream counts on, as it stays true.
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

    /// The highest term seen, to be stored before anything that came in it is acted upon.
    pub const fn max_term(&self) -> Term {
        self.lease.term()
    }

    /// Whether the control plane has accepted the position: records flow, or would if there were any.
    pub fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// Records received and not yet polled.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Reports that were given up because too many waited to be sent. They are figures for people; the cursor is not
    /// among them.
    pub const fn reports_dropped(&self) -> u64 {
        self.reports.dropped()
    }
}

#[cfg(test)]
mod tests;
