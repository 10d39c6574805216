//! A process of a node: the real feeds, and work that takes its time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use batoff_delivery::{
    FeedLine, Feeds, HelloSaid, InboxConfig, InboxError, LeaseTimes, Received, ReplicaSet,
};
use batoff_types::message::{FromNode, LeasePolicy, Position, RecordReport, Reset, ToNode, Welcome};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Replica, Term};

use super::cluster::{Cluster, Step};
use super::engine::Entry;
use crate::Switch;
use crate::network::Direction;
use crate::oracle::Violation;
use crate::world::{rate, seconds};

/// Without an answer for so long a stream is dead.
const SILENCE: f64 = 1.0;

/// Batches under way at the same time, at most.
const WORK_MAX: usize = 2;

pub(super) fn name(node: usize) -> NodeName {
    crate::catalog::parse(&format!("fra1/edge-{node}"))
}

/// What survives a daemon.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) node: usize,
    pub(super) rate: f64,
    position: Option<Position>,
    terms: BTreeMap<Replica, Term>,
    /// Which replicas know that it serves without a lease.
    agreed: Option<ReplicaSet>,
    /// Whatever any of its daemons has applied is not in its cache any more.
    gone_through: Cursor,
    /// What its last daemon held when it died: of which replica, in which term, until when.
    pub(super) left: Vec<(Replica, Term, Moment)>,
    pub(super) daemon: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) node: usize,
    pub(super) machine: usize,
    pub(super) up: bool,
    pub(super) frozen_until: u64,
    pub(super) feeds: Feeds,
    links: BTreeMap<Replica, Link>,
    /// What came while it stood still.
    mailbox: VecDeque<(FeedLine, ToNode)>,
    work: VecDeque<Work>,
    busy_until: u64,
    wake_at: Option<Moment>,
}

impl Machine {
    /// Where a daemon would start.
    pub(super) const fn stored(&self) -> Option<Position> {
        self.position
    }
}

impl Daemon {
    /// The `Hello` was for whoever answers.
    fn take_welcome(&mut self, now: Moment, line: FeedLine, welcome: Welcome) -> Result<(), InboxError> {
        let Some(link) = self.links.get_mut(&line.replica) else { return Ok(()) };
        if link.connection != line.connection {
            return Ok(());
        }
        let Some(said) = link.said.take() else { return Ok(()) };
        let outcome = self.feeds.handle_welcomed(now, said, welcome);
        if outcome.is_err() {
            link.connection = 0;
        }
        outcome.map(drop)
    }

    fn await_welcomes(&mut self) {
        let awaited = self.links.values().filter(|link| link.said.is_some()).count();
        self.feeds.handle_awaited(awaited);
    }
}

/// A connection, and to which process.
#[derive(Clone, Copy, Debug)]
struct Link {
    connection: u64,
    process: usize,
    opened: u64,
    /// Until somebody welcomes it.
    said: Option<HelloSaid>,
    welcomed: bool,
    /// Sent away: not to connect before that.
    waits_until: u64,
}

#[derive(Debug)]
enum Work {
    Records(Vec<Received>),
    Reset(Reset),
}

impl Cluster {
    /// A machine for that node, which has stored this.
    pub(super) fn add_machine(&mut self, node: usize, position: Option<Position>) -> usize {
        let rate = rate(&mut self.random, LeaseTimes::default().drift);
        // Who is there from the beginning of the log and has nothing is as good as one that stands at its start.
        let gone_through = Cursor::START;
        let (terms, agreed) = (BTreeMap::new(), None);
        let left = Vec::new();
        self.machines.push(Machine { node, rate, position, terms, agreed, gone_through, left, daemon: None });
        self.machines.len() - 1
    }

    /// The daemon of that machine starts.
    pub(super) fn rise(&mut self, machine: usize) {
        if self.machines[machine].daemon.is_some() {
            return;
        }
        let index = self.daemons.len();
        let node = self.machines[machine].node;
        self.turn(node);
        if self.policies[node] == LeasePolicy::Revalidate {
            // Durable before anybody is told that it is strict.
            self.machines[machine].agreed = None;
        }
        let Machine { position, .. } = self.machines[machine];
        let mut config = InboxConfig::new(name(node), self.policies[node]);
        config.silence_max = Duration::from_micros(seconds(SILENCE));
        config.prompt_feeds = self.feeds;
        config.set = self.engine.set_at(position.map_or(Cursor::START, |at| at.cursor));
        config.agreed = self.machines[machine].agreed.as_ref() == Some(&config.set);
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.rule() {
            config = config.without(rule);
        }
        let instance = InstanceId::from_bytes((index as u128 + 1).to_be_bytes());
        let terms = self.machines[machine].terms.clone();
        let feeds = Feeds::new(config, instance, position, terms);
        self.say(&name(node).to_string(), || {
            format!("daemon {index} starts at {:?}", position.map(|at| at.cursor))
        });
        self.daemons.push(Daemon {
            node,
            machine,
            up: true,
            frozen_until: 0,
            feeds,
            links: BTreeMap::new(),
            mailbox: VecDeque::new(),
            work: VecDeque::new(),
            busy_until: 0,
            wake_at: None,
        });
        self.machines[machine].daemon = Some(index);
        self.judge_daemon(index, "start");
        let soon = self.random.between(0.0, 0.1);
        self.after(soon, Step::Supervise { daemon: index });
    }

