//! All nodes, and through where every purge is completed: the control plane's half of the proof. Who may be welcomed stands in
//! `greeting`, who gets a lease in `judge`, what becomes of it in `node`, through where a node counts in `Node::safe`, and
//! the least of those is the watermark.

mod counts;
mod durable;
mod greeting;
mod judge;
mod node;
mod paths;
mod saved;
mod view;
mod watermark;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use batoff_types::message::{Heartbeat, LeaseGrant, LeasePolicy};
use batoff_types::{Cursor, Moment, NodeName, Parent, Seq, Term};

use self::durable::DurableTimes;
pub use self::greeting::{Greeting, HelloRefused, Word};
use self::judge::Judge;
use self::node::{Event, Hold, Node};
use self::paths::{Behind, Paths};
pub use self::paths::{PathGap, PathPlace};
pub use self::view::{FencedNode, LateNode, Lateness, NodeCounts, NodeState, NodeView, Refusal};
use self::watermark::SafePlaces;
use crate::LeaseTimes;
use crate::rules::{Rule, RuleSet};

/// The least step of a [`Moment`]: deadlines are over one step after they are reached.
const STEP: Duration = Duration::from_micros(1);

/// A control plane that did nothing for longer than this may have been replaced meanwhile, and grants no lease until it
/// knows better. So a successor must not start earlier than this after its predecessor stopped running; within this time
/// the shell must tell the roster the time, again and again.
pub const STOOD_STILL_MAX: Duration = Duration::from_secs(1);

/// Events kept for the shell, at most; of more than these the oldest are lost. They are for people.
const EVENTS_MAX: usize = 4_096;

/// What a control plane knows when it starts.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The place after the last durable record.
    pub tail: Cursor,
    /// The term of this start: durable, and higher than every one before.
    pub term: Term,
    /// The longest lease that any control plane of this log ever granted, as it is durable. Before this start grants a
    /// longer one it must be raised; it may be lowered only after [`Roster::waiting_until`].
    pub max_lease_granted: Duration,
    /// Through where completion has been reported and recorded.
    pub completed: Cursor,
    /// All registered nodes, and those whose removal may not have taken effect.
    pub nodes: Vec<RecoveredNode>,
}

/// A node as it was recorded.
#[derive(Clone, Debug)]
pub struct RecoveredNode {
    /// Its name.
    pub name: NodeName,
    /// The record that registered it.
    pub registered: Seq,
    /// The furthest it is recorded to have acknowledged; [`Cursor::START`] when nothing is recorded.
    pub confirmed: Cursor,
    /// Its policy as recorded; `None` when it never said.
    pub policy: Option<LeasePolicy>,
    /// The parents that it names, as recorded; `None` when it never said.
    pub parents: Option<Vec<Parent>>,
    /// Whether a later record removed it. It counts until the leases of earlier control planes have run out.
    pub removed: bool,
}

/// Records whose completion became true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Those after this place …
    pub after: Cursor,
    /// … and up to this one.
    pub through: Cursor,
}

/// News about nodes for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterEvent {
    /// Two live processes use one name: an alert. Only one of them counts, and both lose leases.
    TwoInstances {
        /// The name.
        node: NodeName,
    },
    /// The removal has taken effect: the node counts no longer.
    Removed {
        /// The name.
        node: NodeName,
        /// The furthest it ever acknowledged, which nobody else keeps. All leases of the name have run out, so it may be made
        /// durable.
        confirmed: Cursor,
    },
}

/// All registered nodes with their cursors and leases, and the watermark: through where every purge is completed.
///
/// Messages of one stream are to be passed in in their order, with the id of their connection; ids are never used
/// twice. Those of a connection that a newer one has replaced are ignored.
#[derive(Debug)]
pub struct Roster {
    times: LeaseTimes,
    term: Term,
    waiting_until: Moment,
    /// The last moment that it was told.
    last: Moment,
    stood_still: Option<Moment>,
    /// Nothing is granted or stated from then on.
    seated_until: Moment,
    durable: DurableTimes,
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    by_name: HashMap<NodeName, usize>,
    places: SafePlaces,
    paths: Paths,
    timers: BTreeSet<(Moment, usize)>,
    watermark: Cursor,
    reported: Cursor,
    events: VecDeque<RosterEvent>,
    leases_lost: u64,
    rules: RuleSet,
}

