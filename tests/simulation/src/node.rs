use std::collections::VecDeque;
use std::time::Duration;

use batoff_delivery::{Inbox, InboxConfig, InboxError, NodeState, Received};
use batoff_index::Snapshot;
use batoff_types::message::{Count, Counted, FromNode, LeasePolicy, Position, RecordReport, Reset, ToNode};
use batoff_types::{Cursor, Generation, InstanceId, LogId, Moment, NodeName, Parent, SiteTable, Term};

use crate::cache::{Cache, Kind};
use crate::oracle::Violation;
use crate::profile::Profile;
use crate::switch::Switch;
use crate::world::{Event, World, seconds};

/// Without an answer to its heartbeats for this long, three of them, a node connects anew. Other messages do not count:
/// they may still come when nothing that the node says gets through any more.
const SILENCE: f64 = 0.8;

/// Records that wait in a node's inbox, at most, give or take one message.
pub(crate) const QUEUE_RECORDS: usize = 64;

/// Batches that a daemon applies at the same time; more wait in its inbox.
const WORK_MAX: usize = 2;

/// One machine with its daemon and its cache.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// Which of the registered nodes it is, or says that it is.
    pub(crate) identity: usize,
    /// Stopped for good.
    pub(crate) gone: bool,
    /// Sent away: not to connect before that.
    waits_until: u64,
    pub(crate) policy: LeasePolicy,
    /// What it fetches through.
    pub(crate) parents: Vec<Parent>,
    /// The term in which it was last granted a lease.
    leased_in: Term,
    /// Seconds of its clock in a second.
    rate: f64,
    pub(crate) inbox: Inbox,
    pub(crate) cache: Cache,
    pub(crate) up: bool,
    pub(crate) frozen_until: u64,
    /// Which run of the daemon this is; what was begun in another is void.
    pub(crate) life: u64,
    connection: u64,
    heard: u64,
    /// Records are applied one after another: what was begun, and when it is done.
    work: VecDeque<(u64, Work)>,
    busy_until: u64,
    /// What came while the machine was frozen, or had its hands full.
    mailbox: VecDeque<(u64, ToNode)>,
    /// Whose each host is, as the last `Welcome` said.
    sites: SiteTable,
    pub(crate) stored: Stored,
    pub(crate) orphans: Vec<Orphan>,
    /// Files are served until then by the lease of a daemon that died.
    pub(crate) slots_until: Moment,
    wake_at: Option<Moment>,
    /// How often it is about to die right after an ack, before its next heartbeat.
    pub(crate) dies_after_ack: u8,
    /// It is available, and its control plane may still take it for strict.
    turns_available: bool,
    /// What this daemon must have applied before a parent's cache may answer it; `None`: not known yet.
    catching_up_to: Option<Cursor>,
    /// I3: what this daemon has said to have applied since its last reset.
    said: Cursor,
}

/// What survives the daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Where it stood at some time, in which log.
    snapshot: Option<(LogId, Snapshot)>,
    generation: Generation,
    term: Term,
}

/// The cache of a daemon that died, which goes on serving by the lease it had.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) until: Moment,
    leased_in: Term,
    pub(crate) cache: Cache,
}

/// What a daemon does in its own time.
#[derive(Debug)]
enum Work {
    Records(Vec<Received>),
    Reset(Reset, SiteTable),
}

impl Node {
    pub(crate) fn new(
        index: usize,
        rate: f64,
        policy: LeasePolicy,
        kind: Kind,
        without: Option<Switch>,
    ) -> Self {
        let pop = ["fra1", "gru1", "sin1"][index % 3];
        let name: NodeName = crate::catalog::parse(&format!("{pop}/edge-{index}"));
        let inbox = Self::daemon(&name, policy, &[], 0, None, Term(0));
        Self {
            name,
            identity: index,
            gone: false,
            waits_until: 0,
            policy,
            parents: Vec::new(),
            leased_in: Term(0),
            rate,
            inbox,
            cache: Cache::new(kind, without),
            up: true,
            frozen_until: 0,
            life: 0,
            connection: 0,
            heard: 0,
            work: VecDeque::new(),
            busy_until: 0,
            mailbox: VecDeque::new(),
            sites: SiteTable::default(),
            stored: Stored::default(),
            orphans: Vec::new(),
            slots_until: Moment::ZERO,
            wake_at: None,
            dies_after_ack: 0,
            turns_available: false,
            catching_up_to: None,
            said: Cursor::START,
        }
    }

