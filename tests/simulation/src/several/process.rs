//! A process of a replica: the real seat, roster, outboxes and statements.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{
    LeaseTimes, Outbox, OutboxLimits, RecentTails, Recovered, RecoveredNode, Resume, Roster, Seat,
    SeatAnswer, SeatConfig, Statements, judge_hello,
};
use batoff_types::message::{FromNode, GoAway, GoAwayReason, Hello, LeaseGrant, ToNode, Welcome};
use batoff_types::{Cursor, InstanceId, Moment, Replica, Seq, SiteTable, Term};

use super::cluster::{Cluster, Step};
use super::daemon::name;
use super::engine::{Call, Entry, LOG, Reply};
use crate::network::Direction;
use crate::oracle::Violation;
use crate::world::{rate, seconds};

/// How long a proof of a seat counts here: longer than an outage of the engine, and short enough for a run.
pub(super) const SEAT: Duration = Duration::from_secs(4);

const LIMITS: OutboxLimits = OutboxLimits { records: 64, bytes: 256 * 1024, in_flight: 4_096 };

#[derive(Debug)]
pub(super) struct Process {
    pub(super) replica: Replica,
    /// Which host, as that of the lock that it holds.
    pub(super) place: u64,
    pub(super) up: bool,
    pub(super) frozen_until: u64,
    /// Cut off from the engine until then.
    pub(super) cut_until: u64,
    /// What it follows of the log stands still until then.
    pub(super) lags_until: u64,
    rate: f64,
    offset: u64,
    /// What came from nodes while it stood still.
    mailbox: VecDeque<(usize, u64, FromNode)>,
    seat: Seat,
    /// What it has once it may act.
    pub(super) open: Option<OpenReplica>,
}

#[derive(Debug)]
pub(super) struct OpenReplica {
    roster: Roster,
    pub(super) statements: Statements,
    tail: Cursor,
    tails: RecentTails,
    streams: BTreeMap<u64, NodeStream>,
    /// Whose node is further than this process.
    waiting: Vec<(u64, usize, Hello)>,
    is_recording: bool,
    published: Cursor,
    will_publish: bool,
    was_member: bool,
}

/// A node's stream at this end.
#[derive(Debug)]
struct NodeStream {
    daemon: usize,
    outbox: Outbox,
    /// When it looks next whether something is to be filled in.
    looks_at: u64,
}

impl NodeStream {
    fn new(daemon: usize, resume: &Resume) -> Self {
        Self { daemon, outbox: Outbox::new(resume, LIMITS), looks_at: 0 }
    }
}

impl Process {
    pub(super) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros(self.offset + (time as f64 * self.rate) as u64)
    }

    fn time_of(&self, moment: Moment) -> u64 {
        (moment.as_micros().saturating_sub(self.offset) as f64 / self.rate).ceil() as u64 + 1
    }
}

impl Cluster {
    /// A process of that replica starts, on that host.
    pub(super) fn boot(&mut self, replica: Replica, place: u64) {
        let index = self.processes.len();
        let rate = rate(&mut self.random, LeaseTimes::default().drift);
        let config = SeatConfig {
            replica,
            process: InstanceId::from_bytes((index as u128 + 1).to_be_bytes()),
            place: Some(Arc::from(format!("host {place}"))),
            seat: SEAT,
            term_least: Term(0),
            times: self.times,
        };
        let offset = self.random.below(1_000_000_000) as u64;
        let mut process = Process {
            replica,
            place,
            up: true,
            frozen_until: 0,
            cut_until: 0,
            lags_until: 0,
            rate,
            offset,
            mailbox: VecDeque::new(),
            seat: Seat::new(config.clone(), Moment::ZERO),
            open: None,
        };
        #[cfg_attr(not(feature = "mutations"), expect(unused_mut, reason = "mutations change it"))]
        let mut seat = Seat::new(config, process.clock(self.now));
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.rule() {
            seat = seat.without(rule);
        }
        process.seat = seat;
        self.say(&replica.to_string(), || format!("process {index} starts on host {place}"));
        self.processes.push(process);
        self.after(0.0, Step::Tick { process: index });
    }

    fn acts(&self, process: usize) -> bool {
        let process = &self.processes[process];
        process.up && process.frozen_until <= self.now
    }

