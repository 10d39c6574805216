use std::collections::VecDeque;
use std::time::Duration;

use batoff_delivery::{Inbox, InboxConfig, InboxError, NodeState, Received};
use batoff_index::Snapshot;
use batoff_types::message::{Count, Counted, FromNode, LeasePolicy, Position, RecordReport, Reset, ToNode};
use batoff_types::{Cursor, Generation, InstanceId, LogId, Moment, NodeName, Parent, SiteTable, Term};

use crate::cache::{Cache, Kind};
use crate::network::Direction;
use crate::oracle::Violation;
use crate::profile::Profile;
use crate::switch::Switch;
use crate::world::{Event, World, seconds};

/// Without an answer to its heartbeats for this long, three of them, a node connects anew. Other messages do not count:
/// they may still come when nothing that the node says gets through any more.
const SILENCE: f64 = 0.8;

/// A node has noticed by then that what it says does not get through: its last words may have been on their way, and
/// the answers to them, as long as messages ever are.
const UNHEARD_MAX: f64 = 6.0;

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
    /// Its next daemon has another one, where that may be.
    pub(crate) changes_policy: bool,
    /// What it fetches through.
    pub(crate) parents: Vec<Parent>,
    /// The term in which it was last granted a lease.
    leased_in: Term,
    /// The highest term that is stored, or on its way there.
    storing_term: Term,
    /// Seconds of its clock in a second.
    rate: f64,
    pub(crate) inbox: Inbox,
    pub(crate) cache: Cache,
    pub(crate) up: bool,
    pub(crate) frozen_until: u64,
    /// Which run of the daemon this is; what was begun in another is void.
    pub(crate) life: u64,
    connection: u64,
    /// When it said `Hello` on that.
    connected_at: u64,
    /// The log of the control plane that last welcomed it.
    welcomed_to: Option<LogId>,
    /// Nothing that it says gets through on its stream since then.
    unheard_since: Option<u64>,
    /// The furthest that any of its runs has acknowledged, in which log.
    acknowledged: Option<(LogId, Cursor)>,
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
    /// A control plane knows that it serves without a lease.
    agreed: bool,
}

/// The cache of a daemon that died, which goes on serving by the lease it had.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) until: Moment,
    leased_in: Term,
    log_id: Option<LogId>,
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
        let stored = Stored::default();
        let inbox = Self::daemon(&name, policy, &[], 0, None, &stored, without);
        Self {
            name,
            identity: index,
            gone: false,
            waits_until: 0,
            policy,
            changes_policy: false,
            parents: Vec::new(),
            leased_in: Term(0),
            storing_term: Term(0),
            rate,
            inbox,
            cache: Cache::new(kind, without),
            up: true,
            frozen_until: 0,
            life: 0,
            connection: 0,
            connected_at: 0,
            welcomed_to: None,
            unheard_since: None,
            acknowledged: None,
            work: VecDeque::new(),
            busy_until: 0,
            mailbox: VecDeque::new(),
            sites: SiteTable::default(),
            stored,
            orphans: Vec::new(),
            slots_until: Moment::ZERO,
            wake_at: None,
            dies_after_ack: 0,
            said: Cursor::START,
        }
    }

    /// It fetches through these, from its first daemon on.
    pub(crate) fn put_behind(&mut self, parents: &[Parent], without: Option<Switch>) {
        self.parents = parents.to_vec();
        let stored = &self.stored;
        self.inbox = Self::daemon(&self.name, self.policy, parents, self.life, None, stored, without);
    }

    /// The next daemon has another policy. One that turns strict forgets first that it was ever known as available.
    fn change_policy(&mut self) {
        self.policy = match self.policy {
            LeasePolicy::Serve => LeasePolicy::Revalidate,
            LeasePolicy::Revalidate => LeasePolicy::Serve,
        };
        if self.policy == LeasePolicy::Revalidate {
            self.stored.agreed = false;
        }
    }

    fn daemon(
        name: &NodeName,
        policy: LeasePolicy,
        parents: &[Parent],
        life: u64,
        position: Option<Position>,
        stored: &Stored,
        without: Option<Switch>,
    ) -> Inbox {
        let instance = InstanceId::from_bytes(u128::from(life + 1).to_be_bytes());
        let mut config = InboxConfig::new(name.clone(), policy);
        config.parents = parents.to_vec();
        config.queue_records = QUEUE_RECORDS;
        config.silence_max = Duration::from_micros(seconds(SILENCE));
        config.agreed = stored.agreed;
        #[cfg(feature = "mutations")]
        if let Some(rule) = without.and_then(Switch::rule) {
            config = config.without(rule);
        }
        #[cfg(not(feature = "mutations"))]
        let _ = without;
        Inbox::new(config, instance, position, stored.term)
    }

    /// Its clock runs on while it is frozen.
    pub(crate) fn clock(&self, time: u64) -> Moment {
        Moment::from_micros((time as f64 * self.rate) as u64)
    }

    fn time_of(&self, moment: Moment) -> u64 {
        (moment.as_micros() as f64 / self.rate).ceil() as u64
    }

    pub(crate) const fn connection(&self) -> u64 {
        self.connection
    }

    /// How far the caches of its dead daemons are that may still serve by a lease, as far as they follow that log.
    pub(crate) fn orphans_applied(&self, time: u64, log_id: LogId) -> impl Iterator<Item = Cursor> {
        let clock = self.clock(time);
        let running =
            self.orphans.iter().filter(move |orphan| clock < orphan.until && orphan.log_id == Some(log_id));
        running.map(|orphan| orphan.cache.index.applied())
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
        let clock = self.clock(time);
        let files = self.cache.kind == Kind::Files;
        self.up && self.inbox.may_serve(clock)
            || files && (self.serves_without_lease() || clock < self.slots_until)
    }

    pub(crate) fn serves_without_lease(&self) -> bool {
        self.policy == LeasePolicy::Serve && self.stored.agreed
    }
}

