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
async fn max_objects_does_not_open_while_a_node_that_may_serve_has_not_answered() {
    let rig = Rig::start().await;
    let node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    rig.wait_for_nodes(1).await;
    let everything = r#"{"everything":true,"max_objects":1000}"#;
    node.stop_counting();
    let unknown = rig.post(everything).send().await;
    let problem = check("a mute node", &unknown, 503, "count_unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("fra1/edge-1"), "{problem}");
    assert!(unknown.header("retry-after").is_some());
    assert!(rig.tasks().await.is_empty(), "nothing is queued");
    assert_eq!(rig.post(r#"{"everything":true}"#).send().await.status, 202, "without the guard");
}

#[tokio::test]
async fn max_objects_names_the_node_and_the_cache_that_cannot_be_counted_and_the_remedy() {
    let rig = Rig::start().await;
    let node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    let _other = FakeNode::connect(rig.grpc(), "lon1/edge-2", 3).await;
    rig.wait_for_nodes(2).await;
    rig.wait_for_leases(2).await;
    node.drive_uncounted("varnish");
    let unknown = rig.post(r#"{"tags":["a"],"max_objects":1000}"#).send().await;
    let problem = check("an uncounted cache", &unknown, 503, "count_unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("fra1/edge-1 (varnish)") && !detail.contains("lon1"), "{detail}");
    assert!(detail.contains("without max_objects") && !detail.contains("Try again"), "{detail}");
    assert!(rig.tasks().await.is_empty(), "nothing is queued");
    let over = rig.post(r#"{"tags":["a"],"max_objects":2}"#).send().await;
    check("more than the others may lose", &over, 412, "too_many_objects");
}

#[tokio::test]
async fn max_objects_does_not_open_while_an_available_node_is_away() {
    let rig = Rig::start().await;
    // Of unknown policy, as it has never said Hello: it may be serving.
    rig.register_absent_node("fra1/edge-9").await;
    let unknown = rig.post(r#"{"everything":true,"max_objects":0}"#).send().await;
    check("an absent node", &unknown, 503, "count_unavailable");
    assert!(rig.tasks().await.is_empty(), "nothing is queued");
}

#[tokio::test]
async fn dry_runs_are_metered_by_token() {
    let rig = Rig::start().await;
    let dry_run = || rig.request("POST", "/v1/sites/shop/purge?dry_run=true").json(r#"{"tags":["a"]}"#);
    let mut made = 0;
    let refused = loop {
        let reply = dry_run().send().await;
        match reply.status {
            200 => made += 1,
            _ => break reply,
        }
        assert!(made < 5_000, "dry runs are free");
    };
    check("too many", &refused, 429, "rate_limited");
    assert!(made >= 60, "{made}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(rig.reader(dry_run()).send().await.status, 200, "another token has its own");
    assert_eq!(rig.post(r#"{"tags":["a"]}"#).send().await.status, 202, "purges are not dry runs");
}

#[tokio::test]
async fn a_purge_is_in_progress_until_its_node_has_confirmed_it() {
    let rig = Rig::start().await;
    let node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    rig.wait_for_nodes(1).await;
    node.hold_acks();
    let task = rig.post(r#"{"tags":["a","b"]}"#).send().await.task();
    let target = format!("/v1/sites/shop/purge/{task}?include=pops,propagation");
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
    let way = &done["propagation"];
    assert_eq!(
        (&way["completed_ms"], &way["pops"][0]["acked_ms"]),
        (&done["propagation_ms"], &done["pops"][0]["slowest_ms"])
    );
    assert_eq!(
        (&way["late"][0]["pop"], &way["late"][0]["node"]),
        (&"fra1".into(), &"edge-1".into()),
        "{done}"
    );
    assert!(done["pops"][0]["slowest_ms"].is_u64() && done["propagation_ms"].is_u64(), "{done}");
}

#[tokio::test]
async fn the_state_and_the_counts_beside_it_come_from_one_look() {
    let rig = Rig::start().await;
    let _node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 0).await;
    rig.wait_for_nodes(1).await;
    for _ in 0..100 {
        let task = rig.post(r#"{"tags":["a"]}"#).send().await.task();
        let shown = rig.get(&format!("/v1/sites/shop/purge/{task}")).send().await.json();
        let all = shown["nodes"]["confirmed"] == shown["nodes"]["total"];
        assert_eq!(all, shown["state"] == "completed", "{shown}");
    }
}

#[tokio::test]
async fn a_submission_that_is_waited_for_is_answered_with_the_finished_task() {
    let rig = Rig::start().await;
    let node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 0).await;
    rig.wait_for_nodes(1).await;
    let waited = || rig.request("POST", "/v1/sites/shop/purge?wait=20").json(r#"{"tags":["a"]}"#);
    let done = waited().header("Idempotency-Key", "k").send().await;
    assert_eq!((done.status, &done.json()["state"]), (200, &"completed".into()), "{done:?}");
    let task = done.json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(done.header("location"), Some(format!("/v1/sites/shop/purge/{task}").as_str()));
    assert!(done.header("ratelimit").is_some() && done.header("idempotency-replayed").is_none());
    let again = waited().header("Idempotency-Key", "k").send().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")), "{again:?}");
    assert_eq!(again.json()["task_id"], task.as_str());

    let preferred = rig.post(r#"{"tags":["b"]}"#).header("Prefer", "respond-async, wait=20").send().await;
    assert_eq!((preferred.status, preferred.header("preference-applied")), (200, Some("wait=20")));

    node.hold_acks();
    let open = rig.post(r#"{"tags":["c"]}"#).header("Prefer", "wait=1").send().await;
    assert_eq!((open.status, open.header("preference-applied")), (202, Some("wait=1")), "{open:?}");
    assert_eq!(open.json()["state"], "pending");
    node.release_acks();
    let dry = rig.request("POST", "/v1/sites/shop/purge?dry_run=true&wait=1").json(r#"{"tags":["a"]}"#);
    check("nothing to wait for", &dry.send().await, 400, "invalid_request");
    let long = rig.request("POST", "/v1/sites/shop/purge?wait=31").json(r#"{"tags":["a"]}"#);
    check("too long", &long.send().await, 400, "invalid_request");
}

#[tokio::test]
async fn one_grep_for_the_request_tells_the_story_of_a_purge() {
    let lines = crate::lines::capture();
    let rig = Rig::start().await;
    let _node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 3).await;
    rig.wait_for_nodes(1).await;
    let request =
        rig.post(r#"{"tags":["a"]}"#).header("X-Request-Id", "deploy-4711").header("Prefer", "wait=20");
    let task = request.send().await.json()["task_id"].as_str().unwrap().to_owned();
    let story: Vec<_> = lines.containing("deploy-4711");
    let one = |text: &str| match story.iter().filter(|line| line.contains(text)).collect::<Vec<_>>()[..] {
        [line] => line.clone(),
        _ => panic!("not one line says {text:?}: {story:#?}"),
    };
    assert!(one("purge accepted").contains(&task));
    let completed = one("purge completed");
    for word in [&*task, "slowest=\"fra1/edge-1\"", "propagation_ms=", "slowest_ms=", "confirmed=1"] {
        assert!(completed.contains(word), "{word}: {completed}");
    }
}