    pub(super) fn tick(&mut self, index: usize) {
        if !self.processes[index].up {
            return;
        }
        if !self.acts(index) {
            let thaws = self.processes[index].frozen_until;
            return self.at(thaws, Step::Tick { process: index });
        }
        self.ask_for_the_seat(index);
        let (now, asks) = (self.now, self.random.chance(0.4));
        let process = &mut self.processes[index];
        let (moment, held_until) = (process.clock(now), process.seat.held_until());
        if let Some(open) = &mut process.open {
            open.roster.handle_tick(moment);
            // The proof began after it was noticed.
            if let Some(noticed) = open.roster.stood_still().filter(|noticed| held_until > *noticed + SEAT) {
                open.roster.handle_still_ours(noticed);
            }
        } else if let Some(head) = process.seat.floor() {
            self.open(index, head);
        }
        self.declare(index);
        if asks {
            self.publish(index);
        }
        self.after(0.02, Step::Tick { process: index });
    }

    fn ask_for_the_seat(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        if let Some(request) = process.seat.poll_request(process.clock(now)) {
            self.call(index, Call::Seat(request));
        }
    }

    pub(super) fn answered(&mut self, index: usize, reply: Reply, counts: bool) {
        if !self.processes[index].up {
            return;
        }
        if !self.acts(index) {
            let thaws = self.processes[index].frozen_until;
            return self.at(thaws, Step::Answered { process: index, reply, counts });
        }
        let (now, lost) = (self.now, self.processes[index].cut_until > self.now);
        let process = &mut self.processes[index];
        let moment = process.clock(now);
        match reply {
            Reply::Seat(answer) => {
                process.seat.handle_answer(moment, if lost { SeatAnswer::Unknown } else { answer });
                if process.seat.is_lost() {
                    self.outcome.seats_lost += 1;
                    return self.stop(index, "has lost its seat");
                }
                if let Some(open) = &mut process.open {
                    open.roster.handle_seated(process.seat.held_until());
                }
                self.ask_for_the_seat(index);
            }
            Reply::Recorded(done) => {
                if let Some(open) = &mut process.open {
                    open.is_recording = false;
                    if let Some(done) = done.filter(|_| !lost) {
                        open.statements.handle_done(done);
                    }
                }
            }
        }
    }

    /// It is to stop in order: it grants and states nothing any more, has that recorded, and goes on with all else.
    pub(super) fn release(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        process.seat.release(process.clock(now));
        if let Some(open) = &mut process.open {
            open.roster.handle_seated(process.seat.held_until());
        }
        let replica = process.replica.to_string();
        self.say(&replica, || format!("process {index} releases its seat"));
        self.ask_for_the_seat(index);
    }

    pub(super) fn stop(&mut self, index: usize, why: &str) {
        let process = &mut self.processes[index];
        process.up = false;
        process.open = None;
        let replica = process.replica.to_string();
        self.say(&replica, || format!("process {index} {why}, and ends"));
    }

    /// Its wait is over, and it has read the log through `head`.
    fn open(&mut self, index: usize, head: Cursor) {
        let mut nodes = BTreeMap::new();
        for seq in 1..=head.get() {
            match self.engine.entry(seq) {
                Some(Entry::Registered(node)) => _ = nodes.insert(*node, (seq, false)),
                Some(Entry::Removed(node)) => {
                    _ = nodes.entry(*node).and_modify(|(_, removed)| *removed = true)
                }
                _ => {}
            }
        }
        let replica = self.processes[index].replica;
        let nodes = nodes.into_iter().filter_map(|(node, (seq, removed))| {
            let word = self.words.get(&(replica, node));
            Some(RecoveredNode {
                name: name(node),
                registered: Seq::new(seq)?,
                confirmed: Cursor::START,
                policy: word.map(|word| word.policy),
                parents: word.map(|_| Vec::new()),
                removed,
            })
        });
        let nodes: Vec<_> = nodes.collect();
        let process = &self.processes[index];
        let moment = process.clock(self.now);
        let Some(term) = process.seat.term() else { return };
        let recovered = Recovered {
            tail: head,
            term,
            max_lease_granted: self.times.lease,
            completed: Cursor::START,
            nodes,
        };
        let sets = self.engine.sets_through(head);
        #[cfg_attr(not(feature = "mutations"), expect(unused_mut, reason = "mutations change it"))]
        let mut statements = Statements::new(sets, head, self.engine.done.min(head));
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.rule() {
            statements = statements.without(rule);
        }
        #[cfg_attr(not(feature = "mutations"), expect(unused_mut, reason = "mutations change it"))]
        let mut tails = RecentTails::new(head);
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.rule() {
            tails = tails.without(rule);
        }
        let mut roster = self.roster(moment, recovered);
        roster.handle_seated(process.seat.held_until());
        let was_member = statements.needs(replica);
        self.processes[index].open = Some(OpenReplica {
            roster,
            statements,
            tail: head,
            tails,
            streams: BTreeMap::new(),
            waiting: Vec::new(),
            is_recording: false,
            published: Cursor::START,
            will_publish: false,
            was_member,
        });
        self.say(&replica.to_string(), || format!("process {index} is open in {term:?}, floor {head:?}"));
        self.watch(index);
    }

