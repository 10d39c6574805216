use std::collections::{BTreeMap, VecDeque};

use std::time::Duration;

use batoff_delivery::{Outbox, OutboxLimits, Recovered, RecoveredNode, Resume, Roster, judge_hello};
use batoff_types::message::{FromNode, Hello, LeasePolicy, ToNode, Welcome};
use batoff_types::{Body, Cursor, LogId, Moment, Seq, Term};

use crate::oracle::Violation;
use crate::switch::Switch;
use crate::world::{Event, World};

/// Records of one message, and records of one stream that are not acknowledged.
const LIMITS: OutboxLimits = OutboxLimits { records: 8, bytes: 256 * 1024, in_flight: 64 };

/// A running control plane; gone with a crash.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) roster: Roster,
    streams: BTreeMap<u64, Stream>,
    frozen_until: u64,
    /// What came while it was frozen.
    mailbox: Vec<(usize, u64, FromNode)>,
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    registered: u64,
    pub(crate) removed: bool,
    pub(crate) confirmed: Cursor,
    policy: Option<LeasePolicy>,
    /// The newest stream that said `Hello`.
    stream: u64,
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
}

impl World {
    /// The control plane starts, and knows only what is durable.
    pub(crate) fn start_control(&mut self) {
        self.term += 1;
        self.starts.push(self.now);
        let nodes = self.nodes.iter().zip(&self.ledger.nodes).filter_map(|(node, known)| {
            Some(RecoveredNode {
                name: node.name.clone(),
                registered: Seq::new(known.registered)?,
                confirmed: known.confirmed,
                policy: known.policy,
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
        // Its clock has nothing to do with that of its predecessor.
        let offset = self.random.below(1_000_000_000) as u64;
        let roster = self.roster(Moment::from_micros(offset), recovered);
        self.control = Some(Control {
            roster,
            streams: BTreeMap::new(),
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
            self.after(soon, Event::Kick(index));
        }
        self.collect();
    }

    fn roster(&self, start: Moment, recovered: Recovered) -> Roster {
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.without.and_then(Switch::rule) {
            return Roster::without(rule, self.times, start, recovered);
        }
        Roster::new(self.times, start, recovered)
    }

    pub(crate) fn arrive_up(&mut self, index: usize, connection: u64, message: FromNode) {
        let now = self.now;
        let Some(control) = &mut self.control else { return };
        if control.frozen_until > now {
            return control.mailbox.push((index, connection, message));
        }
        let moment = control.clock(now);
        let name = &self.nodes[index].name;
        match message {
            FromNode::Hello(hello) => self.greet(index, connection, &hello),
            FromNode::Heartbeat(heartbeat) => {
                let Some(stream) = control.streams.get_mut(&connection) else { return };
                let acked = stream.outbox.handle_ack(heartbeat.cursor);
                let grant = control.roster.handle_heartbeat(moment, name, connection, &heartbeat);
                let name = name.to_string();
                if let Err(error) = acked {
                    self.fail(Violation::Cursor(format!("{name}: {error}")));
                }
                if let Some(grant) = grant {
                    if grant.duration.is_zero() {
                        let refusal = self.refusal(index);
                        self.say("control", || {
                            format!("refuses {name} at {:?} a lease: {refusal}", heartbeat.cursor)
                        });
                    }
                    self.send_down(index, connection, ToNode::LeaseGrant(grant));
                }
            }
            FromNode::Ack(ack) => {
                let Some(stream) = control.streams.get_mut(&connection) else { return };
                let acked = stream.outbox.handle_ack(ack.cursor);
                control.roster.handle_ack(moment, name, connection, ack.cursor);
                if let Err(error) = acked {
                    let what = format!("{name}: {error}");
                    self.fail(Violation::Cursor(what));
                }
            }
            FromNode::Counted(_) | FromNode::Trouble(_) => {}
        }
        self.push(connection);
        self.collect();
    }

    fn refusal(&self, index: usize) -> &'static str {
        let view = self
            .control
            .as_ref()
            .and_then(|control| control.roster.node(control.clock(self.now), &self.nodes[index].name));
        view.and_then(|view| view.refusal).map_or("?", |refusal| refusal.as_str())
    }

    fn greet(&mut self, index: usize, connection: u64, hello: &Hello) {
        let Some(control) = &mut self.control else { return };
        let known = &mut self.ledger.nodes[index];
        let turns_strict =
            known.policy == Some(LeasePolicy::Serve) && hello.policy == LeasePolicy::Revalidate;
        if turns_strict && connection < known.stream {
            // Of a daemon that is long dead: its successor is available, and must not be taken for strict.
            return;
        }
        known.stream = known.stream.max(connection);
        let mut hello = hello.clone();
        let mut task_at = hello.position.and_then(|at| self.log.task_at(at.cursor));
        if self.without == Some(Switch::LogIdentity) {
            task_at = hello.position.and_then(|at| at.task);
        }
        let resume = judge_hello(&hello, &self.log.view(), task_at);
        hello.node = self.nodes[index].name.clone();
        let moment = control.clock(self.now);
        let Ok(greeting) = control.roster.handle_hello(moment, &hello, &resume, connection) else {
            // Removed; it tries again and again.
            return;
        };
        if let Some(old) = greeting.replaced {
            control.streams.remove(&old);
        }
        self.ledger.nodes[index].policy = Some(hello.policy);
        control.streams.insert(connection, Stream { node: index, outbox: Outbox::new(&resume, LIMITS) });
        let sites = self.log.sites_at(resume.cursor());
        let welcome = Welcome {
            log_id: self.log.id,
            term: Term(self.term),
            tail: self.log.tail(),
            lease: self.times.lease,
            heartbeat_interval: self.times.heartbeat,
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            sites: sites.iter().map(|(site, names)| (site.clone(), names.to_vec())).collect(),
        };
        self.send_down(index, connection, ToNode::Welcome(welcome));
        if let Resume::Reset(reset) = resume {
            self.say("control", || format!("resets {}: {}", hello.node, reset.reason.as_str()));
            self.send_down(index, connection, ToNode::Reset(reset));
        }
    }

    /// Sends a stream whatever it may be sent.
    fn push(&mut self, connection: u64) {
        let tail = self.log.tail();
        loop {
            let Some(stream) = self.control.as_mut().and_then(|it| it.streams.get_mut(&connection)) else {
                return;
            };
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
        control.roster.handle_appended(control.clock(now), tail);
        for connection in control.streams.keys().copied().collect::<Vec<_>>() {
            self.push(connection);
        }
        self.collect();
    }

    /// Ends the streams of a node that was decommissioned.
    pub(crate) fn dismiss(&mut self, index: usize) {
        if let Some(control) = &mut self.control {
            control.streams.retain(|_, stream| stream.node != index);
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
        if !self.control_runs() {
            return;
        }
        if let Some(control) = &mut self.control {
            control.roster.handle_tick(control.clock(now));
            // Sometimes what the roster knows is stored; after a crash the rest is forgotten.
            if self.random.chance(0.03) {
                for (node, known) in self.nodes.iter().zip(&mut self.ledger.nodes) {
                    // Not while a lease of another incarnation may run: after a crash nobody would know of it.
                    let view = control.roster.node(control.clock(now), &node.name);
                    if let Some(view) = view.filter(|view| !view.held) {
                        known.confirmed = view.confirmed;
                    }
                }
                self.ledger.completed = control.roster.watermark();
            }
        }
        self.collect();
    }

    /// Writes down what the control plane says is completed.
    fn collect(&mut self) {
        let now = self.now;
        let Some(control) = &mut self.control else { return };
        let mut through = None;
        while let Some(completed) = control.roster.poll_completed() {
            self.oracle.completed(now, completed.after.get(), completed.through.get());
            through = Some(completed.through);
        }
        if control.streams.len() > self.nodes.len() {
            let what = format!("{} streams of {} nodes", control.streams.len(), self.nodes.len());
            self.oracle.fail(Violation::Memory(what));
        }
        if let Some(through) = through {
            self.say("control", || format!("completed {through:?}"));
            for index in 0..self.nodes.len() {
                self.judge_cache(index);
            }
        }
    }

    /// The log is replaced by a backup that ends at `through`.
    pub(crate) fn restore_log(&mut self, through: Cursor) {
        let keeps_identity = self.without == Some(Switch::LogIdentity);
        let old: LogId = self.log.id;
        self.log.restore(through, keeps_identity);
        self.oracle.restored(through.get());
        self.ledger.completed = self.ledger.completed.min(through);
        for known in &mut self.ledger.nodes {
            // Acks of the old log say nothing of the new one.
            known.confirmed = if keeps_identity { known.confirmed.min(through) } else { Cursor::START };
        }
        self.outcome.faults.logs_replaced += 1;
        self.say("log", || {
            format!("FAULT: {old} is replaced by a backup to {through:?}, now {}", self.log.id)
        });
    }

    pub(crate) fn crash_control(&mut self, down: f64) {
        let Some(control) = self.control.take() else { return };
        self.outcome.faults.control_crashes += 1;
        self.say("control", || {
            format!("FAULT: dies for {down:.3} s, {} appends under way", control.pending.len())
        });
        self.after(down, Event::ControlBack);
        // What was on its way to the disk is there, or is not, up to some place.
        for body in control.pending {
            if self.random.chance(0.5) {
                break;
            }
            self.outcome.faults.appends_unknown += 1;
            self.commit(body, false);
        }
    }
}
