//! The console as people use it, in Debian's chromium: the stories are in `tests/console`. About a minute.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use batoff_tests::{Dev, DevOptions, binary};

#[test]
fn people_sign_in_issue_tokens_and_see_purges_spread() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
    assert!(
        folder.join("node_modules").exists(),
        "the browser's driver is not installed; run ./tests/run, or npm ci --ignore-scripts in {}",
        folder.display()
    );
    let dev = Dev::start(DevOptions::default());
    let mut command = Command::new("node");
    command.arg("run.mjs").current_dir(&folder).env("BATOFF_CLI", binary("batoff"));
    command.env("BATOFF_DEV", serde_json::to_string(&dev.line).expect("a line of JSON"));
    let output = command.output().expect("node starts; ./tests/run installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    // A run that tells no story proves nothing.
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 7, "{said}\n{complained}");
}
