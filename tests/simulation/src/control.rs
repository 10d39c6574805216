//! The control plane of a run: the real roster and outboxes, with a disk that is late or broken in the place of the real one.

mod ends;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{
    HelloRefused, Outbox, OutboxLimits, PathPlace, Recovered, RecoveredNode, Resume, Roster, RosterEvent,
    Word, judge_hello,
};
use batoff_types::message::{
    Count, Counted, FromNode, GoAway, GoAwayReason, Heartbeat, Hello, LeasePolicy, Parents, ToNode, Welcome,
};
use batoff_types::{Body, Cursor, LogId, Moment, Parent, Replica, ReplicaSet, Seq, Term};

use crate::cache::VARIANTS;
use crate::catalog::URLS;
use crate::node::Node;
use crate::oracle::Violation;
use crate::switch::Switch;
use crate::world::{Event, World};

/// Records of one message, and records of one stream that are not acknowledged.
const LIMITS: OutboxLimits = OutboxLimits { records: 8, bytes: 256 * 1024, in_flight: 64 };

/// Objects that a node can have.
const ENTRIES: u64 = URLS as u64 * VARIANTS as u64;

/// How long a node waits after a `GoAway`: the second is a minute in truth, which is longer than a run.
const RECONNECT_SOON: Duration = Duration::from_millis(200);
const RECONNECT_LATE: Duration = Duration::from_secs(2);

/// A running control plane; gone with a crash.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) roster: Roster,
    term: Term,
    streams: BTreeMap<u64, Stream>,
    /// Streams that said `Hello` and are not welcomed yet: by which node, and where they resume.
    greeted: BTreeMap<u64, (usize, Resume)>,
    /// Streams that were opened to it, once it has a successor. Others reach that one.
    pub(crate) opened: BTreeSet<u64>,
    /// The newest stream on which each registered node's Hello was believed.
    pub(crate) believed: BTreeMap<usize, u64>,
    /// Streams up to this one were opened before it started, and ended with its predecessor.
    opened_before: u64,
    /// How much of the log it knows.
    tail: Cursor,
    pub(crate) frozen_until: u64,
    /// What came while it was frozen.
    pub(crate) mailbox: Vec<(usize, u64, FromNode)>,
    /// Accepted by nobody yet: on its way to the disk.
    pub(crate) pending: VecDeque<Body>,
    started: u64,
    offset: u64,
    rate: f64,
}

#[derive(Debug)]
struct Stream {
    node: usize,
    outbox: Outbox,
}

/// What the control plane has stored beside the log. Its completions and cursors are stored now and then.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) nodes: Vec<Known>,
    pub(crate) completed: Cursor,
}

/// What is stored of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    registered: u64,
    pub(crate) removed: bool,
    pub(crate) confirmed: Cursor,
    word: Option<Word>,
}

/// Which control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Present,
    /// One that stood still and was replaced meanwhile.
    Predecessor,
}

impl Who {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "control",
            Self::Predecessor => "predecessor",
        }
    }
}

impl Ledger {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes: vec![Known::default(); nodes], completed: Cursor::START }
    }

    pub(crate) fn register(&mut self, node: usize, seq: Seq) {
        self.nodes[node].removed = false;
        self.nodes[node].registered = seq.get();
    }
}

impl Control {
    pub(crate) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros(self.offset + ((time - self.started) as f64 * self.rate) as u64)
    }

    /// Whether what is said on that stream comes to it.
    fn is_reached_by(&self, connection: u64) -> bool {
        self.streams.contains_key(&connection)
            || self.greeted.contains_key(&connection)
            || self.opened.contains(&connection)
    }
}

