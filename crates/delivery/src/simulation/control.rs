use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::message::{FromNode, LeasePolicy, ToNode, Welcome};
use batoff_types::{Body, Cursor, LogId, Moment, Record, Seq, Term, UnixMillis};

use super::node::task;
use super::world::{Direction, Event, World, seconds};
use crate::roster::rules::Rules;
use crate::{LogView, Outbox, OutboxLimits, Recovered, RecoveredNode, Resume, Roster, judge_hello};

const LOG: LogId = LogId::from_bytes([9; 16]);

/// A running control plane; gone with a crash.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) roster: Roster,
    streams: BTreeMap<u64, Stream>,
    pub(super) frozen_until: u64,
    /// What came while it was frozen.
    mailbox: Vec<(usize, u64, FromNode)>,
    started: u64,
    offset: u64,
    rate: f64,
}

#[derive(Debug)]
struct Stream {
    node: usize,
    outbox: Outbox,
}

/// What is stored of a node, and survives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    pub(super) registered: u64,
    pub(super) removed: bool,
    pub(super) confirmed: Cursor,
    pub(super) policy: Option<LeasePolicy>,
}

impl Stored {
    pub(super) fn registered_at(seq: u64) -> Self {
        Self { registered: seq, ..Self::default() }
    }
}

impl Control {
    pub(super) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros(self.offset + ((time - self.started) as f64 * self.rate) as u64)
    }
}

impl World {
    pub(super) fn tail(&self) -> Cursor {
        Cursor::new(self.accepted.len() as u64)
    }

    /// The control plane starts, and knows only what is durable.
    pub(super) fn start_control(&mut self) {
        self.term += 1;
        self.starts.push(self.now);
        let nodes = self.nodes.iter().zip(&self.stored).map(|(node, stored)| RecoveredNode {
            name: node.name.clone(),
            registered: Seq::new(stored.registered).unwrap(),
            confirmed: stored.confirmed,
            policy: stored.policy,
            removed: stored.removed,
        });
        let recovered = Recovered {
            tail: self.tail(),
            term: Term(self.term),
            max_lease_granted: self.switches.times.lease,
            completed: self.stored_completed,
            nodes: nodes.collect(),
        };
        let rules = Rules { off: self.switches.off };
        // Its clock has nothing to do with that of its predecessor.
        let offset = self.random.below(1_000_000_000) as u64;
        let start = Moment::from_micros(offset);
        let roster = Roster::with_rules(self.switches.times, start, recovered, rules);
        let rate = self.control_rate;
        self.control = Some(Control {
            roster,
            streams: BTreeMap::new(),
            frozen_until: 0,
            mailbox: Vec::new(),
            started: self.now,
            offset,
            rate,
        });
        for index in 0..self.nodes.len() {
            let soon = self.random.between(0.005, 0.05);
            self.after(soon, Event::Kick(index));
        }
        self.collect();
    }

    pub(super) fn arrive_up(&mut self, index: usize, connection: u64, message: FromNode) {
        let (now, tail) = (self.now, self.tail());
        let Some(control) = &mut self.control else { return };
        if control.frozen_until > now {
            return control.mailbox.push((index, connection, message));
        }
        let moment = control.clock(now);
        let name = &self.nodes[index].name;
        match message {
            FromNode::Hello(hello) => {
                let log = LogView { log_id: LOG, first: Seq::FIRST, tail };
                let task_at = hello.position.and_then(|at| at.cursor.last()).map(|seq| task(seq.get()));
                let resume = judge_hello(&hello, &log, task_at);
                let Ok(greeting) = control.roster.handle_hello(moment, &hello, &resume, connection) else {
                    // Removed; it tries again and again.
                    return self.collect();
                };
                if let Some(old) = greeting.replaced {
                    control.streams.remove(&old);
                }
                self.stored[index].policy = Some(hello.policy);
                let outbox = Outbox::new(&resume, OutboxLimits { records: 8, ..OutboxLimits::default() });
                control.streams.insert(connection, Stream { node: index, outbox });
                self.welcome(index, connection);
                if let Resume::Reset(reset) = resume {
                    self.send_down(index, connection, ToNode::Reset(reset));
                }
            }
            FromNode::Heartbeat(heartbeat) => {
                let Some(stream) = control.streams.get_mut(&connection) else { return };
                stream.outbox.handle_ack(heartbeat.cursor).unwrap();
                if let Some(grant) = control.roster.handle_heartbeat(moment, name, connection, &heartbeat) {
                    self.send_down(index, connection, ToNode::LeaseGrant(grant));
                }
            }
            FromNode::Ack(ack) => {
                let Some(stream) = control.streams.get_mut(&connection) else { return };
                stream.outbox.handle_ack(ack.cursor).unwrap();
                control.roster.handle_ack(moment, name, connection, ack.cursor);
            }
            FromNode::Counted(_) | FromNode::Trouble(_) => {}
        }
        self.push(connection);
        self.collect();
    }

    fn welcome(&mut self, index: usize, connection: u64) {
        let times = self.switches.times;
        let welcome = Welcome {
            log_id: LOG,
            term: Term(self.term),
            tail: self.tail(),
            lease: times.lease,
            heartbeat_interval: times.heartbeat,
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            sites: Vec::new(),
        };
        self.send_down(index, connection, ToNode::Welcome(welcome));
    }

