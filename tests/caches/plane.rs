//! A real control plane, with one customer's site and a neighbour's.

use std::path::{Path, PathBuf};

use batoff_tests::{Customer, binary, eventually, http};
use serde_json::{Value, json};

use crate::process::Process;

/// The customer's hostnames: two exact names and a wildcard.
pub const HOSTS: [&str; 3] = ["www.example.test", "static.example.test", "*.shop.example.test"];

/// A name under the wildcard.
pub const UNDER_WILDCARD: &str = "de.shop.example.test";

/// The neighbour's hostname.
pub const NEIGHBOR: &str = "www.neighbor.test";

/// A control plane on free ports.
pub struct Plane {
    /// The customer who owns [`HOSTS`].
    pub customer: Customer,
    /// `host:port` of the nodes' stream, in plain text.
    pub grpc: String,
    admin: String,
    admin_token: String,
    process: Process,
    config: PathBuf,
    log: PathBuf,
}

impl Plane {
    /// Starts one whose data lies in `dir`.
    pub async fn start(dir: &Path) -> Self {
        let data = dir.join("control");
        let made = std::process::Command::new(binary("batoff-control"))
            .args(["init", "--data-dir"])
            .arg(&data)
            .output()
            .expect("batoff-control runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let admin_token = std::fs::read_to_string(data.join("admin.token")).expect("the admin token");
        let (config, log) = (dir.join("control.toml"), dir.join("control.log"));
        std::fs::write(&config, configuration(&data, None)).expect("a file");
        let (process, line) = Process::announced("batoff-control", &config, &log);
        // The same ports after a restart.
        std::fs::write(&config, configuration(&data, Some(&line))).expect("a file");
        let address = |name: &str| line[name].as_str().expect("an address").to_owned();
        let mut plane = Self {
            customer: Customer::new(&format!("http://{}", address("api")), "mine", "", ""),
            grpc: address("grpc"),
            admin: format!("http://{}", address("admin")),
            admin_token: admin_token.trim().to_owned(),
            process,
            config,
            log,
        };
        plane.add_site("mine", &HOSTS).await;
        plane.add_site("neighbor", &[NEIGHBOR]).await;
        let token = plane.ask("/sites/mine/tokens", &json!({"label": "test", "scopes": ["purge"]})).await;
        for (part, text) in [(&mut plane.customer.token, "token"), (&mut plane.customer.secret, "secret")] {
            token[text].as_str().expect("a credential").clone_into(part);
        }
        plane
    }

    async fn add_site(&self, site: &str, hosts: &[&str]) {
        self.ask("/sites", &json!({"site_id": site, "hostnames": hosts})).await;
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/admin/v1{path}", self.admin);
        let request = http().post(url).bearer_auth(&self.admin_token).body(body.to_string());
        let reply = request.header("Content-Type", "application/json").send().await;
        let reply = reply.expect("the admin API answers");
        let status = reply.status();
        let text = reply.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Waits until a node has its lease and is not behind.
    pub async fn leased(&self, pop: &str) {
        eventually(&format!("the node in {pop} is leased"), || async {
            let node = self.node(pop).await?;
            (node["state"] == "leased" && node["lag_records"] == 0).then_some(())
        })
        .await;
    }

    /// Waits until a node has acknowledged everything that is accepted by now.
    pub async fn caught_up(&self, pop: &str) {
        eventually(&format!("the node in {pop} has acknowledged"), || async {
            (self.node(pop).await?["lag_records"] == 0).then_some(())
        })
        .await;
    }

    /// What the control plane says of the node in a PoP.
    pub async fn node(&self, pop: &str) -> Option<Value> {
        let request = http().get(format!("{}/admin/v1/nodes", self.admin)).bearer_auth(&self.admin_token);
        let nodes: Value = request.send().await.ok()?.json().await.ok()?;
        nodes["nodes"].as_array()?.iter().find(|node| node["pop"] == pop).cloned()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.process = Process::announced("batoff-control", &self.config, &self.log).0;
    }
}

fn configuration(data: &Path, addresses: Option<&Value>) -> String {
    let address = |name: &str| {
        let known = addresses.and_then(|line| line[name].as_str());
        known.unwrap_or("127.0.0.1:0").to_owned()
    };
    format!(
        "[data]\ndir = {data:?}\n[api]\nlisten = {:?}\n[admin]\nlisten = {:?}\n[console]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = {:?}\n\
         [grpc]\nlisten = {:?}\nplaintext = true\n\
         [limits]\nitems_per_minute = 1000000\nprefixes_per_minute = 100000\n",
        address("api"),
        address("admin"),
        address("metrics"),
        address("grpc"),
    )
}