impl World {
    /// The control plane starts, and knows only what is durable.
    pub(crate) fn start_control(&mut self) {
        self.term += 1;
        self.starts.push(self.now);
        self.judge_words();
        let nodes = self.nodes.iter().zip(&self.ledger.nodes).filter_map(|(node, known)| {
            Some(RecoveredNode {
                name: node.name.clone(),
                registered: Seq::new(known.registered)?,
                confirmed: known.confirmed,
                policy: known.word.as_ref().map(|word| word.policy),
                parents: known.word.as_ref().map(|word| word.parents.clone()),
                removed: known.removed,
            })
        });
        let recovered = Recovered {
            tail: self.log.tail(),
            term: Term(self.term),
            max_lease_granted: self.times.lease,
            completed: self.ledger.completed,
            nodes: nodes.collect(),
        };
        let is_unknown = |node: &RecoveredNode| !node.removed && node.policy.is_none();
        self.policies_unknown = recovered.nodes.iter().any(is_unknown);
        // Its clock has nothing to do with that of its predecessor.
        let offset = self.random.below(1_000_000_000) as u64;
        let roster = self.roster(Moment::from_micros(offset), recovered);
        self.control = Some(Control {
            roster,
            term: Term(self.term),
            streams: BTreeMap::new(),
            greeted: BTreeMap::new(),
            opened: BTreeSet::new(),
            believed: BTreeMap::new(),
            opened_before: self.last_connection(),
            tail: self.log.tail(),
            frozen_until: 0,
            mailbox: Vec::new(),
            pending: VecDeque::new(),
            started: self.now,
            offset,
            rate: self.control_rate,
        });
        self.say("control", || {
            format!("starts in term {}, log {} to {:?}", self.term, self.log.id, self.log.tail())
        });
        for index in 0..self.nodes.len() {
            let soon = self.random.between(0.005, 0.05);
            // Whose predecessor is still there keeps its stream to it, perhaps.
            if self.predecessor.is_none() || self.random.chance(0.5) {
                self.after(soon, Event::Kick(index));
            }
        }
        self.collect(Who::Present);
    }

    /// Who is recorded as strict does not serve without a lease.
    fn judge_words(&mut self) {
        let strict = |known: &Known| {
            let word = known.word.as_ref().filter(|_| !known.removed);
            word.is_some_and(|word| word.policy == LeasePolicy::Revalidate)
        };
        let known = self.nodes.iter().zip(&self.ledger.nodes).filter(|(_, known)| strict(known));
        let wrong = known.filter(|(node, _)| node.serves_without_lease());
        let wrong: Vec<_> = wrong
            .map(|(node, _)| format!("{} counts as strict, and serves without a lease", node.name))
            .collect();
        wrong.into_iter().for_each(|what| self.fail(Violation::Ground(what)));
    }

    pub(crate) fn plane(&mut self, who: Who) -> Option<&mut Control> {
        match who {
            Who::Present => self.control.as_mut(),
            Who::Predecessor => self.predecessor.as_mut(),
        }
    }

    fn roster(&self, start: Moment, recovered: Recovered) -> Roster {
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.without.and_then(Switch::rule) {
            return Roster::without(rule, self.times, start, recovered);
        }
        Roster::new(self.times, start, recovered)
    }

    pub(crate) fn arrive_up(&mut self, index: usize, connection: u64, message: FromNode) {
        let replaced = self.predecessor.as_ref().is_some_and(|control| control.is_reached_by(connection));
        let who = if replaced { Who::Predecessor } else { Who::Present };
        let now = self.now;
        let Some(control) = self.plane(who) else { return };
        if !replaced && connection <= control.opened_before {
            return;
        }
        if control.frozen_until > now {
            return control.mailbox.push((index, connection, message));
        }
        match message {
            FromNode::Hello(hello) => self.greet(who, index, connection, &hello),
            FromNode::Heartbeat(heartbeat) => self.answer(who, index, connection, &heartbeat),
            FromNode::Ack(ack) => {
                let moment = control.clock(now);
                let Some(stream) = control.streams.get_mut(&connection) else { return };
                let acked = stream.outbox.handle_ack(ack.cursor);
                let name = self.nodes[index].name.clone();
                if let Some(control) = self.plane(who) {
                    control.roster.handle_ack(moment, &name, connection, ack.cursor);
                }
                if let Err(error) = acked {
                    self.fail(Violation::Cursor(format!("{name}: {error}")));
                }
            }
            FromNode::Counted(counted) => self.take_count(index, &counted),
            FromNode::Trouble(_) => {}
        }
        self.push(who, connection);
        self.collect(who);
    }

