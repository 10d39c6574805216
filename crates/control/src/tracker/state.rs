//! All that the tracker knows, and the steps that change it.

use batoff_delivery::{Roster, RosterEvent};
use batoff_types::message::GoAwayReason;
use batoff_types::{Body, Cursor, Moment, Record, UnixMillis};

use super::nodes::roll::Roll;
use super::nodes::voices::Voices;
use super::pulse::Pulse;
use super::replicas::quorum::{Quorum, Ruling};
use super::replicas::rows::DoneRow;
use super::sla::ledger::SlaLedger;
use super::standstill::Standstill;
use super::tasks::live::DecidedSpan;
use super::tasks::memory::Tasks;
use crate::metrics;

/// All that the tracker knows, changed by small synchronous steps under one lock. Each field is a room's, and what is in
/// it is changed there: `impl State` goes on in the rooms, with the steps that need more than one of them.
///
/// ```text
///                  roster    who may serve, who has confirmed what, through where all is completed   (batoff_delivery)
///   replicas/      quorum    what others say of that, if there are others, and what is recorded of it
///   nodes/         roll      which names there are, what they said of themselves, how to reach them
///   nodes/         voices    what their streams are told of their parents
///   tasks/         tasks     which purge is how far, what is to be made durable and told of it
///   sla/           ledger    how fast they were
///   pulse.rs       pulse     how many came in each of the last seconds
///   standstill.rs  standstill  whether the process stood still a moment ago
///
///   a record       handle_records ─▶ roster, roll, tasks         state.rs
///   a message      handle_hello, handle_heartbeat, handle_ack    nodes/steps.rs: the roster first, then tasks and roll
///   time           handle_tick                                   state.rs
///   after each     settle: what the quorum calls completed       ─▶ decide (tasks/decide.rs), which says the rest
/// ```
///
/// What is known twice would one day differ: how far a node is stands in the roster alone, whether a task is completed in
/// its [`LiveTask`](super::tasks::live::LiveTask) alone, and rows on the disk are written from here and read only at a
/// start (`durable`) or when memory has forgotten (`tasks/spill.rs`).
pub(super) struct State {
    pub roster: Roster,
    pub quorum: Quorum,
    pub roll: Roll,
    pub voices: Voices,
    pub tasks: Tasks,
    pub ledger: SlaLedger,
    pub pulse: Pulse,
    pub standstill: Standstill,
}

impl State {
    pub(super) fn new(roster: Roster, quorum: Quorum, roll: Roll, ledger: SlaLedger, tasks: Tasks) -> Self {
        Self {
            roster,
            quorum,
            roll,
            voices: Voices::default(),
            tasks,
            ledger,
            pulse: Pulse::default(),
            standstill: Standstill::default(),
        }
    }

    /// The next records of the log, in order.
    pub(super) fn handle_records(&mut self, now: Moment, records: &[Record]) {
        let Some(last) = records.last().map(|record| record.seq) else { return };
        let first_new = self.roster.tail();
        for record in records {
            match &record.body {
                Body::Purge(purge) => self.handle_purge(now, record, purge),
                Body::NodeRegistered(name) => {
                    // The roster counts a node for records after its own; so those before must be known first.
                    self.roster.handle_appended(now, Cursor::after(record.seq));
                    if self.roll.handle_registered(name, record.seq) {
                        self.roster.handle_registered(now, name, record.seq, None);
                    }
                }
                Body::NodeRemoved(name) => {
                    self.roster.handle_appended(now, Cursor::after(record.seq));
                    if self.roll.handle_removed(name, record.seq) {
                        self.roster.handle_removed(now, name);
                        self.send_away(name, GoAwayReason::Removed);
                    }
                }
                Body::ReplicaSet(set) => self.quorum.handle_set(record.seq, set.clone()),
                Body::Site(_) | Body::Unknown => {}
            }
        }
        self.roster.handle_appended(now, Cursor::after(last));
        if !self.quorum.is_alone() {
            self.catch_up(now, first_new);
        }
        self.announce(first_new.next(), last, now);
        self.spill();
    }

    /// Everything through what the row says is completed.
    pub(super) fn handle_done(&mut self, now: Moment, row: &DoneRow) -> bool {
        self.quorum.handle_done(now, row, self.standstill.is_catching_up(now))
    }

    /// Time has passed: leases end, and what the roster found completed is decided.
    pub(super) fn handle_tick(&mut self, now: Moment) {
        self.roster.handle_tick(now);
        self.mark_partial(now);
    }

    /// What became true since the last call. To be called after every step that touches the roster.
    pub(super) fn settle(&mut self, now: Moment, wall: UnixMillis) {
        self.quorum.handle_roster(now, &mut self.roster);
        while let Some(Ruling { range, is_ours }) = self.quorum.poll_ruling(self.roster.tail()) {
            let raised = range.through.last().and_then(|last| self.quorum.raised_over(last)).copied();
            self.decide(DecidedSpan {
                after: range.after,
                through: range.through,
                at: wall,
                moment: now,
                raised,
                is_ours,
            });
        }
        self.tell_parents();
        while let Some(event) = self.roster.poll_event() {
            match event {
                RosterEvent::TwoInstances { node } => {
                    metrics::identity_conflict();
                    tracing::error!(%node, "two live processes use one node's name; both lose leases until one stops");
                }
                RosterEvent::Removed { node, confirmed } => {
                    tracing::info!(%node, "node removed");
                    self.drop_node(&node, confirmed);
                }
            }
        }
    }
}
