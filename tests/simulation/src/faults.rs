//! What goes wrong, and how often.

use batoff_types::Cursor;

use crate::network::Direction;
use crate::profile::Profile;
use crate::world::{Event, FAULTS_END, World, seconds};

/// Seconds that a relapse takes when the node is back.
const RELAPSE: f64 = 3.0;

impl World {
    /// Some faults, and the next ones later.
    pub(crate) fn chaos(&mut self) {
        let node = self.random.below(self.nodes.len());
        let mut next = self.random.around(self.chaos_mean);
        if self.profile == Profile::Relapses && self.random.chance(0.9) {
            next += self.relapse(0);
        } else {
            self.fault(node);
        }
        if self.now + seconds(next) < seconds(FAULTS_END) {
            self.after(next, Event::Chaos);
        }
    }

    /// A daemon is away for longer than a lease. When it is back, it dies after its acks until it has a lease. Gives the
    /// seconds that this takes.
    fn relapse(&mut self, node: usize) -> f64 {
        let away = self.random.between(1.1, 1.4);
        self.nodes[node].dies_after_ack = 6;
        self.crash_node_for(node, away);
        away + RELAPSE
    }

    fn fault(&mut self, node: usize) {
        match self.random.below(33) {
            0..6 => {
                let way = if self.random.chance(0.5) { Direction::Up } else { Direction::Down };
                self.outcome.faults.cuts_one_way += 1;
                self.cut(node, &[way], 1.4);
            }
            6..9 => {
                self.outcome.faults.cuts += 1;
                self.cut(node, &[Direction::Up, Direction::Down], 2.0);
            }
            9..13 => self.freeze_node(node),
            13..17 => self.crash_node(node),
            // A daemon that dies again and again while it catches up.
            17 => {
                if self.random.chance(0.5) {
                    self.crash_node(node);
                    self.nodes[node].dies_after_ack = 6;
                } else {
                    for _ in 0..4 {
                        let soon = self.random.between(0.0, 1.2);
                        self.after(soon, Event::Crash(node));
                    }
                }
            }
            18 => {
                let until = self.fault_until(0.7);
                if self.control.is_some() {
                    self.outcome.faults.control_freezes += 1;
                    self.say("control", || format!("FAULT: stands still until {:.6}", until as f64 / 1e6));
                    self.freeze_control(until);
                }
            }
            19 => {
                self.toggle_registration(node);
                let back = self.random.around(1.0);
                self.after(back, Event::Toggle(node));
            }
            20..22 => self.fail_log(),
            22 => self.trim(),
            23 => self.replace_log(),
            24..26 => self.move_host(),
            26 => {
                // Not before it must notice by its own clock that it stood still.
                let takeover = self.random.between(1.02, 2.0);
                let wakes = takeover + self.random.around(0.4);
                let lives = self.random.around(2.0);
                self.supersede_control(takeover, wakes, lives);
            }
            27 => self.start_twin(node),
            28 => {
                let down = self.random.between(0.05, 0.4);
                self.drain_control(down);
            }
            _ => {
                let down = self.random.between(0.05, 0.4);
                if self.control.is_some() && self.random.chance(0.5) {
                    // What a node has acknowledged to the new control plane, its next daemon may have to learn again.
                    let soon = down + self.random.between(0.1, 1.0);
                    self.after(soon, Event::Crash(node));
                    self.nodes[node].dies_after_ack = self.random.below(5) as u8;
                    let deaf = soon + self.random.between(0.02, 0.4);
                    self.after(deaf, Event::Deafen(node));
                }
                self.crash_control(down);
            }
        }
    }

    /// When a fault of about that many seconds is over: not after all faults are.
    fn fault_until(&mut self, mean: f64) -> u64 {
        (self.now + seconds(self.random.around(mean))).min(seconds(FAULTS_END))
    }

    fn cut(&mut self, node: usize, directions: &[Direction], mean: f64) {
        let until = self.fault_until(mean);
        let name = self.nodes[node].name.to_string();
        self.say(&name, || format!("FAULT: cut {directions:?} until {:.6}", until as f64 / 1e6));
        for direction in directions {
            self.network.cut(node, *direction, until);
        }
    }

    pub(crate) fn deafen(&mut self, node: usize) {
        self.outcome.faults.cuts_one_way += 1;
        self.cut(node, &[Direction::Down], 0.8);
    }

    /// The machine stands still, and its clock does not.
    fn freeze_node(&mut self, index: usize) {
        let until = self.fault_until(1.4);
        self.outcome.faults.node_freezes += 1;
        let node = &mut self.nodes[index];
        // Never shortened: what waits for the thaw must stay in its order.
        node.frozen_until = node.frozen_until.max(until);
        let (until, name) = (node.frozen_until, node.name.to_string());
        self.say(&name, || format!("FAULT: stands still until {:.6}", until as f64 / 1e6));
        self.at(until, Event::Thaw(index));
    }

    fn fail_log(&mut self) {
        self.log.broken_until = self.fault_until(0.5);
        self.outcome.faults.log_failures += 1;
        self.say("log", || {
            format!("FAULT: takes no appends until {:.6}", self.log.broken_until as f64 / 1e6)
        });
    }

    fn trim(&mut self) {
        let spared = self.random.below(8) as u64;
        let through = Cursor::new(self.log.tail().get().saturating_sub(spared));
        self.log.trim(through);
        self.outcome.faults.trims += 1;
        self.say("log", || format!("FAULT: is trimmed through {through:?}"));
    }

    /// The volume is lost; a backup takes its place.
    fn replace_log(&mut self) {
        if self.control.is_none() {
            return;
        }
        let down = self.random.between(0.05, 0.4);
        self.crash_control(down);
        let behind = self.random.below(16) as u64;
        let through = self.log.tail().get().saturating_sub(behind).max(self.log.last_administrative());
        self.restore_log(Cursor::new(through));
        // Somebody is at work: a node starts with another policy, perhaps, and stands in the old log.
        let node = self.random.below(self.ledger.nodes.len());
        self.nodes[node].changes_policy = true;
        self.crash_node(node);
    }
}
