use std::net::{IpAddr, Ipv4Addr};

/// Where a program runs, when each has a network namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A replica of the control plane, counted from 0.
    Replica(usize),
    /// A node.
    Node(usize),
    /// A member of etcd.
    Member(usize),
}

impl Place {
    /// Its namespace.
    pub fn namespace(self) -> String {
        match self {
            Self::Replica(0) => CONTROL_NAMESPACE.to_owned(),
            Self::Replica(replica) => format!("control{replica}"),
            Self::Node(node) => node_namespace(node),
            Self::Member(member) => format!("etcd{member}"),
        }
    }

    /// Its address there.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Replica(0) => address(1),
            Self::Node(node) => address(2 + node),
            Self::Replica(replica) => address(100 + replica),
            Self::Member(member) => address(120 + member),
        }
    }
}

/// The namespace of the control plane, and its address there.
pub const CONTROL_NAMESPACE: &str = "control";

/// The namespace of a node.
pub fn node_namespace(node: usize) -> String {
    format!("node{node}")
}

/// The address of a program in its namespace: 0 is the test itself, 1 the control plane, nodes follow.
pub fn address(place: usize) -> IpAddr {
    let place = u8::try_from(place + 1).expect("a few nodes");
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, place))
}
