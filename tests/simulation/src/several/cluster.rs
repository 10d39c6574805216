//! The world of several replicas: its time, its links, and what happens in it.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "mutations")]
use batoff_delivery::Rule;
use batoff_delivery::{FeedLine, LeaseTimes, PromptFeeds, ReplicaSet, Word};
use batoff_types::message::{FromNode, LeasePolicy, Position, ToNode};
use batoff_types::{Cursor, Replica, Term};

use super::daemon::{Daemon, Machine};
use super::engine::{Call, Engine, Entry, LOG, Reply};
use super::process::Process;
use super::verdict::Verdict;
use super::{SeveralOptions, SeveralOutcome, Temper};
use crate::Switch;
use crate::network::Direction;
use crate::oracle::Violation;
use crate::random::Random;
use crate::trace::Trace;
use crate::world::seconds;

/// True seconds: no new fault after the first; what was accepted before the second must have reached everybody when the
/// run ends.
pub(super) const QUIET: f64 = 20.0;
pub(super) const JUDGED: f64 = 25.0;
pub(super) const END: f64 = 30.0;

#[derive(Debug)]
pub(super) enum Step {
    Up {
        process: usize,
        daemon: usize,
        connection: u64,
        message: FromNode,
    },
    Down {
        daemon: usize,
        replica: Replica,
        connection: u64,
        message: ToNode,
    },
    Asked {
        process: usize,
        call: Call,
    },
    /// `counts`: it came from the engine, which may have done something.
    Answered {
        process: usize,
        reply: Reply,
        counts: bool,
    },
    Follow {
        process: usize,
        to: Cursor,
    },
    DoneSeen {
        process: usize,
        done: Cursor,
    },
    Stated {
        process: usize,
        from: Replica,
        watermark: Cursor,
    },
    Publish {
        process: usize,
    },
    FillIn {
        process: usize,
        connection: u64,
    },
    Tick {
        process: usize,
    },
    Boot {
        replica: Replica,
        place: u64,
    },
    Restart {
        replica: Replica,
    },
    End {
        process: usize,
    },
    Thaw {
        process: usize,
    },
    Supervise {
        daemon: usize,
    },
    Wake {
        daemon: usize,
    },
    Worked {
        daemon: usize,
    },
    TermStored {
        daemon: usize,
        replica: Replica,
        term: Term,
    },
    DaemonThaws {
        daemon: usize,
    },
    Rise {
        machine: usize,
    },
    Kill {
        machine: usize,
    },
    TwinGone {
        machine: usize,
    },
    Purge,
    Look,
    Chaos,
    Grow,
    Change {
        set: ReplicaSet,
    },
    Enrol,
    Remove,
    Trim,
    /// The rare story of two processes.
    Twins,
    TwinsLag {
        replica: Replica,
        node: usize,
        until: u64,
    },
    TwinsEnd {
        replica: Replica,
        node: usize,
        until: u64,
    },
}

/// What a world has, besides what every world has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// Two processes of one replica.
    pub(super) twins: bool,
    /// Two processes of one node.
    pub(super) doubles: bool,
    /// Nodes come and go.
    pub(super) roster: bool,
    /// The set of replicas changes.
    pub(super) sets: bool,
    /// The log is trimmed.
    pub(super) trims: bool,
    /// Nodes are set to go on serving without a lease, or not to any more, from their next start on.
    pub(super) turns: bool,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) without: Option<Switch>,
    pub(super) temper: Temper,
    pub(super) features: Features,
    pub(super) feeds: PromptFeeds,
    pub(super) times: LeaseTimes,
    pub(super) random: Random,
    trace: Trace,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Step>,
    counter: u64,
    pub(super) connections: u64,
    pub(super) engine: Engine,
    pub(super) processes: Vec<Process>,
    pub(super) places: u64,
    /// Replicas that nodes connect to.
    pub(super) known: BTreeSet<Replica>,
    /// Replicas that have stopped for good.
    pub(super) retired: BTreeSet<Replica>,
    /// Who is in no set any more stops for good.
    pub(super) retires: bool,
    pub(super) machines: Vec<Machine>,
    pub(super) daemons: Vec<Daemon>,
    /// Of each node, by its number.
    pub(super) policies: Vec<LeasePolicy>,
    /// What a node said of that to a replica, as far as it is durable there.
    pub(super) words: BTreeMap<(Replica, usize), Word>,
    pub(super) removed: BTreeSet<usize>,
    /// Nothing comes through between a node and a replica, in one direction, until then.
    pub(super) cuts: BTreeMap<(usize, Replica, Direction), u64>,
    pub(super) peers_cut: BTreeMap<Replica, u64>,
    arrives: BTreeMap<(u64, Direction), u64>,
    broken: BTreeSet<(u64, Direction)>,
    /// Gentle worlds: which replica is faulty, and until when; `None`: the engine.
    pub(super) faulty: BTreeMap<Option<Replica>, u64>,
    /// Gentle worlds: when nothing can be completed in time: the engine is down, or the only replica is not well.
    pub(super) excused: Vec<(u64, u64)>,
    pub(super) verdict: Verdict,
    pub(super) outcome: SeveralOutcome,
}

