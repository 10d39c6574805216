//! The node's end of its streams: records in order, the cursor, acks and heartbeats, the leases, and whether the node may
//! serve. [`Feeds`] is all of it, for any number of control planes; [`Inbox`] is the same for one that is alone.

mod catch_up;
mod feed;
mod feeds;
mod queue;
mod reports;

use std::time::Duration;

use batoff_types::message::{
    Ack, Count, GoAway, Heartbeat, Hello, LeasePolicy, Parents, Position, RecordReport, Reset, ToNode,
    Welcome,
};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Parent, Replica, Seq, TaskId, Term};

pub use self::feeds::{Arrivals, FeedLine, Feeds, HelloSaid, InvalidPromptFeeds, PromptFeeds};
pub use self::queue::Received;
#[cfg(any(test, feature = "mutations"))]
use crate::Rule;
use crate::lease::LowerTerm;
use crate::rules::RuleSet;
use crate::{Lease, ReplicaSet};

/// Every heartbeat is answered. A stream on which no answer came for so long is dead, whatever TCP says and records do.
const SILENCE_MAX: Duration = Duration::from_secs(3);

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
    /// An available node: a majority of `set` knows so, durably, and this node has made durable that it does.
    pub agreed: bool,
    /// Without an answer to heartbeats for so long the stream is dead.
    pub silence_max: Duration,
    /// Of how many replicas the streams are to bring records at once; the others fill in.
    pub prompt_feeds: PromptFeeds,
    /// The replicas that count where the node stands.
    pub set: ReplicaSet,
    /// Whether that is known. If not, `set` is not gone by, and the first replica that accepts the node's place says which count
    /// there.
    pub set_is_known: bool,
    rules: RuleSet,
}

