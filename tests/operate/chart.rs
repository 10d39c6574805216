//! The Helm chart: rendered for several values, valid for Kubernetes, refused for values that are none, and its configurations
//! taken by the programs that they are for.

use std::fs;
use std::path::Path;
use std::process::Command;

use batoff_tests::{Program, binary, free_port, run, scratch};
use serde_json::Value;

use crate::{kept_tool, lacks, root};

/// What each values file makes, in the order of the alphabet.
const MADE: [(&str, &[(&str, usize)]); 4] = [
    (
        "cdn",
        &[
            ("ConfigMap", 2),
            ("DaemonSet", 2),
            ("NetworkPolicy", 2),
            ("PodDisruptionBudget", 1),
            ("Service", 3),
            ("ServiceMonitor", 2),
            ("StatefulSet", 1),
        ],
    ),
    (
        "control-only",
        &[
            ("ConfigMap", 1),
            ("NetworkPolicy", 1),
            ("PodDisruptionBudget", 1),
            ("Service", 2),
            ("StatefulSet", 1),
        ],
    ),
    (
        "defaults",
        &[
            ("ConfigMap", 1),
            ("NetworkPolicy", 1),
            ("PodDisruptionBudget", 1),
            ("Service", 2),
            ("StatefulSet", 1),
        ],
    ),
    ("nodes-only", &[("ConfigMap", 1), ("DaemonSet", 1), ("Service", 1)]),
];

#[test]
fn the_chart_makes_what_kubernetes_takes_and_configurations_that_the_programs_take() {
    let python = kept_tool("deploy/bin/python");
    if lacks(&[&python], "the_chart_makes_what_kubernetes_takes_and_configurations_that_the_programs_take") {
        return;
    }
    let folder = scratch();
    let [rendered, pki] = ["rendered", "pki"].map(|name| folder.path().join(name));
    let script = root().join("tests/operate/chart.py");
    let words = [script, root().join("deploy/chart"), rendered.clone()];
    let said = run(&python, &words.each_ref().map(|word| word.to_str().unwrap()));
    let made: Value = serde_json::from_str(said.lines().last().expect("a line of JSON")).unwrap();
    for (values, kinds) in MADE {
        let counts: Vec<(&str, usize)> = made[values]
            .as_object()
            .unwrap_or_else(|| panic!("{values} was not rendered"))
            .iter()
            .map(|(kind, all)| (kind.as_str(), all.as_array().expect("documents").len()))
            .collect();
        assert_eq!(counts, kinds, "{values}");
    }

    certificates(&pki);
    for values in ["defaults", "control-only", "cdn"] {
        let settings = settings(&made[values]["StatefulSet"][0], "control");
        control_is_fine(&rendered.join(values).join("purge-batoff-control/control.toml"), &settings, &pki);
    }
    for values in ["cdn", "nodes-only"] {
        let edge = rendered.join(values).join("purge-batoff-edge");
        for daemons in made[values]["DaemonSet"].as_array().unwrap() {
            edge_is_fine(&edge.join("edge.toml"), daemons, &pki);
        }
    }
    nginx_is_fine(&rendered.join("cdn/purge-batoff-edge"));
}

/// A container of a pod.
fn container<'a>(set: &'a Value, name: &str) -> &'a Value {
    let containers = set["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    let found = containers.iter().find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("there is no container {name}"))
}