impl Roster {
    /// For a control plane that starts at `now`. `times` must have passed [`LeaseTimes::validate`].
    pub fn new(times: LeaseTimes, now: Moment, recovered: Recovered) -> Self {
        Self::with_rules(times, now, recovered, RuleSet::default())
    }

    /// A roster that leaves out one rule, so that a simulation can show that it notices. For tests only: what such a
    /// roster calls completed is not.
    #[cfg(feature = "mutations")]
    pub fn without(rule: Rule, times: LeaseTimes, now: Moment, recovered: Recovered) -> Self {
        Self::with_rules(times, now, recovered, RuleSet { off: Some(rule) })
    }

    pub(crate) fn with_rules(times: LeaseTimes, now: Moment, recovered: Recovered, rules: RuleSet) -> Self {
        let wait = if rules.in_force(Rule::WaitAfterStart) {
            times.held_for(recovered.max_lease_granted)
        } else {
            Duration::ZERO
        };
        let mut roster = Self {
            times,
            term: recovered.term,
            waiting_until: now + wait,
            last: now,
            stood_still: None,
            seated_until: Moment::from_micros(u64::MAX),
            durable: DurableTimes::new(now, recovered.tail),
            nodes: Vec::with_capacity(recovered.nodes.len()),
            free: Vec::new(),
            by_name: HashMap::with_capacity(recovered.nodes.len()),
            places: SafePlaces::default(),
            paths: Paths::default(),
            timers: BTreeSet::new(),
            watermark: recovered.completed,
            reported: recovered.completed,
            events: VecDeque::new(),
            leases_lost: 0,
            rules,
        };
        for node in recovered.nodes {
            roster.recover(now, node);
        }
        roster.raise_watermark();
        roster
    }

    fn recover(&mut self, now: Moment, recovered: RecoveredNode) {
        let registered = Cursor::after(recovered.registered);
        let mut node = Node::new(recovered.name, registered, recovered.policy, now);
        node.word = recovered.policy.zip(recovered.parents.clone()).map(Word::of);
        node.durable_word.clone_from(&node.word);
        node.confirmed = recovered.confirmed.max(registered);
        node.confirmed_alone = recovered.confirmed;
        if recovered.confirmed > registered {
            node.acked = recovered.confirmed;
        }
        node.until = self.waiting_until;
        node.state = NodeState::Unknown;
        if self.rules.in_force(Rule::FloorAtStart) {
            node.floor = registered.max(self.durable.tail());
        }
        if self.rules.in_force(Rule::WaitAfterStart) {
            // Any incarnation may hold a lease of an earlier control plane, not only the one that will say Hello; and one
            // that was removed and admitted again may hold it from before its registration.
            node.holds.push(Hold {
                safe: recovered.confirmed,
                until: self.waiting_until,
                is_of_an_incarnation: false,
            });
        }
        if recovered.removed {
            node.removal = Some(self.waiting_until + STEP);
        }
        let name = node.name.clone();
        self.insert(now, node);
        if let (Some(parents), Some(&index)) = (&recovered.parents, self.by_name.get(&name)) {
            self.set_behind(index, Behind::of(parents));
        }
    }

