//! Certificates while everything runs: renewed, taken up by themselves, damaged and mended, over the real programs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use batoff_tests::{Launch, PATIENCE, Program, scratch};
use serde_json::Value;

/// Runs `batoff` in `dir`: whether it was content, and what it said.
fn batoff(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Program::run("batoff", args, dir);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn done(dir: &Path, args: &[&str]) -> String {
    let (fine, said) = batoff(dir, args);
    assert!(fine, "{args:?}: {said}");
    said
}

fn announced(program: &mut Program) -> Value {
    let mut line = String::new();
    BufReader::new(program.stdout()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A control plane and a node with certificates of `pki`, and where their figures are.
pub struct System {
    _control: Program,
    pub edge: Program,
    addresses: Value,
    pub edge_metrics: String,
}

impl System {
    pub fn start(dir: &Path) -> Self {
        done(dir, &["certs", "init", "--dir", "pki"]);
        done(dir, &["certs", "issue", "--dir", "pki", "--control", "localhost", "127.0.0.1"]);
        done(dir, &["certs", "issue", "--dir", "pki", "--node", "fra1/edge-1"]);
        done(dir, &["certs", "issue", "--dir", "pki", "--operator", "anna"]);
        let init = Program::run("batoff-control", &["init", "--data-dir", "data"], dir);
        assert!(init.status.success());
        let listen = "listen = \"127.0.0.1:0\"\n";
        let pair = "cert = \"pki/control.pem\"\nkey = \"pki/control.key\"\n";
        let control = format!(
            "[data]\ndir = \"data\"\n[api]\n{listen}{pair}[admin]\n{listen}{pair}ca = \"pki/ca.pem\"\n[console]\n{listen}{pair}[metrics]\n{listen}\
             [grpc]\n{listen}{pair}ca = \"pki/ca.pem\"\n"
        );
        fs::write(dir.join("control.toml"), control).unwrap();
        let arguments = ["--config", "control.toml", "--announce"];
        let mut control =
            Launch::new("batoff-control", &arguments, dir).start_logging_to(&dir.join("control.log"));
        let addresses = announced(&mut control);
        let grpc = addresses["grpc"].as_str().unwrap();
        let edge = format!(
            "[node]\npop = \"fra1\"\nnode = \"edge-1\"\n[control]\nendpoints = [\"https://{grpc}\"]\n\
             ca = \"pki/ca.pem\"\ncert = \"pki/fra1-edge-1.pem\"\nkey = \"pki/fra1-edge-1.key\"\n\
             [state]\ndir = \"state\"\n[caches]\nnone = true\n[metrics]\n{listen}"
        );
        fs::write(dir.join("edge.toml"), edge).unwrap();
        let arguments = ["--config", "edge.toml", "--announce"];
        let mut edge = Launch::new("batoff-edge", &arguments, dir).start_logging_to(&dir.join("edge.log"));
        let edge_metrics = announced(&mut edge)["metrics"].as_str().unwrap().to_owned();
        Self { _control: control, edge, addresses, edge_metrics }
    }

    pub fn at(&self, listener: &str) -> &str {
        self.addresses[listener].as_str().unwrap()
    }

    async fn figure(&self, address: &str, name: &str) -> f64 {
        let answer = batoff_tests::http().get(format!("http://{address}/metrics")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        line.trim().parse().unwrap()
    }

    /// Waits until a figure is as it should be.
    pub async fn until(&self, address: &str, name: &str, is_right: impl Fn(f64) -> bool) {
        let since = Instant::now();
        loop {
            let figure = self.figure(address, name).await;
            if is_right(figure) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{name} is {figure}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Somebody who trusts the authority in `pki`, and connects anew for each request.
fn stranger(dir: &Path) -> reqwest::ClientBuilder {
    drop(batoff_tests::http());
    let authority = reqwest::Certificate::from_pem(&fs::read(dir.join("pki/ca.pem")).unwrap()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    builder.tls_info(true).pool_max_idle_per_host(0)
}

/// The same with an operator's certificate, which the admin API wants.
fn operator(dir: &Path) -> reqwest::ClientBuilder {
    let read = |name: &str| fs::read(dir.join("pki").join(name)).unwrap();
    let pem = [read("operator-anna.key"), read("operator-anna.pem")].concat();
    stranger(dir).identity(reqwest::Identity::from_pem(&pem).unwrap())
}

/// The certificate that a listener shows.
async fn shown(client: &reqwest::Client, address: &str) -> Vec<u8> {
    let answer = client.get(format!("https://{address}/")).send().await.unwrap();
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

const GRPC_ENDS: &str =
    "batoff_control_certificate_expires_timestamp_seconds{listener=\"grpc\",file=\"cert\"}";
const EDGE_ENDS: &str = "batoff_edge_certificate_expires_timestamp_seconds{file=\"cert\"}";
/// The node's, as the control plane sees it.
const NODE_ENDS: &str =
    "batoff_control_node_certificate_expires_timestamp_seconds{pop=\"fra1\",node=\"edge-1\"}";
const GRPC_REFUSED: &str = "batoff_control_certificate_refused{listener=\"grpc\"}";

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_in_use_without_a_signal_and_damaged_ones_never() {
    let dir = scratch();
    let system = System::start(dir.path());
    let (control, edge) = (system.at("metrics").to_owned(), system.edge_metrics.clone());
    system.until(&edge, "batoff_edge_connected", |connected| connected == 1.0).await;
    let ends = [system.figure(&control, GRPC_ENDS).await, system.figure(&edge, EDGE_ENDS).await];
    let reconnects = system.figure(&edge, "batoff_edge_reconnects_total").await;
    assert_eq!(system.figure(&control, NODE_ENDS).await, ends[1], "both sides see the same certificate");
    let client = operator(dir.path()).build().unwrap();
    let first = shown(&client, system.at("api")).await;

    let said = done(
        dir.path(),
        &["certs", "renew", "--dir", "pki", "--days", "400", "pki/control.pem", "pki/fra1-edge-1.pem"],
    );
    assert!(said.contains("pki/control.pem") && said.contains("pki/fra1-edge-1.key"), "{said}");
    system.until(&control, GRPC_ENDS, |now| now > ends[0]).await;
    system.until(&edge, EDGE_ENDS, |now| now > ends[1]).await;
    system.until(&control, NODE_ENDS, |now| now > ends[1]).await;
    system.until(&edge, "batoff_edge_reconnects_total", |now| now > reconnects).await;
    system.until(&edge, "batoff_edge_connected", |connected| connected == 1.0).await;
    for listener in ["api", "admin", "console"] {
        let name = format!(
            "batoff_control_certificate_expires_timestamp_seconds{{listener=\"{listener}\",file=\"cert\"}}"
        );
        system.until(&control, &name, |now| now > ends[0]).await;
        assert_ne!(shown(&client, system.at(listener)).await, first, "{listener} shows the old one");
    }

    // The key of another: what is in use stays, and is told of.
    let renewed = shown(&client, system.at("api")).await;
    let good = fs::read(dir.path().join("pki/control.key")).unwrap();
    fs::copy(dir.path().join("pki/fra1-edge-1.key"), dir.path().join("pki/control.key")).unwrap();
    system.until(&control, GRPC_REFUSED, |refused| refused == 1.0).await;
    assert_eq!(shown(&client, system.at("api")).await, renewed);
    let (fine, said) = batoff(dir.path(), &["certs", "show", "pki/control.pem"]);
    assert!(!fine && said.contains("is the key of another certificate"), "{said}");
    fs::write(dir.path().join("pki/control.key"), good).unwrap();
    system.until(&control, GRPC_REFUSED, |refused| refused == 0.0).await;
    let log = fs::read_to_string(dir.path().join("control.log")).unwrap();
    assert!(log.contains("certificates not reloaded; the old ones stay in use"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_console_speak_http_2_over_tls_and_http_1_where_it_is_asked_for() {
    let dir = scratch();
    let system = System::start(dir.path());
    let new = operator(dir.path()).build().unwrap();
    let old = operator(dir.path()).http1_only().build().unwrap();
    for (listener, path) in [("api", "/openapi.json"), ("admin", "/admin/v1/openapi.json"), ("console", "/")]
    {
        let url = format!("https://{}{path}", system.at(listener));
        let answer = new.get(&url).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2, "{listener}");
        assert!(answer.status().is_success() || listener == "admin", "{listener}: {}", answer.status());
        let answer = old.get(&url).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_11, "{listener}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_leaves_one_line_with_the_remedy_however_often_it_is_tried() {
    let dir = scratch();
    let system = System::start(dir.path());
    let failed = "batoff_control_handshakes_failed_total{listener=\"grpc\",reason=\"no_certificate\"}";
    let client = stranger(dir.path()).build().unwrap();
    for _ in 0..30 {
        drop(client.get(format!("https://{}/", system.at("grpc"))).send().await);
    }
    let control = system.at("metrics").to_owned();
    system.until(&control, failed, |count| count >= 30.0).await;
    let log = fs::read_to_string(dir.path().join("control.log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("TLS handshake")).collect();
    assert!(!lines.is_empty() && lines.len() <= 10, "{} lines", lines.len());
    assert!(lines[0].contains("no_certificate") && lines[0].contains("control.cert"), "{}", lines[0]);
}
