use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::message::{LeasePolicy, Position, RecordReport, Reset};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, TaskId, Term};

use super::world::{Direction, Event, World, millis, seconds};
use crate::{Inbox, InboxConfig, Received};
use batoff_types::message::{FromNode, ToNode};

/// Without an answer for this long, three heartbeats, a node connects anew.
const SILENCE: f64 = 0.8;

/// One machine with its daemon and its cache.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) policy: LeasePolicy,
    /// Seconds of its clock in a second.
    rate: f64,
    pub(super) inbox: Inbox,
    pub(super) up: bool,
    pub(super) frozen_until: u64,
    /// Which run of the daemon this is; what was begun in another is void.
    life: u64,
    pub(super) connection: u64,
    heard: u64,
    /// Records are applied one after another: what was begun, and when it is done.
    work: VecDeque<(u64, Work)>,
    busy_until: u64,
    /// What came while the machine was frozen.
    mailbox: Vec<(u64, ToNode)>,
    stored: Option<Position>,
    stored_term: Term,
    /// What dead daemons' caches may still serve by the lease they had: until when, and how far they were.
    ghosts: Vec<(Moment, Cursor)>,
    wake_at: Option<Moment>,
    /// The furthest that any of its daemons has been.
    pub(super) furthest: Cursor,
}

/// What a daemon does in its own time.
#[derive(Debug)]
pub(super) enum Work {
    Records(Vec<Received>),
    Reset(Reset),
}

impl Node {
    pub(super) fn new(index: usize, rate: f64, policy: LeasePolicy) -> Self {
        let name = NodeName::new(["ams1", "fra1", "nrt1"][index % 3], &format!("edge-{index}")).unwrap();
        let inbox = Self::daemon(&name, policy, 0, None, Term(0));
        Self {
            name,
            policy,
            rate,
            inbox,
            up: true,
            frozen_until: 0,
            life: 0,
            connection: 0,
            heard: 0,
            work: VecDeque::new(),
            busy_until: 0,
            mailbox: Vec::new(),
            stored: None,
            stored_term: Term(0),
            ghosts: Vec::new(),
            wake_at: None,
            furthest: Cursor::START,
        }
    }

    fn daemon(
        name: &NodeName,
        policy: LeasePolicy,
        life: u64,
        position: Option<Position>,
        term: Term,
    ) -> Inbox {
        let instance = InstanceId::from_bytes(u128::from(life + 1).to_be_bytes());
        let mut config = InboxConfig::new(name.clone(), policy);
        config.queue_records = 64;
        Inbox::new(config, instance, position, term)
    }

    /// Its clock runs on while it is frozen.
    pub(super) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros((time as f64 * self.rate) as u64)
    }

    fn time_of(&self, moment: Moment) -> u64 {
        (moment.as_micros() as f64 / self.rate).ceil() as u64
    }

    fn runs(&self, time: u64) -> bool {
        self.up && self.frozen_until <= time
    }

    /// Everything that a lookup at `time` could be answered from: how far each cache that may serve is.
    pub(super) fn serving(&mut self, time: u64) -> Vec<Cursor> {
        let now = self.clock(time);
        self.ghosts.retain(|(until, _)| now < *until);
        let mut serving: Vec<Cursor> = self.ghosts.iter().map(|(_, cursor)| *cursor).collect();
        if self.runs(time) && self.inbox.lease().may_serve(now) {
            serving.push(self.inbox.cursor());
        }
        serving
    }
}

