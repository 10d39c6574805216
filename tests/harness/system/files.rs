//! Keys and files of a system's programs, and how those are started that read them.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::{NODE, SystemPlan};
use crate::{Launch, Place};

pub(super) fn make_keys(dir: &Path, data_dir: &Path, plan: &SystemPlan) {
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

pub(super) fn daemon(name: &str, config: &Path, args: &[&str]) -> Launch {
    let config_text = config.to_str().expect("a path in UTF-8");
    let dir = config.parent().expect("a file lies in a directory");
    let usual = ["--config", config_text, "--announce", "--exit-with-parent"];
    Launch::new(name, &[&usual[..], args].concat(), dir)
}

pub(super) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file is written");
}

pub(super) fn text<'a>(announced: &'a Value, listener: &str) -> &'a str {
    announced[listener].as_str().unwrap_or_else(|| panic!("{listener} is not announced: {announced}"))
}

pub(super) fn port(announced: &Value, listener: &str) -> u16 {
    let (_, port) = text(announced, listener).rsplit_once(':').expect("an address has a port");
    port.parse().expect("a port")
}
