use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{
    FeedLine, Feeds, InboxConfig, LeaseTimes, LogView, Outbox, OutboxLimits, RecentTails, Recovered,
    RecoveredNode, Resume, Roster, judge_hello,
};
use batoff_types::message::{
    Ack, FromNode, Heartbeat, LeaseGrant, LeasePolicy, Position, RecordReport, ToNode, Welcome,
};
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
    Up(StreamPlace, FromNode),
    Down(StreamPlace, ToNode),
    Beat(usize),
    /// A stream may have to bring what others have not.
    FillIn(StreamPlace),
    Purge,
}

/// A stream: of which node, to which replica.
#[derive(Clone, Copy)]
struct StreamPlace {
    node: usize,
    replica: usize,
}

struct Node {
    name: NodeName,
    feeds: Feeds,
    streams: Vec<WorldStream>,
}

/// Between a node and one replica.
struct WorldStream {
    outbox: Outbox,
    up: Path,
    down: Path,
    looks_at: f64,
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
    /// Of each replica.
    rosters: Vec<Roster>,
    /// Through where each says that everything is completed.
    watermarks: Vec<Cursor>,
    completed: Cursor,
    tails: RecentTails,
    set: ReplicaSet,
    registered: u64,
    records: Vec<Record>,
    sent: Vec<Sent>,
    at_each: Vec<f64>,
    records_sent: u64,
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
        let members = (1..=globe.replicas.max(1)).map(Replica);
        let set = ReplicaSet::new(members).unwrap_or_else(|_| ReplicaSet::only());
        let pops = CITIES.iter().flat_map(|city| (0..city.4).map(move |_| city));
        let tail = Cursor::new(CITIES.iter().map(|city| u64::from(city.4)).sum());
        // One control plane resets a node that stands nowhere; of several the second would have to be asked again.
        let position =
            (set.members().len() > 1).then_some(Position { log_id: LOG, cursor: tail, task: None });
        let mut nodes: Vec<Node> = Vec::new();
        for (number, city) in pops.enumerate() {
            let name: NodeName = parse(&format!("pop-{number}/edge-1"));
            let mut config = InboxConfig::new(name.clone(), LeasePolicy::Revalidate);
            config.set = set.clone();
            config.prompt_feeds = globe.feeds;
            let instance = InstanceId::from_bytes((number as u128 + 1).to_be_bytes());
            let terms = set.members().iter().map(|replica| (*replica, Term(0)));
            let feeds = Feeds::new(config, instance, position, terms);
            let resume = Resume::At(Cursor::START);
            let stream = |_| WorldStream {
                outbox: Outbox::new(&resume, OutboxLimits::default()),
                up: Path::new(city, control),
                down: Path::new(control, city),
                looks_at: 0.0,
            };
            nodes.push(Node { name, feeds, streams: set.members().iter().map(stream).collect() });
        }
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
        let rosters =
            set.members().iter().map(|_| Roster::new(times, Moment::ZERO, recovered.clone())).collect();
        let mut model = Self {
            globe,
            control,
            random: Random::new(globe.seed),
            now: 0.0,
            queue: BTreeMap::new(),
            counter: 0,
            nodes,
            rosters,
            watermarks: vec![Cursor::START; set.members().len()],
            completed: Cursor::START,
            tails: RecentTails::new(tail),
            set,
            registered: tail.get(),
            records: Vec::new(),
            sent: Vec::new(),
            at_each: Vec::new(),
            records_sent: 0,
        };
        model.at(WARM_UP_MS, Event::Purge);
        for index in 0..model.nodes.len() {
            for replica in 0..model.rosters.len() {
                let line = model.line(StreamPlace { node: index, replica });
                let hello = model.nodes[index].feeds.hello(line);
                model.send_up(StreamPlace { node: index, replica }, FromNode::Hello(hello));
            }
            let soon = 250.0 * model.random.unit();
            model.at(soon, Event::Beat(index));
        }
        model
    }

    fn at(&mut self, ms: f64, event: Event) {
        self.counter += 1;
        self.queue.insert(((ms * 1_000.0) as u64, self.counter), event);
    }

    fn line(&self, at: StreamPlace) -> FeedLine {
        FeedLine { replica: self.set.members()[at.replica], connection: 1 }
    }

    fn send_up(&mut self, at: StreamPlace, message: FromNode) {
        let up = &mut self.nodes[at.node].streams[at.replica].up;
        let arrival = up.send(self.now, self.globe.loss, &mut self.random);
        self.at(arrival, Event::Up(at, message));
    }

    fn send_down(&mut self, at: StreamPlace, message: ToNode) {
        let down = &mut self.nodes[at.node].streams[at.replica].down;
        let arrival = down.send(self.now, self.globe.loss, &mut self.random);
        self.at(arrival, Event::Down(at, message));
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Up(at, message) => self.arrive_up(at, message),
            Event::Down(at, message) => {
                let line = self.line(at);
                let handled = self.nodes[at.node].feeds.handle(moment(self.now), line, message);
                debug_assert!(handled.is_ok(), "{handled:?}");
                self.apply(at.node);
                self.beat(at.node);
            }
            Event::Beat(index) => self.beat(index),
            Event::FillIn(at) => self.push(at),
            Event::Purge => self.purge(),
        }
    }

    fn tail(&self) -> Cursor {
        Cursor::new(self.registered + self.records.len() as u64)
    }

    fn arrive_up(&mut self, at: StreamPlace, message: FromNode) {
        let (now, connection, several) = (moment(self.now), at.node as u64 + 1, self.rosters.len() > 1);
        let name = self.nodes[at.node].name.clone();
        let tail = self.tail();
        let roster = &mut self.rosters[at.replica];
        let outbox = &mut self.nodes[at.node].streams[at.replica].outbox;
        if let FromNode::Heartbeat(Heartbeat { cursor, .. }) | FromNode::Ack(Ack { cursor, .. }) = &message
            && several
        {
            outbox.handle_known(*cursor);
            let acked = outbox.handle_ack(*cursor);
            debug_assert!(acked.is_ok(), "{acked:?}");
        }
        match message {
            FromNode::Hello(hello) => {
                let log = LogView { log_id: LOG, first: Seq::FIRST, tail };
                let resume = judge_hello(&hello, &log, None);
                let greeted = roster.handle_hello(now, &hello, &resume, connection);
                debug_assert!(greeted.is_ok(), "{greeted:?}");
                *outbox = Outbox::new(&resume, OutboxLimits::default());
                let times = *roster.times();
                let welcome = Welcome {
                    log_id: LOG,
                    term: Term(1),
                    tail,
                    lease: times.lease,
                    heartbeat_interval: times.heartbeat,
                    reconnect_min: Duration::from_millis(50),
                    reconnect_max: Duration::from_secs(5),
                    sites: SiteTable::default(),
                    replica: self.set.members()[at.replica],
                    set: self.set.clone(),
                };
                self.send_down(at, ToNode::Welcome(welcome));
                if let Resume::Reset(reset) = resume {
                    self.send_down(at, ToNode::Reset(reset));
                }
            }
            FromNode::Heartbeat(heartbeat) => {
                if several {
                    outbox.handle_pace(heartbeat.fill_in_after);
                }
                if let Some(grant) = roster.handle_heartbeat(now, &name, connection, &heartbeat) {
                    let tail = several.then_some(tail);
                    self.send_down(at, ToNode::LeaseGrant(LeaseGrant { tail, ..grant }));
                }
            }
            FromNode::Ack(ack) => {
                roster.handle_ack(now, &name, connection, ack.cursor);
            }
            FromNode::Counted(_) | FromNode::Trouble(_) => {}
        }
        self.push(at);
        self.collect(at.replica);
    }

    fn push(&mut self, at: StreamPlace) {
        let (now, tail) = (self.now, self.tail());
        let stream = &mut self.nodes[at.node].streams[at.replica];
        let reach = stream.outbox.reach(moment(now), &self.tails, tail);
        let Some(range) = stream.outbox.poll_range(reach) else {
            let due = stream.outbox.fills_in_at(moment(now), &self.tails);
            let due = due.map(|due| due.as_micros() as f64 / 1_000.0 + 0.001);
            if let Some(due) = due.filter(|due| stream.looks_at <= now || *due < stream.looks_at) {
                stream.looks_at = due;
                self.at(due, Event::FillIn(at));
            }
            return;
        };
        stream.outbox.handle_sent(range.last);
        self.records_sent += range.last.get() + 1 - range.first.get();
        let from = (range.first.get() - 1).saturating_sub(self.registered) as usize;
        let records = self.records[from..(range.last.get() - self.registered) as usize].to_vec();
        self.send_down(at, ToNode::Records(records));
    }

    /// A node does at once what came.
    fn apply(&mut self, index: usize) {
        let feeds = &mut self.nodes[index].feeds;
        self.set.members().iter().for_each(|replica| drop(feeds.poll_welcome(*replica)));
        if let Some(reset) = feeds.poll_reset() {
            feeds.handle_reset_applied(&reset);
        }
        while let Some(received) = feeds.poll_record() {
            let record = received.record;
            let report = RecordReport {
                seq: record.seq,
                objects: 0,
                last: true,
                in_force_after: Duration::ZERO,
                evicted_after: Duration::ZERO,
            };
            let applied = feeds.handle_applied(record.seq, record.task, report);
            debug_assert!(applied.is_ok(), "{applied:?}");
            let sent = &mut self.sent[(record.seq.get() - self.registered - 1) as usize];
            let took = self.now + APPLY_MS - sent.accepted;
            sent.in_force = sent.in_force.max(took);
            self.at_each.push(took);
        }
        for replica in 0..self.rosters.len() {
            let at = StreamPlace { node: index, replica };
            let line = self.line(at);
            if let Some(ack) = self.nodes[index].feeds.poll_ack(line.replica) {
                let now = self.now;
                self.now += APPLY_MS;
                self.send_up(at, FromNode::Ack(ack));
                self.now = now;
            }
        }
    }

    fn beat(&mut self, index: usize) {
        for replica in 0..self.rosters.len() {
            let at = StreamPlace { node: index, replica };
            let line = self.line(at);
            let feeds = &mut self.nodes[index].feeds;
            if let Some(heartbeat) = feeds.poll_heartbeat(moment(self.now), line.replica) {
                let next = feeds.next_heartbeat_of(line.replica);
                let next = next.map_or(250.0, |next| next.as_micros() as f64 / 1_000.0);
                self.send_up(at, FromNode::Heartbeat(heartbeat));
                self.at(next + 0.001, Event::Beat(index));
            }
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
        let (now, tail) = (moment(self.now), self.tail());
        self.tails.handle_tail(now, tail);
        self.rosters.iter_mut().for_each(|roster| roster.handle_appended(now, tail));
        for node in 0..self.nodes.len() {
            (0..self.rosters.len()).for_each(|replica| self.push(StreamPlace { node, replica }));
        }
        if self.sent.len() < self.globe.purges {
            self.at(self.now + BETWEEN_MS, Event::Purge);
        }
    }

    /// What a majority says is completed, is.
    fn collect(&mut self, replica: usize) {
        let roster = &mut self.rosters[replica];
        roster.handle_tick(moment(self.now));
        while let Some(completed) = roster.poll_completed() {
            self.watermarks[replica] = completed.through;
        }
        let mut watermarks = self.watermarks.clone();
        watermarks.sort_unstable_by_key(|through| std::cmp::Reverse(*through));
        let completed = watermarks[self.set.majority() - 1].max(self.completed);
        for seq in self.completed.get().max(self.registered)..completed.get() {
            let sent = &mut self.sent[(seq - self.registered) as usize];
            sent.completed = self.now - sent.accepted;
        }
        self.completed = completed;
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
            records_sent: self.records_sent,
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