    fn answer(&mut self, who: Who, index: usize, connection: u64, heartbeat: &Heartbeat) {
        let (now, name) = (self.now, self.nodes[index].name.clone());
        let Some(control) = self.plane(who) else { return };
        let moment = control.clock(now);
        let Some(stream) = control.streams.get_mut(&connection) else { return };
        let acked = stream.outbox.handle_ack(heartbeat.cursor);
        let grant = control.roster.handle_heartbeat(moment, &name, connection, heartbeat);
        if let Err(error) = acked {
            self.fail(Violation::Cursor(format!("{name}: {error}")));
        }
        let Some(grant) = grant else { return };
        if grant.duration.is_zero() {
            let control = self.plane(who);
            let view = control.and_then(|control| control.roster.node(moment, &name));
            let refusal = view.and_then(|view| view.refusal).map_or("?", |refusal| refusal.as_str());
            self.say(who.as_str(), || format!("refuses {name} at {:?} a lease: {refusal}", heartbeat.cursor));
        }
        self.send_down(index, connection, ToNode::LeaseGrant(grant));
    }

    fn greet(&mut self, who: Who, index: usize, connection: u64, hello: &Hello) {
        let mut task_at = hello.position.and_then(|at| self.log.task_at(at.cursor));
        if self.without == Some(Switch::LogIdentity) {
            task_at = hello.position.and_then(|at| at.task);
        }
        let mut view = self.log.view();
        let (now, name, identity) = (self.now, self.nodes[index].name.clone(), self.nodes[index].identity);
        let Some(control) = self.plane(who) else { return };
        if who == Who::Predecessor {
            view.tail = control.tail;
        }
        let resume = judge_hello(hello, &view, task_at);
        let Ok(greeting) = control.roster.handle_hello(control.clock(now), hello, &resume, connection) else {
            // Removed, or late; it tries again and again.
            return;
        };
        let believed = control.believed.insert(identity, connection);
        control.greeted.retain(|_, (node, _)| *node != index);
        control.greeted.insert(connection, (index, resume));
        let (unsaved, term) = (control.roster.unsaved_word(&name).cloned(), control.term);
        let old = greeting.replaced.and_then(|old| Some((old, control.streams.remove(&old)?.node)));
        if let Some((old, node)) = old {
            self.send_away(node, old, GoAwayReason::Replaced);
        }
        if believed.is_some_and(|newest| connection < newest) {
            let what = format!("{name} is taken at its word of stream {connection}, after {believed:?}");
            self.fail(Violation::Ground(what));
        }
        self.note_policies();
        if let Some(word) = unsaved.filter(|_| who == Who::Present && self.log.broken_until <= now) {
            let quick = self.random.chance(0.7);
            let takes = self.random.between(0.0, if quick { 0.003 } else { 0.3 });
            self.after(takes, Event::WordSaved { node: index, connection, term, word });
        }
        self.welcome(who, connection);
    }

    /// Until all nodes have said, or are removed, a strict one counts as one that may serve without a lease.
    fn note_policies(&mut self) {
        let Some(control) = self.control.as_ref().filter(|_| self.policies_unknown) else { return };
        if control.roster.nodes(control.clock(self.now)).all(|view| view.policy.is_some()) {
            self.policies_unknown = false;
            self.starts.push(self.now);
        }
    }