pub(super) fn task(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

impl World {
    pub(super) fn connect(&mut self, index: usize) {
        let connection = self.next_connection();
        let now = self.now;
        let node = &mut self.nodes[index];
        node.connection = connection;
        node.heard = now;
        node.wake_at = None;
        let hello = node.inbox.hello();
        self.send_up(index, connection, FromNode::Hello(hello));
    }

    /// A node looks now and then whether its stream is alive.
    pub(super) fn supervise(&mut self, index: usize, life: u64) {
        let node = &self.nodes[index];
        if !node.up || node.life != life {
            return;
        }
        if node.frozen_until > self.now {
            return self.at(node.frozen_until, Event::Supervise { node: index, life });
        }
        if node.connection == 0 || self.now - node.heard > seconds(SILENCE) {
            self.connect(index);
        }
        self.pump(index);
        self.after(0.1, Event::Supervise { node: index, life });
    }

    /// The stream was reset by the other side: connect at once.
    pub(super) fn kick(&mut self, index: usize) {
        if self.nodes[index].runs(self.now) {
            self.connect(index);
        }
    }

    pub(super) fn arrive_down(&mut self, index: usize, connection: u64, message: ToNode) {
        let node = &mut self.nodes[index];
        node.mailbox.push((connection, message));
        if node.runs(self.now) {
            self.read_mail(index);
        }
    }

    pub(super) fn thaw(&mut self, index: usize) {
        if self.nodes[index].runs(self.now) {
            self.read_mail(index);
        }
    }

    fn read_mail(&mut self, index: usize) {
        let now = self.now;
        let stretch = self.switches.lease_counts_from_receipt;
        let node = &mut self.nodes[index];
        for (connection, mut message) in std::mem::take(&mut node.mailbox) {
            if connection != node.connection {
                continue;
            }
            node.heard = now;
            let moment = node.clock(now);
            if let ToNode::LeaseGrant(grant) = &mut message
                && stretch
                && !grant.duration.is_zero()
            {
                grant.duration += moment.since(grant.echo);
            }
            if let Err(error) = node.inbox.handle(moment, message) {
                panic!("{}: {error}, seed {}", node.name, self.seed);
            }
            node.stored_term = node.inbox.max_term();
        }
        self.pump(index);
    }

    /// Lets a daemon do whatever is to be done now.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let (connection, life) = (node.connection, node.life);
        let moment = node.clock(now);
        node.inbox.poll_welcome();
        if let Some(reset) = node.inbox.poll_reset() {
            self.begin(index, Work::Reset(reset));
        }
        let node = &mut self.nodes[index];
        let records: Vec<_> = std::iter::from_fn(|| node.inbox.poll_record()).collect();
        if !records.is_empty() {
            self.begin(index, Work::Records(records));
        }
        let node = &mut self.nodes[index];
        let heartbeat = node.inbox.poll_heartbeat(moment).map(FromNode::Heartbeat);
        let ack = node.inbox.poll_ack().map(FromNode::Ack);
        let wake = node.inbox.next_heartbeat_at().filter(|at| node.wake_at != Some(*at));
        if let Some(wake) = wake {
            node.wake_at = Some(wake);
            let time = node.time_of(wake);
            self.at(time, Event::Wake { node: index, life });
        }
        for message in [heartbeat, ack].into_iter().flatten() {
            self.send_up(index, connection, message);
        }
    }

    pub(super) fn wake(&mut self, index: usize, life: u64) {
        let node = &self.nodes[index];
        if node.up && node.life == life {
            if node.frozen_until > self.now {
                let late = node.frozen_until + millis(self.random.between(0.0, 10.0));
                return self.at(late, Event::Wake { node: index, life });
            }
            self.pump(index);
        }
    }

    fn begin(&mut self, index: usize, work: Work) {
        let takes = if self.random.chance(0.5) {
            self.random.between(0.0, 0.002)
        } else {
            self.random.between(0.01, 0.3)
        };
        let now = self.now;
        let node = &mut self.nodes[index];
        let done = node.busy_until.max(now) + seconds(takes);
        node.busy_until = done;
        node.work.push_back((done, work));
        let life = node.life;
        self.at(done, Event::Worked { node: index, life });
    }

    pub(super) fn worked(&mut self, index: usize, life: u64) {
        let now = self.now;
        let node = &self.nodes[index];
        if !node.up || node.life != life {
            return;
        }
        if node.frozen_until > now {
            let thawed = node.frozen_until;
            return self.at(thawed, Event::Worked { node: index, life });
        }
        while let Some((_, work)) = self.nodes[index].work.pop_front_if(|(done, _)| *done <= now) {
            self.finish(index, work);
        }
        self.pump(index);
    }

    fn finish(&mut self, index: usize, work: Work) {
        let often = if self.random.chance(0.5) { 0.7 } else { 0.05 };
        let stores = self.random.chance(often);
        let node = &mut self.nodes[index];
        match work {
            Work::Records(records) => {
                for Received { record, at: _ } in records {
                    let report = RecordReport {
                        seq: record.seq,
                        objects: 1,
                        last: true,
                        in_force_after: Duration::ZERO,
                        evicted_after: Duration::ZERO,
                    };
                    let outcome = node.inbox.handle_applied(record.seq, record.task, report);
                    assert_eq!(outcome, Ok(()), "seed {}", self.seed);
                }
            }
            Work::Reset(reset) => node.inbox.handle_reset_applied(&reset),
        }
        node.furthest = node.furthest.max(node.inbox.cursor());
        // A cursor that is stored late sends the node back to where it was before.
        if stores {
            node.stored = node.inbox.position();
        }
    }

    pub(super) fn freeze(&mut self, index: usize, time: f64) {
        let node = &mut self.nodes[index];
        // Never shortened: what waits for the thaw must stay in its order.
        let until = node.frozen_until.max(self.now + seconds(time));
        node.frozen_until = until;
        self.at(until, Event::Thaw(index));
    }

    /// The daemon dies; its cache may go on serving by the lease it had.
    pub(super) fn crash_node(&mut self, index: usize) {
        let (leaves_ghost, forgets) = (self.random.chance(0.5), self.random.chance(0.1));
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        if leaves_ghost && node.inbox.lease().may_serve(node.clock(now)) {
            node.ghosts.push((node.inbox.lease().valid_until(), node.inbox.cursor()));
        }
        node.up = false;
        if forgets {
            node.stored = None;
        }
        let longest = if self.random.chance(0.3) { 0.02 } else { 0.5 };
        let down = self.random.between(0.002, longest);
        self.after(down, Event::NodeBack(index));
    }

    pub(super) fn node_back(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.up = true;
        node.life += 1;
        node.work.clear();
        node.busy_until = 0;
        node.mailbox.clear();
        node.connection = 0;
        node.wake_at = None;
        node.inbox = Node::daemon(&node.name, node.policy, node.life, node.stored, node.stored_term);
        let life = node.life;
        self.supervise(index, life);
    }

    fn send_up(&mut self, index: usize, connection: u64, message: FromNode) {
        self.send(index, connection, Direction::Up, Event::Up { node: index, connection, message });
    }
}