    /// It fetches through these, from its first daemon on.
    pub(crate) fn put_behind(&mut self, parents: &[Parent]) {
        self.parents = parents.to_vec();
        self.inbox = Self::daemon(&self.name, self.policy, parents, self.life, None, Term(0));
    }

    /// The next daemon has another policy. Until the control plane has heard so, it completes purges on the ground that
    /// this node is fenced; so a node that turns available serves only once it has caught up with what it was told then.
    fn change_policy(&mut self) {
        self.policy = match self.policy {
            LeasePolicy::Serve => LeasePolicy::Revalidate,
            LeasePolicy::Revalidate => LeasePolicy::Serve,
        };
        self.turns_available = self.policy == LeasePolicy::Serve;
    }

    fn daemon(
        name: &NodeName,
        policy: LeasePolicy,
        parents: &[Parent],
        life: u64,
        position: Option<Position>,
        term: Term,
    ) -> Inbox {
        let instance = InstanceId::from_bytes(u128::from(life + 1).to_be_bytes());
        let mut config = InboxConfig::new(name.clone(), policy);
        config.parents = parents.to_vec();
        config.queue_records = QUEUE_RECORDS;
        Inbox::new(config, instance, position, term)
    }

    /// Its clock runs on while it is frozen.
    pub(crate) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros((time as f64 * self.rate) as u64)
    }

    fn time_of(&self, moment: Moment) -> u64 {
        (moment.as_micros() as f64 / self.rate).ceil() as u64
    }

    /// Where it stands, for its parent. A daemon that has not caught up since its start may stand before what its
    /// predecessor acknowledged, and what is stored meanwhile would be older than what was completed.
    pub(crate) fn position_for_parent(&self) -> Option<Position> {
        self.inbox.position().filter(|_| self.has_caught_up())
    }

    /// Whether it has applied what its first `Welcome` said there was.
    pub(crate) fn has_caught_up(&self) -> bool {
        let position = self.inbox.position();
        self.catching_up_to.zip(position).is_some_and(|(tail, position)| position.cursor >= tail)
    }

    pub(crate) fn runs(&self, time: u64) -> bool {
        self.up && self.frozen_until <= time
    }

    pub(crate) fn is_leased(&self, time: u64) -> bool {
        self.runs(time) && self.inbox.lease().may_serve(self.clock(time))
    }

    /// The last step of a hit.
    pub(crate) fn may_serve(&self, time: u64) -> bool {
        if self.frozen_until > time {
            return false;
        }
        let files = self.cache.kind == Kind::Files;
        match self.policy {
            LeasePolicy::Serve if self.turns_available => self.has_caught_up(),
            LeasePolicy::Serve => self.up || files,
            LeasePolicy::Revalidate => self.is_leased(time) || files && self.clock(time) < self.slots_until,
        }
    }
}

impl World {
    fn connect(&mut self, index: usize) {
        let connection = self.next_connection();
        let now = self.now;
        let node = &mut self.nodes[index];
        node.connection = connection;
        node.heard = now;
        node.wake_at = None;
        let hello = node.inbox.hello();
        let name = node.name.to_string();
        self.say(&name, || {
            format!("connects (stream {connection}) at {:?}", hello.position.map(|at| at.cursor))
        });
        if let Some(predecessor) = &mut self.predecessor
            && self.random.chance(0.3)
        {
            predecessor.opened.insert(connection);
        }
        self.send_up(index, connection, FromNode::Hello(hello));
    }

    /// A node looks now and then whether its stream is alive.
    pub(crate) fn supervise(&mut self, index: usize, life: u64) {
        let node = &self.nodes[index];
        if !node.up || node.life != life {
            return;
        }
        if node.frozen_until > self.now {
            return self.at(node.frozen_until, Event::Supervise { node: index, life });
        }
        let alone = node.connection == 0 || self.now - node.heard > seconds(SILENCE);
        if alone && node.waits_until <= self.now {
            self.connect(index);
        }
        self.pump(index);
        self.after(0.1, Event::Supervise { node: index, life });
    }

    /// The stream was reset by the other side: connect at once.
    pub(crate) fn kick(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.runs(self.now) && node.connection != 0 {
            self.connect(index);
        }
    }