impl Cluster {
    pub(super) fn new(seed: u64, options: SeveralOptions) -> Self {
        let mut random = Random::new(seed.wrapping_mul(7_919).wrapping_add(u64::from(options.replicas)));
        let mut times = LeaseTimes::default();
        if options.without == Some(Switch::Margin) {
            (times.margin, times.drift) = (std::time::Duration::ZERO, 0.0);
        }
        let temper = options.temper.unwrap_or(Temper::of(seed));
        let (wild, alone) = (temper == Temper::Wild, options.replicas == 1);
        let mut features = match temper {
            Temper::Calm | Temper::Twins => Features::default(),
            Temper::Gentle | Temper::Wild => Features {
                // Alone a replica has the log in its own hands, locked.
                twins: random.chance(0.35) && !alone,
                doubles: random.chance(0.3) && wild,
                roster: random.chance(0.4),
                sets: random.chance(0.3),
                trims: random.chance(0.25) && wild,
                turns: false,
            },
        };
        let members = || (1..=options.replicas.max(1)).map(Replica);
        let set = ReplicaSet::new(members()).unwrap_or_else(|_| ReplicaSet::only());
        // Two live processes of an available node are outside of any proof.
        let available = wild && !features.doubles && random.chance(0.5);
        features.turns = available && random.chance(0.5);
        let count = 2 + random.below(3);
        // Drawn apart, so that it changes nothing else of a seed.
        let feeds = Random::new(seed ^ 0xFEED).pick(&[Some(1), Some(2), Some(2), None]);
        let feeds = feeds.map_or(PromptFeeds::All, |count| PromptFeeds::count(count).unwrap_or_default());
        let feeds = options.feeds.unwrap_or(feeds);
        let mut cluster = Self {
            feeds,
            without: options.without,
            temper,
            features,
            times,
            random,
            trace: Trace { on: options.trace },
            now: 0,
            queue: BTreeMap::new(),
            counter: 0,
            connections: 0,
            engine: Engine::new(set),
            processes: Vec::new(),
            places: 0,
            known: members().collect(),
            retired: BTreeSet::new(),
            retires: wild,
            machines: Vec::new(),
            daemons: Vec::new(),
            policies: Vec::new(),
            words: BTreeMap::new(),
            removed: BTreeSet::new(),
            cuts: BTreeMap::new(),
            peers_cut: BTreeMap::new(),
            arrives: BTreeMap::new(),
            broken: BTreeSet::new(),
            faulty: BTreeMap::new(),
            excused: Vec::new(),
            verdict: Verdict::default(),
            outcome: SeveralOutcome { seed, ..SeveralOutcome::default() },
        };
        cluster
            .say("world", || format!("seed {seed}: {count} nodes, {temper:?}, {feeds} feeds, {features:?}"));
        cluster.begin(count, available);
        cluster
    }

    fn begin(&mut self, count: usize, available: bool) {
        for replica in self.known.clone() {
            self.start_elsewhere(replica);
        }
        for node in 0..count {
            let serves_on = available && node > 0 && self.random.chance(0.6);
            self.policies.push(if serves_on { LeasePolicy::Serve } else { LeasePolicy::Revalidate });
            self.append(Entry::Registered(node));
            let start = Position { log_id: LOG, cursor: Cursor::START, task: None };
            let machine = self.add_machine(node, Some(start));
            self.rise(machine);
        }
        self.after(0.6, Step::Purge);
        self.after(0.01, Step::Look);
        if self.temper == Temper::Twins {
            return self.after(3.0, Step::Twins);
        }
        if self.temper == Temper::Calm {
            return;
        }
        self.after(2.5, Step::Chaos);
        let mut later = |from: f64, to: f64| self.random.between(from, to);
        let (grow, enrol, remove, trim) =
            (later(5.0, 10.0), later(4.0, 12.0), later(8.0, 16.0), later(3.0, 12.0));
        if self.features.sets {
            self.after(grow, Step::Grow);
        }
        if self.features.roster {
            self.after(enrol, Step::Enrol);
            self.after(remove, Step::Remove);
        }
        if self.features.trims {
            self.after(trim, Step::Trim);
        }
    }

    /// A process of that replica, on a host of its own.
    pub(super) fn start_elsewhere(&mut self, replica: Replica) {
        self.places += 1;
        let place = self.places;
        self.boot(replica, place);
    }

    pub(super) fn run(mut self) -> SeveralOutcome {
        while let Some(((time, _), step)) = self.queue.pop_first() {
            if time > seconds(END) || !self.verdict.violations.is_empty() && !self.trace.on {
                break;
            }
            self.now = time;
            self.dispatch(step);
        }
        self.finish()
    }

