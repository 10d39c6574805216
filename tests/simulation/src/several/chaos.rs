//! What goes wrong, and how often.

use batoff_delivery::ReplicaSet;
use batoff_types::message::{LeasePolicy, Position};
use batoff_types::{Cursor, Replica};

use super::cluster::{Cluster, QUIET, Step};
use super::daemon::name;
use super::engine::{Entry, LOG};
use super::process::SEAT;
use crate::network::Direction;
use crate::world::seconds;

const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];

impl Cluster {
    pub(super) fn chaos(&mut self) {
        let mean = if self.is_wild() { 0.62 } else { 1.1 };
        let next = self.random.around(mean);
        if self.now + seconds(next) < seconds(QUIET) {
            self.after(next, Step::Chaos);
        }
        if self.is_wild() && self.random.chance(0.2) {
            self.plot();
        } else if self.random.chance(0.55) {
            self.fault_of_node();
        } else if self.is_wild() || self.faulty.values().all(|until| *until < self.now) {
            self.fault_of_replica();
        }
    }

    /// When a fault of about that many seconds is over: not long after all faults are.
    fn until(&mut self, mean: f64) -> u64 {
        (self.now + seconds(self.random.around(mean))).min(seconds(QUIET + 1.0))
    }

    fn ways(&mut self) -> &'static [Direction] {
        self.random.pick(&[&BOTH[..1], &BOTH[1..], &BOTH[..]])
    }

    fn cut(&mut self, node: usize, replica: Replica, ways: &[Direction], until: u64) {
        for way in ways {
            let cut = self.cuts.entry((node, replica, *way)).or_insert(0);
            *cut = until.max(*cut);
        }
    }

    /// Some of the replicas, at least `least`.
    fn some_replicas(&mut self, least: usize, most: usize) -> Vec<Replica> {
        let mut replicas: Vec<_> = self.known.iter().copied().collect();
        let count = (least + self.random.below(most.max(least) - least + 1)).min(replicas.len());
        while replicas.len() > count {
            let index = self.random.below(replicas.len());
            replicas.remove(index);
        }
        replicas
    }

    fn alive(&self, replica: Replica) -> Vec<usize> {
        let alive = self.processes.iter().enumerate().filter(|(_, it)| it.replica == replica && it.up);
        alive.map(|(index, _)| index).collect()
    }

    fn freeze_daemon(&mut self, daemon: usize, until: u64) {
        let frozen = &mut self.daemons[daemon].frozen_until;
        *frozen = until.max(*frozen);
        let until = *frozen;
        self.at(until, Step::DaemonThaws { daemon });
    }

    fn freeze(&mut self, process: usize, until: u64) {
        let frozen = &mut self.processes[process].frozen_until;
        *frozen = until.max(*frozen);
        let until = *frozen;
        self.at(until, Step::Thaw { process });
    }

    fn fault_of_node(&mut self) {
        let machine = self.random.below(self.machines.len());
        let node = self.machines[machine].node;
        let Some(daemon) = self.machines[machine].daemon.filter(|_| !self.is_well(node)) else { return };
        // Until it has said to each replica what it does without a lease, it may be one that goes on serving.
        if !self.is_wild() && !self.known.iter().all(|replica| self.has_said(node, *replica)) {
            return;
        }
        let who = name(node).to_string();
        match self.random.below(20) {
            0..7 => {
                for replica in self.some_replicas(1, self.known.len()) {
                    let (ways, until) = (self.ways(), self.until(2.0));
                    self.say(&who, || {
                        format!("FAULT: cut {ways:?} from {replica} until {:.3}", until as f64 / 1e6)
                    });
                    self.cut(node, replica, ways, until);
                }
            }
            7..12 => {
                let until = self.until(1.4);
                self.say(&who, || format!("FAULT: stands still until {:.3}", until as f64 / 1e6));
                self.freeze_daemon(daemon, until);
            }
            12..17 => self.kill_again_and_again(machine),
            _ if self.features.doubles => self.double(machine, daemon),
            _ => self.kill_again_and_again(machine),
        }
    }

    fn kill_again_and_again(&mut self, machine: usize) {
        let down = self.random.between(0.02, 0.5);
        self.kill(machine, down);
        if !self.random.chance(0.3) {
            return;
        }
        let mut later = down;
        for _ in 0..3 + self.random.below(4) {
            later += self.random.between(0.4, 1.2);
            self.after(later, Step::Kill { machine });
        }
    }

    /// A second process of a node, on another machine, from a copy of what is stored; the first one sometimes asleep.
    fn double(&mut self, machine: usize, daemon: usize) {
        let node = self.machines[machine].node;
        if self.policies[node] == LeasePolicy::Serve {
            return;
        }
        self.say(&name(node).to_string(), || "FAULT: a second daemon of this name".to_owned());
        let position = self.machines[machine].stored();
        let double = self.add_machine(node, position);
        self.rise(double);
        if self.random.chance(0.5) {
            let until = self.until(1.0);
            self.freeze_daemon(daemon, until);
        }
        let stays = self.random.between(0.5, 5.0);
        // One of the two, for good.
        let gone = self.random.pick(&[machine, double]);
        self.after(stays, Step::TwinGone { machine: gone });
    }

    fn fault_of_replica(&mut self) {
        let known: Vec<_> = self.known.iter().copied().filter(|it| !self.retired.contains(it)).collect();
        if known.is_empty() {
            return;
        }
        let replica = self.random.pick(&known);
        let Some(&process) = self.alive(replica).last() else { return };
        let mut lasts = self.random.around(1.7).min(if self.is_wild() { 20.0 } else { 5.0 });
        let mut until = (self.now + seconds(lasts)).min(seconds(QUIET + 1.0));
        let who = replica.to_string();
        let full = self.times.held_for(self.times.lease).as_secs_f64();
        match self.random.below(100) {
            0..10 => {
                let (gap, lingers) = (self.random.between(0.05, 0.6), self.random.between(0.0, 3.0));
                self.leave(process, gap, lingers);
                lasts = gap.max(lingers) + 1.3;
                until = self.now + seconds(lasts);
            }
            10..30 => {
                let gap = self.random.between(0.05, 0.6);
                self.crash(process, gap);
                lasts = gap + 1.3;
                until = self.now + seconds(lasts);
            }
            30..50 => {
                self.say(&who, || format!("FAULT: stands still until {:.3}", until as f64 / 1e6));
                self.freeze(process, until);
            }
            50..65 => {
                self.say(&who, || format!("FAULT: cut from the engine until {:.3}", until as f64 / 1e6));
                self.processes[process].cut_until = until;
            }
            65..72 => {
                self.say(&who, || {
                    format!("FAULT: what it follows stands still until {:.3}", until as f64 / 1e6)
                });
                self.processes[process].lags_until = until;
            }
            72..79 => {
                self.say(&who, || format!("FAULT: cut from its peers until {:.3}", until as f64 / 1e6));
                self.peers_cut.insert(replica, until);
            }
            79..86 => {
                self.say(&who, || format!("FAULT: cut from nodes until {:.3}", until as f64 / 1e6));
                for node in 0..self.policies.len() {
                    if self.random.chance(0.7) {
                        let ways = self.ways();
                        self.cut(node, replica, ways, until);
                    }
                }
            }
            86..93 => return self.fail_engine(),
            _ if self.features.twins => {
                let (asleep, cut) = (self.random.chance(0.4), self.random.chance(0.67));
                if asleep {
                    self.freeze(process, until);
                } else if cut {
                    self.processes[process].cut_until = until;
                }
                self.say(&who, || "FAULT: a second process elsewhere".to_owned());
                self.places += 1;
                let place = self.places;
                let soon = self.random.between(0.05, 1.0);
                self.after(soon, Step::Boot { replica, place });
                until = until.max(self.now + self.times.held_for(SEAT).as_micros() as u64 + seconds(1.0));
            }
            _ => return self.fail_engine(),
        }
        self.faulty.insert(Some(replica), until + seconds(0.3 + full + 1.3));
        if self.engine.set_at(self.engine.head()).members().len() == 1 {
            self.excused.push((self.now, until + seconds(0.3 + full)));
        }
    }

    fn fail_engine(&mut self) {
        let until = self.now + seconds(self.random.between(1.0, 3.0));
        self.say("engine", || format!("FAULT: out of reach until {:.3}", until as f64 / 1e6));
        self.engine.down_until = until;
        self.excused.push((self.now, until + seconds(0.25)));
        self.faulty.insert(None, until + seconds(1.0));
    }

    fn crash(&mut self, process: usize, gap: f64) {
        let (replica, place) = (self.processes[process].replica, self.processes[process].place);
        self.stop(process, "crashes");
        self.after(gap, Step::Boot { replica, place });
    }

    /// It is stopped in order, and starts again on another host: before it has ended, maybe, for what it still has to say
    /// takes it a while.
    fn leave(&mut self, process: usize, gap: f64, lingers: f64) {
        self.release(process);
        self.places += 1;
        let (replica, place) = (self.processes[process].replica, self.places);
        self.after(lingers, Step::End { process });
        self.after(gap, Step::Boot { replica, place });
    }

    pub(super) fn restart(&mut self, replica: Replica) {
        if let Some(&process) = self.alive(replica).last() {
            let gap = self.random.between(0.02, 0.4);
            self.crash(process, gap);
        }
    }

    /// Rare stories made likely: within some seconds, and about one node: replicas that read late, a node that hears only
    /// some of them, a replica that is started again or doubled, and a node that dies.
    fn plot(&mut self) {
        let machine = self.random.below(self.machines.len());
        let node = self.machines[machine].node;
        let most = self.known.len() - 1;
        let span = self.random.between(1.5, 3.5);
        self.say("plot", || format!("about {}", name(node)));
        for replica in self.some_replicas(0, most) {
            let lasts = if self.random.chance(0.5) { span + self.random.between(-0.5, 3.0) } else { 7.0 };
            let until = (self.now + seconds(lasts)).min(seconds(QUIET + 1.0));
            for process in self.alive(replica) {
                if self.random.chance(0.67) {
                    self.processes[process].lags_until = until;
                } else {
                    self.processes[process].cut_until = until;
                }
            }
        }
        for replica in self.some_replicas(0, most) {
            let until = self.now + seconds(span + self.random.between(-0.3, 0.3));
            self.cut(node, replica, &BOTH, until);
        }
        if self.random.chance(0.6) {
            let replica = self.some_replicas(1, 1)[0];
            let when = span + self.random.between(-1.0, 0.3);
            self.after(when, Step::Restart { replica });
        }
        if self.random.chance(0.6) {
            let when = if self.random.chance(0.5) {
                self.random.between(0.0, 0.5)
            } else {
                span + self.random.between(-1.0, 0.5)
            };
            self.after(when, Step::Kill { machine });
        }
        if self.features.twins && self.random.chance(0.4) {
            self.plot_a_twin();
        }
    }

    fn plot_a_twin(&mut self) {
        let replica = self.some_replicas(1, 1)[0];
        if self.retired.contains(&replica) {
            return;
        }
        self.places += 1;
        let (place, soon) = (self.places, self.random.between(0.0, 1.0));
        if let Some(&process) = self.alive(replica).last().filter(|_| self.random.unit() < 0.7) {
            let seat = self.times.held_for(SEAT).as_secs_f64();
            let lasts =
                if self.random.chance(0.5) { seat + 1.07 } else { 2.0 } + self.random.between(0.0, 2.5);
            let until = (self.now + seconds(lasts)).min(seconds(QUIET + 1.0));
            if self.random.chance(0.5) {
                self.freeze(process, until);
            } else {
                self.processes[process].cut_until = until;
            }
        }
        self.after(soon, Step::Boot { replica, place });
    }

    /// A replica with two processes. The first is cut off from the engine, but still hears a node and states what that
    /// acknowledges, which a second replica does not hear; the node dies, and comes back with an older cursor to the
    /// second process, and to that replica.
    pub(super) fn twins(&mut self) {
        let mut replicas = self.some_replicas(3, 3);
        if replicas.len() < 3 {
            return;
        }
        let first = replicas.remove(self.random.below(3));
        let hears = replicas.remove(self.random.below(2));
        let deaf = replicas[0];
        let dies = self.now + seconds(self.random.between(3.8, 5.1));
        if let Some(&process) = self.alive(first).last() {
            self.processes[process].cut_until = self.now + seconds(14.0);
        }
        self.places += 1;
        let place = self.places;
        self.after(0.2, Step::Boot { replica: first, place });
        self.at(dies - seconds(1.0), Step::TwinsLag { replica: deaf, node: 1, until: dies });
        self.at(dies, Step::TwinsEnd { replica: hears, node: 1, until: dies + seconds(4.0) });
    }

    pub(super) fn twins_lag(&mut self, replica: Replica, node: usize, dies: u64) {
        for process in self.alive(replica) {
            self.processes[process].lags_until = dies + seconds(4.0);
        }
        self.cut(node, replica, &[Direction::Up], dies - seconds(0.1));
    }

    pub(super) fn twins_end(&mut self, replica: Replica, node: usize, until: u64) {
        if let Some(machine) = self.machines.iter().position(|machine| machine.node == node) {
            self.kill(machine, 0.1);
        }
        self.cut(node, replica, &BOTH, until);
    }

    /// The set changes: new replicas start, are followed at once, and count from the record on.
    pub(super) fn grow(&mut self) {
        let members = self.engine.set_at(self.engine.head()).members().len();
        let next: u8 = match members {
            1 => 3,
            3 if self.random.chance(0.5) => 5,
            3 => 1,
            _ => 3,
        };
        let mut set: Vec<_> = (1..=next).map(Replica).collect();
        if self.is_wild() && next < 5 && self.random.chance(0.4) {
            // Others than before.
            set.iter_mut().for_each(|replica| replica.0 += 2);
        }
        if !self.is_wild() && next == 1 {
            set = (1..=5).map(Replica).collect();
        }
        set.retain(|replica| !self.retired.contains(replica));
        let Ok(set) = ReplicaSet::new(set) else { return };
        for replica in set.members() {
            if self.known.insert(*replica) {
                self.start_elsewhere(*replica);
            }
        }
        let takes = if self.is_wild() { self.random.between(0.05, 4.0) } else { 4.0 };
        self.after(takes, Step::Change { set });
        // Sometimes once more, before the first change is completed.
        if self.is_wild() && self.random.chance(0.5) && self.now < seconds(QUIET - 6.0) {
            let again = takes + self.random.between(0.0, 2.0);
            self.after(again, Step::Grow);
        }
    }

    /// Whether the replica knows what that node does without a lease, or needs not.
    fn has_said(&self, node: usize, replica: Replica) -> bool {
        self.words.contains_key(&(replica, node))
            || self.removed.contains(&node)
            || self.retired.contains(&replica)
    }

    pub(super) fn change(&mut self, set: ReplicaSet) {
        // Whoever takes a replica into the set sees to it that the nodes know it.
        let knows = |replica: &Replica| (0..self.policies.len()).all(|node| self.has_said(node, *replica));
        if !self.is_wild() && self.now < seconds(QUIET) && !set.members().iter().all(knows) {
            return self.after(0.2, Step::Change { set });
        }
        if self.engine.down_until > self.now {
            let later = self.engine.down_until + seconds(0.1);
            return self.at(later, Step::Change { set });
        }
        // Who has stopped for good meanwhile does not come back.
        let members = set.members().iter().copied().filter(|replica| !self.retired.contains(replica));
        let Ok(set) = ReplicaSet::new(members) else { return };
        self.outcome.changes += 1;
        self.append(Entry::Set(set));
    }

    pub(super) fn enrol(&mut self) {
        if self.engine.down_until > self.now {
            let later = self.engine.down_until + seconds(0.1);
            return self.at(later, Step::Enrol);
        }
        let node = self.policies.len();
        self.policies.push(LeasePolicy::Revalidate);
        self.append(Entry::Registered(node));
        let back = 1 + self.random.below(15) as u64;
        let cursor = Cursor::new(self.engine.head().get().saturating_sub(back));
        let position = match self.random.below(3) {
            0 => None,
            1 => Some(Cursor::START),
            _ => Some(cursor),
        };
        let position = position.map(|cursor| Position { log_id: LOG, cursor, task: None });
        let machine = self.add_machine(node, position);
        self.rise(machine);
    }

    pub(super) fn remove(&mut self) {
        if self.engine.down_until > self.now {
            let later = self.engine.down_until + seconds(0.1);
            return self.at(later, Step::Remove);
        }
        let node = self.random.below(self.policies.len());
        if node > 0 && self.policies[node] == LeasePolicy::Revalidate && self.removed.insert(node) {
            self.append(Entry::Removed(node));
        }
    }

    pub(super) fn trim(&mut self) {
        let spared = self.random.below(8) as u64;
        let head = self.engine.head().get();
        self.engine.first = self.engine.first.max(head.saturating_sub(spared) + 1);
        self.say("log", || format!("FAULT: is trimmed, and begins with #{}", self.engine.first));
        let next = self.random.around(3.0);
        if self.now + seconds(next) < seconds(QUIET) {
            self.after(next, Step::Trim);
        }
    }
}