    /// What the operator wants of a node may have changed since its last start.
    fn turn(&mut self, node: usize) {
        if !self.features.turns || node == 0 || self.removed.contains(&node) || self.random.chance(0.6) {
            return;
        }
        self.policies[node] = match self.policies[node] {
            LeasePolicy::Serve => LeasePolicy::Revalidate,
            LeasePolicy::Revalidate => LeasePolicy::Serve,
        };
        let policy = self.policies[node];
        self.say(&name(node).to_string(), || format!("is set to {policy:?}"));
    }

    /// The daemon of that machine dies; another one starts.
    pub(super) fn kill(&mut self, machine: usize, down: f64) {
        let Some(index) = self.machines[machine].daemon.take() else { return };
        self.daemons[index].up = false;
        let (moment, feeds) = (self.moment_of(index), &self.daemons[index].feeds);
        let held = self.known.iter().map(|it| (*it, feeds.max_term(*it), feeds.granted_until(*it)));
        let left = &mut self.machines[machine].left;
        left.retain(|(_, _, until)| *until > moment);
        left.extend(held.filter(|(_, _, until)| *until > moment));
        let (cursor, stored) = (self.daemons[index].feeds.cursor(), self.machines[machine].position);
        let who = name(self.daemons[index].node).to_string();
        self.say(&who, || {
            format!("FAULT: daemon {index} dies at {cursor:?}, stored {:?}", stored.map(|at| at.cursor))
        });
        self.after(down, Step::Rise { machine });
    }

    pub(super) fn moment_of(&self, daemon: usize) -> Moment {
        Moment::from_micros((self.now as f64 * self.machines[self.daemons[daemon].machine].rate) as u64)
    }

    fn time_of(&self, daemon: usize, moment: Moment) -> u64 {
        (moment.as_micros() as f64 / self.machines[self.daemons[daemon].machine].rate).ceil() as u64
    }

    pub(super) fn runs(&self, daemon: usize) -> bool {
        self.daemons[daemon].up && self.daemons[daemon].frozen_until <= self.now
    }

    pub(super) fn is_leased(&self, daemon: usize) -> bool {
        self.runs(daemon) && self.daemons[daemon].feeds.lease().may_serve(self.moment_of(daemon))
    }

    /// Through where nothing that was purged is served.
    pub(super) fn place_of(&self, daemon: usize) -> Cursor {
        let Daemon { machine, feeds, .. } = &self.daemons[daemon];
        match feeds.policy() {
            // What it acknowledged was removed, whatever its index has forgotten since.
            LeasePolicy::Serve => feeds.cursor().max(self.machines[*machine].gone_through),
            LeasePolicy::Revalidate => feeds.cursor(),
        }
    }

    pub(super) fn supervise(&mut self, index: usize) {
        if !self.daemons[index].up {
            return;
        }
        if !self.runs(index) {
            let thaws = self.daemons[index].frozen_until;
            return self.at(thaws, Step::Supervise { daemon: index });
        }
        let moment = self.moment_of(index);
        for replica in self.known.clone() {
            let daemon = &self.daemons[index];
            let dead = daemon.links.get(&replica).is_none_or(|link| {
                let silent = match daemon.feeds.silent_at(replica).filter(|_| link.welcomed) {
                    Some(at) => moment > at,
                    None => self.now - link.opened > seconds(SILENCE),
                };
                let void = link.said.is_none() && daemon.feeds.is_void(replica);
                let ended = link.connection == 0 || !self.processes[link.process].up || void;
                (silent || ended) && link.waits_until <= self.now
            });
            if dead {
                self.connect(index, replica);
            }
        }
        self.pump(index);
        let next = self.random.between(0.05, 0.15);
        self.after(next, Step::Supervise { daemon: index });
    }