    /// A node was registered by the record `seq`, which is durable: it counts for every later record. `policy` is the
    /// one that its `Hello` names, if it has said `Hello`; without one it counts as available.
    ///
    /// For a node that is registered already, its removal is called off, and nothing else changes.
    pub fn handle_registered(&mut self, now: Moment, node: &NodeName, seq: Seq, policy: Option<LeasePolicy>) {
        self.advance(now);
        match self.by_name.get(node) {
            Some(&index) => {
                self.change(now, index, |node, _| node.removal = None);
                self.redraw_paths();
            }
            None => {
                let registered = Cursor::after(seq);
                self.insert(now, Node::new(node.clone(), registered, policy, now));
            }
        }
        self.raise_watermark();
    }

    /// A node was decommissioned by a durable record. It gets no more leases, and counts until the last has run out;
    /// then [`RosterEvent::Removed`] says so. Its stream is to be ended with `GoAwayReason::Removed`.
    pub fn handle_removed(&mut self, now: Moment, node: &NodeName) {
        self.advance(now);
        let at = now + self.times.held_for(self.times.lease) + STEP;
        if let Some(&index) = self.by_name.get(node) {
            self.change(now, index, |node, _| {
                let leases = node.holds.iter().map(|hold| hold.until).fold(node.until, Moment::max) + STEP;
                node.removal.get_or_insert(at.max(leases));
            });
            self.redraw_paths();
        }
    }

    /// A heartbeat came; this is the answer to send, with a lease or, of no length, without one. `None` when the
    /// connection is not the node's present one.
    pub fn handle_heartbeat(
        &mut self,
        now: Moment,
        node: &NodeName,
        connection: u64,
        heartbeat: &Heartbeat,
    ) -> Option<LeaseGrant> {
        let index = self.hear(now, node, connection, heartbeat.cursor)?;
        let (judge, unsure) = (self.judge(), self.unsure(now));
        let granted = self.change(now, index, |node, durable| {
            let granted = unsure.is_none() && judge.grant(now, node, durable);
            node.refusal = unsure.or(node.refusal);
            granted
        })?;
        self.raise_watermark();
        let duration = if granted { self.times.lease } else { Duration::ZERO };
        let parents_through = self.path_of(node).map(|place| place.through);
        Some(LeaseGrant { echo: heartbeat.sent_at, duration, term: self.term, parents_through, tail: None })
    }

    /// An ack came. It must have passed [`crate::Outbox::handle_ack`]. Costs O(log nodes). False when the connection is
    /// not the node's present one.
    pub fn handle_ack(&mut self, now: Moment, node: &NodeName, connection: u64, cursor: Cursor) -> bool {
        let heard = self.hear(now, node, connection, cursor).is_some();
        self.raise_watermark();
        heard
    }

    fn hear(&mut self, now: Moment, node: &NodeName, connection: u64, cursor: Cursor) -> Option<usize> {
        self.advance(now);
        let &index = self.by_name.get(node)?;
        if self.nodes.get(index)?.as_ref()?.connection != Some(connection) {
            if !self.rules.in_force(Rule::PresentConnection) {
                self.change(now, index, |node, _| node.confirmed = node.confirmed.max(cursor));
            }
            return None;
        }
        // It may lie beyond this control plane's tail, when another one was faster to send it.
        let judge = self.judge();
        self.change(now, index, |node, durable| {
            node.acknowledge(cursor);
            judge.hear(now, node, durable);
        })?;
        Some(index)
    }

    /// A connection ended. Of no effect when it is not the node's present one.
    pub fn handle_disconnected(&mut self, now: Moment, node: &NodeName, connection: u64) {
        self.advance(now);
        if let Some(&index) = self.by_name.get(node) {
            self.change(now, index, |node, durable| {
                if node.connection == Some(connection) {
                    node.connection = None;
                    node.step(Event::Silent, durable.tail());
                }
            });
        }
        self.raise_watermark();
    }

    /// The log is durable up to `tail`. To be called before the new records are sent to any node.
    pub fn handle_appended(&mut self, now: Moment, tail: Cursor) {
        self.advance(now);
        if self.durable.handle_appended(now, tail) {
            self.carry_fenced_paths();
        }
        self.raise_watermark();
    }

