use std::collections::{BTreeMap, HashMap, HashSet};

use batoff_types::Cursor;
use batoff_types::message::{FromNode, LeasePolicy, ToNode};

use super::Switches;
use super::control::{Control, Stored};
use super::node::Node;
use super::random::Random;

/// No new faults after this, and no judgement on what was accepted in the last seconds.
const FAULTS_END: f64 = 25.0;
const JUDGED_UNTIL: f64 = 28.0;
const END: f64 = 32.0;

/// Microseconds of true time.
pub(super) const fn seconds(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

pub(super) const fn millis(millis: f64) -> u64 {
    (millis * 1e3) as u64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Up,
    Down,
}

#[derive(Debug)]
pub(super) enum Event {
    Up { node: usize, connection: u64, message: FromNode },
    Down { node: usize, connection: u64, message: ToNode },
    Wake { node: usize, life: u64 },
    Supervise { node: usize, life: u64 },
    Worked { node: usize, life: u64 },
    Thaw(usize),
    Kick(usize),
    NodeBack(usize),
    Crash(usize),
    Look(usize),
    Purge,
    Tick,
    Chaos,
    ControlBack,
    ThawControl,
    Toggle(usize),
}

/// What a run has shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) purges: u64,
    /// Lookups that were, or could have been, answered with something whose purge was completed (I1).
    pub(super) violations: u64,
    /// Purges that were not completed within two seconds.
    pub(super) late: u64,
    /// The longest that a completion took, in seconds.
    pub(super) slowest: f64,
    pub(super) lookups: u64,
    pub(super) lookups_under_lease: u64,
}

/// One control plane, a few nodes, and a bad network between them, in virtual time.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) switches: Switches,
    pub(super) random: Random,
    /// Every other run has a mostly healthy network, so that nodes do hold leases.
    mild: bool,
    /// And every fourth has few faults besides.
    calm: bool,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    counter: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) control: Option<Control>,
    pub(super) control_rate: f64,
    pub(super) term: u64,
    pub(super) stored: Vec<Stored>,
    pub(super) stored_completed: Cursor,
    pub(super) starts: Vec<u64>,
    /// When the record `index + 1` was accepted.
    pub(super) accepted: Vec<u64>,
    /// When the record `index + 1` was first reported as completed.
    pub(super) completed_at: Vec<u64>,
    cut_until: HashMap<(usize, Direction), u64>,
    /// Streams deliver in order: when the last message arrives.
    arrives: HashMap<(u64, Direction), u64>,
    /// A segment was lost for good: nothing more comes through.
    broken: HashSet<(u64, Direction)>,
    connections: u64,
    outcome: Outcome,
}

impl World {
    pub(super) fn new(seed: u64, switches: Switches) -> Self {
        let mut random = Random::new(seed);
        let drift = 0.01;
        let count = 2 + random.below(4);
        let mut rate = || 1.0 + random.between(-drift, drift);
        let nodes: Vec<_> =
            (0..count).map(|index| Node::new(index, rate(), LeasePolicy::Revalidate)).collect();
        let control_rate = rate();
        let mut world = Self {
            seed,
            switches,
            random,
            mild: seed.is_multiple_of(2),
            calm: seed.is_multiple_of(4),
            now: 0,
            queue: BTreeMap::new(),
            counter: 0,
            stored: (1..=count as u64).map(Stored::registered_at).collect(),
            // Each node's registration.
            accepted: vec![0; count],
            nodes,
            control: None,
            control_rate,
            term: 0,
            stored_completed: Cursor::START,
            starts: Vec::new(),
            completed_at: Vec::new(),
            cut_until: HashMap::new(),
            arrives: HashMap::new(),
            broken: HashSet::new(),
            connections: 0,
            outcome: Outcome::default(),
        };
        world.start_control();
        for node in 0..count {
            world.at(0, Event::Supervise { node, life: 0 });
            world.after(0.1, Event::Look(node));
        }
        world.after(0.5, Event::Purge);
        world.after(0.0, Event::Tick);
        world.after(1.5, Event::Chaos);
        world
    }

