use std::path::Path;

use tokio::net::TcpStream;

use crate::system::SystemPlan;
use crate::{Launch, Place, Service, eventually, free_port};

/// Names the program that the members are, where it is not the `etcd` in `PATH`: to run the same stories with another
/// version.
const PROGRAM: &str = "BATOFF_ETCD";

/// The members of etcd of a system.
pub(crate) struct Members {
    /// Where they are asked.
    pub(crate) clients: Vec<String>,
    /// Their processes, which do not run yet.
    pub(crate) services: Vec<Service>,
}

impl Members {
    /// Starts them, and waits until each listens: some releases take a while.
    pub(crate) async fn start(&mut self) {
        for member in &mut self.services {
            member.start().await.unwrap_or_else(|why| panic!("{why}"));
        }
        for client in &self.clients {
            let address = client.trim_start_matches("http://");
            eventually("a member of etcd listens", || async { TcpStream::connect(address).await.ok() }).await;
        }
    }

    /// None, where the control plane is alone.
    pub(crate) fn plan(plan: &SystemPlan, dir: &Path) -> Self {
        let members = if plan.replicas > 1 { plan.replicas } else { 0 };
        let url = |member| {
            let (ip, port) = (plan.ip(Place::Member(member)), free_port());
            format!("http://{ip}:{port}")
        };
        let (clients, peers): (Vec<_>, Vec<_>) =
            (0..members).map(|member| (url(member), url(member))).unzip();
        let cluster: Vec<_> = peers.iter().enumerate().map(|(n, peer)| format!("n{n}={peer}")).collect();
        let cluster = cluster.join(",");
        let program = std::env::var(PROGRAM).unwrap_or_else(|_| "etcd".to_owned());
        let service = |member: usize| {
            let name = format!("n{member}");
            let data = plan.member_dirs.get(member).map_or_else(|| dir.to_owned(), Clone::clone);
            let data = data.join(format!("etcd{member}"));
            let (client, peer) = (&clients[member], &peers[member]);
            let mut args = vec![
                // What it listens on is known; the line is what every program here says first.
                "-c",
                "echo '{}'; exec \"$0\" \"$@\" >&2",
                &program,
                "--name",
                &name,
                "--listen-client-urls",
                client,
                "--advertise-client-urls",
                client,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                &cluster,
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
                "--pre-vote=true",
                "--logger",
                "zap",
                "--log-level",
                "warn",
                "--data-dir",
                data.to_str().expect("a path in UTF-8"),
            ];
            args.extend(plan.member_arguments.iter().map(String::as_str));
            let namespace = Place::Member(member).namespace();
            let launch = Launch::system("sh", &args, dir).inside(plan.apart.then_some(namespace.as_str()));
            Service::new(&format!("etcd {member}"), launch, &dir.join(format!("etcd{member}.log")))
        };
        let services = (0..members).map(service).collect();
        Self { clients, services }
    }
}