    fn roster(&self, start: Moment, recovered: Recovered) -> Roster {
        #[cfg(feature = "mutations")]
        if let Some(rule) = self.rule() {
            return Roster::without(rule, self.times, start, recovered);
        }
        Roster::new(self.times, start, recovered)
    }

    /// Whether what comes from the engine comes now; otherwise when it may.
    fn reaches(&self, index: usize) -> Result<(), u64> {
        let process = &self.processes[index];
        let late = self.engine.down_until.max(process.cut_until).max(process.lags_until);
        if process.frozen_until > self.now {
            Err(process.frozen_until)
        } else if late > self.now {
            Err(late + seconds(0.02))
        } else {
            Ok(())
        }
    }

    pub(super) fn follow(&mut self, index: usize, to: Cursor) {
        if self.processes[index].open.is_none() {
            return;
        }
        if let Err(later) = self.reaches(index) {
            return self.at(later, Step::Follow { process: index, to });
        }
        let now = self.now;
        let process = &mut self.processes[index];
        let (moment, replica) = (process.clock(now), process.replica);
        let Some(open) = &mut process.open else { return };
        let mut removed = Vec::new();
        while open.tail < to {
            let seq = open.tail.next();
            match self.engine.entry(seq.get()) {
                Some(Entry::Registered(node)) => {
                    open.roster.handle_registered(moment, &name(*node), seq, None);
                }
                Some(Entry::Removed(node)) => {
                    open.roster.handle_removed(moment, &name(*node));
                    removed.push(*node);
                }
                Some(Entry::Set(set)) => {
                    open.statements.handle_set(seq, set.clone());
                    open.was_member |= set.contains(replica);
                }
                Some(Entry::Purge) | None => {}
            }
            open.tail = Cursor::after(seq);
            open.roster.handle_appended(moment, open.tail);
        }
        open.tails.handle_tail(moment, open.tail);
        open.statements.handle_tail(open.tail);
        let ended =
            open.streams.extract_if(.., |_, stream| removed.contains(&self.daemons[stream.daemon].node));
        let ended: Vec<_> = ended.map(|(connection, stream)| (connection, stream.daemon)).collect();
        let waiting = std::mem::take(&mut open.waiting);
        for (connection, daemon) in ended {
            let (reason, reconnect_after) = (GoAwayReason::Removed, Duration::from_secs(2));
            let go_away = GoAway { reason, reconnect_after, endpoints: Vec::new() };
            self.send_down(index, daemon, connection, ToNode::GoAway(go_away));
        }
        for (connection, daemon, hello) in waiting {
            self.greet(index, connection, daemon, hello);
        }
        self.push_all(index);
        self.declare(index);
    }

    pub(super) fn done_seen(&mut self, index: usize, done: Cursor) {
        if self.processes[index].open.is_none() {
            return;
        }
        if let Err(later) = self.reaches(index) {
            return self.at(later, Step::DoneSeen { process: index, done });
        }
        let replica = self.processes[index].replica;
        // Whoever stops it for good knows whether it was taken in again, by a record that this process has not read.
        let later = done.next().get()..=self.engine.head().get();
        let later = later.filter_map(|seq| self.engine.entry(seq));
        let is_in_again = self.engine.set_at(done).contains(replica)
            || later.into_iter().any(|entry| matches!(entry, Entry::Set(set) if set.contains(replica)));
        let Some(open) = &mut self.processes[index].open else { return };
        open.statements.handle_done(done);
        if !is_in_again && open.was_member && !open.statements.needs(replica) && self.retires {
            self.stop(index, "is in no set any more");
            self.retired.insert(replica);
        }
    }

    /// Another replica has stated something.
    pub(super) fn stated(&mut self, index: usize, from: Replica, watermark: Cursor) {
        if self.processes[index].open.is_none() {
            return;
        }
        if !self.acts(index) {
            let thaws = self.processes[index].frozen_until;
            return self.at(thaws, Step::Stated { process: index, from, watermark });
        }
        if let Some(open) = &mut self.processes[index].open {
            open.statements.handle_stated(from, watermark);
        }
        self.declare(index);
    }

