//! What an operator is given to run all this: units, alerts, and what the programs tell their supervisor.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod certificates;
mod chapters;
mod installed;
mod machine;
mod rules;
mod supervisor;
mod units;

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
