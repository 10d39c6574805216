//! Two live daemons with one name: a mistake of whoever configured the second, and an alert.

use batoff_delivery::LeaseTimes;
use batoff_types::message::LeasePolicy;

use crate::cache::Kind;
use crate::node::Node;
use crate::world::{Event, FAULTS_END, World, rate, seconds};

/// Lives of a second daemon are counted from here, so that no two daemons are one instance.
const FIRST_LIFE: u64 = 1 << 32;

/// Second daemons in one run, at most.
const TWINS_MAX: usize = 2;

impl World {
    /// A second daemon starts under a node's name, on another machine with a cache of its own, perhaps from a copy of the
    /// first one's state. Only where all nodes are strict: two available ones of one name are outside the proof.
    pub(crate) fn start_twin(&mut self, node: usize) {
        let identity = self.nodes[node].identity;
        let twins = self.nodes.len() - self.ledger.nodes.len();
        if self.mixed || twins == TWINS_MAX || self.ledger.nodes[identity].removed {
            return;
        }
        let kind = self.random.pick(&[Kind::Registered, Kind::Unregistered, Kind::Files, Kind::Asking]);
        let rate = rate(&mut self.random, LeaseTimes::default().drift);
        let mut twin = Node::new(identity, rate, LeasePolicy::Revalidate, kind, self.without);
        let index = self.nodes.len();
        (twin.life, twin.up) = (FIRST_LIFE * index as u64, false);
        twin.parents.clone_from(&self.nodes[identity].parents);
        if self.random.chance(0.5) {
            twin.stored = self.nodes[identity].stored.clone();
        }
        self.outcome.faults.twins += 1;
        let name = twin.name.to_string();
        self.say(&name, || format!("FAULT: a second daemon starts under this name, {kind:?}"));
        self.nodes.push(twin);
        self.node_back(index);
        self.after(0.1, Event::Look(index));
        let stays = self.random.between(0.5, 5.0);
        let ends = (self.now + seconds(stays)).min(seconds(FAULTS_END));
        self.at(ends, Event::TwinGone(index));
    }

    pub(crate) fn stop_twin(&mut self, index: usize) {
        self.crash_node(index);
        self.nodes[index].gone = true;
    }
}
