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

/// Ports of one replica of the control plane, and from one to the next one's, behind the nodes'.
const PORTS_PER_REPLICA: u16 = 5;

/// The same of the members of etcd, behind the replicas'.
const PORTS_PER_MEMBER: u16 = 2;

/// Where the first node's ports are, counted from the base.
const NODES_AT: u16 = 10;

/// Who runs, and where each one listens; port 0 is a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The control plane's replicas, from the first on; one, mostly.
    pub controls: Vec<ControlAddresses>,
    /// The members of etcd that several replicas share; none where one is alone.
    pub members: Vec<MemberPlan>,
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

/// One member of etcd and its listeners. Their ports are known before it starts: the members have to be told one another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberPlan {
    /// For the control plane.
    pub client: SocketAddr,
    /// For the other members.
    pub peer: SocketAddr,
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
    /// So many PoPs of one node, and so many replicas of the control plane; listeners from `base` up, or on free ports when
    /// it is 0.
    pub fn new(base: u16, pops: u16, replicas: u16) -> Result<Self, Failure> {
        let nodes_end = NODES_AT + pops * PORTS_PER_NODE;
        let members_at = nodes_end + (replicas - 1) * PORTS_PER_REPLICA;
        let members = if replicas > 1 { replicas } else { 0 };
        let highest = members_at + members * PORTS_PER_MEMBER;
        if base != 0 && base.checked_add(highest).is_none() {
            return Err(Failure::Usage(format!(
                "--base-port {base} leaves no room for {highest} ports; try 8080 or 0"
            )));
        }
        let at =
            |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if base == 0 { 0 } else { base + offset }));
        let replica = |first: u16| ControlAddresses {
            api: at(first),
            console: at(first + 1),
            admin: at(first + 2),
            grpc: at(first + 3),
            metrics: at(first + 4),
        };
        let others = (1..replicas).map(|n| replica(nodes_end + (n - 1) * PORTS_PER_REPLICA));
        let mut controls: Vec<_> = std::iter::once(replica(0)).chain(others).collect();
        let mut members: Vec<_> = (0..members)
            .map(|n| members_at + n * PORTS_PER_MEMBER)
            .map(|first| MemberPlan { client: at(first), peer: at(first + 1) })
            .collect();
        let nodes = (0..pops)
            .map(|n| {
                let offset = NODES_AT + n * PORTS_PER_NODE;
                Ok(NodePlan { name: node_name(n)?, proxy: at(offset), metrics: at(offset + 1) })
            })
            .collect::<Result<_, Failure>>()?;
        if replicas > 1 {
            // What others have to be told before it listens.
            let told = controls.iter_mut().map(|control| &mut control.grpc);
            choose(told.chain(members.iter_mut().flat_map(|member| [&mut member.client, &mut member.peer])))?;
        }
        let plan = Self { controls, members, origin: at(5), nodes };
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
        let controls = self.controls.iter().flat_map(|at| {
            [
                ("the API", at.api),
                ("the admin API", at.admin),
                ("the console", at.console),
                ("gRPC", at.grpc),
                ("metrics", at.metrics),
            ]
        });
        let members = self.members.iter().flat_map(|at| [("etcd", at.client), ("members of etcd", at.peer)]);
        let fixed = controls.chain(members).chain([("the origin", self.origin)]);
        let nodes = self.nodes.iter().flat_map(|node| {
            let name = &node.name;
            [(format!("the proxy of {name}"), node.proxy), (format!("the metrics of {name}"), node.metrics)]
        });
        fixed.map(|(what, address)| (what.to_owned(), address)).chain(nodes)
    }
}

/// Gives free ports to those that have none.
fn choose<'a>(addresses: impl Iterator<Item = &'a mut SocketAddr>) -> Result<(), Failure> {
    // All are held until all are known, so that no two are the same.
    let mut held = Vec::new();
    for address in addresses.filter(|address| address.port() == 0) {
        let free = TcpListener::bind(*address).and_then(|free| Ok((free.local_addr()?, free)));
        let (found, free) = free.map_err(|e| Failure::Temporary(format!("no free port: {e}")))?;
        *address = found;
        held.push(free);
    }
    Ok(())
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
        let Ok(plan) = Plan::new(base, 40, 3) else { return };
        let ports: Vec<_> = plan.listeners().map(|(_, address)| address.port()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| *port >= base) && plan.controls[0].api.port() == base);
        let names: HashSet<_> = plan.nodes.iter().map(|node| node.name.clone()).collect();
        assert_eq!(names.len(), 40);
        assert_eq!(plan.nodes[0].name.to_string(), "fra1/edge-1");
        assert_eq!(plan.nodes[16].name.to_string(), "fra2/edge-1");
    }

    #[test]
    fn zero_means_free_ports_throughout() {
        let plan = Plan::new(0, 3, 1).unwrap();
        assert!(plan.listeners().all(|(_, address)| address.port() == 0 && address.ip().is_loopback()));
        let several = Plan::new(0, 3, 3).unwrap();
        assert_eq!((several.controls.len(), several.members.len()), (3, 3));
        let told = several.controls.iter().map(|control| control.grpc);
        let told: HashSet<_> =
            told.chain(several.members.iter().flat_map(|at| [at.client, at.peer])).collect();
        assert!(told.len() == 9 && told.iter().all(|address| address.port() != 0), "others are told these");
    }

    #[test]
    fn a_port_in_use_is_named_with_its_purpose() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Plan::new(port, 1, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} (for the API)")), "{error}");
    }

    #[test]
    fn ports_end_somewhere() {
        assert!(matches!(Plan::new(65_530, 3, 1), Err(Failure::Usage(_))));
    }
}
