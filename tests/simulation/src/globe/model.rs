use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{
    Inbox, InboxConfig, LeaseTimes, LogView, Outbox, OutboxLimits, Recovered, RecoveredNode, Roster,
    judge_hello,
};
use batoff_types::message::{FromNode, LeasePolicy, RecordReport, ToNode, Welcome};
use batoff_types::{
    Body, Cursor, InstanceId, LogId, Moment, NodeName, Purge, Record, Replica, ReplicaSet, SEMANTICS_VERSION,
    Selector, Seq, SiteTable, TaskId, Term, UnixMillis,
};

use super::path::{Path, light_ms};
use super::{CITIES, City, FromRegion, Globe, Millis, Propagation, Region};
use crate::catalog::parse;
use crate::random::Random;

const LOG: LogId = LogId::from_bytes([1; 16]);

/// Time for all nodes to get their leases before the first purge, and between two purges.
const WARM_UP_MS: f64 = 3_000.0;
const BETWEEN_MS: f64 = 100.0;

/// From the arrival of a record until its rule is in force.
const APPLY_MS: f64 = 0.1;

/// After the last purge, for its acks.
const COOL_DOWN_MS: f64 = 5_000.0;

enum Event {
    Up(usize, FromNode),
    Down(usize, ToNode),
    Beat(usize),
    Purge,
}

struct Node {
    name: NodeName,
    inbox: Inbox,
    outbox: Outbox,
    up: Path,
    down: Path,
}

/// The times of one purge, in milliseconds.
struct Sent {
    accepted: f64,
    submitting: f64,
    by_light: f64,
    region: Region,
    in_force: f64,
    completed: f64,
}

struct Model<'a> {
    globe: &'a Globe,
    control: &'a City,
    random: Random,
    now: f64,
    queue: BTreeMap<(u64, u64), Event>,
    counter: u64,
    nodes: Vec<Node>,
    roster: Roster,
    registered: u64,
    records: Vec<Record>,
    sent: Vec<Sent>,
    at_each: Vec<f64>,
}

pub(super) fn run(globe: &Globe, control: &City) -> Propagation {
    let mut model = Model::new(globe, control);
    let end = WARM_UP_MS + BETWEEN_MS * globe.purges as f64 + COOL_DOWN_MS;
    while let Some(((time, _), event)) = model.queue.pop_first() {
        model.now = time as f64 / 1_000.0;
        if model.now > end {
            break;
        }
        model.dispatch(event);
    }
    model.report()
}

const fn moment(ms: f64) -> Moment {
    Moment::from_micros((ms * 1_000.0) as u64)
}

impl<'a> Model<'a> {
    fn new(globe: &'a Globe, control: &'a City) -> Self {
        let pops = CITIES.iter().flat_map(|city| (0..city.4).map(move |_| city));
        let mut nodes: Vec<Node> = Vec::new();
        for (number, city) in pops.enumerate() {
            let name: NodeName = parse(&format!("pop-{number}/edge-1"));
            let config = InboxConfig::new(name.clone(), LeasePolicy::Revalidate);
            let instance = InstanceId::from_bytes((number as u128 + 1).to_be_bytes());
            let inbox = Inbox::new(config, instance, None, Term(0));
            let resume = batoff_delivery::Resume::At(Cursor::START);
            let outbox = Outbox::new(&resume, OutboxLimits::default());
            nodes.push(Node {
                name,
                inbox,
                outbox,
                up: Path::new(city, control),
                down: Path::new(control, city),
            });
        }
        let tail = Cursor::new(nodes.len() as u64);
        let registered = nodes.iter().zip(1..).filter_map(|(node, seq)| {
            let (name, policy) = (node.name.clone(), Some(LeasePolicy::Revalidate));
            Some(RecoveredNode {
                name,
                registered: Seq::new(seq)?,
                confirmed: Cursor::START,
                policy,
                parents: None,
                removed: false,
            })
        });
        let times = LeaseTimes::default();
        let recovered = Recovered {
            tail,
            term: Term(1),
            max_lease_granted: times.lease,
            completed: Cursor::START,
            nodes: registered.collect(),
        };
        let roster = Roster::new(times, Moment::ZERO, recovered);
        let mut model = Self {
            globe,
            control,
            random: Random::new(globe.seed),
            now: 0.0,
            queue: BTreeMap::new(),
            counter: 0,
            nodes,
            roster,
            registered: tail.get(),
            records: Vec::new(),
            sent: Vec::new(),
            at_each: Vec::new(),
        };
        model.at(WARM_UP_MS, Event::Purge);
        for index in 0..model.nodes.len() {
            let hello = model.nodes[index].inbox.hello();
            model.send_up(index, FromNode::Hello(hello));
            let soon = 250.0 * model.random.unit();
            model.at(soon, Event::Beat(index));
        }
        model
    }

