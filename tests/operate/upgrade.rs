//! An upgrade as the runbook has it, under load: nodes first, then the control plane, one program after the other; and the
//! way back, in the opposite order.
//!
//! `BATOFF_FORMER_BIN_DIR` names a folder with the programs of the release before: a release is made with it
//! (tests/README.md, Releases). Without it both releases are the programs under test. That shows the routine, and nothing
//! about two releases; and only for one control plane, because `faults` restarts several of them one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use batoff_tests::{Dev, Dice, Recorder, Service, System, SystemPlan, programs};

/// Purges a second.
const RATE: u32 = 10;

const FORMER: &str = "BATOFF_FORMER_BIN_DIR";

/// Where the programs of the release before lie.
fn former() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(FORMER)?);
    Some(folder.canonicalize().unwrap_or_else(|error| panic!("{FORMER}: {}: {error}", folder.display())))
}

/// What a control plane did that was to be exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// It does its job.
    Well,
    /// It does not understand what the other release has written, and says so.
    RefusedByFormat,
}

/// Ends a program, and starts that of another folder in its place.
async fn exchange(service: &mut Service, folder: &Path) -> Went {
    assert_eq!(service.stop().await, 0, "{} ends well", service.name);
    service.becomes_that_of(folder);
    if let Err(why) = service.start().await {
        assert!(why.contains("this build understands format"), "it says why not: {why}");
        return Went::RefusedByFormat;
    }
    let runs = std::fs::read_link(format!("/proc/{}/exe", service.pid())).unwrap();
    assert!(runs.starts_with(folder), "{} runs from {}", service.name, runs.display());
    Went::Well
}

/// How often each node has dropped everything since its daemon was started.
async fn resets(system: &System) -> Vec<String> {
    let mut all = Vec::new();
    for node in &system.nodes {
        let metrics = Dev::metrics(&node.metrics).await;
        let line = metrics.lines().find(|line| line.starts_with("batoff_edge_resets_total"));
        all.push(line.expect("resets are counted").to_owned());
    }
    all
}

async fn exchange_nodes(system: &mut System, folder: &Path) {
    for node in 0..system.nodes.len() {
        assert_eq!(exchange(&mut system.nodes[node].service, folder).await, Went::Well);
        system.settled().await;
        // What the other release has kept is understood: the node goes on where it was.
        let resets = &resets(system).await[node];
        assert!(resets.ends_with(" 0"), "node {node} has dropped everything: {resets}");
    }
}

/// One after the other; when the first cannot read what was written, `from` takes its place again.
async fn exchange_control_planes(system: &mut System, folder: &Path, from: &Path) -> Went {
    let before = resets(system).await;
    for replica in 0..=system.others.len() {
        let service = match replica {
            0 => &mut system.control,
            other => &mut system.others[other - 1],
        };
        if exchange(service, folder).await == Went::RefusedByFormat {
            assert_eq!(replica, 0, "the others read what the first one reads");
            service.becomes_that_of(from);
            service.start().await.unwrap_or_else(|why| panic!("{why}"));
            return Went::RefusedByFormat;
        }
        system.settled().await;
        assert_eq!(resets(system).await, before, "nodes go on where they were");
    }
    // The command line tool comes with the control plane.
    system.programs = Some(folder.to_owned());
    Went::Well
}

async fn upgraded_and_taken_back(replicas: usize) {
    let present = programs();
    let former = former().unwrap_or_else(|| present.clone());
    let plan = SystemPlan { nodes: 2, replicas, programs: Some(former.clone()), ..SystemPlan::default() };
    let mut system = System::start(plan).await;
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("an upgrade");
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let so_far = |what: &str| {
        eprintln!("{replicas} of {}, {what}: {}", former.display(), recorder.ledger());
        recorder.ledger().len()
    };
    let upgrade = async {
        exchange_nodes(&mut system, &present).await;
        let nodes = so_far("nodes upgraded");
        assert_eq!(exchange_control_planes(&mut system, &present, &former).await, Went::Well);
        let all = so_far("control planes, too");
        assert!(all > nodes && nodes > 0, "that was no load");
        if exchange_control_planes(&mut system, &former, &present).await == Went::Well {
            so_far("control planes taken back");
            exchange_nodes(&mut system, &former).await;
            so_far("nodes, too");
        } else {
            so_far("the former control plane has refused what the present one wrote");
        }
        over.store(true, Ordering::Relaxed);
    };
    let load = recorder.run_until(RATE, move || is_over.load(Ordering::Relaxed), &mut dice);
    tokio::join!(load, upgrade);
    so_far("all followed to their end");
    // No page that was purged was served, each purge stands in the log once, and in the list as it was told.
    recorder.settle(system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_the_way_back_under_load_lose_no_purge_and_serve_nothing_that_was_purged() {
    if former().is_none() {
        eprintln!("{FORMER} is not set: the same programs take each other's place");
    }
    upgraded_and_taken_back(1).await;
}

/// Replicas of both releases count beside each other meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn three_control_planes_are_upgraded_and_taken_back_one_after_the_other() {
    if former().is_none() {
        eprintln!("SKIPPED: {FORMER} is not set; `faults` `replicas` restarts the same programs so");
        return;
    }
    upgraded_and_taken_back(3).await;
}
