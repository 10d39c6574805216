use std::sync::{Mutex, PoisonError};

use crate::isolated::run;
use crate::place::{Place, address};

/// A switch with a namespace on each port; the test itself sits at the switch. What is cut is cut in the switch, so
/// neither end notices anything but silence.
pub struct Network {
    places: Vec<Place>,
    /// What gets lost, from where to where; twice where two cuts overlap.
    lost: Mutex<Vec<(Place, Place)>>,
}

/// Which way packets between a node and the control plane get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From the node to the control plane.
    ToControl,
    /// From the control plane to the node.
    FromControl,
    /// Either way.
    Both,
}

impl Network {
    /// Lays the cables; only inside [`isolated()`](crate::isolated()).
    pub fn lay(nodes: usize) -> Self {
        Self::lay_for(nodes, 1)
    }

    /// The same for several replicas of the control plane, and as many members of etcd.
    pub fn lay_for(nodes: usize, replicas: usize) -> Self {
        let members = if replicas > 1 { replicas } else { 0 };
        let places: Vec<_> = (0..replicas)
            .map(Place::Replica)
            .chain((0..nodes).map(Place::Node))
            .chain((0..members).map(Place::Member))
            .collect();
        run("ip", &["link", "add", "switch", "type", "bridge"]);
        run("ip", &["address", "add", &format!("{}/24", address(0)), "dev", "switch"]);
        run("ip", &["link", "set", "switch", "up"]);
        places.iter().for_each(|place| plug(*place));
        run("nft", &["add table bridge cuts"]);
        run("nft", &["add chain bridge cuts forward { type filter hook forward priority 0; }"]);
        Self { places, lost: Mutex::default() }
    }

    /// Cuts a node off, or half off, from the first control plane.
    pub fn cut(&self, node: usize, cut: Cut) {
        if cut != Cut::FromControl {
            self.lose(Place::Node(node), Place::Replica(0));
        }
        if cut != Cut::ToControl {
            self.lose(Place::Replica(0), Place::Node(node));
        }
    }

    /// What goes from one place to another gets lost.
    pub fn lose(&self, from: Place, to: Place) {
        assert!(self.places.contains(&from) && self.places.contains(&to), "{from:?} and {to:?} have cables");
        self.change(|lost| lost.push((from, to)));
    }

    /// Takes back one [`Self::lose`].
    ///
    /// # Panics
    /// When nothing of that kind gets lost.
    pub fn mend(&self, from: Place, to: Place) {
        self.change(|lost| {
            let found = lost.iter().position(|cut| *cut == (from, to));
            lost.swap_remove(found.unwrap_or_else(|| panic!("what goes from {from:?} to {to:?} arrives")));
        });
    }

    /// Mends every cut.
    pub fn heal(&self) {
        self.change(Vec::clear);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(Place, Place)>)) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lost);
        // One call, which takes effect as a whole.
        let mut script = "flush chain bridge cuts forward".to_owned();
        for (from, to) in &*lost {
            let (from, to) = (port(&from.namespace()), port(&to.namespace()));
            script += &format!("; add rule bridge cuts forward iifname {from} oifname {to} drop");
        }
        run("nft", &[&script]);
    }
}

fn port(namespace: &str) -> String {
    format!("to-{namespace}")
}

fn plug(place: Place) {
    let namespace = &place.namespace();
    let port = port(namespace);
    run("ip", &["netns", "add", namespace]);
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
    run("ip", &["link", "set", &port, "master", "switch", "up"]);
    run("ip", &["-n", namespace, "address", "add", &format!("{}/24", place.address()), "dev", "eth0"]);
    run("ip", &["-n", namespace, "link", "set", "eth0", "up"]);
    run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
}