    fn connect(&mut self, index: usize, replica: Replica) {
        if let Some(link) = self.daemons[index].links.get(&replica) {
            let connection = link.connection;
            self.daemons[index].feeds.handle_disconnected(FeedLine { replica, connection });
        }
        let alive = self.processes.iter().enumerate().filter(|(_, it)| it.replica == replica && it.up);
        let alive: Vec<_> = alive.map(|(process, _)| process).collect();
        let Some(&last) = alive.last() else {
            // The attempt fails; nobody is waited for there.
            let daemon = &mut self.daemons[index];
            daemon.links.remove(&replica);
            return daemon.await_welcomes();
        };
        let process = if self.picks_any(index) { self.random.pick(&alive) } else { last };
        self.connections += 1;
        let connection = self.connections;
        let daemon = &mut self.daemons[index];
        let (hello, said) = daemon.feeds.greet(connection);
        let (opened, said) = (self.now, Some(said));
        let link = Link { connection, process, opened, said, welcomed: false, waits_until: 0 };
        daemon.links.insert(replica, link);
        daemon.await_welcomes();
        self.send_up(index, replica, connection, process, FromNode::Hello(hello));
    }

    fn send_up(
        &mut self,
        daemon: usize,
        replica: Replica,
        connection: u64,
        process: usize,
        message: FromNode,
    ) {
        if let Some(time) = self.way(daemon, replica, connection, Direction::Up) {
            self.at(time, Step::Up { process, daemon, connection, message });
        }
    }

    pub(super) fn arrive_down(&mut self, index: usize, line: FeedLine, message: ToNode) {
        if self.daemons[index].up {
            self.daemons[index].mailbox.push_back((line, message));
            self.read_mail(index);
        }
    }

    pub(super) fn daemon_thaws(&mut self, index: usize) {
        self.judge_daemon(index, "thaw");
        self.read_mail(index);
    }

    fn read_mail(&mut self, index: usize) {
        while self.runs(index) {
            let Some((line, message)) = self.daemons[index].mailbox.pop_front() else { return };
            self.take_in(index, line, message);
        }
    }

    fn take_in(&mut self, index: usize, line: FeedLine, mut message: ToNode) {
        let moment = self.moment_of(index);
        if let ToNode::LeaseGrant(grant) = &mut message
            && self.without == Some(Switch::Echo)
            && !grant.duration.is_zero()
        {
            grant.duration += moment.since(grant.echo);
        }
        let daemon = &mut self.daemons[index];
        let outcome = match message {
            ToNode::Welcome(welcome) => daemon.take_welcome(moment, line, welcome),
            message => daemon.feeds.handle(moment, line, message),
        };
        daemon.await_welcomes();
        match outcome {
            Ok(()) => {}
            Err(error @ InboxError::Gap { .. }) => {
                let who = name(self.daemons[index].node);
                self.fail(Violation::Cursor(format!("{who}, {}: {error}", line.replica)));
            }
            // It is void, and a new connection begins.
            Err(InboxError::LowerTerm { .. } | InboxError::Outdated(_) | InboxError::Unexpected(_)) => {}
        }
        self.store_term(index, line.replica);
        self.pump(index);
        self.judge_daemon(index, "message");
    }

    fn store_term(&mut self, index: usize, replica: Replica) {
        let daemon = &self.daemons[index];
        let term = daemon.feeds.max_term(replica);
        if self.machines[daemon.machine].terms.get(&replica).is_none_or(|stored| *stored < term) {
            let slow = self.is_wild() && self.random.chance(0.3);
            let takes = self.random.between(0.0, if slow { 0.3 } else { 0.003 });
            self.after(takes, Step::TermStored { daemon: index, replica, term });
        }
    }

    pub(super) fn term_stored(&mut self, index: usize, replica: Replica, term: Term) {
        let daemon = &mut self.daemons[index];
        if daemon.up {
            let stored = self.machines[daemon.machine].terms.entry(replica).or_insert(term);
            *stored = term.max(*stored);
            daemon.feeds.handle_term_durable(replica, term);
            self.judge_daemon(index, "term");
        }
    }

