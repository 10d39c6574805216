use crate::checks::check;
use crate::client::Request;
use crate::rig::Rig;

#[tokio::test]
async fn sixty_prefixes_at_once_and_whole_requests_only() {
    let rig = Rig::start().await;
    let prefixes = |count: usize| {
        let items: Vec<String> = (0..count).map(|n| format!("\"https://www.example.com/{n}\"")).collect();
        rig.post(&format!(r#"{{"prefixes":[{}]}}"#, items.join(",")))
    };
    assert_eq!(prefixes(40).send().await.status, 202);
    let reply = prefixes(40).send().await;
    let problem = check("no 40 left", &reply, 429, "rate_limited");
    let detail = problem["detail"].as_str().unwrap();
    for word in
        ["quota \"prefixes\" of site shop", "60 a minute", "20 left", "needs 40", "nothing was queued"]
    {
        assert!(detail.contains(word), "{word}: {detail}");
    }
    assert_eq!(reply.header("ratelimit-policy"), Some(r#""items";q=10000;w=60, "prefixes";q=60;w=60"#));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(prefixes(20).send().await.status, 202, "a refused request takes nothing");
    check("none left", &prefixes(40).send().await, 429, "rate_limited");
    assert_eq!(rig.post(r#"{"tags":["a"]}"#).send().await.status, 202, "tags have a bucket of their own");
    assert_eq!(rig.tasks().await.len(), 3);
}

#[tokio::test]
async fn both_buckets_give_or_neither_does() {
    let rig = Rig::start().await;
    rig.set_limits(2, 1).await;
    rig.post(r#"{"everything":true}"#).send().await.task();
    let mixed = rig.post(r#"{"tags":["a","b"],"hosts":["www.example.com"]}"#).send().await;
    check("no prefix left", &mixed, 429, "rate_limited");
    assert_eq!(rig.post(r#"{"tags":["a","b"]}"#).send().await.status, 202, "the items are still there");
}

#[tokio::test]
async fn a_repeat_is_answered_although_the_quota_is_used_up_by_whichever_process_accepted_it() {
    let rig = Rig::start().await;
    rig.set_limits(100, 1).await;
    let key = |request: Request, key: &str| request.header("idempotency-key", key);
    let first = key(rig.post(r#"{"everything":true}"#), "first").send().await.task();
    // Nothing of it is in this one's memory.
    let rig = rig.restart().await;
    let other = key(rig.post(r#"{"everything":true}"#), "other");
    assert_eq!(other.send().await.status, 202);
    check("used up", &rig.post(r#"{"everything":true}"#).send().await, 429, "rate_limited");

    let again = key(rig.post(r#"{"everything":true}"#), "first").send().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    assert_eq!(again.task(), first);
    let conflict = key(rig.post(r#"{"prefixes":["www.example.com/a/"]}"#), "first").send().await;
    check("another body", &conflict, 422, "idempotency_key_reused");
    check("used up", &rig.post(r#"{"everything":true}"#).send().await, 429, "rate_limited");
    assert_eq!(rig.tasks().await.len(), 2);
}

#[tokio::test]
async fn one_site_does_not_use_up_anothers() {
    let rig = Rig::start().await;
    rig.set_limits(100, 1).await;
    rig.post(r#"{"everything":true}"#).send().await.task();
    check("used up", &rig.post(r#"{"everything":true}"#).send().await, 429, "rate_limited");
    let blog = rig.issue("blog").await;
    let request = rig.request("POST", "/v1/sites/blog/purge").json(r#"{"everything":true}"#);
    assert_eq!(request.token(&blog.text).secret(&blog.secret).send().await.status, 202);
}

#[tokio::test]
async fn a_sites_own_limits_hold() {
    let rig = Rig::start().await;
    rig.set_limits(3, 2).await;
    let reply = rig.post(r#"{"tags":["a","b","c"]}"#).send().await;
    assert_eq!(reply.header("ratelimit-policy"), Some(r#""items";q=3;w=60, "prefixes";q=2;w=60"#));
    assert_eq!(reply.status, 202);
    check("used up", &rig.post(r#"{"tags":["a"]}"#).send().await, 429, "rate_limited");
    check("never", &rig.post(r#"{"tags":["a","b","c","d"]}"#).send().await, 400, "too_many_items");
}

#[tokio::test]
async fn failed_authentications_are_throttled_and_right_ones_never() {
    let rig = Rig::start().await;
    let wrong = || rig.post(r#"{"tags":["a"]}"#).secret("bts_live_wrong");
    for _ in 0..100 {
        check("wrong", &wrong().send().await, 401, "bad_signature");
    }
    for request in [wrong(), rig.get("/v1/sites/shop/purges").no_token()] {
        // One a second is forgiven, however slow this machine is.
        let mut reply = request.send().await;
        while reply.status == 401 {
            reply = request.send().await;
        }
        check("throttled", &reply, 429, "rate_limited");
    }
    let last = wrong().send().await;
    assert!(last.header("ratelimit-policy").unwrap().starts_with(r#""auth-failures";q=100;"#), "{last:?}");
    assert_eq!(rig.post(r#"{"tags":["a"]}"#).send().await.status, 202);
}
