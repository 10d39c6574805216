//! Control planes as real programs: one alone with the embedded store, or some beside one log in etcd.

use std::path::Path;

use anyhow::{Context, ensure};
use batoff_tests::{Customer, Launch, Program, Service, eventually, free_port, scratch};
use serde_json::{Value, json};

/// Where the purge log of some control planes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// In the data folder of the only one.
    Embedded,
    /// In etcd, for so many.
    Etcd(usize),
}

impl Log {
    pub const fn replicas(self) -> usize {
        match self {
            Self::Embedded => 1,
            Self::Etcd(replicas) => replicas,
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Embedded => "1, embedded".to_owned(),
            Self::Etcd(replicas) => format!("{replicas}, etcd"),
        }
    }
}

/// Control planes of one log, with a site `bench` and quotas that do not bind.
pub struct Planes {
    pub services: Vec<Service>,
    /// The customer at each.
    pub customers: Vec<Customer>,
    /// `host:port` of the API of each.
    pub apis: Vec<String>,
    /// The port of the nodes' streams of each.
    pub grpc: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Planes {
    /// Starts them on a log of their own; nodes speak plaintext.
    pub async fn start(log: Log, members: &[String]) -> anyhow::Result<Self> {
        let dir = scratch();
        let first = dir.path().join("data1");
        let init =
            Program::run("batoff-control", &["init", "--data-dir", &first.to_string_lossy()], dir.path());
        ensure!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let token = std::fs::read_to_string(first.join("admin.token"))?.trim().to_owned();
        let prefix = format!("bench-{}/", ulid::Ulid::generate());
        let (mut services, mut apis, mut admins, mut grpc) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for replica in 1..=log.replicas() {
            let ports = [(); 4].map(|()| free_port());
            let data = dir.path().join(format!("data{replica}"));
            if replica > 1 {
                std::fs::create_dir_all(&data)?;
                for secret in ["master.key", "admin.token"] {
                    std::fs::copy(first.join(secret), data.join(secret))?;
                }
            }
            let mut text = config(&data, ports);
            if let Log::Etcd(replicas) = log {
                text += &several(replica, replicas, members, &prefix, ports[2]);
            }
            let file = dir.path().join(format!("control{replica}.toml"));
            std::fs::write(&file, text)?;
            let file = file.to_string_lossy().into_owned();
            let launch = Launch::new(
                "batoff-control",
                &["--config", &file, "--announce", "--exit-with-parent"],
                dir.path(),
            );
            let name = format!("control plane {replica}");
            let mut service = Service::new(&name, launch, &dir.path().join(format!("control{replica}.log")));
            service.start().await.map_err(anyhow::Error::msg)?;
            services.push(service);
            apis.push(format!("127.0.0.1:{}", ports[0]));
            admins.push(format!("http://127.0.0.1:{}/admin/v1/sites", ports[1]));
            grpc.push(ports[2]);
        }
        let admin = &admins[0];
        let limits = json!({"items_per_minute": 1_000_000_000, "prefixes_per_minute": 1_000_000});
        let site = json!({"site_id": "bench", "hostnames": ["www.example.com"], "limits": limits});
        post(admin, &token, &site).await?;
        let wanted = json!({"label": "bench", "scopes": ["purge"]});
        let issued = post(&format!("{admin}/bench/tokens"), &token, &wanted).await?;
        let credentials = issued["token"].as_str().zip(issued["secret"].as_str());
        let (token, secret) = credentials.context("a token with its secret")?;
        let customers: Vec<_> =
            apis.iter().map(|api| Customer::new(&format!("http://{api}"), "bench", token, secret)).collect();
        let planes = Self { services, customers, apis, grpc, dir };
        planes.accepting().await;
        Ok(planes)
    }

    /// Waits until each accepts purges.
    pub async fn accepting(&self) {
        for customer in &self.customers {
            eventually("each control plane accepts purges", || async {
                let body = json!({"tags": ["settle"]}).to_string();
                let request = customer.request("POST", "/v1/sites/bench/purge", Some(body.as_bytes()));
                customer.send(request).await.ok().filter(|reply| reply.status == 202)
            })
            .await;
        }
    }

    /// Bytes of the files in the first one's data folder.
    pub fn folder_bytes(&self) -> anyhow::Result<f64> {
        let (mut bytes, mut folders) = (0, vec![self.dir.path().join("data1")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                match entry.metadata()? {
                    found if found.is_dir() => folders.push(entry.path()),
                    found => bytes += found.len(),
                }
            }
        }
        Ok(bytes as f64)
    }

    /// CPU seconds of all of them so far.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.services.iter().map(|service| batoff_benches::cpu_seconds(service.pid())).sum()
    }
}

async fn post(url: &str, token: &str, body: &Value) -> anyhow::Result<Value> {
    let request =
        batoff_tests::http().post(url).bearer_auth(token).header("content-type", "application/json");
    let reply = request.body(body.to_string()).send().await?;
    let (status, text) = (reply.status(), reply.text().await?);
    ensure!(status.is_success(), "{url}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

fn config(data: &Path, [api, admin, grpc, metrics]: [u16; 4]) -> String {
    format!(
        r#"
data.dir = {data:?}
api.listen = "127.0.0.1:{api}"
admin.listen = "127.0.0.1:{admin}"
console.listen = "127.0.0.1:0"
metrics.listen = "127.0.0.1:{metrics}"
grpc = {{ listen = "127.0.0.1:{grpc}", plaintext = true }}
log.level = "warn"
"#
    )
}

fn several(id: usize, replicas: usize, members: &[String], prefix: &str, grpc: u16) -> String {
    let initial: Vec<_> = (1..=replicas).collect();
    // Each asks another member first.
    let mut members = members.to_vec();
    let first = (id - 1) % members.len().max(1);
    members.rotate_left(first);
    format!(
        r#"
[store]
engine = "etcd"
etcd = {{ endpoints = {members:?}, prefix = "{prefix}" }}
[replica]
id = {id}
initial = {initial:?}
advertise = "http://127.0.0.1:{grpc}"
"#
    )
}