    /// States what is true by now, and has recorded what follows.
    pub(super) fn declare(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        let (moment, replica) = (process.clock(now), process.replica);
        let Some(open) = &mut process.open else { return };
        let statement = open.roster.statement(moment);
        if let Some(statement) = statement {
            open.statements.handle_stated(replica, statement);
        }
        let news = statement.is_some_and(|statement| statement > open.published);
        let publishes = news && !std::mem::replace(&mut open.will_publish, news);
        let completed = open.statements.completed();
        let records = open.statements.to_record().filter(|_| !open.is_recording);
        open.is_recording |= records.is_some();
        #[cfg(feature = "mutations")]
        open.roster.check();
        if publishes {
            self.after(0.005, Step::Publish { process: index });
        }
        if let Some(through) = records {
            self.call(index, Call::Record(through));
        }
        if let Some(statement) = statement {
            self.judge_statement(replica, statement);
        }
        self.judge_completed(index, completed);
    }

    /// Tells all others; lost, late or repeated, it does no harm.
    pub(super) fn publish(&mut self, index: usize) {
        if !self.acts(index) {
            return;
        }
        let now = self.now;
        let process = &mut self.processes[index];
        let (moment, from) = (process.clock(now), process.replica);
        let Some(open) = &mut process.open else { return };
        open.will_publish = false;
        let Some(watermark) = open.roster.statement(moment) else { return };
        open.published = watermark;
        self.judge_statement(from, watermark);
        for other in 0..self.processes.len() {
            let to = self.processes[other].replica;
            let cut = |replica| self.peers_cut.get(&replica).is_some_and(|until| *until > now);
            if other == index || !self.processes[other].up || cut(from) || cut(to) || self.random.chance(0.01)
            {
                continue;
            }
            let late = self.is_wild() && self.random.chance(0.5);
            let delay = if late { self.random.around(0.5) } else { self.random.between(0.001, 0.04) };
            self.after(delay, Step::Stated { process: other, from, watermark });
        }
    }

    pub(super) fn arrive_up(&mut self, index: usize, daemon: usize, connection: u64, message: FromNode) {
        if self.processes[index].up {
            self.processes[index].mailbox.push_back((daemon, connection, message));
            self.read_mail_of(index);
        }
    }

    pub(super) fn thaw(&mut self, index: usize) {
        if self.acts(index) {
            self.declare(index);
            self.read_mail_of(index);
        }
    }

    fn read_mail_of(&mut self, index: usize) {
        while self.acts(index) {
            let Some((daemon, connection, message)) = self.processes[index].mailbox.pop_front() else {
                return;
            };
            self.hear(index, daemon, connection, message);
        }
    }

    fn hear(&mut self, index: usize, daemon: usize, connection: u64, message: FromNode) {
        let alone = self.known.len() == 1;
        let (now, node) = (self.now, name(self.daemons[daemon].node));
        let process = &mut self.processes[index];
        let moment = process.clock(now);
        let Some(open) = &mut process.open else { return };
        let cursor = match message {
            FromNode::Hello(hello) => return self.greet(index, connection, daemon, hello),
            FromNode::Heartbeat(ref heartbeat) => heartbeat.cursor,
            FromNode::Ack(ref ack) => ack.cursor,
            FromNode::Counted(_) | FromNode::Trouble(_) => return,
        };
        // On a stream that was replaced, too, as the roster has to drop what comes there.
        let mut wrong = None;
        if let Some(NodeStream { outbox, .. }) = open.streams.get_mut(&connection) {
            if !alone {
                outbox.handle_known(cursor);
            }
            if let FromNode::Heartbeat(heartbeat) = &message
                && !alone
            {
                outbox.handle_pace(heartbeat.fill_in_after);
            }
            wrong = outbox.handle_ack(cursor).err();
        }
        let tail = (!alone).then_some(open.tail);
        let grant = match message {
            FromNode::Heartbeat(heartbeat) => {
                let grant = open.roster.handle_heartbeat(moment, &node, connection, &heartbeat);
                grant.map(|grant| LeaseGrant { tail, ..grant })
            }
            _ => {
                open.roster.handle_ack(moment, &node, connection, cursor);
                None
            }
        };
        if let Some(wrong) = wrong {
            self.fail(Violation::Cursor(format!("{node}: {wrong}")));
        }
        if let Some(grant) = grant {
            self.send_down(index, daemon, connection, ToNode::LeaseGrant(grant));
        }
        self.push(index, connection);
        self.declare(index);
    }

