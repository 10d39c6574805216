//! The arrows between the crates: three layers, only downward. A new arrow is a decision; it is made here first.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates each one may see. `tests`, `tests/turmoil` and `benches` see anything, and nothing sees them.
const ARROWS: [(&str, &[&str]); 15] = [
    ("batoff-types", &[]),
    ("batoff-wire", &["batoff-types"]),
    ("batoff-log", &["batoff-types"]),
    ("batoff-delivery", &["batoff-types"]),
    ("batoff-index", &["batoff-types"]),
    ("batoff-program", &[]),
    ("batoff-control", &["batoff-types", "batoff-wire", "batoff-log", "batoff-delivery", "batoff-program"]),
    ("batoff-edge", &["batoff-types", "batoff-wire", "batoff-delivery", "batoff-index", "batoff-program"]),
    ("batoff-caches", &["batoff-types", "batoff-wire", "batoff-index", "batoff-program", "batoff-edge"]),
    ("batoff-edge-client", &["batoff-types", "batoff-wire"]),
    ("batoff-client", &["batoff-types"]),
    ("batoff-pingora", &["batoff-types", "batoff-edge", "batoff-index", "batoff-program"]),
    ("batoff-proxy", &["batoff-types", "batoff-edge", "batoff-index", "batoff-pingora", "batoff-program"]),
    ("batoff-cli", &["batoff-types", "batoff-client"]),
    ("batoff-simulation", &["batoff-types", "batoff-delivery", "batoff-index"]),
];

/// Crates without IO, clocks and async: what they may use beside ours is listed, so that a socket cannot slip in.
const PURE: [(&str, &[&str]); 3] = [
    ("batoff-types", &["bytes", "foldhash", "idna", "percent-encoding", "thiserror", "ulid", "url"]),
    ("batoff-delivery", &["thiserror"]),
    (
        "batoff-index",
        &["arc-swap", "dashmap", "foldhash", "hashbrown", "memchr", "parking_lot", "smallvec", "thiserror"],
    ),
];

#[test]
fn arrows_point_only_downward() {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for (name, dependencies) in normal_dependencies(&metadata()) {
        if matches!(name.as_str(), "batoff-tests" | "batoff-turmoil" | "batoff-benches") {
            continue;
        }
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no place in ARROWS yet"));
        for dependency in dependencies.iter().filter(|d| d.starts_with("batoff-")) {
            assert!(
                may.contains(&dependency.as_str()),
                "{name} -> {dependency} is a new arrow; {name} may see {may:?} (tests/architecture.rs)"
            );
        }
    }
}

#[test]
fn the_lower_layers_have_no_io_no_clock_and_no_async() {
    let all = normal_dependencies(&metadata());
    for (name, may) in PURE {
        for dependency in all[name].iter().filter(|d| !d.starts_with("batoff-")) {
            assert!(may.contains(&dependency.as_str()), "{name} must stay pure, but depends on {dependency}");
        }
    }
    let root = metadata().workspace_root;
    for (name, _) in PURE {
        let folder = name.trim_start_matches("batoff-");
        let sources = root.join("crates").join(folder).join("src");
        for_each_line(sources.as_std_path(), &mut |file, number, line| {
            for forbidden in ["std::net", "std::fs", "Instant::now", "SystemTime::now", "async fn", "tokio::"]
            {
                let code = line.split("//").next().unwrap_or_default();
                assert!(!code.contains(forbidden), "{}:{number} uses {forbidden}", file.display());
            }
        });
    }
}

/// Crates in which not every file says at its door what it is for. The list only shrinks.
const WITHOUT_A_SIGN: &[&str] =
    &["caches", "cli", "client", "control", "delivery", "edge", "index", "log", "types", "wire"];

/// Lines from which on a file needs a sign.
const LONG: usize = 100;

#[test]
fn a_long_file_and_the_root_of_a_module_say_what_they_are_for() {
    let crates = metadata().workspace_root.join("crates");
    let mut without = BTreeMap::<String, Vec<String>>::new();
    for entry in std::fs::read_dir(&crates).expect("there are crates").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        for_each_file(&entry.path().join("src"), &mut |file, text| {
            // Its subject is its parent's.
            let is_test =
                file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
            let is_root =
                file.ends_with("lib.rs") || file.ends_with("main.rs") || file.with_extension("").is_dir();
            if (is_root || text.lines().count() > LONG) && !is_test && !text.starts_with("//!") {
                without.entry(name.clone()).or_default().push(file.display().to_string());
            }
        });
    }
    let exempt = without.keys().filter(|name| WITHOUT_A_SIGN.contains(&name.as_str())).count();
    assert_eq!(exempt, WITHOUT_A_SIGN.len(), "a crate is exempt that need not be (tests/architecture.rs)");
    without.retain(|name, _| !WITHOUT_A_SIGN.contains(&name.as_str()));
    assert!(without.is_empty(), "these begin without `//!` and what they are for: {without:#?}");
}

#[test]
fn one_crypto_provider_only() {
    // The lock file lists ring too, as somebody's optional dependency; what counts is what is linked.
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--workspace", "--edges", "normal", "--invert", "ring", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo tree runs");
    let users = String::from_utf8_lossy(&tree.stdout);
    assert!(users.trim().is_empty(), "ring is linked beside aws-lc-rs:\n{users}");
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options([
            "--locked".to_owned(),
            "--filter-platform".to_owned(),
            "x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .expect("cargo metadata runs")
}

fn normal_dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            (package.name.to_string(), normal.map(|d| d.name.clone()).collect())
        })
        .collect()
}

fn for_each_line(folder: &Path, check: &mut impl FnMut(&Path, usize, &str)) {
    for_each_file(folder, &mut |path, text| {
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in text[..tests].lines().enumerate() {
            check(path, number + 1, line);
        }
    });
}

fn for_each_file(folder: &Path, check: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).expect("the crate has sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            for_each_file(&path, check);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            check(&path, &std::fs::read_to_string(&path).expect("sources are text"));
        }
    }
}