    fn dispatch(&mut self, step: Step) {
        match step {
            Step::Up { process, daemon, connection, message } => {
                self.arrive_up(process, daemon, connection, message);
            }
            Step::Down { daemon, replica, connection, message } => {
                self.arrive_down(daemon, FeedLine { replica, connection }, message);
            }
            Step::Asked { process, call } => self.asked(process, call),
            Step::Answered { process, reply, counts } => self.answered(process, reply, counts),
            Step::Follow { process, to } => self.follow(process, to),
            Step::DoneSeen { process, done } => self.done_seen(process, done),
            Step::Stated { process, from, watermark } => self.stated(process, from, watermark),
            Step::Publish { process } => self.publish(process),
            Step::FillIn { process, connection } => self.fill_in(process, connection),
            Step::Tick { process } => self.tick(process),
            Step::Boot { replica, place } => self.boot(replica, place),
            Step::Restart { replica } => self.restart(replica),
            Step::End { process } => {
                if self.processes[process].up {
                    self.stop(process, "has said everything");
                }
            }
            Step::Thaw { process } => self.thaw(process),
            Step::Supervise { daemon } => self.supervise(daemon),
            Step::Wake { daemon } => self.wake(daemon),
            Step::Worked { daemon } => self.worked(daemon),
            Step::TermStored { daemon, replica, term } => self.term_stored(daemon, replica, term),
            Step::DaemonThaws { daemon } => self.daemon_thaws(daemon),
            Step::Rise { machine } => self.rise(machine),
            Step::Kill { .. } if self.now > seconds(QUIET) => {}
            Step::Kill { machine } => {
                let down = self.random.between(0.02, 0.3);
                self.kill(machine, down);
            }
            Step::TwinGone { machine } => {
                if let Some(daemon) = self.machines[machine].daemon.take() {
                    self.daemons[daemon].up = false;
                }
            }
            Step::Purge => self.purge(),
            Step::Look => self.look(),
            Step::Chaos => self.chaos(),
            Step::Grow => self.grow(),
            Step::Change { set } => self.change(set),
            Step::Enrol => self.enrol(),
            Step::Remove => self.remove(),
            Step::Trim => self.trim(),
            Step::Twins => self.twins(),
            Step::TwinsLag { replica, node, until } => self.twins_lag(replica, node, until),
            Step::TwinsEnd { replica, node, until } => self.twins_end(replica, node, until),
        }
    }

    pub(super) fn at(&mut self, time: u64, step: Step) {
        self.counter += 1;
        self.queue.insert((time.max(self.now), self.counter), step);
    }

    pub(super) fn after(&mut self, delay: f64, step: Step) {
        self.at(self.now + seconds(delay), step);
    }

    pub(super) fn say(&self, who: &str, what: impl FnOnce() -> String) {
        self.trace.line(self.now, who, what);
    }

    pub(super) fn fail(&mut self, violation: Violation) {
        self.trace.line(self.now, "VIOLATION", || violation.to_string());
        self.verdict.fail(violation);
    }

    #[cfg(feature = "mutations")]
    pub(super) fn rule(&self) -> Option<Rule> {
        self.without.and_then(Switch::rule)
    }

    pub(super) fn is_wild(&self) -> bool {
        self.temper == Temper::Wild
    }

    /// The node has no fault of its own.
    pub(super) fn is_well(&self, node: usize) -> bool {
        match self.temper {
            Temper::Gentle => node == 0,
            Temper::Calm => true,
            Temper::Wild | Temper::Twins => false,
        }
    }

    /// A daemon that connects reaches any process of a replica, and not the last that started.
    pub(super) fn picks_any(&self, daemon: usize) -> bool {
        match self.temper {
            Temper::Wild => true,
            Temper::Gentle | Temper::Calm => false,
            // The first daemons know the first process.
            Temper::Twins => daemon < self.policies.len(),
        }
    }

    /// When a message that is sent now arrives; `None`: never, and no later one of its stream in that direction.
    pub(super) fn way(
        &mut self,
        daemon: usize,
        replica: Replica,
        connection: u64,
        direction: Direction,
    ) -> Option<u64> {
        self.outcome.messages += 1;
        let node = self.daemons[daemon].node;
        let well = self.is_well(node);
        let cut = self.cuts.get(&(node, replica, direction)).is_some_and(|until| *until > self.now);
        let lost = !well && self.now < seconds(QUIET) && self.random.chance(0.001);
        if cut || lost {
            self.broken.insert((connection, direction));
        }
        if self.broken.contains(&(connection, direction)) {
            return None;
        }
        let delay = if well || self.now > seconds(QUIET + 1.0) {
            self.random.between(0.001, 0.05)
        } else {
            match self.random.below(3) {
                0 => self.random.between(0.001, 0.01),
                1 => self.random.between(0.02, 0.15),
                _ if self.is_wild() => self.random.around(0.5),
                _ => self.random.around(0.2),
            }
        };
        let earliest = self.now + seconds(delay);
        let arrives = self.arrives.entry((connection, direction)).or_insert(0);
        *arrives = earliest.max(*arrives);
        Some(*arrives)
    }
}