    pub(crate) fn arrive_down(&mut self, index: usize, connection: u64, message: ToNode) {
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        node.mailbox.push_back((connection, message));
        if node.runs(self.now) {
            self.read_mail(index);
        }
    }

    pub(crate) fn thaw(&mut self, index: usize) {
        if self.nodes[index].runs(self.now) {
            self.read_mail(index);
        }
    }

    fn read_mail(&mut self, index: usize) {
        let now = self.now;
        let stretch = self.without == Some(Switch::Echo);
        let mut failed = None;
        loop {
            let node = &mut self.nodes[index];
            if !node.inbox.wants_more() {
                break;
            }
            let Some((connection, mut message)) = node.mailbox.pop_front() else { break };
            if connection != node.connection {
                continue;
            }
            if matches!(message, ToNode::Welcome(_) | ToNode::LeaseGrant(_)) {
                node.heard = now;
            }
            let moment = node.clock(now);
            if let ToNode::LeaseGrant(grant) = &mut message
                && stretch
                && !grant.duration.is_zero()
            {
                grant.duration += moment.since(grant.echo);
            }
            let granted = match &message {
                ToNode::LeaseGrant(grant) if !grant.duration.is_zero() => Some(grant.term),
                _ => None,
            };
            match node.inbox.handle(moment, message) {
                Ok(()) => {
                    if let Some(term) = granted {
                        node.leased_in = term;
                        self.judge_leases(index);
                    }
                }
                Err(InboxError::LowerTerm { .. }) => {
                    node.connection = 0;
                    self.outcome.lower_terms += 1;
                }
                Err(error) => failed = Some(format!("{}: {error}", node.name)),
            }
            let node = &mut self.nodes[index];
            node.stored.term = node.inbox.max_term();
            self.pump(index);
        }
        if let Some(error) = failed {
            self.fail(Violation::Cursor(error));
        }
    }

    /// G4: what one control plane has granted to one run of a daemon has run out before it grants anything to another.
    fn judge_leases(&mut self, index: usize) {
        let (now, node) = (self.now, &self.nodes[index]);
        let (clock, term) = (node.clock(now), node.leased_in);
        if !node.inbox.lease().may_serve(clock) {
            return;
        }
        let of_the_dead = node.orphans.iter().any(|orphan| orphan.leased_in == term && clock < orphan.until);
        let of_another = self.nodes.iter().enumerate().any(|(other, twin)| {
            other != index
                && twin.identity == node.identity
                && twin.up
                && twin.leased_in == term
                && twin.inbox.lease().may_serve(twin.clock(now))
        });
        if of_the_dead || of_another {
            let what = format!("{} holds a lease beside another run of its daemon", node.name);
            self.fail(Violation::Leases(what));
        }
    }

