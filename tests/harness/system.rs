use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::members::Members;
use crate::{Customer, Dev, Launch, Origin, Service, Visitor, eventually, free_port, scratch_on_disk};

/// The site of these systems.
pub const SITE: &str = "demo";
/// Its hostname.
pub const HOST: &str = "www.example.test";

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
    fn environment_of(&self, place: Place) -> Vec<(String, String)> {
        let own = self.own_environment.iter().filter(|(whose, _)| *whose == place);
        own.flat_map(|(_, variables)| variables.clone()).collect()
    }
}

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

    /// Moves the log of a control plane that is alone into an etcd of three members, by the operator's command, and starts
    /// it there.
    pub async fn move_to_etcd(&mut self) {
        let plan = SystemPlan { replicas: 3, ..SystemPlan::default() };
        let mut members = Members::plan(&plan, self.dir.path());
        members.start().await;
        let config = self.dir.path().join("control.toml");
        let mut text = std::fs::read_to_string(&config).expect("the control plane's configuration");
        let grpc =
            text.lines().skip_while(|line| *line != "[grpc]").find_map(|line| line.strip_prefix("listen = "));
        let grpc = grpc.expect("it says where nodes connect").trim_matches('"').to_owned();
        text += &several_config(1, &[1], &members.clients, &grpc);
        assert_eq!(self.control.stop().await, 0, "the control plane ends well");
        write(&config, &text);
        let config = config.to_str().expect("a path in UTF-8").to_owned();
        let launch =
            Launch::new("batoff-control", &["migrate", "--to", "etcd", "--config", &config], self.dir.path());
        let output = tokio::task::spawn_blocking(move || launch.run()).await.expect("it runs");
        assert!(output.status.success(), "migrate: {}", String::from_utf8_lossy(&output.stderr));
        self.control.start().await.unwrap_or_else(|why| panic!("{why}"));
        (self.members, self.member_clients) = (members.services, members.clients);
    }

    /// Starts two more replicas of a control plane whose log is in etcd, and lets them count.
    pub async fn grow_to_three(&mut self) {
        let plan = SystemPlan { replicas: 3, ..SystemPlan::default() };
        for replica in 1..3 {
            let (dir, data) = (self.dir.path(), self.data_dir.clone());
            let control = Control::start(replica, &plan, dir, &data, &self.member_clients).await;
            let url = |listener: &str| format!("http://{}", text(&control.announced, listener));
            let Customer { token, secret, .. } = self.customer.clone();
            self.customers.push(Customer::new(&url("api"), SITE, &token, &secret));
            self.admins.push(url("admin"));
            self.monitors.push(url("metrics"));
            self.others.push(control.service);
        }
        eventually("the three count", || async {
            let set = self.batoff(&["replicas", "set", "1", "2", "3"]).await;
            set.inspect_err(|why| eprintln!("not yet: {}", why.trim())).ok()
        })
        .await;
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

    async fn start_node(&self, node: usize, plan: &SystemPlan, grpc: &[String]) -> Edge {
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

    /// Where a node keeps its cursor and rules.
    pub fn node_state(&self, node: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[node].pop)
    }

    /// Runs the operator's command line tool beside the control plane; its lines of JSON, or what it complained about.
    pub async fn batoff(&self, args: &[&str]) -> Result<Vec<Value>, String> {
        self.batoff_at(0, args).await
    }

    /// The same beside a replica.
    pub async fn batoff_at(&self, replica: usize, args: &[&str]) -> Result<Vec<Value>, String> {
        let token = self.data_dir.join("admin.token");
        let mut all = vec!["-o", "json", "--admin", &self.admins[replica], "--admin-token-file"];
        all.push(token.to_str().expect("a path in UTF-8"));
        all.extend_from_slice(args);
        let namespace = self.apart.then(|| Place::Replica(replica).namespace());
        let launch = Launch::new("batoff", &all, self.dir.path()).inside(namespace.as_deref());
        let launch = launch.of(self.programs.as_deref());
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

    /// A replica, by its number from 0.
    pub fn replica(&mut self, number: usize) -> &mut Service {
        match number {
            0 => &mut self.control,
            other => &mut self.others[other - 1],
        }
    }

    /// What a replica says at `/readyz`: the status, and why.
    pub async fn readiness(&self, replica: usize) -> (u16, String) {
        readiness_at(&self.monitors[replica]).await.expect("a replica that runs tells of its health")
    }

    /// How often each node has dropped everything, as its metrics tell it.
    pub async fn resets(&self) -> Vec<String> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let metrics = Dev::metrics(&node.metrics).await;
            let line = metrics.lines().find(|line| line.starts_with("batoff_edge_resets_total"));
            all.push(line.expect("resets are counted").to_owned());
        }
        all
    }

    /// Waits until each replica says of each node that it is leased and has everything.
    pub async fn settled(&self) {
        for replica in 0..self.admins.len() {
            eventually("every node is leased and has everything", || async {
                let nodes = self.batoff_at(replica, &["nodes", "list"]).await.ok()?;
                let is_settled = |node: &Value| node["state"] == "leased" && node["lag_records"] == 0;
                (nodes.len() == self.nodes.len() && nodes.iter().all(is_settled)).then_some(())
            })
            .await;
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

/// What a program that tells of its health at this address says at `/readyz`; nothing while it cannot be asked.
pub async fn readiness_at(monitor: &str) -> Option<(u16, String)> {
    let answer = crate::http().get(format!("{monitor}/readyz")).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}

/// One replica of the control plane that runs.
struct Control {
    service: Service,
    announced: Value,
}

impl Control {
    async fn start(replica: usize, plan: &SystemPlan, dir: &Path, first: &Path, members: &[String]) -> Self {
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
fn several_config(id: usize, initial: &[usize], members: &[String], grpc: &str) -> String {
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

fn make_keys(dir: &Path, data_dir: &Path, plan: &SystemPlan) {
    let run = |program: &str, args: &[&str]| {
        let output = Launch::new(program, args, dir).of(plan.programs.as_deref()).run();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let data_dir = data_dir.to_str().expect("a path in UTF-8");
    run("batoff-control", &["init", "--data-dir", data_dir]);
    run("batoff", &["certs", "init", "--dir", "certs"]);
    // One certificate for all replicas.
    let hosts: Vec<_> =
        (0..plan.replicas).map(|replica| plan.ip(Place::Replica(replica)).to_string()).collect();
    let hosts: HashSet<_> = hosts.iter().map(String::as_str).collect();
    let hosts: Vec<_> = hosts.into_iter().collect();
    run("batoff", &[&["certs", "issue", "--dir", "certs", "--control"], &hosts[..]].concat());
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
