//! The console as people use it, in Debian's chromium: the stories are in `tests/console`. About a minute.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use batoff_tests::{Dev, DevOptions, Program, binary, scratch};

#[test]
fn people_sign_in_issue_tokens_and_see_purges_spread() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
    assert!(
        folder.join("node_modules").exists(),
        "the browser's driver is not installed; run ./tests/run, or npm ci --ignore-scripts in {}",
        folder.display()
    );
    let dir = scratch();
    let dev = Dev::start(DevOptions { data_dir: Some(dir.path()), ..DevOptions::default() });
    let mut command = Command::new("node");
    command.arg("run.mjs").current_dir(&folder).env("BATOFF_CLI", binary("batoff"));
    command.env("BATOFF_EDGE", binary("batoff-edge")).env("BATOFF_EDGE_CONFIG", troubled(dir.path(), &dev));
    command.env("BATOFF_DEV", serde_json::to_string(&dev.line).expect("a line of JSON"));
    let output = command.output().expect("node starts; ./tests/run installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    print!("{said}");
    // A run that tells no story proves nothing.
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 12, "{said}\n{complained}");
}

/// The configuration of a daemon that a story starts: the command that empties its cache fails, and complains in markup.
fn troubled(dir: &Path, dev: &Dev) -> PathBuf {
    let certs = dir.join("certs");
    let folder = certs.to_str().expect("a path in UTF-8");
    let issued = Program::run("batoff", &["certs", "issue", "--dir", folder, "--node", "zzz1/edge-9"], dir);
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
    let complaint = r#"echo '</span><img/src=x/onerror=window.pwned="trouble">' >&2; exit 1"#;
    let config = dir.join("troubled.toml");
    let text = format!(
        "[node]\npop = \"zzz1\"\nnode = \"edge-9\"\n[control]\nendpoints = [{:?}]\nca = {:?}\ncert = {:?}\nkey = {:?}\n\
         [state]\ndir = {:?}\n[lease]\non_lease_lost = \"serve\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [caches.http]\naddress = \"127.0.0.1:1\"\nothers = \"empty\"\nempty = [\"/bin/sh\", \"-c\", {complaint:?}]\n",
        dev.line.grpc,
        certs.join("ca.pem"),
        certs.join("zzz1-edge-9.pem"),
        certs.join("zzz1-edge-9.key"),
        dir.join("troubled"),
    );
    fs::write(&config, text).expect("a file");
    config
}