    /// Time has passed. To be called at [`Roster::next_timeout`]; a late call delays completions, and nothing else.
    pub fn handle_tick(&mut self, now: Moment) {
        self.advance(now);
        self.raise_watermark();
    }

    /// When it was noticed that this process had stood still for longer than [`STOOD_STILL_MAX`], until
    /// [`Roster::handle_still_ours`]. Meanwhile no lease is granted: another control plane may have started with the log.
    pub const fn stood_still(&self) -> Option<Moment> {
        self.stood_still
    }

    /// The log was asked after `noticed`, which [`Roster::stood_still`] gave, and nobody else has started with it: leases
    /// are granted again. Of no effect when the process has stood still once more since.
    pub fn handle_still_ours(&mut self, noticed: Moment) {
        self.stood_still.take_if(|latest| *latest == noticed);
    }

    /// This process has a seat among several control planes ([`crate::Seat::held_until`]), and may grant and state until
    /// then. A roster that is never told so has no seat to lose.
    pub const fn handle_seated(&mut self, until: Moment) {
        self.seated_until = until;
    }

    /// What this process may tell the other replicas: the watermark, as a statement that stays true for ever. `None` while
    /// it does not know that its seat is its own.
    pub fn statement(&mut self, now: Moment) -> Option<Cursor> {
        self.advance(now);
        self.raise_watermark();
        let seated = now < self.seated_until || !self.rules.in_force(Rule::SeatStatements);
        (seated && self.stood_still.is_none()).then_some(self.watermark)
    }

    /// Why nobody gets a lease now, if nobody does: another process may grant in this one's place.
    fn unsure(&self, now: Moment) -> Option<Refusal> {
        if self.stood_still.is_some() {
            Some(Refusal::StoodStill)
        } else if now >= self.seated_until && self.rules.in_force(Rule::SeatGrants) {
            Some(Refusal::Unseated)
        } else {
            None
        }
    }