    /// What a node said has reached the disk, unless its control plane is no more: then that is not known.
    pub(crate) fn word_saved(&mut self, node: usize, connection: u64, term: Term, word: Word) {
        let now = self.now;
        let is_present = self.control.as_ref().is_some_and(|control| control.term == term);
        if !is_present {
            return;
        }
        if !self.control_runs() {
            let thawed = self.control_frozen_until();
            return self.at(thawed, Event::WordSaved { node, connection, term, word });
        }
        if self.log.broken_until > now {
            return;
        }
        let Node { identity, name, .. } = &self.nodes[node];
        self.ledger.nodes[*identity].word = Some(word.clone());
        if let Some(control) = &mut self.control {
            control.roster.handle_word_saved(name, word);
        }
        self.welcome(Who::Present, connection);
        self.push(Who::Present, connection);
        self.collect(Who::Present);
    }

    /// Answers a `Hello`, if that may be done by now. Otherwise it is when more is durable, or the node comes again.
    fn welcome(&mut self, who: Who, connection: u64) {
        let now = self.now;
        let Some(control) = self.plane(who) else { return };
        let Some((index, resume)) = control.greeted.get(&connection).cloned() else { return };
        let (moment, term) = (control.clock(now), control.term);
        let name = self.nodes[index].name.clone();
        let Some(control) = self.plane(who) else { return };
        match control.roster.may_welcome(moment, &name, connection) {
            Ok(()) => {}
            Err(HelloRefused::Unsaved) => return,
            Err(_) => {
                control.greeted.remove(&connection);
                return;
            }
        }
        control.greeted.remove(&connection);
        let Node { identity, policy, .. } = &self.nodes[index];
        let durable = self.ledger.nodes[*identity].word.as_ref().map(|word| word.policy);
        if durable != Some(*policy) && self.nodes[index].connection() == connection {
            let what = format!("{name} is welcomed as {policy:?}, and {durable:?} is durable");
            self.fail(Violation::Ground(what));
        }
        let Some(control) = self.plane(who) else { return };
        control.streams.insert(connection, Stream { node: index, outbox: Outbox::new(&resume, LIMITS) });
        let tail = control.tail;
        let sites = self.log.sites_at(resume.cursor());
        let welcome = Welcome {
            log_id: self.log.id,
            term,
            tail: if who == Who::Predecessor { tail } else { self.log.tail() },
            lease: self.times.lease,
            heartbeat_interval: self.times.heartbeat,
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            sites,
            replica: Replica::ONLY,
            set: ReplicaSet::only(),
        };
        self.send_down(index, connection, ToNode::Welcome(welcome));
        if let Resume::Reset(reset) = resume {
            self.say(who.as_str(), || format!("resets {name}: {}", reset.reason.as_str()));
            self.send_down(index, connection, ToNode::Reset(reset));
        }
    }

    fn send_away(&mut self, node: usize, connection: u64, reason: GoAwayReason) {
        let reconnect_after = match reason {
            GoAwayReason::Draining | GoAwayReason::Protocol => RECONNECT_SOON,
            GoAwayReason::Replaced | GoAwayReason::Removed => RECONNECT_LATE,
        };
        let go_away = GoAway { reason, reconnect_after, endpoints: Vec::new() };
        self.send_down(node, connection, ToNode::GoAway(go_away));
    }

    /// Sends a stream whatever it may be sent.
    fn push(&mut self, who: Who, connection: u64) {
        loop {
            let Some(control) = self.plane(who) else { return };
            let tail = control.tail;
            let Some(stream) = control.streams.get_mut(&connection) else { return };
            let Some(range) = stream.outbox.poll_range(tail) else { return };
            stream.outbox.handle_sent(range.last);
            let index = stream.node;
            let records = self.log.range(range.first, range.last);
            self.send_down(index, connection, ToNode::Records(records));
        }
    }

    /// What the disk has, every stream may have.
    pub(crate) fn announce(&mut self) {
        let (now, tail) = (self.now, self.log.tail());
        let Some(control) = &mut self.control else { return };
        control.tail = tail;
        control.roster.handle_appended(control.clock(now), tail);
        for connection in control.streams.keys().copied().collect::<Vec<_>>() {
            self.push(Who::Present, connection);
        }
        self.collect(Who::Present);
    }