/// Its flags beside the command.
fn settings(set: &Value, name: &str) -> Vec<String> {
    let args = container(set, name)["args"].as_array().cloned().unwrap_or_default();
    args.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// Those of a control plane and of a node, under the names that cert-manager and `batoff certs` give them.
fn certificates(pki: &Path) {
    let dir = pki.to_str().unwrap();
    for words in [
        &["certs", "init", "--dir", dir][..],
        &["certs", "issue", "--dir", dir, "--control", "purge-batoff-control"],
        &["certs", "issue", "--dir", dir, "--node", "fra1/machine-1"],
        &["certs", "issue", "--dir", dir, "--node", "lon1/machine-1"],
        &["certs", "issue", "--dir", dir, "--node", "sin1/machine-1"],
    ] {
        let output = Program::run("batoff", words, pki.parent().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for (from, to) in [("ca.pem", "ca.crt"), ("control.pem", "tls.crt"), ("control.key", "tls.key")] {
        fs::copy(pki.join(from), pki.join(to)).unwrap();
    }
}

/// What `--check` says of it, with the certificates in their place.
fn is_fine(
    program: &str,
    file: &Path,
    places: &[(&str, &Path)],
    flags: &[String],
    environment: &[(&str, &str)],
) {
    let mut text = fs::read_to_string(file).unwrap();
    for (there, here) in places {
        text = text.replace(there, here.to_str().unwrap());
    }
    fs::write(file, text).unwrap();
    let mut check = Command::new(binary(program));
    check.arg("--config").arg(file).arg("--check").args(flags).envs(environment.iter().copied());
    let output = check.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&said));
}

fn control_is_fine(file: &Path, settings: &[String], pki: &Path) {
    let data = file.with_extension("data");
    let init = ["init", "--data-dir", data.to_str().unwrap(), "--if-missing"];
    assert!(Program::run("batoff-control", &init, pki).status.success());
    let places = [
        ("/var/lib/batoff-control", data.as_path()),
        ("/etc/batoff/certificate", pki),
        ("/etc/batoff/api", pki),
    ];
    is_fine("batoff-control", file, &places, settings, &[]);
}

fn edge_is_fine(file: &Path, daemons: &Value, pki: &Path) {
    let pop = container(daemons, "edge")["env"].as_array().unwrap();
    let pop = pop.iter().find(|variable| variable["name"] == "BATOFF_NODE_POP").expect("its PoP");
    let pop = pop["value"].as_str().unwrap();
    // As the mounts of the pod have them.
    for (from, to) in [("pem", "node.pem"), ("key", "node.key")] {
        fs::copy(pki.join(format!("{pop}-machine-1.{from}")), pki.join(to)).unwrap();
    }
    let state = file.with_extension("state");
    let places = [("/var/lib/batoff-edge", state.as_path()), ("/etc/batoff/certificate", pki)];
    let environment = [("BATOFF_NODE_POP", pop), ("BATOFF_NODE_NODE", "machine-1")];
    is_fine("batoff-edge", file, &places, &settings(daemons, "edge"), &environment);
}

/// What the pod's nginx is given, as nginx reads it.
fn nginx_is_fine(given: &Path) {
    let at = |name: &str| given.join(name).to_str().unwrap().to_owned();
    let site = fs::read_to_string(given.join("site.conf")).unwrap();
    assert!(
        site.contains("server origin.example.net:8080;") && site.contains("batoff-strict.conf"),
        "{site}"
    );
    let site = site
        .replace("origin.example.net:8080", "127.0.0.1:8080")
        .replace("listen 80;", &format!("listen 127.0.0.1:{};", free_port()))
        .replace("/run/batoff-fill.sock", &at("fill.sock"))
        .replace("/var/cache/nginx-site", &at("cache"));
    fs::write(given.join("site.conf"), site).unwrap();
    std::os::unix::fs::symlink(given, given.join("snippets")).unwrap();
    let (log, pid) = (at("error.log"), at("nginx.pid"));
    let whole = format!(
        "error_log {log};\npid {pid};\nevents {{}}\nhttp {{\n    access_log off;\n    include batoff-http.conf;\n    include site.conf;\n}}\n"
    );
    // The fill hop's upstream is the socket of the machine that it is on.
    let http = fs::read_to_string(given.join("batoff-http.conf")).unwrap();
    fs::write(given.join("batoff-http.conf"), http.replace("/run/batoff-fill.sock", &at("fill.sock")))
        .unwrap();
    fs::write(given.join("nginx.conf"), whole).unwrap();
    run("nginx", &["-t", "-q", "-e", &log, "-c", &at("nginx.conf")]);
}