impl World {
    fn connect(&mut self, index: usize) {
        let connection = self.next_connection();
        let now = self.now;
        let node = &mut self.nodes[index];
        node.connection = connection;
        node.connected_at = now;
        node.unheard_since = None;
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
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.up || node.life != life {
            return;
        }
        if node.frozen_until > now {
            let thaws = node.frozen_until;
            // It has said nothing meanwhile.
            node.unheard_since = None;
            return self.at(thaws, Event::Supervise { node: index, life });
        }
        let clock = node.clock(now);
        if !node.inbox.wants_more() {
            node.inbox.handle_not_read(clock);
        }
        let silent = match node.inbox.silent_at() {
            Some(at) => clock > at,
            None => node.inbox.wants_more() && now - node.connected_at > seconds(SILENCE),
        };
        let alone = node.connection == 0 || silent;
        if alone && node.waits_until <= self.now {
            self.connect(index);
        }
        self.judge_stream(index);
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
                let clock = node.clock(now);
                node.inbox.handle_not_read(clock);
                break;
            }
            let Some((connection, mut message)) = node.mailbox.pop_front() else { break };
            if connection != node.connection {
                continue;
            }
            let moment = node.clock(now);
            if let ToNode::LeaseGrant(grant) = &mut message
                && stretch
                && !grant.duration.is_zero()
            {
                grant.duration += moment.since(grant.echo);
            }
            let until = node.inbox.lease().valid_until();
            match node.inbox.handle(moment, message) {
                Ok(()) => self.note_lease(index, until),
                Err(InboxError::LowerTerm { .. }) => {
                    node.connection = 0;
                    self.outcome.lower_terms += 1;
                }
                Err(error) => failed = Some(format!("{}: {error}", node.name)),
            }
            self.store_term(index);
            self.pump(index);
        }
        if let Some(error) = failed {
            self.fail(Violation::Cursor(error));
        }
    }

    /// A term that is new here is on its way to the disk.
    fn store_term(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let term = node.inbox.max_term();
        if term <= node.storing_term {
            return;
        }
        node.storing_term = term;
        let (life, quick) = (node.life, self.random.chance(0.7));
        let takes = self.random.between(0.0, if quick { 0.003 } else { 0.4 });
        self.after(takes, Event::TermStored { node: index, life, term });
    }

    pub(crate) fn term_stored(&mut self, index: usize, life: u64, term: Term) {
        let node = &mut self.nodes[index];
        if node.life != life || !node.up {
            return;
        }
        node.stored.term = node.stored.term.max(term);
        let until = node.inbox.lease().valid_until();
        node.inbox.handle_term_durable(term);
        self.note_lease(index, until);
    }

    /// Its lease may have become longer.
    fn note_lease(&mut self, index: usize, before: Moment) {
        let node = &mut self.nodes[index];
        if node.inbox.lease().valid_until() <= before {
            return;
        }
        node.leased_in = node.inbox.max_term();
        if node.leased_in > node.stored.term {
            let what = format!("{} uses a lease of {:?}, which is not stored", node.name, node.leased_in);
            self.fail(Violation::Leases(what));
        }
        self.judge_leases(index);
    }

    /// A node begins to serve without a lease: it has applied all that was completed while it counted as fenced.
    fn judge_agreement(&mut self, index: usize) {
        let node = &self.nodes[index];
        let position = node.inbox.position();
        let common = position.map_or(0, |position| {
            // Of another log it knows what that has in common with this one.
            let of_this = if position.log_id == self.log.id { u64::MAX } else { self.log.restored_through };
            position.cursor.get().min(of_this)
        });
        let watermark = self.oracle.watermark();
        if position.map(|position| position.log_id) != node.welcomed_to {
            let what = format!(
                "{} begins to serve without a lease at {position:?}, and was welcomed to {:?}",
                node.name, node.welcomed_to
            );
            self.fail(Violation::Ground(what));
        } else if common < watermark {
            let what = format!(
                "{} begins to serve without a lease at {position:?}, and |{watermark} is completed",
                node.name
            );
            self.fail(Violation::Ground(what));
        }
    }

    /// What it says to have applied, where others rely on that, is not less than what an earlier run acknowledged.
    pub(crate) fn judge_vouching(&mut self, index: usize) {
        let node = &self.nodes[index];
        if let (Some(position), Some((log_id, acknowledged))) = (node.inbox.vouches_for(), node.acknowledged)
            && position.log_id == log_id
            && position.cursor < acknowledged
        {
            let what = format!(
                "{} vouches for {:?}, and an earlier run acknowledged {acknowledged:?}",
                node.name, position.cursor
            );
            self.fail(Violation::Ground(what));
        }
    }

    /// A stream on which nothing that the node says gets through is given up in time.
    fn judge_stream(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.connection == 0 || !self.network.is_broken(node.connection, Direction::Up) {
            node.unheard_since = None;
            return;
        }
        let since = *node.unheard_since.get_or_insert(now);
        if now - since > seconds(UNHEARD_MAX) {
            node.unheard_since = None;
            let what = format!("{} has talked into a dead stream for {UNHEARD_MAX} s", node.name);
            self.fail(Violation::Missed(what));
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
            node.sites = welcome.sites.clone();
            node.welcomed_to = Some(welcome.log_id);
        }
        if node.inbox.wants_to_agree() {
            node.stored.agreed = true;
            node.inbox.handle_agreed();
            self.judge_agreement(index);
        }
        let node = &mut self.nodes[index];
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
            FromNode::Counted(Counted { id, objects, uncounted: Vec::new() })
        });
        let heartbeat = node.inbox.poll_heartbeat(moment).map(FromNode::Heartbeat);
        let ack = node.inbox.poll_ack().map(FromNode::Ack);
        if let Some(position) = node.inbox.position().filter(|_| node.inbox.is_following()) {
            let known = node.acknowledged.filter(|(log_id, _)| *log_id == position.log_id);
            let furthest = known.map_or(position.cursor, |(_, cursor)| cursor.max(position.cursor));
            node.acknowledged = Some((position.log_id, furthest));
        }
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
                let log_id = node.inbox.position().map(|position| position.log_id);
                node.orphans.push(Orphan { until, leased_in: node.leased_in, log_id, cache });
            }
        }
        node.up = false;
        if forgets {
            self.outcome.faults.states_lost += 1;
            node.stored.snapshot = None;
            node.stored.agreed = false;
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
        let changes = std::mem::take(&mut node.changes_policy);
        if self.mixed && in_process && !removed && (changes || self.random.chance(0.2)) {
            node.change_policy();
            self.outcome.faults.policies_changed += 1;
        }
        let node = &mut self.nodes[index];
        node.storing_term = node.stored.term;
        let (stored, without) = (&node.stored, self.without);
        node.inbox =
            Node::daemon(&node.name, node.policy, &node.parents, node.life, position, stored, without);
        let (life, name, policy) = (node.life, node.name.to_string(), node.policy);
        self.say(&name, || format!("starts again, {policy:?}, from {:?}", position.map(|at| at.cursor)));
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
