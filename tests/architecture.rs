//! What may this module import? Between crates: the arrows below, three layers, only downward. A new arrow is a decision;
//! it is made here first. Inside a crate: `architecture/circles.rs`, the rooms of the control plane from the ground up, and
//! the crates in which no file imports in a circle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/names.rs"]
mod names;
#[path = "architecture/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates each one sees: these and no others, so that a permission ends with its use. `tests`, `tests/turmoil`
/// and `benches` see anything, and nothing sees them.
const ARROWS: [(&str, &[&str]); 16] = [
    ("batoff-types", &[]),
    ("batoff-wire", &["batoff-types"]),
    ("batoff-log", &["batoff-types"]),
    ("batoff-log-etcd", &["batoff-types", "batoff-log"]),
    ("batoff-delivery", &["batoff-types"]),
    ("batoff-index", &["batoff-types"]),
    ("batoff-program", &["batoff-types"]),
    (
        "batoff-control",
        &[
            "batoff-types",
            "batoff-wire",
            "batoff-log",
            "batoff-log-etcd",
            "batoff-delivery",
            "batoff-program",
        ],
    ),
    ("batoff-edge", &["batoff-types", "batoff-wire", "batoff-delivery", "batoff-index", "batoff-program"]),
    ("batoff-caches", &["batoff-types", "batoff-wire", "batoff-index", "batoff-program", "batoff-edge"]),
    ("batoff-edge-client", &["batoff-types", "batoff-wire"]),
    ("batoff-client", &[]),
    ("batoff-pingora", &["batoff-types", "batoff-edge", "batoff-index", "batoff-program"]),
    ("batoff-proxy", &["batoff-types", "batoff-edge", "batoff-index", "batoff-pingora", "batoff-program"]),
    ("batoff-cli", &["batoff-types", "batoff-client", "batoff-program"]),
    ("batoff-simulation", &["batoff-types", "batoff-delivery", "batoff-index"]),
];

/// Crates without IO, clocks and async: what they use beside ours is listed, so that a socket cannot slip in.
const PURE: [(&str, &[&str]); 3] = [
    ("batoff-types", &["foldhash", "thiserror", "ulid", "url"]),
    ("batoff-delivery", &["thiserror"]),
    (
        "batoff-index",
        &["arc-swap", "foldhash", "hashbrown", "memchr", "parking_lot", "smallvec", "thiserror"],
    ),
];

#[test]
fn arrows_point_only_downward() {
    let drawn: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for (name, dependencies) in normal_dependencies(&metadata()) {
        if matches!(name.as_str(), "batoff-tests" | "batoff-turmoil" | "batoff-benches") {
            continue;
        }
        let sees = drawn.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no place in ARROWS yet"));
        let sees: BTreeSet<&str> = sees.iter().copied().collect();
        let ours: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|d| d.starts_with("batoff-")).collect();
        assert_eq!(ours, sees, "left: what {name} depends on; right: its arrows (tests/architecture.rs)");
    }
}

#[test]
fn the_lower_layers_have_no_io_no_clock_and_no_async() {
    let all = normal_dependencies(&metadata());
    for (name, uses) in PURE {
        let uses: BTreeSet<&str> = uses.iter().copied().collect();
        let others: BTreeSet<&str> =
            all[name].iter().map(String::as_str).filter(|d| !d.starts_with("batoff-")).collect();
        assert_eq!(
            others, uses,
            "left: what {name} depends on; right: what a pure crate may (tests/architecture.rs)"
        );
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
    assert!(without.is_empty(), "these begin without `//!` and what they are for: {without:#?}");
}

/// Crates whose rooms, the modules of `lib.rs`, use one another in one direction only.
const WITHOUT_CIRCLES: [&str; 2] = ["caches", "edge"];

#[test]
fn no_two_rooms_of_a_crate_need_each_other() {
    let root = metadata().workspace_root;
    for folder in WITHOUT_CIRCLES {
        let sources = root.join("crates").join(folder).join("src");
        let mut uses = uses_of_rooms(sources.as_std_path());
        // Whoever uses nothing that is left is in no circle.
        while let Some(room) = uses.iter().find(|(_, used)| used.is_empty()).map(|(room, _)| room.clone()) {
            uses.remove(&room);
            uses.values_mut().for_each(|used| _ = used.remove(&room));
        }
        assert!(
            uses.is_empty(),
            "crates/{folder}: rooms in a circle, or above one, with what they use: {uses:?}"
        );
    }
}

/// Which modules of `lib.rs` each of them names, tests apart.
fn uses_of_rooms(sources: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let door = std::fs::read_to_string(sources.join("lib.rs")).expect("the crate has a lib.rs");
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Names that the door gives on, and whose they are.
    let mut given_on = BTreeMap::new();
    for statement in code(&door).split(';').map(|part| part.trim().trim_start_matches("pub ")) {
        if let Some(room) = statement.strip_prefix("mod ") {
            uses.insert(room.to_owned(), BTreeSet::new());
        } else if let Some((room, names)) =
            statement.strip_prefix("use self::").and_then(|rest| rest.split_once("::"))
        {
            given_on.extend(words(names).map(|name| (name.to_owned(), room.to_owned())));
        }
    }
    let rooms: BTreeSet<String> = uses.keys().cloned().collect();
    for_each_file(sources, &mut |file, text| {
        let within = file.strip_prefix(sources).expect("below it");
        let room = within.iter().next().expect("a name").to_string_lossy();
        let room = room.trim_end_matches(".rs");
        let is_test = within.iter().any(|part| part == "tests" || part == "tests.rs");
        let (Some(used), false) = (uses.get_mut(room), is_test) else { return };
        let code = code(without_tests(text));
        let from_root = code.split("crate::").skip(1);
        let from_above = code.split("use super::").skip(1).filter(|_| within.iter().count() == 1);
        for path in from_root.chain(from_above) {
            // `crate::{a, b::c}` names a and b, `crate::a::b` names a.
            let all = match path.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default(),
                None => path.split([',', ';']).next().unwrap_or_default(),
            };
            for name in all.split(',').filter_map(|path| words(path).next()) {
                let named = rooms.get(name).or_else(|| given_on.get(name));
                used.extend(named.filter(|named| *named != room).cloned());
            }
        }
    });
    uses
}

/// Without its comments, in one line.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join(" ")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
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

/// Each line that is not a test's.
fn for_each_line(folder: &Path, check: &mut impl FnMut(&Path, usize, &str)) {
    for_each_file(folder, &mut |path, text| {
        for (number, line) in without_tests(text).lines().enumerate() {
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

/// Up to the tests that end a file. Those in a file of their own end nothing.
fn without_tests(text: &str) -> &str {
    let is_in_place = |at: usize| {
        let next = text[at..].lines().nth(1).unwrap_or_default();
        next.starts_with("mod ") && next.ends_with('{')
    };
    let tests = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| is_in_place(*at));
    &text[..tests.unwrap_or(text.len())]
}
