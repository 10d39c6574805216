//! Programs under `batoff dev`, killed in the middle of a run of purges: no accepted purge is lost.

use std::time::Duration;

use batoff_tests::{Dev, DevOptions, eventually, kill};
use rustix::process::Signal;
use serde_json::json;

const PAGES: usize = 60;

/// Fills every cache with the pages, purges them one by one while `strike` does its worst, and then looks at each page
/// through each proxy: whatever was answered 202 must be gone everywhere.
async fn no_accepted_purge_is_lost(strike: impl AsyncFnOnce(&Dev)) {
    let dev = Dev::start(DevOptions { keep: true, ..DevOptions::default() });
    for page in 0..PAGES {
        dev.warm(&format!("/run/{page}")).await;
    }
    let purges = async {
        let mut accepted = Vec::new();
        for page in 0..PAGES {
            let reply =
                dev.customer.purge_until_accepted(&json!({"urls": [dev.url(&format!("/run/{page}"))]})).await;
            accepted.push(reply.task());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        accepted
    };
    let strike = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        strike(&dev).await;
    };
    let (accepted, ()) = tokio::join!(purges, strike);

    let mut unique = accepted.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), PAGES, "each request has a task of its own");
    for task in &accepted {
        dev.customer.completed(task).await;
    }
    for page in 0..PAGES {
        for node in &dev.line.nodes {
            let answer = dev.visitor.read(&node.proxy, dev.host(), &format!("/run/{page}")).await;
            assert_ne!(answer.x_cache, "HIT", "page {page} survived its purge on {}/{}", node.pop, node.node);
        }
    }
}

#[tokio::test]
async fn the_control_plane_killed_in_the_middle_of_purges_loses_none() {
    no_accepted_purge_is_lost(async |dev| kill(dev.line.control_pid, Signal::KILL)).await;
}

#[tokio::test]
async fn a_node_killed_in_the_middle_of_purges_catches_up() {
    no_accepted_purge_is_lost(async |dev| kill(dev.line.nodes[1].pid, Signal::KILL)).await;
}

#[tokio::test]
async fn a_node_frozen_in_the_middle_of_purges_catches_up_when_it_wakes() {
    no_accepted_purge_is_lost(async |dev| {
        kill(dev.line.nodes[0].pid, Signal::STOP);
        tokio::time::sleep(Duration::from_secs(3)).await;
        kill(dev.line.nodes[0].pid, Signal::CONT);
    })
    .await;
}

#[tokio::test]
async fn tasks_and_their_times_survive_a_restart_of_the_control_plane() {
    let dev = Dev::start(DevOptions { keep: true, pops: 1, ..DevOptions::default() });
    let task = dev.customer.purge(&json!({"urls": [dev.url("/x")]})).await.task();
    let before = dev.customer.completed(&task).await;
    kill(dev.line.control_pid, Signal::KILL);
    let after = eventually("the control plane is back", || async {
        let path = format!("/v1/sites/{}/purge/{task}", dev.line.site);
        dev.customer
            .send(dev.customer.request("GET", &path, None))
            .await
            .ok()
            .filter(|reply| reply.status == 200)
    })
    .await
    .json;
    for member in ["state", "started_at", "completed_at", "propagation_ms", "items_total", "items_done"] {
        assert_eq!(after[member], before[member], "{member}");
    }
}

#[tokio::test]
async fn a_request_resent_after_a_crash_is_not_purged_twice() {
    let dev = Dev::start(DevOptions { keep: true, pops: 1, ..DevOptions::default() });
    let path = format!("/v1/sites/{}/purge", dev.line.site);
    let body = json!({"urls": [dev.url("/once")]}).to_string();
    let request = dev.customer.keyed_request("POST", &path, Some(body.as_bytes()), Some("deploy-17"));
    let send = || dev.customer.send(request.try_clone().expect("the body is in memory"));
    let first = send().await.expect("a reply").task();
    kill(dev.line.control_pid, Signal::KILL);
    let again = eventually("the same bytes are answered again", || async {
        send().await.ok().filter(|reply| reply.status == 202)
    })
    .await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.task(), first);
}

#[tokio::test]
async fn the_children_end_with_their_supervisor_whatever_kills_it() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let children = [dev.line.control_pid, dev.line.nodes[0].pid];
    kill(dev.pid(), Signal::KILL);
    for pid in children {
        eventually("the child ends", || async { (!running(pid)).then_some(()) }).await;
    }
}

/// Whether a process exists and is more than a zombie.
fn running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_purge_completes_while_a_node_is_frozen_and_the_node_wakes_without_the_page() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    dev.warm("/frozen").await;
    kill(dev.line.nodes[0].pid, Signal::STOP);
    let task = dev.customer.purge(&json!({"urls": [dev.url("/frozen")]})).await.task();
    let task = dev.customer.completed(&task).await;
    kill(dev.line.nodes[0].pid, Signal::CONT);
    let nodes = json!({"total": 2, "confirmed": 1, "fenced": 1, "unreachable": 0});
    assert_eq!(task["nodes"], nodes, "it has no lease any more, so it cannot serve: {task}");
    // The first thing that the node does on waking is to answer this.
    let answer = dev.visitor.read(&dev.line.nodes[0].proxy, dev.host(), "/frozen").await;
    assert_ne!(answer.x_cache, "HIT", "served after it was completed");
}
