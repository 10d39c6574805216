use crate::checks::check;
use crate::rig::Rig;

#[tokio::test]
async fn a_submission_is_answered_as_the_contract_shows() {
    let rig = Rig::start().await;
    let body = r#"{"urls":["https://www.example.com/index.html"],"tags":["product:42"]}"#;
    let reply = rig.post(body).send().await;
    let task = reply.task();
    assert_eq!(task.len(), 26);
    assert_eq!(reply.header("location"), Some(format!("/v1/sites/shop/purge/{task}").as_str()));
    assert_eq!(reply.header("idempotency-replayed"), None);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.json(),
        serde_json::json!({ "task_id": task, "state": "pending", "items_total": 2, "items_done": 0,
                            "started_at": rig.wall_text() })
    );
}

#[tokio::test]
async fn every_kind_is_taken_and_shown_in_normal_form() {
    let rig = Rig::start().await;
    let body = r#"{"urls":["HTTPS://WWW.Example.com:443/a/../b#top"],"prefixes":["http://x.img.example.com/im"],
                   "tags":["категория:обувь"],"hosts":["WWW.EXAMPLE.COM"],"soft":true}"#;
    let task = rig.post(body).send().await.task();
    let shown = rig.get(&format!("/v1/sites/shop/purge/{task}?include=items")).send().await.json();
    assert_eq!(
        shown["items"],
        serde_json::json!([
            { "kind": "url", "value": "https://www.example.com/b" },
            { "kind": "prefix", "value": "http://x.img.example.com/im" },
            { "kind": "tag", "value": "категория:обувь" },
            { "kind": "host", "value": "www.example.com" },
        ])
    );
    let task = rig.post(r#"{"everything":true}"#).send().await.task();
    let shown = rig.get(&format!("/v1/sites/shop/purge/{task}?include=items")).send().await.json();
    assert_eq!(shown["items"], serde_json::json!([{ "kind": "everything" }]));
}

#[tokio::test]
async fn task_ids_rise() {
    let rig = Rig::start().await;
    let mut last = String::new();
    for _ in 0..20 {
        let task = rig.post(r#"{"tags":["a"]}"#).send().await.task();
        assert!(task > last);
        last = task;
    }
}

#[tokio::test]
async fn a_dry_run_shows_the_items_queues_nothing_and_costs_nothing() {
    let rig = Rig::start().await;
    let body = r#"{"prefixes":["https://WWW.example.com/a/../b"],"urls":["https://www.example.com/x"]}"#;
    let dry_run = || rig.request("POST", "/v1/sites/shop/purge?dry_run=true").json(body);
    let reply = dry_run().send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json(),
        serde_json::json!({
            "dry_run": true, "objects_total": 0, "nodes": { "total": 0, "answered": 0 },
            "items": [ { "kind": "url", "value": "https://www.example.com/x", "objects": 0 },
                       { "kind": "prefix", "value": "https://www.example.com/b", "objects": 0 } ] })
    );
    assert_eq!(reply.header("ratelimit"), Some(r#""items";r=10000;t=0, "prefixes";r=60;t=0"#));
    assert_eq!(rig.reader(dry_run()).send().await.status, 200, "a reader may try");
    let wrong = rig.request("POST", "/v1/sites/shop/purge?dry_run=true").json(r#"{"tags":["a,b"]}"#);
    check("a bad item", &wrong.send().await, 400, "invalid_tag");
    assert!(rig.tasks().await.is_empty());
}

#[tokio::test]
async fn what_is_about_to_stop_or_cannot_write_accepts_nothing() {
    let rig = Rig::start().await;
    rig.faults.refuse_appends();
    check("full", &rig.post(r#"{"tags":["a"]}"#).send().await, 503, "unavailable");
    rig.faults.forget_answers();
    let request = rig.post(r#"{"tags":["b"]}"#).header("Idempotency-Key", "once");
    check("no answer", &request.send().await, 503, "outcome_unknown");
    rig.faults.none();
    let reply = rig.post(r#"{"tags":["b"]}"#).header("Idempotency-Key", "once").send().await;
    assert_eq!(reply.header("idempotency-replayed"), Some("true"), "{reply:?}");
    assert_eq!(
        rig.tasks().await,
        [reply.task()],
        "what was refused was not done, what was unknown was done once"
    );
}

#[tokio::test]
async fn a_purge_of_what_another_site_owns_is_refused_even_under_our_wildcard() {
    let rig = Rig::start().await;
    assert_eq!(rig.post(r#"{"hosts":["a.img.example.com"]}"#).send().await.status, 202);
    check("blog's", &rig.post(r#"{"hosts":["blog.img.example.com"]}"#).send().await, 400, "invalid_url");
}