    /// Lets a daemon do whatever is to be done now.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let (connection, life, moment) = (node.connection, node.life, node.clock(now));
        if let Some(welcome) = node.inbox.poll_welcome() {
            node.catching_up_to.get_or_insert(welcome.tail);
            node.sites = welcome.sites.clone();
        }
        if let Some(reset) = node.inbox.poll_reset() {
            let sites = node.sites.clone();
            self.begin_work(index, Work::Reset(reset, sites));
        }
        let node = &mut self.nodes[index];
        if node.work.len() < WORK_MAX {
            let records: Vec<_> = std::iter::from_fn(|| node.inbox.poll_record()).collect();
            if !records.is_empty() {
                self.begin_work(index, Work::Records(records));
            }
        }
        let node = &mut self.nodes[index];
        if let Some(go_away) = node.inbox.poll_go_away() {
            node.connection = 0;
            node.waits_until = now + go_away.reconnect_after.as_micros() as u64;
        }
        if node.connection == 0 {
            return;
        }
        let count = node.inbox.poll_count();
        let counted = count.map(|Count { id, site, selectors, .. }| {
            let objects = selectors.iter().map(|selector| node.cache.index.count(&site, selector)).collect();
            FromNode::Counted(Counted { id, objects })
        });
        let heartbeat = node.inbox.poll_heartbeat(moment).map(FromNode::Heartbeat);
        let ack = node.inbox.poll_ack().map(FromNode::Ack);
        let wake = node.inbox.next_heartbeat_at().filter(|at| node.wake_at != Some(*at));
        if let Some(wake) = wake {
            node.wake_at = Some(wake);
            let time = node.time_of(wake);
            self.at(time, Event::Wake { node: index, life });
        }
        for message in [counted, heartbeat, ack].into_iter().flatten() {
            self.send_up(index, connection, message);
        }
    }

    pub(crate) fn wake(&mut self, index: usize, life: u64) {
        let node = &self.nodes[index];
        if node.up && node.life == life {
            if node.frozen_until > self.now {
                let late = node.frozen_until + seconds(self.random.between(0.0, 0.01));
                return self.at(late, Event::Wake { node: index, life });
            }
            self.pump(index);
        }
    }

    fn begin_work(&mut self, index: usize, work: Work) {
        let (quick, slowest) = match self.profile {
            Profile::Everything => (0.6, 0.3),
            // Slow at first, like a cache that was just started.
            Profile::Relapses if self.nodes[index].busy_until == 0 => (0.4, 0.7),
            Profile::Relapses => (0.9, 0.2),
        };
        let takes = if self.random.chance(quick) {
            self.random.between(0.0, 0.002)
        } else {
            self.random.between(0.01, slowest)
        };
        let now = self.now;
        let node = &mut self.nodes[index];
        let done = node.busy_until.max(now) + seconds(takes);
        node.busy_until = done;
        node.work.push_back((done, work));
        let life = node.life;
        self.at(done, Event::Worked { node: index, life });
    }

    pub(crate) fn worked(&mut self, index: usize, life: u64) {
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
            self.finish_work(index, work);
        }
        self.pump(index);
        self.read_mail(index);
        let dies = self.random.chance(0.5);
        let aims = self.profile == Profile::Relapses;
        let in_time = if aims { self.would_go_back(index) } else { dies };
        let node = &mut self.nodes[index];
        if in_time && node.dies_after_ack > 0 && !node.is_leased(now) && node.inbox.position().is_some() {
            node.dies_after_ack -= 1;
            self.crash_node(index);
        }
    }

    /// The worst moment for a daemon to die: what it has stored would get it a lease, and is less than what it has just
    /// acknowledged.
    fn would_go_back(&self, index: usize) -> bool {
        let (node, control) = (&self.nodes[index], self.control.as_ref());
        let stored = node.stored.snapshot.as_ref().map(|(_, snapshot)| snapshot.cursor);
        let view = control.and_then(|control| control.roster.node(control.clock(self.now), &node.name));
        stored.zip(view).is_some_and(|(stored, view)| {
            view.state == NodeState::Joining && view.floor <= stored && stored < node.inbox.cursor()
        })
    }

    fn finish_work(&mut self, index: usize, work: Work) {
        match work {
            Work::Records(records) => self.apply_records(index, records),
            Work::Reset(reset, sites) => {
                let node = &mut self.nodes[index];
                // Durable before anything else happens.
                node.stored.generation = Generation(node.stored.generation.0 + 1);
                node.cache.reset(node.stored.generation, reset.cursor, sites);
                node.inbox.handle_reset_applied(&reset);
                node.said = Cursor::START;
                self.outcome.resets += 1;
                let name = self.nodes[index].name.to_string();
                self.say(&name, || {
                    format!("dropped everything ({}), goes on from {:?}", reset.reason.as_str(), reset.cursor)
                });
            }
        }
        let often = match self.profile {
            Profile::Everything if self.random.chance(0.5) => 0.7,
            Profile::Everything => 0.05,
            Profile::Relapses => 0.5,
        };
        let stores = self.random.chance(often);
        let node = &mut self.nodes[index];
        let (position, applied) = (node.inbox.position(), node.cache.index.applied());
        let Some(position) = position else { return };
        // A state that is stored late sends the node back to where it was before.
        if stores {
            node.stored.snapshot = Some((position.log_id, node.cache.index.snapshot()));
        }
        let went_back = position.cursor < node.said;
        node.said = node.said.max(position.cursor);
        if went_back || position.cursor != applied {
            let what = format!(
                "{} says {:?}, has applied {applied:?}, said {:?}",
                node.name, position.cursor, node.said
            );
            self.fail(Violation::Cursor(what));
        }
    }

    fn apply_records(&mut self, index: usize, records: Vec<Received>) {
        let (mut first, mut last, mut found) = (None, None, 0);
        for Received { record, at: _ } in records {
            let node = &mut self.nodes[index];
            if !node.cache.is_next(record.seq) {
                let what =
                    format!("{} applies #{} after {:?}", node.name, record.seq, node.cache.index.applied());
                return self.fail(Violation::Cursor(what));
            }
            let objects = node.cache.apply(&self.catalog, &record);
            let report = RecordReport {
                seq: record.seq,
                objects,
                last: true,
                in_force_after: Duration::ZERO,
                evicted_after: Duration::ZERO,
            };
            let outcome = node.inbox.handle_applied(record.seq, record.task, report);
            if let Err(error) = outcome {
                return self.fail(Violation::Cursor(error.to_string()));
            }
            first.get_or_insert(record.seq);
            last = Some(record.seq);
            found += objects;
        }
        if let (Some(first), Some(last)) = (first, last) {
            let name = self.nodes[index].name.to_string();
            self.say(&name, || format!("applied {first:?} to {last:?}, {found} objects removed"));
        }
    }

    /// The daemon dies. Its cache may go on serving by the lease it had.
    pub(crate) fn crash_node(&mut self, index: usize) {
        let soon = self.nodes[index].dies_after_ack > 0 || self.random.chance(0.3);
        let longest = if soon { 0.02 } else { 0.5 };
        let down = self.random.between(0.002, longest);
        self.crash_node_for(index, down);
    }

    pub(crate) fn crash_node_for(&mut self, index: usize, down: f64) {
        let (orphans, forgets) = (self.random.chance(0.5), self.random.chance(0.1));
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        self.outcome.faults.node_crashes += 1;
        let until = node.inbox.lease().valid_until();
        // Who has to ask the daemon cannot go on without it.
        let alone = node.cache.kind != Kind::Asking;
        let leased = alone && node.policy == LeasePolicy::Revalidate && node.clock(now) < until;
        if orphans && leased {
            self.outcome.faults.caches_orphaned += 1;
            if node.cache.kind == Kind::Files {
                node.slots_until = node.slots_until.max(until);
            } else {
                let empty = Cache::new(node.cache.kind, self.without);
                let cache = std::mem::replace(&mut node.cache, empty);
                node.orphans.push(Orphan { until, leased_in: node.leased_in, cache });
            }
        }
        node.up = false;
        if forgets {
            self.outcome.faults.states_lost += 1;
            node.stored.snapshot = None;
        }
        let name = node.name.to_string();
        self.say(&name, || {
            format!(
                "FAULT: the daemon dies for {down:.3} s; its cache goes on: {}; its state is lost: {forgets}",
                orphans && leased
            )
        });
        self.after(down, Event::NodeBack(index));
    }

    pub(crate) fn node_back(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.gone {
            return;
        }
        node.up = true;
        node.life += 1;
        node.waits_until = 0;
        node.work.clear();
        node.busy_until = 0;
        node.mailbox.clear();
        node.connection = 0;
        node.wake_at = None;
        node.said = Cursor::START;
        node.catching_up_to = None;
        // A reset was begun after it was stored: it is not to be trusted.
        let generation = node.stored.generation;
        let stored = node.stored.snapshot.take_if(|(_, snapshot)| {
            snapshot.generation != generation && self.without != Some(Switch::Generation)
        });
        drop(stored);
        let (log_id, snapshot) = node.stored.snapshot.clone().unzip();
        let position = log_id.zip(snapshot.as_ref()).map(|(log_id, snapshot)| Position {
            log_id,
            cursor: snapshot.cursor,
            task: snapshot.task,
        });
        node.cache.restart(&self.catalog, snapshot);
        let in_process = matches!(node.cache.kind, Kind::Registered | Kind::Unregistered);
        let removed = self.ledger.nodes[node.identity].removed;
        if self.mixed && in_process && !removed && self.random.chance(0.2) {
            node.change_policy();
            self.outcome.faults.policies_changed += 1;
        }
        let node = &mut self.nodes[index];
        node.inbox =
            Node::daemon(&node.name, node.policy, &node.parents, node.life, position, node.stored.term);
        let (life, name) = (node.life, node.name.to_string());
        self.say(&name, || format!("starts again from {:?}", position.map(|at| at.cursor)));
        self.supervise(index, life);
        if self.nodes[index].dies_after_ack > 0 {
            // So that there is something to acknowledge.
            let requests = if self.profile == Profile::Relapses { 12 } else { 4 };
            for _ in 0..requests {
                let soon = self.random.between(0.0, 0.4);
                self.after(soon, Event::Ask);
            }
        }
    }
}