impl InboxConfig {
    /// With the default limits: 4,096 records, 8 MiB; 3 s of silence; two prompt feeds. Nothing is agreed, and the control plane is alone.
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
            prompt_feeds: PromptFeeds::default(),
            set: ReplicaSet::only(),
            set_is_known: true,
            rules: RuleSet::default(),
        }
    }

    /// Leaves out one rule, so that a simulation can show that it notices. For tests only.
    #[cfg(any(test, feature = "mutations"))]
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
    /// The stream was overtaken, by another one or by a reset. Nobody's fault.
    #[error("{0}")]
    Outdated(&'static str),
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

/// The node's end of its stream to a control plane that is alone, over all connections of one run of the daemon: [`Feeds`]
/// with one replica in the set.
#[derive(Debug)]
pub struct Inbox {
    feeds: Feeds,
}

/// The only one.
const ONLY: Replica = Replica::ONLY;

impl Inbox {
    /// For a daemon that starts. `position` is what it stored, `None` when it stored nothing or must flush;
    /// `max_term_seen` is stored too, 0 when nothing was.
    pub fn new(
        config: InboxConfig,
        instance: InstanceId,
        position: Option<Position>,
        max_term_seen: Term,
    ) -> Self {
        Self { feeds: Feeds::new(config, instance, position, [(ONLY, max_term_seen)]) }
    }

    /// See [`Feeds::hello`].
    pub fn hello(&mut self) -> Hello {
        let connection = self.feeds.line(ONLY).connection + 1;
        self.feeds.hello(FeedLine { replica: ONLY, connection })
    }

    /// See [`Feeds::handle`]; what comes on another connection than the present one must not be passed in.
    pub fn handle(&mut self, now: Moment, message: ToNode) -> Result<(), InboxError> {
        let line = self.feeds.line(ONLY);
        self.feeds.handle(now, line, message)
    }

    /// See [`Feeds::poll_welcome`].
    pub fn poll_welcome(&mut self) -> Option<Welcome> {
        self.feeds.poll_welcome(ONLY)
    }

    /// See [`Feeds::poll_reset`].
    pub const fn poll_reset(&mut self) -> Option<Reset> {
        self.feeds.poll_reset()
    }

    /// See [`Feeds::poll_record`].
    pub fn poll_record(&mut self) -> Option<Received> {
        self.feeds.poll_record()
    }

    /// See [`Feeds::poll_count`].
    pub fn poll_count(&mut self) -> Option<Count> {
        self.feeds.poll_count(ONLY)
    }

    /// See [`Feeds::poll_go_away`].
    pub fn poll_go_away(&mut self) -> Option<GoAway> {
        self.feeds.poll_go_away(ONLY)
    }

    /// See [`Feeds::handle_applied`].
    pub fn handle_applied(&mut self, seq: Seq, task: TaskId, report: RecordReport) -> Result<(), OutOfOrder> {
        self.feeds.handle_applied(seq, task, report)
    }

    /// See [`Feeds::handle_report`].
    pub fn handle_report(&mut self, report: RecordReport) {
        self.feeds.handle_report(report);
    }

    /// See [`Feeds::handle_reset_applied`].
    pub fn handle_reset_applied(&mut self, reset: &Reset) {
        self.feeds.handle_reset_applied(reset);
    }

    /// See [`Feeds::handle_term_durable`].
    pub fn handle_term_durable(&mut self, term: Term) {
        self.feeds.handle_term_durable(ONLY, term);
    }

    /// See [`Feeds::has_caught_up`].
    pub fn has_caught_up(&self) -> bool {
        self.feeds.has_caught_up()
    }

    /// See [`Feeds::wants_to_agree`].
    pub fn wants_to_agree(&self) -> bool {
        self.feeds.wants_to_agree()
    }

    /// See [`Feeds::handle_agreed`].
    pub fn handle_agreed(&mut self) {
        self.feeds.handle_agreed();
    }

    /// See [`Feeds::may_serve`].
    pub fn may_serve(&self, now: Moment) -> bool {
        self.feeds.may_serve(now)
    }

    /// See [`Feeds::vouches_for`].
    pub fn vouches_for(&self) -> Option<Position> {
        self.feeds.vouches_for()
    }

    /// See [`Feeds::silent_at`].
    pub fn silent_at(&self) -> Option<Moment> {
        self.feeds.silent_at(ONLY)
    }

    /// How long [`Inbox::silent_at`] lets a stream go without an answer.
    pub const fn silence_max(&self) -> Duration {
        self.feeds.silence_max()
    }

    /// See [`Feeds::handle_not_read`].
    pub fn handle_not_read(&mut self, now: Moment) {
        self.feeds.handle_not_read(now);
    }

    /// See [`Feeds::poll_ack`].
    pub fn poll_ack(&mut self) -> Option<Ack> {
        self.feeds.poll_ack(ONLY)
    }

    /// See [`Feeds::poll_heartbeat`].
    pub fn poll_heartbeat(&mut self, now: Moment) -> Option<Heartbeat> {
        self.feeds.poll_heartbeat(now, ONLY)
    }

    /// See [`Feeds::next_heartbeat_at`].
    pub fn next_heartbeat_at(&self) -> Option<Moment> {
        self.feeds.next_heartbeat_at()
    }

    /// See [`Feeds::wants_more`].
    pub fn wants_more(&self) -> bool {
        self.feeds.wants_more()
    }

    /// The node's lease.
    pub const fn lease(&self) -> &Lease {
        self.feeds.lease()
    }

    /// See [`Feeds::parents`].
    pub const fn parents(&self) -> &Parents {
        self.feeds.parents()
    }

    /// What the node does when its lease ends.
    pub const fn policy(&self) -> LeasePolicy {
        self.feeds.policy()
    }

    /// Everything before this place is applied; [`Cursor::START`] when the node stands nowhere.
    pub fn cursor(&self) -> Cursor {
        self.feeds.cursor()
    }

    /// Where the node stands, to be stored; `None`: nowhere.
    pub const fn position(&self) -> Option<Position> {
        self.feeds.position()
    }

    /// See [`Feeds::max_term`].
    pub fn max_term(&self) -> Term {
        self.feeds.max_term(ONLY)
    }

    /// See [`Feeds::is_following`].
    pub fn is_following(&self) -> bool {
        self.feeds.is_following(ONLY)
    }

    /// Records received and not yet polled.
    pub fn queued(&self) -> usize {
        self.feeds.queued()
    }

    /// Reports that were given up because too many waited to be sent. They are figures for people; the cursor is not
    /// among them.
    pub fn reports_dropped(&self) -> u64 {
        self.feeds.reports_dropped()
    }
}

#[cfg(test)]
mod tests;