    /// Lets a daemon do whatever is to be done now.
    fn pump(&mut self, index: usize) {
        let (now, moment) = (self.now, self.moment_of(index));
        let daemon = &mut self.daemons[index];
        if daemon.feeds.wants_to_agree() {
            self.machines[daemon.machine].agreed = Some(daemon.feeds.set().clone());
            daemon.feeds.handle_agreed();
        }
        if let Some(reset) = daemon.feeds.poll_reset() {
            // Durable before anything is dropped.
            self.machines[daemon.machine].position = None;
            self.begin_work(index, Work::Reset(reset));
        }
        let daemon = &mut self.daemons[index];
        if daemon.work.len() < WORK_MAX {
            let records: Vec<_> = std::iter::from_fn(|| daemon.feeds.poll_record()).collect();
            for Received { record, .. } in &records {
                if let Some(Entry::Set(set)) = self.engine.entry(record.seq.get()) {
                    daemon.feeds.handle_set(record.seq, set.clone());
                }
            }
            if !records.is_empty() {
                self.begin_work(index, Work::Records(records));
            }
        }
        let daemon = &mut self.daemons[index];
        let mut messages = Vec::new();
        for (replica, link) in &mut daemon.links {
            link.welcomed |= daemon.feeds.poll_welcome(*replica).is_some();
            if let Some(go_away) = daemon.feeds.poll_go_away(*replica) {
                link.connection = 0;
                link.waits_until = now + go_away.reconnect_after.as_micros() as u64;
            }
            if link.connection == 0 {
                continue;
            }
            let heartbeat = daemon.feeds.poll_heartbeat(moment, *replica).map(FromNode::Heartbeat);
            let ack = daemon.feeds.poll_ack(*replica).map(FromNode::Ack);
            let said = [heartbeat, ack].into_iter().flatten();
            messages.extend(said.map(|message| (*replica, link.connection, link.process, message)));
        }
        let wake = daemon.feeds.next_heartbeat_at().filter(|at| daemon.wake_at != Some(*at));
        if let Some(wake) = wake {
            daemon.wake_at = Some(wake);
            let time = self.time_of(index, wake);
            self.at(time, Step::Wake { daemon: index });
        }
        for (replica, connection, process, message) in messages {
            self.send_up(index, replica, connection, process, message);
        }
    }

    pub(super) fn wake(&mut self, index: usize) {
        if !self.daemons[index].up {
            return;
        }
        if !self.runs(index) {
            let late = self.daemons[index].frozen_until + seconds(self.random.between(0.0, 0.01));
            return self.at(late, Step::Wake { daemon: index });
        }
        self.pump(index);
    }

    fn begin_work(&mut self, index: usize, work: Work) {
        let quick = self.is_well(self.daemons[index].node) || self.random.chance(0.5);
        let takes = if quick { self.random.between(0.0, 0.002) } else { self.random.between(0.01, 0.3) };
        let daemon = &mut self.daemons[index];
        let done = daemon.busy_until.max(self.now) + seconds(takes);
        daemon.busy_until = done;
        daemon.work.push_back(work);
        self.at(done, Step::Worked { daemon: index });
    }

    pub(super) fn worked(&mut self, index: usize) {
        if !self.daemons[index].up {
            return;
        }
        if !self.runs(index) {
            let thaws = self.daemons[index].frozen_until;
            return self.at(thaws, Step::Worked { daemon: index });
        }
        let Some(work) = self.daemons[index].work.pop_front() else { return };
        let often = self.random.pick(&[0.7, 0.05]);
        let stores = self.random.chance(often);
        let daemon = &mut self.daemons[index];
        let machine = &mut self.machines[daemon.machine];
        let (before, reset) = (daemon.feeds.cursor(), matches!(work, Work::Reset(_)));
        let was_among = daemon.feeds.set().clone();
        let mut wrong = None;
        match work {
            Work::Records(records) => {
                for Received { record, .. } in records {
                    let report = RecordReport {
                        seq: record.seq,
                        objects: 0,
                        last: true,
                        in_force_after: Duration::ZERO,
                        evicted_after: Duration::ZERO,
                    };
                    wrong = daemon.feeds.handle_applied(record.seq, record.task, report).err().or(wrong);
                }
            }
            Work::Reset(reset) => {
                daemon.feeds.handle_reset_applied(&reset);
                self.outcome.resets += 1;
            }
        }
        let position = daemon.feeds.position();
        let cursor = daemon.feeds.cursor();
        machine.gone_through = machine.gone_through.max(cursor);
        if *daemon.feeds.set() != was_among {
            // Durable before it is reported, and so acknowledged.
            machine.agreed = None;
        }
        if position.is_some() && (stores || reset) {
            machine.position = position;
        }
        if let Some(wrong) = wrong {
            self.fail(Violation::Cursor(wrong.to_string()));
        }
        if position.is_some() && cursor < before {
            self.fail(Violation::Cursor(format!("daemon {index} goes from {before:?} back to {cursor:?}")));
        }
        self.judge_daemon(index, "applied");
        self.pump(index);
    }
}
