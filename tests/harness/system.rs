use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Customer, Launch, Origin, Service, Visitor, eventually, scratch_on_disk};

/// The site of these systems.
pub const SITE: &str = "demo";
/// Its hostname.
pub const HOST: &str = "www.example.test";

/// How a system is put together.
#[derive(Clone, Debug)]
pub struct SystemPlan {
    /// How many PoPs, of one node each.
    pub nodes: usize,
    /// `on_lease_lost` of the nodes.
    pub on_lease_lost: &'static str,
    /// The control plane's data, when it is not beside everything else.
    pub data_dir: Option<PathBuf>,
    /// Variables in the control plane's environment.
    pub control_environment: Vec<(String, String)>,
    /// Variables in each node's environment.
    pub node_environment: Vec<(String, String)>,
    /// Whether each program is in a network namespace of its own, as [`crate::Network`] lays them out.
    pub apart: bool,
}

impl Default for SystemPlan {
    fn default() -> Self {
        Self {
            nodes: 3,
            on_lease_lost: "revalidate",
            data_dir: None,
            control_environment: Vec::new(),
            node_environment: Vec::new(),
            apart: false,
        }
    }
}

/// A whole system of real programs, each of which the test holds in its hand; mutual TLS between them.
pub struct System {
    /// The control plane.
    pub control: Service,
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
    admin: String,
    apart: bool,
    dir: tempfile::TempDir,
}

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

/// The namespace of the control plane, and its address there.
pub const CONTROL_NAMESPACE: &str = "control";
const NODE: &str = "edge-1";

/// The namespace of a node.
pub fn node_namespace(node: usize) -> String {
    format!("node{node}")
}

/// The address of a program in its namespace: 0 is the test itself, 1 the control plane, nodes follow.
pub fn address(place: usize) -> IpAddr {
    let place = u8::try_from(place + 1).expect("a few nodes");
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, place))
}

