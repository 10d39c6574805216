//! Who runs in `batoff dev`, and on which ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use batoff_types::NodeName;

use crate::exit::Failure;

/// Names that look like places: airports, near ones first; with degrees north and east.
const POPS: [(&str, f64, f64); 16] = [
    ("fra1", 50.0, 8.6),
    ("ams1", 52.3, 4.8),
    ("waw1", 52.2, 21.0),
    ("lon1", 51.5, -0.5),
    ("par1", 49.0, 2.5),
    ("mad1", 40.5, -3.6),
    ("mil1", 45.6, 8.7),
    ("sto1", 59.7, 17.9),
    ("hel1", 60.3, 25.0),
    ("prg1", 50.1, 14.3),
    ("vie1", 48.1, 16.6),
    ("buh1", 44.6, 26.1),
    ("ist1", 41.3, 28.7),
    ("dxb1", 25.3, 55.4),
    ("sin1", 1.4, 104.0),
    ("nrt1", 35.8, 140.4),
];

/// Ports between one node's and the next one's.
const PORTS_PER_NODE: u16 = 2;

/// Where the first node's ports are, counted from the base.
const NODES_AT: u16 = 10;

/// Who runs, and where each one listens; port 0 is a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The control plane.
    pub control: ControlAddresses,
    /// The origin.
    pub origin: SocketAddr,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
}

/// The control plane's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlAddresses {
    /// The customers' API.
    pub api: SocketAddr,
    /// The operators' API.
    pub admin: SocketAddr,
    /// The console.
    pub console: SocketAddr,
    /// The nodes' stream.
    pub grpc: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

/// One node and its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// Where visitors connect.
    pub proxy: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

impl Plan {
    /// So many PoPs of one node; listeners from `base` up, or on free ports when it is 0.
    pub fn new(base: u16, pops: u16) -> Result<Self, Failure> {
        let highest = NODES_AT + pops * PORTS_PER_NODE;
        if base != 0 && base.checked_add(highest).is_none() {
            return Err(Failure::Usage(format!(
                "--base-port {base} leaves no room for {highest} ports; try 8080 or 0"
            )));
        }
        let at =
            |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if base == 0 { 0 } else { base + offset }));
        let control =
            ControlAddresses { api: at(0), console: at(1), admin: at(2), grpc: at(3), metrics: at(4) };
        let nodes = (0..pops)
            .map(|n| {
                let offset = NODES_AT + n * PORTS_PER_NODE;
                Ok(NodePlan { name: node_name(n)?, proxy: at(offset), metrics: at(offset + 1) })
            })
            .collect::<Result<_, Failure>>()?;
        let plan = Self { control, origin: at(5), nodes };
        plan.refuse_ports_in_use()?;
        Ok(plan)
    }

    /// Says which port is taken before anything is started: a program's own message would come later and less clearly.
    fn refuse_ports_in_use(&self) -> Result<(), Failure> {
        for (what, address) in self.listeners() {
            if address.port() == 0 {
                continue;
            }
            if let Err(error) = TcpListener::bind(address) {
                let port = address.port();
                return Err(Failure::Temporary(format!(
                    "port {port} (for {what}) cannot be used: {error}; choose other ports with --base-port N, or free \
                     ones with --base-port 0"
                )));
            }
        }
        Ok(())
    }

    fn listeners(&self) -> impl Iterator<Item = (String, SocketAddr)> {
        let ControlAddresses { api, admin, console, grpc, metrics } = self.control;
        let control = [
            ("the API", api),
            ("the admin API", admin),
            ("the console", console),
            ("gRPC", grpc),
            ("metrics", metrics),
        ];
        let fixed = control.into_iter().chain([("the origin", self.origin)]);
        let nodes = self.nodes.iter().flat_map(|node| {
            let name = &node.name;
            [(format!("the proxy of {name}"), node.proxy), (format!("the metrics of {name}"), node.metrics)]
        });
        fixed.map(|(what, address)| (what.to_owned(), address)).chain(nodes)
    }
}

/// Where the PoPs are that `dev` may have: name, degrees north and east.
pub fn places() -> impl Iterator<Item = (&'static str, f64, f64)> {
    POPS.into_iter()
}

fn node_name(number: u16) -> Result<NodeName, Failure> {
    let (round, place) = (usize::from(number) / POPS.len(), usize::from(number) % POPS.len());
    // fra1 … nrt1, then fra2 … nrt2, and so on.
    let pop = format!("{}{}", POPS[place].0.trim_end_matches('1'), round + 1);
    NodeName::new(&pop, "edge-1").map_err(|e| Failure::Internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_listener_has_its_own_port_and_every_node_its_own_name() {
        let base = 42_100;
        let Ok(plan) = Plan::new(base, 40) else { return };
        let ports: Vec<_> = plan.listeners().map(|(_, address)| address.port()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| *port >= base) && plan.control.api.port() == base);
        let names: HashSet<_> = plan.nodes.iter().map(|node| node.name.clone()).collect();
        assert_eq!(names.len(), 40);
        assert_eq!(plan.nodes[0].name.to_string(), "fra1/edge-1");
        assert_eq!(plan.nodes[16].name.to_string(), "fra2/edge-1");
    }

    #[test]
    fn zero_means_free_ports_throughout() {
        let plan = Plan::new(0, 3).unwrap();
        assert!(plan.listeners().all(|(_, address)| address.port() == 0 && address.ip().is_loopback()));
    }

    #[test]
    fn a_port_in_use_is_named_with_its_purpose() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Plan::new(port, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} (for the API)")), "{error}");
    }

    #[test]
    fn ports_end_somewhere() {
        assert!(matches!(Plan::new(65_530, 3), Err(Failure::Usage(_))));
    }
}
