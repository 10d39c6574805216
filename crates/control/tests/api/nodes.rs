//! With a node at the other end: counts, progress, completion.

use crate::checks::{check, pointers};
use crate::fake_node::FakeNode;
use crate::rig::Rig;

#[tokio::test]
async fn max_objects_fails_closed_and_a_dry_run_counts_the_same() {
    let rig = Rig::start().await;
    let _node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    rig.wait_for_nodes(1).await;
    let tags = r#""tags":["a","b"]"#;
    let tried = rig
        .request("POST", "/v1/sites/shop/purge?dry_run=true")
        .json(&format!("{{{tags}}}"))
        .send()
        .await
        .json();
    assert_eq!(tried["objects_total"], 6, "{tried}");
    assert_eq!(tried["items"][0], serde_json::json!({ "kind": "tag", "value": "a", "objects": 3 }));
    assert_eq!(tried["nodes"], serde_json::json!({ "total": 1, "answered": 1 }));

    let over = rig.post(&format!(r#"{{{tags},"max_objects":5}}"#)).send().await;
    let problem = check("over", &over, 412, "too_many_objects");
    assert_eq!(pointers(&problem), ["/max_objects"]);
    assert!(rig.tasks().await.is_empty(), "nothing is queued");
    assert!(over.header("ratelimit").unwrap().starts_with(r#""items";r=10000;"#), "nothing is spent");
    assert_eq!(rig.post(&format!(r#"{{{tags},"max_objects":6}}"#)).send().await.status, 202);
}

#[tokio::test]
async fn a_purge_is_in_progress_until_its_node_has_confirmed_it() {
    let rig = Rig::start().await;
    let node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    rig.wait_for_nodes(1).await;
    node.hold_acks();
    let task = rig.post(r#"{"tags":["a","b"]}"#).send().await.task();
    let target = format!("/v1/sites/shop/purge/{task}?include=pops");
    let mut shown = rig.get(&target).send().await.json();
    while shown["state"] == "pending" {
        shown = rig.get(&target).send().await.json();
    }
    assert_eq!((&shown["state"], &shown["items_done"]), (&"in_progress".into(), &0.into()), "{shown}");

    node.release_acks();
    let done = rig.get(&format!("{target}&wait=20")).send().await.json();
    assert_eq!((&done["state"], &done["items_done"]), (&"completed".into(), &2.into()), "{done}");
    assert_eq!(
        done["nodes"],
        serde_json::json!({ "total": 1, "confirmed": 1, "fenced": 0, "unreachable": 0 })
    );
    assert_eq!((&done["objects_evicted"], &done["objects_final"]), (&3.into(), &true.into()), "{done}");
    assert_eq!(done["pops"][0]["pop"], "fra1");
    assert_eq!(done["pops"][0]["objects_evicted"], 3);
    assert!(done["pops"][0]["slowest_ms"].is_u64() && done["propagation_ms"].is_u64(), "{done}");
}
