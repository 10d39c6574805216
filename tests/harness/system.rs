use std::net::Ipv4Addr;
use std::path::PathBuf;

use self::control::Control;
use self::files::{make_keys, text};
use crate::members::Members;
use crate::place::address;
use crate::{Customer, Origin, Service, Visitor, scratch_on_disk};

mod control;
mod edge;
mod files;
mod growth;
mod plan;
mod told;

pub use self::edge::Edge;
pub use self::plan::SystemPlan;
pub use self::told::readiness_at;

/// The site of these systems.
pub const SITE: &str = "demo";
/// Its hostname.
pub const HOST: &str = "www.example.test";
/// What each PoP calls its node.
const NODE: &str = "edge-1";

/// A whole system of real programs, each of which the test holds in its hand; mutual TLS between them.
pub struct System {
    /// The control plane; the first replica of it.
    pub control: Service,
    /// The other replicas.
    pub others: Vec<Service>,
    /// The members of etcd that several replicas share.
    pub members: Vec<Service>,
    /// Where those are asked.
    pub member_clients: Vec<String>,
    /// The customer at each replica.
    pub customers: Vec<Customer>,
    /// The nodes.
    pub nodes: Vec<Edge>,
    /// Where pages come from.
    pub origin: Origin,
    /// Its customer.
    pub customer: Customer,
    /// The control plane's data.
    pub data_dir: PathBuf,
    /// `/metrics` of the control plane.
    pub metrics: String,
    /// Where the operator's command line tool lies, when it is not the one under test.
    pub programs: Option<PathBuf>,
    /// Of each replica.
    admins: Vec<String>,
    /// Where each replica tells of its health.
    monitors: Vec<String>,
    apart: bool,
    dir: tempfile::TempDir,
}

impl System {
    /// Starts it, and waits until each node is registered, caught up and leased.
    pub async fn start(plan: SystemPlan) -> Self {
        let dir = scratch_on_disk();
        let data_dir = plan.data_dir.clone().unwrap_or_else(|| dir.path().join("control"));
        make_keys(dir.path(), &data_dir, &plan);
        let origin = Origin::start(if plan.apart { address(0) } else { Ipv4Addr::LOCALHOST.into() }).await;

        let mut members = Members::plan(&plan, dir.path());
        members.start().await;
        let mut controls = Vec::new();
        for replica in 0..plan.replicas {
            controls.push(Control::start(replica, &plan, dir.path(), &data_dir, &members.clients).await);
        }
        let at_url =
            |control: &Control, listener: &str| format!("http://{}", text(&control.announced, listener));
        let customers: Vec<_> =
            controls.iter().map(|control| Customer::new(&at_url(control, "api"), SITE, "", "")).collect();
        let grpc: Vec<_> =
            controls.iter().map(|control| text(&control.announced, "grpc").to_owned()).collect();
        let monitors: Vec<_> = controls.iter().map(|control| at_url(control, "metrics")).collect();
        let admins = controls.iter().map(|control| at_url(control, "admin")).collect();
        let mut services: Vec<_> = controls.into_iter().map(|control| control.service).collect();

        let mut system = Self {
            control: services.remove(0),
            others: services,
            members: members.services,
            member_clients: members.clients,
            nodes: Vec::new(),
            origin,
            customer: customers[0].clone(),
            customers,
            metrics: format!("{}/metrics", monitors[0]),
            admins,
            monitors,
            data_dir,
            programs: plan.programs.clone(),
            apart: plan.apart,
            dir,
        };
        system.open_site().await;
        for node in 0..plan.nodes {
            let edge = system.start_node(node, &plan, &grpc).await;
            system.nodes.push(edge);
        }
        system.settled().await;
        system
    }

    async fn open_site(&mut self) {
        let made = self.batoff(&["sites", "create", SITE, "--host", HOST]).await;
        made.expect("the site is created");
        let issued = self.batoff(&["tokens", "issue", SITE, "--label", "tests"]).await;
        let issued = issued.expect("a token is issued").remove(0);
        let member = |name: &str| issued[name].as_str().expect("a string").to_owned();
        for customer in &mut self.customers {
            *customer = Customer::new(&customer.api, SITE, &member("token"), &member("secret"));
        }
        self.customer = self.customers[0].clone();
    }

    /// Where a node keeps its cursor and rules.
    pub fn node_state(&self, node: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[node].pop)
    }

    /// A replica, by its number from 0.
    pub fn replica(&mut self, number: usize) -> &mut Service {
        match number {
            0 => &mut self.control,
            other => &mut self.others[other - 1],
        }
    }

    /// Reads a page through each node until all have it in their cache.
    pub async fn warm(&self, path: &str) {
        let visitor = Visitor::default();
        for node in &self.nodes {
            visitor.warm(&node.proxy, HOST, path).await;
        }
    }

    /// The URL of a page.
    pub fn url(path: &str) -> String {
        format!("https://{HOST}{path}")
    }
}
