//! Direction inside a crate: which room may import from which, and no file imports in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{self, Module};

/// The rooms of the control plane from the ground up. Each sees exactly these, all of which stand before it in this table.
/// Ground: clocks, ids, the store, what is configured and measured. On it what the log's records make of it, `catalog`
/// and `tracker`; then the doors, `commit` and `stream`, and `service`, which is what they and the roof answer from; the
/// roof is `api`, `admin`, `ops` and `server`, which puts everything together for `main`.
const CONTROL: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("hub", &[]),
    ("metrics", &[]),
    ("own_threads", &[]),
    ("rounds", &["hub", "own_threads"]),
    ("tls", &["metrics"]),
    ("handshakes", &["metrics", "tls"]),
    ("ids", &["clock"]),
    ("store", &["metrics"]),
    ("audit", &["clock", "metrics", "store"]),
    ("revoked", &["audit", "clock", "metrics", "tls"]),
    ("seat", &["clock", "metrics", "store"]),
    ("engine", &["config", "seat"]),
    ("http_server", &["handshakes", "metrics", "revoked", "tls"]),
    ("language", &[]),
    ("catalog", &["clock", "ids", "store"]),
    ("accounts", &["audit", "catalog", "clock", "language", "store"]),
    ("init", &["accounts", "catalog", "store"]),
    ("backup", &["audit", "clock", "engine", "init"]),
    ("tracker", &["catalog", "clock", "ids", "metrics", "seat", "store"]),
    ("alike", &["config", "init", "tracker"]),
    ("commit", &["catalog", "clock", "ids", "metrics", "store"]),
    ("overview", &["clock", "tls", "tracker"]),
    ("feed", &["catalog", "hub", "store", "tracker"]),
    ("housekeeping", &["audit", "catalog", "clock", "config", "store", "tracker"]),
    (
        "service",
        &[
            "accounts", "audit", "catalog", "clock", "commit", "config", "hub", "ids", "overview", "revoked",
            "seat", "tls", "tracker",
        ],
    ),
    ("ops", &["clock", "metrics", "seat", "service"]),
    ("api", &["audit", "catalog", "clock", "commit", "language", "metrics", "service", "store", "tracker"]),
    ("stream", &["handshakes", "hub", "metrics", "revoked", "service", "store", "tls", "tracker"]),
    (
        "admin",
        &[
            "accounts", "api", "audit", "catalog", "clock", "commit", "language", "overview", "service",
            "tracker",
        ],
    ),
    (
        "console",
        &[
            "accounts", "admin", "api", "audit", "catalog", "clock", "config", "language", "metrics",
            "overview", "service", "store", "tls", "tracker",
        ],
    ),
    (
        "server",
        &[
            "accounts",
            "admin",
            "alike",
            "api",
            "audit",
            "backup",
            "catalog",
            "clock",
            "commit",
            "config",
            "console",
            "engine",
            "feed",
            "housekeeping",
            "http_server",
            "hub",
            "ids",
            "init",
            "ops",
            "overview",
            "own_threads",
            "revoked",
            "rounds",
            "seat",
            "service",
            "store",
            "stream",
            "tls",
            "tracker",
        ],
    ),
    ("migrate", &["clock", "config", "engine", "init", "seat", "server", "tracker"]),
    ("exit", &["backup", "engine", "init", "migrate", "seat", "server"]),
    ("doctor", &["backup", "config", "engine", "init", "server"]),
];

/// Crates in which no file imports, over however many others, what imports it: each can be read, and moved, with what
/// stands below it and nothing else.
const WITHOUT_CIRCLES: &[&str] = &["caches", "control", "edge", "log", "log-etcd", "pingora"];

#[test]
fn inside_the_control_plane_rooms_see_only_what_stands_below_them() {
    check("control", CONTROL);
}

fn check(name: &str, rooms: &[(&str, &[&str])]) {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let imports = sources::imports(&sources::of(name));
    for (module, targets) in &imports {
        // The crate's root only lists the rooms.
        let Some(room) = module.first() else { continue };
        let others = targets.iter().filter_map(|target| target.first()).filter(|other| *other != room);
        seen.entry(room).or_default().extend(others.map(String::as_str));
    }
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for (room, may) in rooms {
        let does = seen.remove(room).unwrap_or_else(|| panic!("{name} has no room {room} any more"));
        let may: BTreeSet<&str> = may.iter().copied().collect();
        assert!(
            may.is_subset(&below),
            "{name}: {room} may see {:?}, which do not stand below it",
            &may - &below
        );
        assert_eq!(does, may, "{name}: what {room} imports, and what it may (tests/architecture/circles.rs)");
        below.insert(room);
    }
    assert!(seen.is_empty(), "{name}: these rooms have no place in the table yet: {seen:?}");
}

#[test]
fn no_file_imports_in_a_circle() {
    for name in WITHOUT_CIRCLES {
        let mut left = sources::imports(&sources::of(name));
        // Files that import nothing any more are put aside, until there are none.
        loop {
            let done: Vec<Module> = left
                .iter()
                .filter(|(_, targets)| targets.is_empty())
                .map(|(module, _)| module.clone())
                .collect();
            if done.is_empty() {
                break;
            }
            left.retain(|module, _| !done.contains(module));
            left.values_mut().for_each(|targets| targets.retain(|target| !done.contains(target)));
        }
        // And those that nobody imports: what is left is circles, and the way from one to the next.
        loop {
            let wanted: BTreeSet<Module> = left.values().flatten().cloned().collect();
            let before = left.len();
            left.retain(|module, _| wanted.contains(module));
            if left.len() == before {
                break;
            }
        }
        let arrows = |(module, targets): (&Module, &BTreeSet<Module>)| {
            let targets: Vec<String> = targets.iter().map(|target| target.join("::")).collect();
            format!("{} -> {}", module.join("::"), targets.join(", "))
        };
        let circles: Vec<String> = left.iter().map(arrows).collect();
        assert!(circles.is_empty(), "{name} has circles:\n{}", circles.join("\n"));
    }
}
