use std::time::Duration;

use batoff_types::message::LeasePolicy;
use turmoil::{Builder, Sim};

use crate::control::Control;
use crate::node::Node;
use crate::set_now;

/// A control plane, some nodes, and the network between them.
pub struct World {
    pub sim: Sim<'static>,
    pub control: Control,
    pub nodes: Vec<Node>,
}

impl World {
    pub fn new(nodes: usize, policy: LeasePolicy) -> Self {
        let mut sim = Builder::new()
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .rng_seed(7)
            .build();
        let nodes: Vec<_> = (1..=nodes).map(|number| Node::new(number, policy)).collect();
        let control = Control::new(&nodes);
        let software = control.clone();
        sim.host("control", move || software.clone().run());
        for node in &nodes {
            let software = node.clone();
            sim.host(node.host(), move || software.clone().run());
        }
        Self { sim, control, nodes }
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
        set_now(self.sim.elapsed());
    }

    /// Lets time pass until that is so, and tells how much it was.
    pub fn until(&mut self, what: &str, at_most: Duration, mut so: impl FnMut(&Self) -> bool) -> Duration {
        let begun = self.sim.elapsed();
        while !so(self) {
            assert!(self.sim.elapsed() - begun < at_most, "not within {at_most:?}: {what}");
            self.step();
        }
        self.sim.elapsed() - begun
    }

    /// Stops purging, and waits until every node has everything and every purge is completed.
    pub fn settle(&mut self) {
        self.control.pace.store(0, std::sync::atomic::Ordering::Relaxed);
        self.until("everything is everywhere", Duration::from_secs(60), |world| {
            let Some(last) = world.control.last() else { return false };
            let told = world.control.told.lock();
            let everywhere = world.nodes.iter().all(|node| node.has(last));
            everywhere && told.accepted.keys().all(|seq| told.completed.contains_key(seq))
        });
    }

    /// The control plane dies.
    pub fn crash_control(&mut self) {
        self.control.forget();
        self.sim.crash("control");
    }

    /// A node's daemon dies.
    pub fn crash_node(&mut self, index: usize) {
        self.nodes[index].forget();
        self.sim.crash(self.nodes[index].host());
    }

    /// Nothing was completed too early; every node was told of every purge in order and without a gap, and again only
    /// after its daemon died; each was completed within two seconds, apart from those accepted between these moments.
    pub fn judge(&self, but: Option<(Duration, Duration)>) {
        let told = self.control.told.lock();
        assert!(told.untrue.is_empty(), "I1: {:#?}", told.untrue);
        let accepted: Vec<_> = told.accepted.keys().copied().collect();
        for node in &self.nodes {
            let lives = node.purged.lock();
            // The first life begins where the node was registered; each later one where the last was stored.
            let mut reached = lives.iter().flatten().next().copied().expect("a node was told of purges");
            for life in lives.iter().filter(|life| !life.is_empty()) {
                assert!(life[0] <= reached, "I2: {} misses {reached} to {}", node.name, life[0]);
                let from = accepted.partition_point(|seq| *seq < life[0]);
                let expected = accepted.iter().skip(from).take(life.len()).copied();
                assert_eq!(*life, expected.collect::<Vec<_>>(), "I3: {}", node.name);
                let next = accepted.get(from + life.len()).copied();
                reached = next.unwrap_or(reached.max(life[life.len() - 1]));
            }
            let last = lives.iter().flatten().max();
            assert_eq!(last, accepted.last(), "I2: {}", node.name);
        }
        for (seq, (accepted, _)) in &told.accepted {
            if but.is_some_and(|(from, to)| (from..to).contains(accepted)) {
                continue;
            }
            let took = told.completed[seq] - *accepted;
            assert!(took < Duration::from_secs(2), "I4: {seq}, accepted at {accepted:?}, took {took:?}");
        }
    }
}
