//! Whoever waits for what becomes of purges, or listens, is served by threads of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use batoff_control::tracker::TaskState;
use tokio::io::AsyncReadExt;

use crate::fake_node::FakeNode;
use crate::rig::Rig;

const PURGES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_who_wait_and_listen_hold_up_neither_those_who_submit_nor_the_nodes() {
    let rig = Arc::new(Rig::start().await);
    let _node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 1).await;
    rig.wait_for_leases(1).await;
    let mut listening = rig.get("/v1/sites/shop/purges/stream").open().await;
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("retry:") {
        assert_ne!(listening.read_buf(&mut heard).await.unwrap(), 0);
    }

    // As if all that customers wait for took their thread for good.
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    rig.services.followers.spawn(async move {
        let _ = held.recv();
    });
    let wait = |number: usize| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            let request = rig.request("POST", "/v1/sites/shop/purge?wait=20");
            request.json(&format!(r#"{{"tags":["waited-for-{number}"]}}"#)).send().await
        })
    };
    let waiting: Vec<_> = (0..PURGES).map(wait).collect();
    let site = "shop".parse().unwrap();
    let mut purged = BTreeSet::new();
    for number in 0..PURGES {
        let task = rig.post(&format!(r#"{{"tags":["submitted-{number}"]}}"#)).send().await.task();
        let id = task.parse().unwrap();
        let view = rig.services.tracker.wait(&site, id, Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!((view.state, view.nodes.confirmed), (TaskState::Completed, 1), "{view:?}");
        purged.insert(task);
    }
    // Several times as long as a lease lasts that nobody renews.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(rig.services.tracker.nodes().iter().all(|node| !node.lease_remaining.is_zero()));
    }
    assert!(waiting.iter().all(|one| !one.is_finished()), "this was waited for elsewhere");
    let early = tokio::time::timeout(Duration::from_millis(100), listening.read_buf(&mut heard)).await;
    assert!(early.is_err(), "this was written elsewhere: {}", String::from_utf8_lossy(&heard));

    drop(go_on);
    for one in waiting {
        let reply = one.await.unwrap();
        assert_eq!((reply.status, &reply.json()["state"]), (200, &"completed".into()), "{reply:?}");
        purged.insert(reply.json()["task_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(purged.len(), 2 * PURGES);
    let all_told = async {
        while !purged.iter().all(|task| completed(&heard, task)) {
            assert_ne!(listening.read_buf(&mut heard).await.unwrap(), 0, "the stream ended");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_told).await.expect("not all is told");
}

fn completed(heard: &[u8], task: &str) -> bool {
    let mut events = heard.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    events.any(|line| line.contains(task) && line.contains(r#""state":"completed""#))
}