    /// When something happens next by time alone, apart from [`STOOD_STILL_MAX`].
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Records that became completed since the last call, however many, as one range. Each record is in exactly one
    /// range over all starts if `Recovered::completed` is durable in time, and in one or more otherwise.
    pub fn poll_completed(&mut self) -> Option<Completed> {
        let completed = Completed { after: self.reported, through: self.watermark };
        self.reported = self.watermark;
        (completed.after < completed.through).then_some(completed)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<RosterEvent> {
        self.events.pop_front()
    }

    /// How many leases have certainly run out without being renewed, since the start.
    pub const fn leases_lost(&self) -> u64 {
        self.leases_lost
    }

    /// Every purge before this place is completed: no node can serve what it purged. Never goes back.
    pub const fn watermark(&self) -> Cursor {
        self.watermark
    }

    /// The place after the last durable record.
    pub const fn tail(&self) -> Cursor {
        self.durable.tail()
    }

    /// The term in which leases are granted.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The times it was made with.
    pub const fn times(&self) -> &LeaseTimes {
        &self.times
    }

    /// Until then leases of earlier control planes may run, and nothing is completed on the ground that one has not.
    pub const fn waiting_until(&self) -> Moment {
        self.waiting_until
    }

    /// When the record became durable by this process's clock: exact to a millisecond for the newest, earlier by at
    /// most 1/256 of the age for others; the start for whatever was there then.
    pub fn durable_at(&self, seq: Seq) -> Moment {
        self.durable.at(seq)
    }

    fn insert(&mut self, now: Moment, node: Node) {
        let name = node.name.clone();
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.nodes.push(None);
                self.nodes.len() - 1
            }
        };
        self.by_name.insert(name, index);
        self.places.add(node.counted);
        if let Some(slot) = self.nodes.get_mut(index) {
            *slot = Some(node);
        }
        self.change(now, index, |_, _| ());
        self.redraw_paths();
    }

    fn node_of(&self, node: &NodeName) -> Option<&Node> {
        self.nodes.get(*self.by_name.get(node)?)?.as_ref()
    }

    const fn judge(&self) -> Judge {
        Judge { times: self.times, rules: self.rules }
    }

    /// Changes a node, and then what is derived from it: its place in the watermark, and its timer.
    fn change<T>(
        &mut self,
        now: Moment,
        index: usize,
        change: impl FnOnce(&mut Node, &DurableTimes) -> T,
    ) -> Option<T> {
        let judge = self.judge();
        let node = self.nodes.get_mut(index)?.as_mut()?;
        let outcome = change(node, &self.durable);
        let on_path = node.place_on_path();
        if on_path != node.counted_on_path {
            node.counted_on_path = on_path;
            self.paths.handle_moved(&node.on_paths);
        }
        let safe = node.safe();
        if safe != node.counted {
            self.places.add(safe);
            self.places.remove(node.counted);
            node.counted = safe;
        }
        // What is over already is looked at one step later, so that time moves on in any case.
        let deadline = judge.deadline(now, node, &self.durable).map(|at| at.max(now + STEP));
        // A timer that comes too early looks again; so renewing a lease costs nothing here.
        if let Some(at) = deadline
            && node.timer.is_none_or(|timer| at < timer)
        {
            if let Some(timer) = node.timer.replace(at) {
                self.timers.remove(&(timer, index));
            }
            self.timers.insert((at, index));
        }
        Some(outcome)
    }

    /// Lets happen what time alone brings.
    fn advance(&mut self, now: Moment) {
        if now.since(self.last) > STOOD_STILL_MAX && self.rules.in_force(Rule::StoodStill) {
            self.stood_still = Some(now);
        }
        self.last = self.last.max(now);
        let judge = self.judge();
        while let Some(&(at, index)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let after = self.change(now, index, |node, durable| {
                node.timer = None;
                let leased = node.state == NodeState::Leased;
                judge.pass_time(now, node, durable);
                let lost = leased && node.state != NodeState::Leased;
                (lost, node.removal.is_some_and(|removal| removal <= now))
            });
            let Some((lost, gone)) = after else { continue };
            self.leases_lost += u64::from(lost);
            if gone {
                self.drop_node(index);
            }
        }
    }

    fn drop_node(&mut self, index: usize) {
        self.set_behind(index, Behind::Unknown);
        let Some(node) = self.nodes.get_mut(index).and_then(Option::take) else { return };
        self.redraw_paths();
        self.places.remove(node.counted);
        if let Some(timer) = node.timer {
            self.timers.remove(&(timer, index));
        }
        self.by_name.remove(&node.name);
        self.free.push(index);
        self.push_event(RosterEvent::Removed { node: node.name, confirmed: node.confirmed });
    }

    fn raise_watermark(&mut self) {
        let least = self.places.least(self.durable.tail());
        // A node that becomes available, or is reset, takes its promise back; what was completed stays so.
        self.watermark = self.watermark.max(least);
        debug_assert!(self.reported <= self.watermark, "I3");
    }

    /// Panics if anything derived is not what it is derived from. Looks at every node: for simulations.
    #[cfg(any(test, feature = "mutations"))]
    pub fn check(&self) {
        let nodes = || self.nodes.iter().flatten();
        let safe = nodes().filter_map(|node| match node.safe() {
            node::Safe::At(cursor) => Some(cursor),
            node::Safe::Tail => None,
        });
        assert_eq!(self.places.least(self.tail()), safe.min().unwrap_or(self.tail()).min(self.tail()));
        assert!(nodes().all(|node| node.counted == node.safe()));
        let timers = self.nodes.iter().enumerate();
        let timers = timers.filter_map(|(index, node)| Some((node.as_ref()?.timer?, index)));
        assert_eq!(timers.collect::<BTreeSet<_>>(), self.timers);
        assert_eq!(nodes().count(), self.by_name.len());
        assert!(self.watermark <= self.tail(), "I3");
    }

    fn push_event(&mut self, event: RosterEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
