//! What a node keeps of one replica: its stream, and the lease that it granted.

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::message::{Count, GoAway, Parents, Position, Reset, Welcome, Whereabouts};
use batoff_types::{Cursor, Moment, ReplicaSet, Term};

use super::catch_up::CatchUp;
use super::feeds::Arrivals;
use super::reports::Reports;
use crate::lease::GrantedLease;

/// Questions kept until the shell takes them. Of more than these the oldest go unanswered; whoever asked has a time
/// limit for the answer.
pub(super) const COUNTS_MAX: usize = 64;

/// No control plane is believed that wants heartbeats more often than this.
pub(super) const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No stream, or one that broke the protocol, or whose `Hello` said what is no longer so.
    Silent,
    /// `Hello` was given out, `Welcome` has not come.
    Greeting,
    /// `Welcome` has come; the next message tells whether our position was accepted. Until then our cursor may be a
    /// place in another log, so it is not said.
    Welcomed { reset_due: bool },
    /// Our position is a place in their log.
    Following,
    /// It wants everything to be dropped, and too few others do.
    Asking,
    /// Everything is being dropped.
    Resetting,
}

/// One replica, over all connections to it.
#[derive(Debug)]
pub(super) struct ReplicaFeed {
    pub(super) phase: Phase,
    pub(super) connection: u64,
    pub(super) granted: GrantedLease,
    /// What the present connection's `Hello` said.
    pub(super) said: Option<Position>,
    /// What it wants to be dropped, and has not been yet.
    pub(super) asks: Option<Reset>,
    /// It has gone on sending since, and that was not kept.
    pub(super) skipped: bool,
    pub(super) welcome: Option<Welcome>,
    pub(super) counts: VecDeque<Count>,
    pub(super) go_away: Option<GoAway>,
    /// The latest that it said of where they all are, not polled yet.
    pub(super) replicas: Option<Whereabouts>,
    /// What became of records, and it has not been told.
    pub(super) reports: Reports,
    /// What this stream has acknowledged.
    pub(super) acked: Option<Cursor>,
    pub(super) heartbeat_interval: Duration,
    pub(super) next_heartbeat: Option<Moment>,
    pub(super) last_heartbeat: Option<Moment>,
    /// The last heartbeat was answered without a lease.
    pub(super) refused: bool,
    /// When it last answered, on the present stream.
    pub(super) heard: Option<Moment>,
    /// What it last said of the parents in the log that is followed.
    pub(super) parents: Parents,
    pub(super) catch_up: CatchUp,
    /// Which replicas count where the present stream goes on, by its `Welcome`.
    pub(super) set: Option<ReplicaSet>,
    pub(super) arrivals: Arrivals,
    /// Since when it is to fill in only; `None`: it is to bring records at once.
    pub(super) fills_in_since: Option<Moment>,
    /// Not to be chosen before then if another one can be: it was late.
    pub(super) slow_until: Moment,
    /// From a heartbeat to its answer, smoothed.
    pub(super) round_trip: Option<Duration>,
    /// When the present stream was welcomed.
    pub(super) since: Moment,
    /// Through where it has shown to have read the log that is followed.
    pub(super) knows: Cursor,
    /// Its grants say where its log ends, so it understands what a stream that fills in is.
    pub(super) tells_tail: bool,
}

impl ReplicaFeed {
    /// `max_term_seen` is durable.
    pub(super) fn new(max_term_seen: Term) -> Self {
        Self {
            phase: Phase::Silent,
            connection: 0,
            granted: GrantedLease::new(max_term_seen),
            said: None,
            asks: None,
            skipped: false,
            welcome: None,
            counts: VecDeque::new(),
            go_away: None,
            replicas: None,
            reports: Reports::default(),
            acked: None,
            heartbeat_interval: HEARTBEAT_INTERVAL_MIN,
            next_heartbeat: None,
            last_heartbeat: None,
            refused: false,
            heard: None,
            parents: Parents::default(),
            catch_up: CatchUp::default(),
            set: None,
            arrivals: Arrivals::default(),
            fills_in_since: None,
            slow_until: Moment::ZERO,
            round_trip: None,
            since: Moment::ZERO,
            knows: Cursor::START,
            tells_tail: false,
        }
    }

    /// A new connection begins with a `Hello` that says this.
    pub(super) fn begin(&mut self, connection: u64, said: Option<Position>) {
        self.phase = Phase::Greeting;
        self.connection = connection;
        self.said = said;
        self.asks = None;
        self.skipped = false;
        self.welcome = None;
        self.set = None;
        self.counts.clear();
        self.go_away = None;
        self.replicas = None;
        self.acked = said.map(|position| position.cursor);
        self.next_heartbeat = None;
        self.last_heartbeat = None;
        self.refused = false;
        self.heard = None;
        self.knows = Cursor::START;
        self.tells_tail = false;
    }

    /// Nothing more is accepted on the present connection.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Silent;
        self.asks = None;
        self.next_heartbeat = None;
    }

    /// A refused node that gets on asks again before the interval is over, so that it is not without a lease for
    /// longer than it must be; but not so often that thousands of them are a burden.
    pub(super) fn ask_sooner(&mut self) {
        if let (Some(next), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.next_heartbeat = Some(next.min(last + self.heartbeat_interval / 4));
        }
    }

    /// Whether records come on it, or will.
    pub(super) const fn sends(&self) -> bool {
        matches!(self.phase, Phase::Following | Phase::Resetting)
    }
}
