//! `batoff-edge doctor`: each thing that can be wrong on a node is found, and nothing is changed by looking.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use batoff_tests::{Program, binary, scratch};
use serde_json::Value;

use crate::certificates::System;
use crate::doctor::{doctor_of, finds, state};
use crate::tool;

fn doctor(dir: &Path, set: &[&str]) -> (i32, Value) {
    doctor_of("batoff-edge", "edge.toml", dir, set)
}

/// That nothing is wrong but what is the machine's that the test runs on.
fn is_well(report: &Value) {
    let wrong: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] != "fine")
        .filter(|finding| finding["area"] != "disk" && finding["area"] != "clock")
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_node_that_runs_all_is_well_and_nobody_hears_of_it() {
    let dir = scratch();
    let mut system = System::start(dir.path());
    let (control, edge) = (system.at("metrics").to_owned(), system.edge_metrics.clone());
    system.until(&edge, "batoff_edge_connected", |connected| connected == 1.0).await;
    let pid = system.edge.pid();
    let listen = format!("metrics.listen={edge}");
    let (code, report) = doctor(dir.path(), &[&listen]);
    is_well(&report);
    let severity = report["severity"].as_str().unwrap();
    assert_eq!(code, ["fine", "warning", "error"].iter().position(|word| *word == severity).unwrap() as i32);
    assert!(code < 2, "{report:#}");
    finds(&report, "fine", "state", &format!("a daemon runs on it, pid {pid}"));
    finds(&report, "fine", "certificates", "it names this node, fra1/edge-1");
    finds(&report, "fine", "control plane", "answers, and takes this node's certificate");
    finds(&report, "fine", "clock", "as that of https://");
    finds(&report, "fine", "ports", &format!("held by batoff-edge, pid {pid}"));
    finds(&report, "fine", "descriptors", "enough for");
    // The daemon's stream is the only one, and goes on.
    let leased = "batoff_control_nodes{state=\"leased\"}";
    system.until(&control, leased, |nodes| nodes == 1.0).await;
    system.until(&edge, "batoff_edge_connected", |connected| connected == 1.0).await;
    let text = Program::run("batoff-edge", &["doctor", "--config", "edge.toml"], dir.path());
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("ok      control plane  https://"), "for people, too: {text}");

    // Stopped, it is looked at as it lies there.
    assert_eq!(system.edge.terminate(), 0);
    let before = state(&dir.path().join("state"));
    let (_, report) = doctor(dir.path(), &[]);
    is_well(&report);
    finds(&report, "fine", "state", "of fra1/edge-1, in generation ");
    assert_eq!(state(&dir.path().join("state")), before, "nothing was locked, raised or set aside");
    // A state of a build that is yet to come.
    let path = dir.path().join("state/state");
    let mut later = fs::read(&path).unwrap();
    later[8] = 9;
    fs::write(&path, later).unwrap();
    let before = state(&dir.path().join("state"));
    let (code, report) = doctor(dir.path(), &[]);
    assert_eq!(code, 2);
    finds(&report, "error", "state", "it has format 9");
    assert_eq!(state(&dir.path().join("state")), before);
    let (_, report) = doctor(dir.path(), &["node.node=edge-2"]);
    finds(&report, "error", "certificates", "it names the node fra1/edge-1, and this is fra1/edge-2");
}

/// A certificate for this node, of the same authority, that ends as it is made.
fn expired(dir: &Path) {
    let at = |name: &str| dir.join("pki").join(name).to_str().unwrap().to_owned();
    fs::write(
        at("ext"),
        "subjectAltName=URI:spiffe://batoff/pop/fra1/node/edge-1\nextendedKeyUsage=clientAuth\n",
    )
    .unwrap();
    let (key, request) = (at("fra1-edge-1.key"), at("request"));
    let asked = tool("openssl", &["req", "-new", "-key", &key, "-subj", "/CN=edge", "-out", &request]);
    assert!(asked.0, "{}", asked.1);
    let (ca, ca_key, ext, out) = (at("ca.pem"), at("ca.key"), at("ext"), at("ended.pem"));
    let signed = tool(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            "77",
            "-days",
            "0",
            "-extfile",
            &ext,
            "-out",
            &out,
        ],
    );
    assert!(signed.0, "{}", signed.1);
    std::thread::sleep(Duration::from_millis(2_100));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_node_is_named_with_its_remedy() {
    let dir = scratch();
    let mut system = System::start(dir.path());
    assert_eq!(system.edge.terminate(), 0);
    let dir = dir.path();

    expired(dir);
    let (code, report) = doctor(dir, &["control.cert=pki/ended.pem"]);
    assert_eq!(code, 2);
    finds(&report, "error", "certificates", "pki/ended.pem ended ");
    finds(&report, "error", "control plane", "the other end refuses this node's certificate");

    let key = dir.join("pki/fra1-edge-1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, report) = doctor(dir, &[]);
    assert_eq!(code, 2);
    finds(&report, "error", "certificates", "fra1-edge-1.key may be read by everyone");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    assert!(Program::run("batoff", &["certs", "init", "--dir", "other"], dir).status.success());
    let (code, report) = doctor(dir, &["control.ca=other/ca.pem"]);
    assert_eq!(code, 2);
    finds(&report, "error", "control plane", "is of an authority that is not trusted here");
    let (_, report) = doctor(dir, &["control.endpoints=https://127.0.0.1:1"]);
    finds(&report, "error", "control plane", "https://127.0.0.1:1: cannot connect");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, report) = doctor(dir, &[&format!("metrics.listen={}", taken.local_addr().unwrap())]);
    assert_eq!(code, 2);
    finds(&report, "error", "ports", &format!("pid {}", std::process::id()));

    let few = "ulimit -n 64 && exec \"$0\" doctor --config edge.toml --json";
    let output =
        Command::new("sh").arg("-c").arg(few).arg(binary("batoff-edge")).current_dir(dir).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    finds(&report, "warning", "descriptors", "64 files may be open");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let edge = fs::read_to_string(dir.join("edge.toml")).unwrap();
    let http = format!(
        "[caches.http]\naddress = \"{closed}\"\nothers = \"empty\"\nempty = [\"/no/such/command\"]\n\
         [caches.varnish]\ncli = \"{closed}\"\npurge = \"{closed}\"\n\
         [caches.haproxy]\nsocket = \"/no/such.sock\"\nmaps = \"/no/such\"\ntags = \"everything\"\n\
         [caches.nginx]\npath = \"/no/such/cache\"\n"
    );
    fs::write(dir.join("edge.toml"), edge.replace("[caches]\nnone = true\n", &http)).unwrap();
    let (code, report) = doctor(dir, &[]);
    assert_eq!(code, 2);
    finds(&report, "error", "caches", &format!("http: nobody answers at {closed}"));
    finds(&report, "error", "caches", "/no/such/command is not there");
    finds(&report, "error", "caches", &format!("varnish: nobody answers at {closed}"));
    finds(&report, "error", "caches", "haproxy: nobody answers at /no/such.sock");
    finds(&report, "error", "caches", "/no/such/cache does not exist");
}
