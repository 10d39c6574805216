//! Nodes of a system.

use std::net::IpAddr;
use std::path::Path;

use super::files::{daemon, port, write};
use super::{NODE, System, SystemPlan};
use crate::place::node_namespace;
use crate::{Origin, Place, Service};

/// One node.
pub struct Edge {
    /// Its program.
    pub service: Service,
    /// As `nodes list` calls its PoP.
    pub pop: String,
    /// Where visitors connect.
    pub proxy: String,
    /// `/metrics` of the node.
    pub metrics: String,
}

impl System {
    pub(super) async fn start_node(&self, node: usize, plan: &SystemPlan, grpc: &[String]) -> Edge {
        let (pop, dir) = (format!("pop{node}"), self.dir.path());
        let ip = plan.ip(Place::Node(node));
        let (config, namespace) = (dir.join(format!("{pop}.toml")), node_namespace(node));
        let launch = daemon("batoff-proxy", &config, &[])
            .with(&plan.node_environment)
            .with(&plan.environment_of(Place::Node(node)))
            .of(plan.programs.as_deref())
            .inside(plan.apart.then_some(namespace.as_str()));
        let mut service = Service::new(&pop, launch, &dir.join(format!("{pop}.log")));
        let text_of = |ports| node_config(dir, &pop, plan.on_lease_lost, grpc, &self.origin, ip, ports);
        write(&config, &text_of([0, 0]));
        let announced = service.start().await.unwrap_or_else(|why| panic!("{why}"));
        let ports = ["proxy", "metrics"].map(|name| port(&announced, name));
        write(&config, &text_of(ports));
        let [proxy, metrics] = ports.map(|port| format!("http://{ip}:{port}"));
        Edge { service, pop, proxy, metrics: format!("{metrics}/metrics") }
    }
}

fn node_config(
    dir: &Path,
    pop: &str,
    on_lease_lost: &str,
    grpc: &[String],
    origin: &Origin,
    ip: IpAddr,
    [proxy, metrics]: [u16; 2],
) -> String {
    let (certs, dir, origin) = (dir.join("certs").display().to_string(), dir.display(), origin.url());
    let endpoints: Vec<_> = grpc.iter().map(|grpc| format!("https://{grpc}")).collect();
    format!(
        r#"
node = {{ pop = "{pop}", node = "{NODE}" }}
state.dir = "{dir}/{pop}"
lease.on_lease_lost = "{on_lease_lost}"
metrics.listen = "{ip}:{metrics}"
proxy = {{ listen = "{ip}:{proxy}", origin = "{origin}" }}
[control]
endpoints = {endpoints:?}
ca = "{certs}/ca.pem"
cert = "{certs}/{pop}-{NODE}.pem"
key = "{certs}/{pop}-{NODE}.key"
"#
    )
}
