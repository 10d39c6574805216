//! Programs that end and come back: where they go on.

use std::time::SystemTime;

use batoff_tests::{Dice, HOST, Recorder, System, SystemPlan, Visitor, eventually};
use serde_json::json;

/// How often a node said that everything it holds is dropped.
fn resets(system: &System, node: usize) -> usize {
    system.nodes[node].service.log().matches("everything cached is dropped").count()
}

#[tokio::test]
async fn a_killed_node_goes_on_from_its_stored_cursor_and_misses_nothing_between() {
    let mut system = System::start(SystemPlan { nodes: 2, ..SystemPlan::default() }).await;
    let settled = SystemTime::now();
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("a node killed");
    for _ in 0..10 {
        recorder.purge_one(dice.throw()).await;
    }
    let began = resets(&system, 0);
    assert_eq!(began, 1, "a new node begins with a reset");
    // The cursor is stored some time after it was acknowledged, the later the slower the disk is.
    eventually("the node has stored a cursor", || async {
        let files = std::fs::read_dir(system.node_state(0)).ok()?.flatten();
        let stored = files.filter_map(|file| file.metadata().ok()?.modified().ok()).any(|at| at > settled);
        stored.then_some(())
    })
    .await;
    system.nodes[0].service.kill();
    for _ in 0..10 {
        recorder.purge_one(dice.throw()).await;
    }
    system.nodes[0].service.start().await.unwrap_or_else(|why| panic!("{why}"));
    system.settled().await;
    let log = system.nodes[0].service.log();
    assert!(log.contains("resumes=true"), "it knows where it was: {log}");
    assert_eq!(resets(&system, 0), began, "and nobody told it to drop everything: {log}");
    recorder.settle(system).await;
}

#[tokio::test]
async fn a_node_that_is_stopped_or_killed_serves_nothing_old_after_its_start() {
    let mut system = System::start(SystemPlan { nodes: 1, ..SystemPlan::default() }).await;
    let visitor = Visitor::default();
    for is_killed in [true, false] {
        system.warm("/a").await;
        if is_killed {
            system.nodes[0].service.kill();
        } else {
            assert_eq!(system.nodes[0].service.stop().await, 0, "it ends well");
        }
        let task = system.customer.purge(&json!({"urls": [System::url("/a")]})).await.task();
        let shown = system.customer.completed(&task).await;
        assert_eq!(shown["nodes"]["fenced"], 1, "{shown}");
        system.nodes[0].service.start().await.unwrap_or_else(|why| panic!("{why}"));
        let answer = visitor.read(&system.nodes[0].proxy, HOST, "/a").await;
        // A killed daemon's last state may be from before it was told whose the host is, when the disk is slow: then nothing
        // is kept for the host until it is told again.
        let gone: &[&str] = if is_killed { &["MISS", "BYPASS"] } else { &["MISS"] };
        assert!(gone.contains(&&*answer.x_cache), "the page is gone: {}", answer.x_cache);
        system.settled().await;
    }
}

#[tokio::test]
async fn a_log_that_was_replaced_while_the_control_plane_was_down_resets_every_node() {
    let mut system = System::start(SystemPlan { nodes: 1, ..SystemPlan::default() }).await;
    system.warm("/a").await;
    let resets_before = resets(&system, 0);
    system.control.kill();
    // A backup is restored: the copy must become a log of its own.
    let id = system.data_dir.join("LOG_ID");
    std::fs::remove_file(&id).unwrap();
    let refused = system.control.start().await.unwrap_err();
    assert!(refused.contains("--new-log-id"), "{refused}");
    let mut restored = system.control_once(&["--new-log-id"]);
    restored.start().await.unwrap_or_else(|why| panic!("{why}"));
    eventually("the node has dropped everything", || async {
        (resets(&system, 0) > resets_before).then_some(())
    })
    .await;
    assert_eq!(restored.stop().await, 0);
    system.control.start().await.unwrap_or_else(|why| panic!("{why}"));
    system.settled().await;
    system.warm("/a").await;
}

/// Everything in a folder that has no folders.
fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The backup says that the node is strict, and knows nothing of the control plane's later starts.
#[tokio::test]
async fn a_backup_is_believed_by_its_nodes_and_counts_nobody_as_fenced_who_has_not_said_so_since() {
    let mut system = System::start(SystemPlan { nodes: 1, ..SystemPlan::default() }).await;
    system.warm("/a").await;
    let backup = system.data_dir.with_extension("backup");
    assert_eq!(system.control.stop().await, 0);
    copy_folder(&system.data_dir, &backup);
    for _ in 0..3 {
        system.control.start().await.unwrap_or_else(|why| panic!("{why}"));
        system.settled().await;
        assert_eq!(system.control.stop().await, 0);
    }
    let resets_before = resets(&system, 0);
    system.nodes[0].service.freeze();
    std::fs::remove_dir_all(&system.data_dir).unwrap();
    copy_folder(&backup, &system.data_dir);
    let mut restored = system.control_once(&["--new-log-id"]);
    restored.start().await.unwrap_or_else(|why| panic!("{why}"));

    let task = system.customer.purge(&json!({"urls": [System::url("/a")]})).await.task();
    let shown = eventually("the purge is partial", || async {
        let shown = system.customer.task(&task, 1).await.json;
        (shown["state"] == "partial").then_some(shown)
    })
    .await;
    assert_eq!(
        (&shown["nodes"]["fenced"], &shown["nodes"]["unreachable"]),
        (&json!(0), &json!(1)),
        "{shown}"
    );

    system.nodes[0].service.thaw();
    system.customer.completed(&task).await;
    system.settled().await;
    assert!(resets(&system, 0) > resets_before, "it has begun anew in the restored log");
    system.warm("/a").await;
    assert_eq!(restored.stop().await, 0);
}