    /// Sends a stream whatever it may be sent.
    fn push(&mut self, connection: u64) {
        let tail = self.tail();
        loop {
            let Some(stream) = self.control.as_mut().and_then(|it| it.streams.get_mut(&connection)) else {
                return;
            };
            let Some(range) = stream.outbox.poll_range(tail) else { return };
            stream.outbox.handle_sent(range.last);
            let index = stream.node;
            let records = (range.first.get()..=range.last.get()).map(record).collect();
            self.send_down(index, connection, ToNode::Records(records));
        }
    }

    pub(super) fn control_runs(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.frozen_until <= self.now)
    }

    /// The process stands still, and its clock does not.
    pub(super) fn freeze_control(&mut self, time: f64) {
        let until = self.now + seconds(time);
        if let Some(control) = &mut self.control {
            control.frozen_until = control.frozen_until.max(until);
            self.at(until, Event::ThawControl);
        }
    }

    pub(super) fn thaw_control(&mut self) {
        if !self.control_runs() {
            return;
        }
        // Nothing is promised for the time in which it stood still.
        self.starts.push(self.now);
        let mailbox = self.control.as_mut().map(|control| std::mem::take(&mut control.mailbox));
        for (index, connection, message) in mailbox.into_iter().flatten() {
            self.arrive_up(index, connection, message);
        }
    }

    /// A node is decommissioned, or admitted again.
    pub(super) fn toggle_registration(&mut self, index: usize) {
        if !self.control_runs() {
            return;
        }
        self.accept_record();
        let (now, seq) = (self.now, self.accepted.len() as u64);
        let (node, stored) = (&self.nodes[index], &mut self.stored[index]);
        let Some(control) = &mut self.control else { return };
        let moment = control.clock(now);
        stored.removed = !stored.removed;
        if stored.removed {
            control.roster.handle_removed(moment, &node.name);
        } else {
            stored.registered = seq;
            control.roster.handle_registered(moment, &node.name, Seq::new(seq).unwrap(), Some(node.policy));
        }
        self.collect();
    }

    pub(super) fn accept_record(&mut self) {
        self.accepted.push(self.now);
        let (now, tail) = (self.now, self.tail());
        let Some(control) = &mut self.control else { return };
        control.roster.handle_appended(control.clock(now), tail);
        for connection in control.streams.keys().copied().collect::<Vec<_>>() {
            self.push(connection);
        }
        self.collect();
    }

    pub(super) fn tick(&mut self) {
        let now = self.now;
        if !self.control_runs() {
            return;
        }
        if let Some(control) = &mut self.control {
            control.roster.handle_tick(control.clock(now));
            // Sometimes what the roster knows is stored; after a crash the rest is forgotten.
            if self.random.chance(0.03) {
                for (node, stored) in self.nodes.iter().zip(&mut self.stored) {
                    if let Some(view) = control.roster.node(control.clock(now), &node.name) {
                        stored.confirmed = view.confirmed;
                    }
                }
                self.stored_completed = control.roster.watermark();
            }
        }
        self.collect();
    }

    /// Writes down what the control plane says is completed.
    fn collect(&mut self) {
        let now = self.now;
        let Some(control) = &mut self.control else { return };
        control.roster.check();
        let mut through = None;
        while let Some(completed) = control.roster.poll_completed() {
            assert!(completed.through <= Cursor::new(self.accepted.len() as u64), "I3");
            let known = self.completed_at.len() as u64;
            assert!(completed.after.get() <= known, "I3: completion skipped a record, seed {}", self.seed);
            for _ in known..completed.through.get() {
                self.completed_at.push(now);
            }
            through = completed.through.last();
        }
        if let Some(seq) = through {
            self.check_completion(seq);
        }
    }

    /// What is completed waits for no node, and no available node has been passed over.
    fn check_completion(&self, seq: Seq) {
        let Some(control) = self.control.as_ref().filter(|_| self.switches.off.is_none()) else { return };
        let waited = control.clock(self.now) > control.roster.waiting_until();
        if waited {
            assert_eq!(control.roster.late_at(seq), [], "seed {}", self.seed);
        }
        let counts = control.roster.counts_at(seq);
        assert!(
            !waited || counts.confirmed + counts.fenced == counts.total,
            "{counts:?}, seed {}",
            self.seed
        );
        for (node, stored) in self.nodes.iter().zip(&self.stored) {
            let counts = !stored.removed && stored.registered < seq.get();
            let passed_over = node.policy == LeasePolicy::Serve && counts && !node.furthest.covers(seq);
            assert!(!passed_over, "{} has not applied {seq}, seed {}", node.name, self.seed);
        }
    }

    fn send_down(&mut self, index: usize, connection: u64, message: ToNode) {
        self.send(index, connection, Direction::Down, Event::Down { node: index, connection, message });
    }
}

fn record(seq: u64) -> Record {
    Record {
        seq: Seq::new(seq).unwrap(),
        accepted_at: UnixMillis(0),
        task: task(seq),
        request_id: Arc::from(""),
        semantics: 1,
        body: Body::Unknown,
    }
}
