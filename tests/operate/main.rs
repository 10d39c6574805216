//! What an operator is given to run all this: units, alerts, packages, upgrades, and what the programs tell their supervisor.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod booted;
mod certificates;
mod chapters;
mod chart;
mod doctor;
mod edge_doctor;
mod image;
mod installed;
mod machine;
mod rules;
mod supervisor;
mod units;
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").to_owned()
}

/// Runs a tool of the system's to its end: whether it was content, and what it said.
fn tool(name: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(name).args(args).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; ./tests/run installs it"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A tool of fixed version that `./tests/run` keeps, such as `deploy/bin/hadolint`.
fn kept_tool(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let kept = std::env::var("BATOFF_TOOLS").unwrap_or_else(|_| format!("{home}/.cache/batoff-tools"));
    format!("{kept}/{path}")
}

/// Whether a test cannot run because a kept tool is not there, as when PyPI could not be reached: then it says so, or fails
/// when `BATOFF_REQUIRE_NAMESPACES=1`, which also asks for everything.
fn lacks(tools: &[&str], test: &str) -> bool {
    let Some(missing) = tools.iter().find(|tool| !Path::new(tool).exists()) else { return false };
    let required = std::env::var("BATOFF_REQUIRE_NAMESPACES").is_ok_and(|value| value == "1");
    assert!(!required, "{test} cannot run here: there is no {missing} (./tests/run installs it)");
    eprintln!("SKIPPED {test}: there is no {missing} (./tests/run installs it, if PyPI can be reached)");
    true
}