impl System {
    /// Starts it, and waits until each node is registered, caught up and leased.
    pub async fn start(plan: SystemPlan) -> Self {
        let dir = scratch_on_disk();
        let at = |place| if plan.apart { address(place) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let data_dir = plan.data_dir.clone().unwrap_or_else(|| dir.path().join("control"));
        make_keys(dir.path(), &data_dir, &plan, at(1));
        let origin = Origin::start(at(0)).await;

        let (namespace, config) = (plan.apart.then_some(CONTROL_NAMESPACE), dir.path().join("control.toml"));
        let launch = daemon("batoff-control", &config, &[]).with(&plan.control_environment).inside(namespace);
        let mut control = Service::new("the control plane", launch, &dir.path().join("control.log"));
        let free = [0; 4];
        write(&config, &control_config(dir.path(), &data_dir, at(1), plan.apart, free));
        let announced = control.start().await.unwrap_or_else(|why| panic!("{why}"));
        let ports = ["api", "admin", "grpc", "metrics"].map(|name| port(&announced, name));
        // What is started again must be found where it was.
        write(&config, &control_config(dir.path(), &data_dir, at(1), plan.apart, ports));
        let url = |listener: &str| format!("http://{}", text(&announced, listener));

        let mut system = Self {
            control,
            nodes: Vec::new(),
            origin,
            customer: Customer::new(&url("api"), SITE, "", ""),
            metrics: format!("{}/metrics", url("metrics")),
            admin: url("admin"),
            data_dir,
            apart: plan.apart,
            dir,
        };
        system.open_site().await;
        for node in 0..plan.nodes {
            let edge = system.start_node(node, &plan, at(node + 2), text(&announced, "grpc")).await;
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
        self.customer = Customer::new(&self.customer.api, SITE, &member("token"), &member("secret"));
    }

    async fn start_node(&self, node: usize, plan: &SystemPlan, ip: IpAddr, grpc: &str) -> Edge {
        let (pop, dir) = (format!("pop{node}"), self.dir.path());
        let (config, namespace) = (dir.join(format!("{pop}.toml")), node_namespace(node));
        let launch = daemon("batoff-proxy", &config, &[])
            .with(&plan.node_environment)
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

    /// Where a node keeps its cursor and rules.
    pub fn node_state(&self, node: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[node].pop)
    }

    /// Runs the operator's command line tool beside the control plane; its lines of JSON, or what it complained about.
    pub async fn batoff(&self, args: &[&str]) -> Result<Vec<Value>, String> {
        let token = self.data_dir.join("admin.token");
        let mut all = vec!["-o", "json", "--admin", &self.admin, "--admin-token-file"];
        all.push(token.to_str().expect("a path in UTF-8"));
        all.extend_from_slice(args);
        let namespace = self.apart.then_some(CONTROL_NAMESPACE);
        let launch = Launch::new("batoff", &all, self.dir.path()).inside(namespace);
        let output = tokio::task::spawn_blocking(move || launch.run()).await.expect("it runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("text");
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// What the control plane says of a node; nothing while it cannot be asked.
    pub async fn node(&self, node: usize) -> Option<Value> {
        let nodes = self.batoff(&["nodes", "list"]).await.ok()?;
        nodes.into_iter().find(|entry| entry["pop"] == self.nodes[node].pop.as_str())
    }

    /// Waits until each node is leased and has everything.
    pub async fn settled(&self) {
        eventually("every node is leased and has everything", || async {
            let nodes = self.batoff(&["nodes", "list"]).await.ok()?;
            let is_settled = |node: &Value| node["state"] == "leased" && node["lag_records"] == 0;
            (nodes.len() == self.nodes.len() && nodes.iter().all(is_settled)).then_some(())
        })
        .await;
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

fn make_keys(dir: &Path, data_dir: &Path, plan: &SystemPlan, control: IpAddr) {
    let run = |program: &str, args: &[&str]| {
        let output = Launch::new(program, args, dir).run();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let data_dir = data_dir.to_str().expect("a path in UTF-8");
    run("batoff-control", &["init", "--data-dir", data_dir]);
    run("batoff", &["certs", "init", "--dir", "certs"]);
    run("batoff", &["certs", "issue", "--dir", "certs", "--control", &control.to_string()]);
    for node in 0..plan.nodes {
        run("batoff", &["certs", "issue", "--dir", "certs", "--node", &format!("pop{node}/{NODE}")]);
    }
}

fn daemon(name: &str, config: &Path, args: &[&str]) -> Launch {
    let config_text = config.to_str().expect("a path in UTF-8");
    let dir = config.parent().expect("a file lies in a directory");
    let usual = ["--config", config_text, "--announce", "--exit-with-parent"];
    Launch::new(name, &[&usual[..], args].concat(), dir)
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

fn node_config(
    dir: &Path,
    pop: &str,
    on_lease_lost: &str,
    grpc: &str,
    origin: &Origin,
    ip: IpAddr,
    [proxy, metrics]: [u16; 2],
) -> String {
    let (certs, dir, origin) = (dir.join("certs").display().to_string(), dir.display(), origin.url());
    format!(
        r#"
node = {{ pop = "{pop}", node = "{NODE}" }}
state.dir = "{dir}/{pop}"
lease.on_lease_lost = "{on_lease_lost}"
metrics.listen = "{ip}:{metrics}"
proxy = {{ listen = "{ip}:{proxy}", origin = "{origin}" }}
[control]
endpoints = ["https://{grpc}"]
ca = "{certs}/ca.pem"
cert = "{certs}/{pop}-{NODE}.pem"
key = "{certs}/{pop}-{NODE}.key"
"#
    )
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file is written");
}

fn text<'a>(announced: &'a Value, listener: &str) -> &'a str {
    announced[listener].as_str().unwrap_or_else(|| panic!("{listener} is not announced: {announced}"))
}

fn port(announced: &Value, listener: &str) -> u16 {
    let (_, port) = text(announced, listener).rsplit_once(':').expect("an address has a port");
    port.parse().expect("a port")
}
