use std::path::Path;
use std::process::Command;

use crate::{scratch, scratch_on_disk};

/// Set for the inner run of a test.
const INSIDE: &str = "BATOFF_TESTS_INSIDE";

/// Runs a test inside network, mount and process namespaces of its own: whatever it mounts, links and starts is gone
/// when it ends, however it ends. Needs root; without it the test is skipped with the reason printed, or fails when
/// `BATOFF_REQUIRE_NAMESPACES=1`.
///
/// The test is run a second time, as a child in those namespaces: `test` is called there, and `tools` are the programs and
/// files that it needs.
pub fn isolated<F: Future<Output = ()>>(tools: &[&str], test: impl FnOnce() -> F + 'static) {
    if std::env::var_os(INSIDE).is_some() {
        return inside(test);
    }
    let name = name_of(&test);
    if let Some(missing) = missing(tools) {
        let required = std::env::var("BATOFF_REQUIRE_NAMESPACES").is_ok_and(|value| value == "1");
        assert!(!required, "{name} cannot run here: {missing}");
        eprintln!("SKIPPED {name}: {missing}");
        return;
    }
    // Everything that the inner run leaves lying about, such as a folder that is still mounted on, goes with this one.
    // On the disk: these tests are about what the world does to a running system.
    let folder = scratch_on_disk();
    let marker = folder.path().join("ran");
    let own = std::env::current_exe().expect("the test knows its own path");
    let status = namespaces()
        .arg(own)
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, &marker)
        .env("TMPDIR", folder.path())
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{name} failed inside its namespaces: {status}");
    // A name that fits no test would have passed as well.
    assert!(marker.exists(), "{name} was not run inside its namespaces");
}

fn inside<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let marker = std::env::var_os(INSIDE).expect("it is set");
    std::fs::write(marker, "").expect("a marker is written");
    run("ip", &["link", "set", "lo", "up"]);
    // The names of network namespaces are files here.
    run("mount", &["-t", "tmpfs", "none", "/run"]);
    std::fs::create_dir("/run/netns").expect("a fresh folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test());
}

fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--mount-proc",
        "--fork",
        "--kill-child",
    ]);
    command
}

/// `faults::network::a_cut…` as the test runner calls it: without the crate, and without the closure.
fn name_of<T>(_: &T) -> String {
    let path = std::any::type_name::<T>();
    let path = path.split_once("::").map_or(path, |(_, rest)| rest);
    path.trim_end_matches("::{{closure}}").to_owned()
}

fn missing(tools: &[&str]) -> Option<String> {
    let exists = |tool: &str| match tool.starts_with('/') {
        true => Path::new(tool).exists(),
        false => Command::new(tool).arg("--help").output().is_ok(),
    };
    if let Some(tool) = ["unshare", "mount", "ip"].iter().chain(tools).find(|tool| !exists(tool)) {
        return Some(format!("there is no `{tool}` (./tests/run installs it when it runs as root)"));
    }
    let output = namespaces().arg("true").output().expect("unshare exists");
    (!output.status.success()).then(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("namespaces cannot be made ({}); run as root", why.trim())
    })
}

/// A fresh folder with something mounted on it, by these arguments of `mount`; only inside [`isolated`], which ends it.
pub fn mounted(what: &[&str]) -> tempfile::TempDir {
    let folder = scratch();
    run("mount", &[what, &[folder.path().to_str().expect("a path in UTF-8")]].concat());
    folder
}

/// Unmounts what is mounted there, as soon as nobody has a file open on it.
pub async fn unmounted(folder: &Path) {
    crate::eventually(&format!("{} is unmounted", folder.display()), || async {
        let output = Command::new("umount").arg(folder).output().expect("umount runs");
        output.status.success().then_some(())
    })
    .await;
}

/// Runs a system's tool; its output.
///
/// # Panics
/// When it fails.
pub fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {}: {}", args.join(" "), stderr.trim());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