    /// Ends the streams of a node that was decommissioned.
    pub(crate) fn dismiss(&mut self, identity: usize) {
        let Some(control) = &mut self.control else { return };
        let nodes = &self.nodes;
        let ended = control.streams.extract_if(.., |_, stream| nodes[stream.node].identity == identity);
        for (connection, stream) in ended.collect::<Vec<_>>() {
            self.send_away(stream.node, connection, GoAwayReason::Removed);
        }
    }

    pub(crate) fn control_runs(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.frozen_until <= self.now)
    }

    pub(crate) fn control_frozen_until(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.frozen_until)
    }

    /// The process stands still, and its clock does not.
    pub(crate) fn freeze_control(&mut self, until: u64) {
        if let Some(control) = &mut self.control {
            control.frozen_until = control.frozen_until.max(until);
            self.at(until, Event::ThawControl);
        }
    }

    pub(crate) fn thaw_control(&mut self) {
        if !self.control_runs() {
            return;
        }
        // Nothing is promised for the time in which it stood still.
        self.starts.push(self.now);
        self.say("control", || "thaws".to_owned());
        let mailbox = self.control.as_mut().map(|control| std::mem::take(&mut control.mailbox));
        for (index, connection, message) in mailbox.into_iter().flatten() {
            self.arrive_up(index, connection, message);
        }
    }

    pub(crate) fn tick(&mut self) {
        let now = self.now;
        if let Some(predecessor) = self.predecessor.as_mut().filter(|control| control.frozen_until <= now) {
            // Its disk is no longer its own, so it cannot show that the log is.
            predecessor.roster.handle_tick(predecessor.clock(now));
            self.collect(Who::Predecessor);
        }
        if !self.control_runs() {
            return;
        }
        let asks = self.log.broken_until <= now;
        if let Some(control) = &mut self.control {
            control.roster.handle_tick(control.clock(now));
            if let Some(noticed) = control.roster.stood_still().filter(|_| asks) {
                control.roster.handle_still_ours(noticed);
            }
        }
        self.note_policies();
        // Sometimes what the roster knows is stored; after a crash the rest is forgotten.
        if self.random.chance(0.03) {
            self.store_cursors();
        }
        if self.random.chance(0.01) {
            self.count();
        }
        self.collect(Who::Present);
    }

    fn store_cursors(&mut self) {
        let Some(control) = &mut self.control else { return };
        let moment = control.clock(self.now);
        for (name, confirmed) in control.roster.confirmed_to_save(moment) {
            let known = self.nodes.iter().zip(&mut self.ledger.nodes).find(|(node, _)| node.name == *name);
            if let Some((_, known)) = known {
                known.confirmed = confirmed;
            }
        }
        let log_id = self.log.id;
        let behind = self.nodes.iter().filter_map(|node| {
            let known = self.ledger.nodes[node.identity].confirmed;
            let least = node.orphans_applied(self.now, log_id).filter(|applied| *applied < known).min()?;
            Some(format!(
                "{} is saved at {known:?}, and a cache of it with a lease is at {least:?}",
                node.name
            ))
        });
        let behind: Vec<_> = behind.collect();
        self.ledger.completed = control.roster.watermark();
        behind.into_iter().for_each(|what| self.fail(Violation::Ground(what)));
    }

    /// Asks a node how much a purge would hit.
    fn count(&mut self) {
        let (site, selectors) = self.catalog.selectors(&mut self.random);
        let Some(control) = &self.control else { return };
        if control.streams.is_empty() {
            return;
        }
        let chosen = self.random.below(control.streams.len());
        let chosen =
            control.streams.iter().nth(chosen).map(|(connection, stream)| (*connection, stream.node));
        if let Some((connection, node)) = chosen {
            self.send_down(
                node,
                connection,
                ToNode::Count(Count { id: selectors.len() as u64, site, selectors, answer_within: None }),
            );
        }
    }

    /// The question's id says how many answers it wants.
    fn take_count(&mut self, index: usize, counted: &Counted) {
        self.outcome.counts += 1;
        let fits = counted.objects.len() as u64 == counted.id;
        if !fits || counted.objects.iter().any(|objects| *objects > ENTRIES) {
            let what =
                format!("{} answers {counted:?}, and can have {ENTRIES} objects", self.nodes[index].name);
            self.fail(Violation::Memory(what));
        }
    }

    /// Writes down what a control plane says is completed.
    pub(crate) fn collect(&mut self, who: Who) {
        let (now, nodes) = (self.now, self.ledger.nodes.len());
        let mut through = None;
        let mut alerts = 0;
        let Some(control) = self.plane(who) else { return };
        let mut ranges = Vec::new();
        while let Some(completed) = control.roster.poll_completed() {
            ranges.push(completed);
        }
        let mut paths = Vec::new();
        while let Some(path) = control.roster.poll_path() {
            paths.push(path);
        }
        while let Some(event) = control.roster.poll_event() {
            alerts += u64::from(matches!(event, RosterEvent::TwoInstances { .. }));
        }
        #[cfg(feature = "mutations")]
        control.roster.check();
        let streams = control.streams.len();
        self.tell_paths(who, &paths);
        self.outcome.alerts += alerts;
        for completed in ranges {
            self.oracle.completed(now, completed.after.get(), completed.through.get());
            through = Some(completed.through);
        }
        if streams > nodes {
            self.oracle.fail(Violation::Memory(format!("{streams} streams of {nodes} nodes")));
        }
        if let Some(through) = through {
            self.say(who.as_str(), || format!("completed {through:?}"));
            for index in 0..self.nodes.len() {
                self.judge_cache(index);
            }
        }
    }

    /// Tells the nodes that name these parents where they are.
    fn tell_paths(&mut self, who: Who, paths: &[(Arc<[Parent]>, PathPlace)]) {
        for (parents, place) in paths {
            let nodes = &self.nodes;
            let named = |stream: &Stream| nodes[stream.node].parents == **parents;
            let Some(control) = (match who {
                Who::Present => self.control.as_ref(),
                Who::Predecessor => self.predecessor.as_ref(),
            }) else {
                return;
            };
            let streams = control.streams.iter().filter(|(_, stream)| named(stream));
            let streams: Vec<_> = streams.map(|(connection, stream)| (*connection, stream.node)).collect();
            for (connection, node) in streams {
                let told = Parents { through: place.through, why: String::new() };
                self.send_down(node, connection, ToNode::Parents(told));
            }
        }
    }

    /// The log is replaced by a backup that ends at `through`.
    pub(crate) fn restore_log(&mut self, through: Cursor) {
        let keeps_identity = self.without == Some(Switch::LogIdentity);
        let keeps_words = self.without == Some(Switch::RestoredWord);
        let old: LogId = self.log.id;
        self.log.restore(through, keeps_identity);
        self.oracle.restored(through.get());
        self.ledger.completed = self.ledger.completed.min(through);
        for known in &mut self.ledger.nodes {
            // Acks of the old log say nothing of the new one.
            known.confirmed = if keeps_identity { known.confirmed.min(through) } else { Cursor::START };
            // What nodes said of themselves is as old as the backup: some had another policy then.
            match &mut known.word {
                Some(word) if keeps_words && word.policy == LeasePolicy::Serve => {
                    word.policy = LeasePolicy::Revalidate;
                }
                Some(_) if keeps_words => {}
                word => *word = None,
            }
        }
        self.predecessor = None;
        self.outcome.faults.logs_replaced += 1;
        self.say("log", || {
            format!("FAULT: {old} is replaced by a backup to {through:?}, now {}", self.log.id)
        });
    }
}