    fn greet(&mut self, index: usize, connection: u64, daemon: usize, hello: Hello) {
        let now = self.now;
        let process = &mut self.processes[index];
        let (moment, replica) = (process.clock(now), process.replica);
        let Some(open) = &mut process.open else { return };
        let view = self.engine.view(open.tail);
        if view.is_behind(&hello) {
            open.waiting.retain(|(_, waiting, _)| *waiting != daemon);
            return open.waiting.push((connection, daemon, hello));
        }
        let task_at = hello.position.and_then(|at| self.engine.task_at(at.cursor));
        let resume = judge_hello(&hello, &view, task_at);
        let Ok(greeting) = open.roster.handle_hello(moment, &hello, &resume, connection) else { return };
        if let Some(word) = open.roster.unsaved_word(&hello.node).cloned() {
            let node = self.daemons[daemon].node;
            self.words.insert((replica, node), word.clone());
            open.roster.handle_word_saved(&hello.node, word);
        }
        if open.roster.may_welcome(moment, &hello.node, connection).is_err() {
            return;
        }
        if let Some(old) = greeting.replaced {
            open.streams.remove(&old);
        }
        open.streams.insert(connection, NodeStream::new(daemon, &resume));
        let welcome = Welcome {
            log_id: LOG,
            term: open.roster.term(),
            tail: open.tail,
            lease: self.times.lease,
            heartbeat_interval: self.times.heartbeat,
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            sites: SiteTable::default(),
            replica: self.processes[index].replica,
            set: self.engine.set_at(resume.cursor()),
        };
        self.send_down(index, daemon, connection, ToNode::Welcome(welcome));
        if let Resume::Reset(reset) = resume {
            let node = hello.node;
            let replica = self.processes[index].replica.to_string();
            self.say(&replica, || format!("wants {node} to drop everything: {reset:?}"));
            self.send_down(index, daemon, connection, ToNode::Reset(reset));
        }
        self.push(index, connection);
        self.declare(index);
    }

    fn push_all(&mut self, index: usize) {
        let Some(open) = &self.processes[index].open else { return };
        for connection in open.streams.keys().copied().collect::<Vec<_>>() {
            self.push(index, connection);
        }
    }

    fn push(&mut self, index: usize, connection: u64) {
        loop {
            let now = self.now;
            let process = &mut self.processes[index];
            let moment = process.clock(now);
            let Some(open) = &mut process.open else { return };
            let Some(NodeStream { daemon, outbox, .. }) = open.streams.get_mut(&connection) else { return };
            let reach = outbox.reach(moment, &open.tails, open.tail);
            let Some(range) = outbox.poll_range(reach) else { return self.look_again(index, connection) };
            outbox.handle_sent(range.last);
            let daemon = *daemon;
            let count = range.last.get() + 1 - range.first.get();
            self.outcome.records_sent += count;
            self.outcome.filled_in += if outbox.fills_in() { count } else { 0 };
            let records = super::engine::Engine::records(range.first, range.last);
            self.send_down(index, daemon, connection, ToNode::Records(records));
        }
    }

    /// What a stream holds back, because others are to bring it, it sends itself once that has taken too long.
    fn look_again(&mut self, index: usize, connection: u64) {
        let now = self.now;
        let process = &mut self.processes[index];
        let moment = process.clock(now);
        let Some(stream) = process.open.as_ref().and_then(|open| open.streams.get(&connection)) else {
            return;
        };
        let Some(open) = &process.open else { return };
        let Some(due) = stream.outbox.fills_in_at(moment, &open.tails) else { return };
        let time = process.time_of(due);
        if stream.looks_at > now && stream.looks_at <= time {
            return;
        }
        if let Some(stream) = process.open.as_mut().and_then(|open| open.streams.get_mut(&connection)) {
            stream.looks_at = time;
        }
        self.at(time, Step::FillIn { process: index, connection });
    }

    pub(super) fn fill_in(&mut self, index: usize, connection: u64) {
        if !self.processes[index].up {
            return;
        }
        if !self.acts(index) {
            let thaws = self.processes[index].frozen_until;
            return self.at(thaws, Step::FillIn { process: index, connection });
        }
        self.push(index, connection);
    }

    fn send_down(&mut self, index: usize, daemon: usize, connection: u64, message: ToNode) {
        let replica = self.processes[index].replica;
        if let Some(time) = self.way(daemon, replica, connection, Direction::Down) {
            self.at(time, Step::Down { daemon, replica, connection, message });
        }
    }
}
