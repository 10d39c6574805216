use std::collections::BTreeMap;

use batoff_delivery::{LeaseTimes, Word};
use batoff_types::message::{FromNode, LeasePolicy, ToNode};
use batoff_types::{Body, Term};

use crate::cache::Kind;
use crate::catalog::Catalog;
use crate::control::{Control, Ledger};
use crate::log::Log;
use crate::network::{Direction, Network, Weather};
use crate::node::Node;
use crate::oracle::{Oracle, Violation};
use crate::profile::Profile;
use crate::random::Random;
use crate::tiers::Upstream;
use crate::trace::Trace;
use crate::{Options, Outcome, Switch};

/// True seconds. No fault after the first; no judgement on what was accepted after the second; the run ends.
pub(crate) const FAULTS_END: f64 = 24.0;
const JUDGED_UNTIL: f64 = 28.0;
const END: f64 = 31.0;
/// Worlds with available nodes promise two seconds only when the network has been well for so long.
const SETTLED_AFTER: f64 = 2.0;

/// Microseconds of true time.
pub(crate) const fn seconds(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

/// How fast a clock runs: mostly as wrong as is allowed.
pub(crate) fn rate(random: &mut Random, drift: f64) -> f64 {
    1.0 + drift * random.between(-2.0, 2.0).clamp(-1.0, 1.0)
}

#[derive(Debug)]
pub(crate) enum Event {
    Up {
        node: usize,
        connection: u64,
        message: FromNode,
    },
    Down {
        node: usize,
        connection: u64,
        message: ToNode,
    },
    Wake {
        node: usize,
        life: u64,
    },
    Supervise {
        node: usize,
        life: u64,
    },
    Worked {
        node: usize,
        life: u64,
    },
    TermStored {
        node: usize,
        life: u64,
        term: Term,
    },
    /// What a node said on a stream is durable.
    WordSaved {
        node: usize,
        connection: u64,
        term: Term,
        word: Word,
    },
    Thaw(usize),
    Kick(usize),
    NodeBack(usize),
    Crash(usize),
    /// Nothing comes through to the node for a while.
    Deafen(usize),
    Look(usize),
    /// A child's request reaches its parent.
    Asked {
        child: usize,
        life: u64,
        fill: u64,
    },
    /// The same where fills count from where the parents are: it is at the registered node `at`.
    Passed {
        child: usize,
        life: u64,
        fill: u64,
        at: usize,
        hops: u8,
    },
    Filled {
        node: usize,
        life: u64,
        fill: u64,
    },
    Purge,
    Ask,
    Flushed {
        term: u64,
    },
    Tick,
    Chaos,
    Clear,
    ControlBack,
    ThawControl,
    PredecessorWakes,
    PredecessorGone,
    Toggle(usize),
    /// A second daemon of a node's name is stopped for good.
    TwinGone(usize),
}

/// One control plane, a few nodes with their caches, and a bad network between them, in virtual time.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) without: Option<Switch>,
    pub(crate) times: LeaseTimes,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    counter: u64,
    connections: u64,
    /// Seconds between two faults.
    pub(crate) chaos_mean: f64,
    pub(crate) profile: Profile,
    /// Some nodes are available, and daemons may change their policy when they start again.
    pub(crate) mixed: bool,
    /// Node 0 is the parent of the others, and compares seqs with them.
    pub(crate) shield: bool,
    /// What each registered node fetches through, without such a comparison.
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) catalog: Catalog,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) control: Option<Control>,
    /// One that stood still and was replaced meanwhile.
    pub(crate) predecessor: Option<Control>,
    pub(crate) control_rate: f64,
    pub(crate) term: u64,
    pub(crate) log: Log,
    pub(crate) ledger: Ledger,
    /// Some node has not said yet what it does without a lease, and what it said earlier was not durable, or is forgotten
    /// with a log that was restored.
    pub(crate) policies_unknown: bool,
    /// Starts and thaws of the control plane, and when it knew again what nodes do without a lease.
    pub(crate) starts: Vec<u64>,
    pub(crate) oracle: Oracle,
    pub(crate) outcome: Outcome,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let mut times = LeaseTimes::default();
        let drift = times.drift;
        if options.without == Some(Switch::Margin) {
            (times.margin, times.drift) = (std::time::Duration::ZERO, 0.0);
        }
        // Half of the worlds are mostly healthy, so that nodes do hold leases; half of those have few faults besides.
        let (weather, chaos_mean) = match seed % 4 {
            0 => (Weather::Mild, 6.0),
            2 => (Weather::Mild, 2.8),
            _ => (Weather::Rough, 1.4),
        };
        let profile = options.profile.unwrap_or(Profile::of(seed));
        let relapses = profile == Profile::Relapses;
        let (weather, chaos_mean) = if relapses { (Weather::Mild, 0.5) } else { (weather, chaos_mean) };
        let mixed = !relapses && seed.is_multiple_of(3);
        let count = match seed % 16 {
            _ if relapses => 2 + random.below(2),
            6 | 11 => 12 + random.below(29),
            _ => 2 + random.below(4),
        };
        let mut nodes = Vec::new();
        for index in 0..count {
            let available = mixed && random.chance(0.4);
            let policy = if available { LeasePolicy::Serve } else { LeasePolicy::Revalidate };
            let kinds = [Kind::Registered, Kind::Unregistered, Kind::Files, Kind::Asking];
            let kind = if relapses {
                Kind::Asking
            } else {
                random.pick(if available { &kinds[..3] } else { &kinds })
            };
            let rate = rate(&mut random, drift);
            nodes.push(Node::new(index, rate, policy, kind, options.without));
        }
        let control_rate = rate(&mut random, drift);
        let shield = random.chance(0.3);
        let names: Vec<_> = nodes.iter().map(|node| node.name.clone()).collect();
        let tiers = !shield && random.chance(0.7);
        let upstreams =
            if tiers { Upstream::draw(&mut random, &names) } else { vec![Upstream::default(); count] };
        for (node, upstream) in nodes.iter_mut().zip(&upstreams) {
            node.put_behind(&upstream.named, options.without);
        }
        let mut world = Self {
            without: options.without,
            times,
            random,
            trace: Trace { on: options.trace },
            now: 0,
            queue: BTreeMap::new(),
            counter: 0,
            connections: 0,
            chaos_mean,
            profile,
            mixed,
            shield,
            upstreams,
            catalog: Catalog::new(),
            network: Network::new(weather),
            nodes,
            control: None,
            predecessor: None,
            control_rate,
            term: 0,
            log: Log::new(),
            ledger: Ledger::new(count),
            policies_unknown: false,
            starts: Vec::new(),
            oracle: Oracle::default(),
            outcome: Outcome { seed, ..Outcome::default() },
        };
        world.say("world", || format!("seed {seed}: {count} nodes, {weather:?} network, a fault every {chaos_mean} s, shield: {shield}, tiers: {tiers}"));
        world.begin();
        world
    }

    fn begin(&mut self) {
        for change in self.catalog.first_sites() {
            self.commit(Body::Site(change), true);
        }
        for index in 0..self.nodes.len() {
            let Node { name, policy, parents, cache, .. } = &self.nodes[index];
            let (name, policy, kind, parents) = (name.clone(), *policy, cache.kind, parents.clone());
            self.say(&name.to_string(), || format!("registered, {policy:?}, {kind:?}, behind {parents:?}"));
            self.commit(Body::NodeRegistered(name), true);
        }
        self.start_control();
        for node in 0..self.nodes.len() {
            self.at(0, Event::Supervise { node, life: 0 });
            self.after(0.1, Event::Look(node));
        }
        self.after(0.5, Event::Purge);
        self.after(0.0, Event::Tick);
        self.after(1.5, Event::Chaos);
        self.after(FAULTS_END, Event::Clear);
    }

    pub(crate) fn run(mut self) -> Outcome {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            if time > seconds(END) {
                break;
            }
            self.now = time;
            let known = self.oracle.violations.len();
            self.dispatch(event);
            for violation in &self.oracle.violations[known..] {
                self.trace.line(self.now, "VIOLATION", || violation.to_string());
            }
        }
        self.finish()
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Up { node, connection, message } => self.arrive_up(node, connection, message),
            Event::Down { node, connection, message } => self.arrive_down(node, connection, message),
            Event::Wake { node, life } => self.wake(node, life),
            Event::Supervise { node, life } => self.supervise(node, life),
            Event::Worked { node, life } => self.worked(node, life),
            Event::TermStored { node, life, term } => self.term_stored(node, life, term),
            Event::WordSaved { node, connection, term, word } => {
                self.word_saved(node, connection, term, word)
            }
            Event::Thaw(node) => self.thaw(node),
            Event::Kick(node) => self.kick(node),
            Event::Crash(node) => self.crash_node(node),
            Event::Deafen(node) => self.deafen(node),
            Event::NodeBack(node) => self.node_back(node),
            Event::Look(node) => self.look(node),
            Event::Asked { child, life, fill } => self.asked(child, life, fill),
            Event::Passed { child, life, fill, at, hops } => self.passed(child, life, fill, at, hops),
            Event::Filled { node, life, fill } => self.filled(node, life, fill),
            Event::Purge => self.purge(),
            Event::Ask => self.ask(),
            Event::Flushed { term } => self.flushed(term),
            Event::Tick => {
                self.tick();
                self.after(0.01, Event::Tick);
            }
            Event::Chaos => self.chaos(),
            Event::Clear => self.network.weather = Weather::Clear,
            Event::ControlBack => self.start_control(),
            Event::ThawControl => self.thaw_control(),
            Event::PredecessorWakes => self.wake_predecessor(),
            Event::PredecessorGone => self.predecessor = None,
            Event::TwinGone(node) => self.stop_twin(node),
            Event::Toggle(node) => self.toggle_registration(node),
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.counter += 1;
        self.queue.insert((time.max(self.now), self.counter), event);
    }

    pub(crate) fn after(&mut self, delay: f64, event: Event) {
        self.at(self.now + seconds(delay), event);
    }

    pub(crate) fn next_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    pub(crate) const fn last_connection(&self) -> u64 {
        self.connections
    }

    pub(crate) fn send_up(&mut self, node: usize, connection: u64, message: FromNode) {
        let way = self.network.send(&mut self.random, self.now, node, connection, Direction::Up);
        if let Some(time) = way {
            self.at(time, Event::Up { node, connection, message });
        }
    }

    pub(crate) fn send_down(&mut self, node: usize, connection: u64, message: ToNode) {
        let way = self.network.send(&mut self.random, self.now, node, connection, Direction::Down);
        if let Some(time) = way {
            self.at(time, Event::Down { node, connection, message });
        }
    }

    pub(crate) fn say(&self, who: &str, what: impl FnOnce() -> String) {
        self.trace.line(self.now, who, what);
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        self.oracle.fail(violation);
    }

    fn finish(mut self) -> Outcome {
        let known = self.oracle.violations.len();
        self.judge_the_end();
        let strict = !self.mixed;
        let from = if strict { 0.0 } else { FAULTS_END + SETTLED_AFTER };
        let slowest = self.oracle.judge_delays(&self.starts, seconds(from), seconds(JUDGED_UNTIL));
        for violation in &self.oracle.violations[known..] {
            self.trace.line(self.now, "VIOLATION", || violation.to_string());
        }
        self.outcome.slowest = if strict { slowest } else { 0.0 };
        self.outcome.messages = self.network.messages;
        self.outcome.faults.messages_lost = self.network.lost;
        let promised = || self.oracle.truths.iter().filter(|truth| truth.promised);
        self.outcome.purges = promised().count() as u64;
        self.outcome.completed = promised().filter(|truth| truth.completed.is_some()).count() as u64;
        self.outcome.violations = std::mem::take(&mut self.oracle.violations);
        self.outcome
    }

    /// I2: all is quiet; every purge that was promised has reached every node.
    fn judge_the_end(&mut self) {
        let mut missed = Vec::new();
        for (node, known) in self.nodes.iter().zip(&self.ledger.nodes) {
            if !node.up || known.removed {
                continue;
            }
            let log = (node.inbox.position().map(|position| position.log_id), self.log.id);
            // What was accepted in the last instants is still on its way.
            let quiet = self
                .oracle
                .truths
                .iter()
                .filter(|truth| !truth.lost && truth.accepted < seconds(JUDGED_UNTIL));
            let expected = quiet.map(|truth| truth.seq).max().unwrap_or(0);
            let cursor = node.inbox.cursor().get();
            if log.0 != Some(log.1) || cursor < expected {
                missed.push(format!(
                    "{} ends at |{cursor} of {log:?}, and #{expected} was accepted",
                    node.name
                ));
            }
            for (key, object) in &node.cache.objects {
                let truth = self.oracle.purged(key.0, object.tags, object.fetched_at);
                let kept = node
                    .cache
                    .verdict(&self.catalog, *key)
                    .is_some_and(|verdict| verdict < batoff_index::Verdict::Gone);
                if let Some(truth) = truth.filter(|truth| kept && truth.accepted < seconds(JUDGED_UNTIL)) {
                    missed.push(format!("{} still has {key:?}, which #{} purged", node.name, truth.seq));
                }
            }
        }
        missed.into_iter().for_each(|what| self.fail(Violation::Missed(what)));
    }
}