    fn at(&mut self, ms: f64, event: Event) {
        self.counter += 1;
        self.queue.insert(((ms * 1_000.0) as u64, self.counter), event);
    }

    fn send_up(&mut self, index: usize, message: FromNode) {
        let arrival = self.nodes[index].up.send(self.now, self.globe.loss, &mut self.random);
        self.at(arrival, Event::Up(index, message));
    }

    fn send_down(&mut self, index: usize, message: ToNode) {
        let arrival = self.nodes[index].down.send(self.now, self.globe.loss, &mut self.random);
        self.at(arrival, Event::Down(index, message));
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Up(index, message) => self.arrive_up(index, message),
            Event::Down(index, message) => {
                let handled = self.nodes[index].inbox.handle(moment(self.now), message);
                debug_assert!(handled.is_ok(), "{handled:?}");
                self.apply(index);
                self.beat(index);
            }
            Event::Beat(index) => self.beat(index),
            Event::Purge => self.purge(),
        }
    }

    fn tail(&self) -> Cursor {
        Cursor::new(self.registered + self.records.len() as u64)
    }

    fn arrive_up(&mut self, index: usize, message: FromNode) {
        let (now, connection) = (moment(self.now), index as u64 + 1);
        let name = self.nodes[index].name.clone();
        match message {
            FromNode::Hello(hello) => {
                let log = LogView { log_id: LOG, first: Seq::FIRST, tail: self.tail() };
                let resume = judge_hello(&hello, &log, None);
                let greeted = self.roster.handle_hello(now, &hello, &resume, connection);
                debug_assert!(greeted.is_ok(), "{greeted:?}");
                self.nodes[index].outbox = Outbox::new(&resume, OutboxLimits::default());
                let times = *self.roster.times();
                let welcome = Welcome {
                    log_id: LOG,
                    term: Term(1),
                    tail: self.tail(),
                    lease: times.lease,
                    heartbeat_interval: times.heartbeat,
                    reconnect_min: Duration::from_millis(50),
                    reconnect_max: Duration::from_secs(5),
                    sites: SiteTable::default(),
                    replica: Replica::ONLY,
                    set: ReplicaSet::only(),
                };
                self.send_down(index, ToNode::Welcome(welcome));
                if let batoff_delivery::Resume::Reset(reset) = resume {
                    self.send_down(index, ToNode::Reset(reset));
                }
            }
            FromNode::Heartbeat(heartbeat) => {
                if let Some(grant) = self.roster.handle_heartbeat(now, &name, connection, &heartbeat) {
                    self.send_down(index, ToNode::LeaseGrant(grant));
                }
            }
            FromNode::Ack(ack) => {
                self.roster.handle_ack(now, &name, connection, ack.cursor);
            }
            FromNode::Counted(_) | FromNode::Trouble(_) => {}
        }
        self.push(index);
        self.collect();
    }

    fn push(&mut self, index: usize) {
        let outbox = &mut self.nodes[index].outbox;
        let Some(range) = outbox.poll_range(Cursor::new(self.registered + self.records.len() as u64)) else {
            return;
        };
        outbox.handle_sent(range.last);
        let from = (range.first.get() - 1).saturating_sub(self.registered) as usize;
        let records = self.records[from..(range.last.get() - self.registered) as usize].to_vec();
        self.send_down(index, ToNode::Records(records));
    }

    /// A node does at once what came.
    fn apply(&mut self, index: usize) {
        let inbox = &mut self.nodes[index].inbox;
        inbox.poll_welcome();
        if let Some(reset) = inbox.poll_reset() {
            inbox.handle_reset_applied(&reset);
        }
        while let Some(received) = inbox.poll_record() {
            let record = received.record;
            let report = RecordReport {
                seq: record.seq,
                objects: 0,
                last: true,
                in_force_after: Duration::ZERO,
                evicted_after: Duration::ZERO,
            };
            let applied = inbox.handle_applied(record.seq, record.task, report);
            debug_assert!(applied.is_ok(), "{applied:?}");
            let sent = &mut self.sent[(record.seq.get() - self.registered - 1) as usize];
            let took = self.now + APPLY_MS - sent.accepted;
            sent.in_force = sent.in_force.max(took);
            self.at_each.push(took);
        }
        if let Some(ack) = self.nodes[index].inbox.poll_ack() {
            let now = self.now;
            self.now += APPLY_MS;
            self.send_up(index, FromNode::Ack(ack));
            self.now = now;
        }
    }

    fn beat(&mut self, index: usize) {
        let inbox = &mut self.nodes[index].inbox;
        if let Some(heartbeat) = inbox.poll_heartbeat(moment(self.now)) {
            let next = inbox.next_heartbeat_at().map_or(250.0, |at| at.as_micros() as f64 / 1_000.0);
            self.send_up(index, FromNode::Heartbeat(heartbeat));
            self.at(next + 0.001, Event::Beat(index));
        }
    }

    /// Durable now; the clients take turns by region, and within one by how many PoPs a city has.
    fn purge(&mut self) {
        let region = Region::ALL[self.sent.len() % Region::ALL.len()];
        let here =
            CITIES.iter().filter(|city| city.1 == region).flat_map(|city| (0..city.4).map(move |_| city));
        let here: Vec<_> = here.collect();
        let client = here[self.random.below(here.len())];
        let submitting = Path::new(client, self.control).send(0.0, self.globe.loss, &mut self.random);
        self.sent.push(Sent {
            accepted: self.now,
            submitting,
            by_light: light_ms(client, self.control),
            region,
            in_force: 0.0,
            completed: 0.0,
        });
        self.records.push(Record {
            seq: self.tail().next(),
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes((self.sent.len() as u128).to_be_bytes()),
            request_id: Arc::from(""),
            semantics: SEMANTICS_VERSION,
            trace: None,
            body: Body::Purge(Purge {
                site: parse("world"),
                selectors: vec![Selector::Everything],
                soft: false,
            }),
        });
        self.roster.handle_appended(moment(self.now), self.tail());
        for index in 0..self.nodes.len() {
            self.push(index);
        }
        if self.sent.len() < self.globe.purges {
            self.at(self.now + BETWEEN_MS, Event::Purge);
        }
    }

    fn collect(&mut self) {
        self.roster.handle_tick(moment(self.now));
        while let Some(completed) = self.roster.poll_completed() {
            let (from, to) = (completed.after.get().max(self.registered), completed.through.get());
            for seq in from..to {
                let sent = &mut self.sent[(seq - self.registered) as usize];
                sent.completed = self.now - sent.accepted;
            }
        }
    }

    fn report(self) -> Propagation {
        let farthest = CITIES.iter().map(|city| light_ms(self.control, city)).fold(0.0, f64::max);
        let of = |region: Option<Region>, figure: fn(&Sent) -> f64| {
            let here = self.sent.iter().filter(|sent| region.is_none_or(|region| region == sent.region));
            Millis::new(here.map(figure).collect())
        };
        let regions = Region::ALL.into_iter().map(|region| FromRegion {
            region,
            purges: self.sent.iter().filter(|sent| sent.region == region).count(),
            in_force: of(Some(region), |sent| sent.in_force),
            completed: of(Some(region), |sent| sent.completed),
            submitted: of(Some(region), |sent| sent.submitting + sent.completed),
            submitted_by_light: of(Some(region), |sent| sent.by_light).quantile(0.5) + 2.0 * farthest,
        });
        Propagation {
            control: self.control.0.to_owned(),
            nodes: self.nodes.len(),
            loss: self.globe.loss,
            in_force: of(None, |sent| sent.in_force),
            completed: of(None, |sent| sent.completed),
            in_force_by_light: farthest,
            completed_by_light: 2.0 * farthest,
            regions: regions.collect(),
            at_each: Millis::new(self.at_each),
        }
    }
}
