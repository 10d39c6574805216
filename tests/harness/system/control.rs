//! Replicas of the control plane: those of a system, and further processes of them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde_json::Value;

use super::files::{daemon, port, write};
use super::{System, SystemPlan};
use crate::{Place, Service, free_port};

/// One replica of the control plane that runs.
pub(super) struct Control {
    pub(super) service: Service,
    pub(super) announced: Value,
}

impl Control {
    pub(super) async fn start(
        replica: usize,
        plan: &SystemPlan,
        dir: &Path,
        first: &Path,
        members: &[String],
    ) -> Self {
        let (place, name) = (Place::Replica(replica), format!("control{}", suffix(replica)));
        let ip = plan.ip(place);
        let data_dir = if replica == 0 { first.to_owned() } else { dir.join(&name) };
        if replica > 0 {
            copy_secrets(first, &data_dir);
        }
        let (config, namespace) = (dir.join(format!("{name}.toml")), place.namespace());
        let launch = daemon("batoff-control", &config, &[])
            .with(&plan.control_environment)
            .with(&plan.environment_of(place))
            .of(plan.programs.as_deref())
            .inside(plan.apart.then_some(namespace.as_str()));
        let called = format!("the control plane{}", suffix(replica));
        let mut service = Service::new(&called, launch, &dir.join(format!("{name}.log")));
        // Nodes are told where the others are before those listen.
        let grpc = if members.is_empty() { 0 } else { free_port() };
        let text_of = |ports: [u16; 4]| {
            let mut text = control_config(dir, &data_dir, ip, plan.apart, ports);
            if !members.is_empty() {
                let initial: Vec<_> = (1..=plan.replicas).collect();
                text += &several_config(replica + 1, &initial, members, &format!("{ip}:{}", ports[2]));
            }
            text
        };
        write(&config, &text_of([0, 0, grpc, 0]));
        let announced = service.start().await.unwrap_or_else(|why| panic!("{why}"));
        // What is started again must be found where it was.
        let ports = ["api", "admin", "grpc", "metrics"].map(|name| port(&announced, name));
        write(&config, &text_of(ports));
        Self { service, announced }
    }
}

/// All replicas have the same secrets.
fn copy_secrets(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for secret in ["master.key", "admin.token"] {
        std::fs::copy(from.join(secret), to.join(secret)).expect("a secret");
    }
}

/// What makes a control plane one of several.
pub(super) fn several_config(id: usize, initial: &[usize], members: &[String], grpc: &str) -> String {
    format!(
        r#"
[store]
engine = "etcd"
etcd.endpoints = {members:?}
[replica]
id = {id}
initial = {initial:?}
advertise = "https://{grpc}"
[console]
listen = "127.0.0.1:0"
"#
    )
}

/// Of the names of a replica's files; the first one's are those of a control plane that is alone.
fn suffix(replica: usize) -> String {
    if replica == 0 { String::new() } else { format!("-{}", replica + 1) }
}

impl System {
    /// A second process of the second replica, with listeners and a data folder of its own, that does not run yet; and where
    /// it tells of its health.
    pub fn twin_of_the_second(&self) -> (Service, String) {
        let (dir, data_dir) = (self.dir.path(), self.dir.path().join("control-twin"));
        copy_secrets(&self.data_dir, &data_dir);
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let monitor = free_port();
        let mut text = control_config(dir, &data_dir, ip, self.apart, [0, 0, 0, monitor]);
        // Nodes go on to the one that they know.
        text += &several_config(2, &[1, 2, 3], &self.member_clients, &format!("{ip}:{}", free_port()));
        let config = dir.join("control-twin.toml");
        write(&config, &text);
        let launch = daemon("batoff-control", &config, &[]);
        let twin = Service::new("the second's twin", launch, &dir.join("control-twin.log"));
        (twin, format!("http://{ip}:{monitor}"))
    }

    /// A control plane like this system's on another data folder, to be started when this system's has ended.
    pub fn control_on(&self, data_dir: &Path) -> Service {
        let data_dir = data_dir.to_str().expect("a path in UTF-8").to_owned();
        let launch = daemon("batoff-control", &self.dir.path().join("control.toml"), &[]);
        let launch = launch.with(&[("BATOFF_DATA_DIR".to_owned(), data_dir)]);
        Service::new("the control plane elsewhere", launch, &self.dir.path().join("elsewhere.log"))
    }

    /// This system's control plane with further arguments, to be started when it has ended.
    pub fn control_once(&self, args: &[&str]) -> Service {
        let launch = daemon("batoff-control", &self.dir.path().join("control.toml"), args);
        Service::new("the control plane, once", launch, &self.dir.path().join("once.log"))
    }
}

fn control_config(dir: &Path, data_dir: &Path, ip: IpAddr, apart: bool, ports: [u16; 4]) -> String {
    let (certs, data_dir) = (dir.join("certs").display().to_string(), data_dir.display());
    let [api, admin, grpc, metrics] = ports;
    format!(
        r#"
data.dir = "{data_dir}"
admin.listen = "127.0.0.1:{admin}"
metrics.listen = "127.0.0.1:{metrics}"
[api]
listen = "{ip}:{api}"
behind_tls_proxy = {apart}
[grpc]
listen = "{ip}:{grpc}"
ca = "{certs}/ca.pem"
cert = "{certs}/control.pem"
key = "{certs}/control.key"
reconnect_max_ms = 1000
[limits]
items_per_minute = 10000000
prefixes_per_minute = 1000000
"#
    )
}