    pub(super) fn run(mut self) -> Outcome {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            if time > seconds(END) {
                break;
            }
            self.now = time;
            self.dispatch(event);
        }
        self.judge_delays();
        self.outcome
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Up { node, connection, message } => self.arrive_up(node, connection, message),
            Event::Down { node, connection, message } => self.arrive_down(node, connection, message),
            Event::Wake { node, life } => self.wake(node, life),
            Event::Supervise { node, life } => self.supervise(node, life),
            Event::Worked { node, life } => self.worked(node, life),
            Event::Thaw(node) => self.thaw(node),
            Event::Kick(node) => self.kick(node),
            Event::Crash(node) => self.crash_node(node),
            Event::NodeBack(node) => self.node_back(node),
            Event::Look(node) => self.look(node),
            Event::Purge => {
                if self.control_runs() {
                    self.accept_record();
                }
                let mean = [0.004, 0.05, 0.05, 0.5, 0.5, 0.5][self.random.below(6)];
                let next = self.random.around(mean);
                self.after(next, Event::Purge);
            }
            Event::Tick => {
                self.tick();
                self.after(0.01, Event::Tick);
            }
            Event::Chaos => self.chaos(),
            Event::ControlBack => self.start_control(),
            Event::ThawControl => self.thaw_control(),
            Event::Toggle(node) => self.toggle_registration(node),
        }
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.counter += 1;
        self.queue.insert((time.max(self.now), self.counter), event);
    }

    pub(super) fn after(&mut self, delay: f64, event: Event) {
        self.at(self.now + seconds(delay), event);
    }

    pub(super) fn next_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    pub(super) fn send(&mut self, node: usize, connection: u64, direction: Direction, event: Event) {
        let lost = self.random.chance(if self.mild { 0.0003 } else { 0.003 });
        if lost || self.cut_until.get(&(node, direction)).is_some_and(|until| *until > self.now) {
            self.broken.insert((connection, direction));
        }
        if self.broken.contains(&(connection, direction)) {
            return;
        }
        let earliest = self.now + seconds(self.delay());
        let arrives = self.arrives.entry((connection, direction)).or_insert(0);
        *arrives = earliest.max(*arrives);
        let time = *arrives;
        self.at(time, event);
    }

    fn delay(&mut self) -> f64 {
        let kind = if self.mild { self.random.below(9) } else { self.random.below(4) };
        match (self.mild, kind) {
            (true, 0..4) | (false, 0) => self.random.between(0.001, 0.01),
            (true, 4..8) | (false, 1..3) => self.random.between(0.02, 0.15),
            (true, _) => self.random.around(0.25),
            (false, _) => self.random.around(0.5),
        }
    }

    /// The oracle of I1: whatever may be served now, is anything in it that was declared purged everywhere?
    fn look(&mut self, index: usize) {
        let now = self.now;
        // What became completed in this very instant is not held against a lookup in it.
        let completed = self.completed_at.partition_point(|at| *at < now) as u64;
        let serving = self.nodes[index].serving(now);
        self.outcome.lookups += 1;
        self.outcome.lookups_under_lease += u64::from(!serving.is_empty());
        self.outcome.violations += u64::from(serving.iter().any(|cursor| cursor.get() < completed));
        let next = self.random.between(0.005, 0.05);
        self.after(next, Event::Look(index));
    }

    fn chaos(&mut self) {
        let node = self.random.below(self.nodes.len());
        match self.random.below(23) {
            0..6 => {
                let direction = if self.random.chance(0.5) { Direction::Up } else { Direction::Down };
                self.cut(node, &[direction], 1.4);
            }
            6..9 => self.cut(node, &[Direction::Up, Direction::Down], 2.0),
            9..14 => {
                let time = self.random.around(1.4);
                self.freeze(node, time);
            }
            14..17 => self.crash_node(node),
            // A daemon that dies again and again while it catches up.
            17 => {
                for _ in 0..4 {
                    let soon = self.random.between(0.0, 1.2);
                    self.after(soon, Event::Crash(node));
                }
            }
            18 => {
                let time = self.random.around(0.7);
                self.freeze_control(time);
            }
            19 => {
                self.toggle_registration(node);
                let back = self.random.around(1.0);
                self.after(back, Event::Toggle(node));
            }
            _ => {
                if self.control.take().is_some() {
                    let down = self.random.between(0.05, 0.4);
                    self.after(down, Event::ControlBack);
                    if self.random.chance(0.3) {
                        let soon = down + self.random.between(0.1, 0.8);
                        self.after(soon, Event::Crash(node));
                    }
                }
            }
        }
        if self.now < seconds(FAULTS_END) {
            let mean = if self.calm {
                7.0
            } else if self.mild {
                2.8
            } else {
                1.25
            };
            let next = self.random.around(mean);
            self.after(next, Event::Chaos);
        }
    }

    fn cut(&mut self, node: usize, directions: &[Direction], mean: f64) {
        let until = self.now + seconds(self.random.around(mean));
        for direction in directions {
            self.cut_until.insert((node, *direction), until);
        }
    }

    /// The oracle of the guarantee: two seconds from acceptance, or from the last start (or thaw) before the completion.
    fn judge_delays(&mut self) {
        self.outcome.purges = self.accepted.len() as u64;
        if self.nodes.iter().any(|node| node.policy == LeasePolicy::Serve) {
            return;
        }
        for (index, accepted) in self.accepted.iter().enumerate() {
            if *accepted > seconds(JUDGED_UNTIL) {
                continue;
            }
            let completed = self.completed_at.get(index).copied().unwrap_or(seconds(99.0));
            let from =
                self.starts.iter().copied().filter(|start| *start <= completed).fold(*accepted, u64::max);
            let took = (completed - from) as f64 / 1e6;
            self.outcome.slowest = self.outcome.slowest.max(took);
            self.outcome.late += u64::from(took > 2.0);
        }
    }
}
