use crate::isolated::run;
use crate::system::{CONTROL_NAMESPACE, address, node_namespace};

/// A switch with a namespace on each port; the test itself sits at the switch. What is cut is cut in the switch, so
/// neither end notices anything but silence.
pub struct Network {
    nodes: usize,
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
        run("ip", &["link", "add", "switch", "type", "bridge"]);
        run("ip", &["address", "add", &format!("{}/24", address(0)), "dev", "switch"]);
        run("ip", &["link", "set", "switch", "up"]);
        plug(CONTROL_NAMESPACE, 1);
        for node in 0..nodes {
            plug(&node_namespace(node), node + 2);
        }
        run("nft", &["add table bridge cuts"]);
        run("nft", &["add chain bridge cuts forward { type filter hook forward priority 0; }"]);
        Self { nodes }
    }

    /// Cuts a node off, or half off.
    pub fn cut(&self, node: usize, cut: Cut) {
        assert!(node < self.nodes, "there are {} nodes", self.nodes);
        let node = node_namespace(node);
        if cut != Cut::FromControl {
            lose(&node, CONTROL_NAMESPACE);
        }
        if cut != Cut::ToControl {
            lose(CONTROL_NAMESPACE, &node);
        }
    }

    /// Mends every cut.
    pub fn heal(&self) {
        run("nft", &["flush chain bridge cuts forward"]);
    }
}

fn port(namespace: &str) -> String {
    format!("to-{namespace}")
}

fn lose(from: &str, to: &str) {
    let (from, to) = (port(from), port(to));
    run("nft", &[&format!("add rule bridge cuts forward iifname {from} oifname {to} drop")]);
}

fn plug(namespace: &str, place: usize) {
    let port = port(namespace);
    run("ip", &["netns", "add", namespace]);
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
    run("ip", &["link", "set", &port, "master", "switch", "up"]);
    run("ip", &["-n", namespace, "address", "add", &format!("{}/24", address(place)), "dev", "eth0"]);
    run("ip", &["-n", namespace, "link", "set", "eth0", "up"]);
    run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
}
