use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::Place;

/// How a system is put together.
#[derive(Clone, Debug)]
pub struct SystemPlan {
    /// How many PoPs, of one node each.
    pub nodes: usize,
    /// How many control planes; with more than one over as many members of etcd.
    pub replicas: usize,
    /// `on_lease_lost` of the nodes.
    pub on_lease_lost: &'static str,
    /// The control plane's data, when it is not beside everything else.
    pub data_dir: Option<PathBuf>,
    /// Variables in the control plane's environment.
    pub control_environment: Vec<(String, String)>,
    /// Variables in each node's environment.
    pub node_environment: Vec<(String, String)>,
    /// Variables in the environment of one program each.
    pub own_environment: Vec<(Place, Vec<(String, String)>)>,
    /// Where the data of each member of etcd is, when it is not beside everything else.
    pub member_dirs: Vec<PathBuf>,
    /// Further arguments of every member of etcd.
    pub member_arguments: Vec<String>,
    /// Whether each program is in a network namespace of its own, as [`crate::Network`] lays them out.
    pub apart: bool,
    /// Where its programs lie at first, when they are not those under test.
    pub programs: Option<PathBuf>,
}

impl Default for SystemPlan {
    fn default() -> Self {
        Self {
            nodes: 3,
            replicas: 1,
            on_lease_lost: "revalidate",
            data_dir: None,
            control_environment: Vec::new(),
            node_environment: Vec::new(),
            own_environment: Vec::new(),
            member_dirs: Vec::new(),
            member_arguments: Vec::new(),
            apart: false,
            programs: None,
        }
    }
}

impl SystemPlan {
    /// The address of a program.
    pub(crate) fn ip(&self, place: Place) -> IpAddr {
        if self.apart { place.address() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    /// What one program has in its environment besides what all of its kind have.
    pub(super) fn environment_of(&self, place: Place) -> Vec<(String, String)> {
        let own = self.own_environment.iter().filter(|(whose, _)| *whose == place);
        own.flat_map(|(_, variables)| variables.clone()).collect()
    }
}
