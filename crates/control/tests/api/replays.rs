use crate::checks::check;
use crate::rig::Rig;

const BODY: &str = r#"{"tags":["a"]}"#;

#[tokio::test]
async fn the_same_bytes_are_a_new_purge_within_two_seconds_and_a_replay_after() {
    let rig = Rig::start().await;
    let request = rig.post(BODY);
    let first = request.send().await;
    rig.advance_millis(1_999);
    let second = request.send().await;
    assert_ne!(first.task(), second.task(), "an edit in between must not stay stale behind a 202");
    assert_eq!(second.header("idempotency-replayed"), None);
    rig.advance_millis(1);
    let replay = request.send().await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    assert_eq!((replay.status, replay.json()), (202, first.json()));
    assert_eq!(replay.header("location"), first.header("location"));
    assert_eq!(rig.tasks().await, [second.task(), first.task()]);
}

#[tokio::test]
async fn a_replay_is_answered_after_a_restart_too() {
    let rig = Rig::start().await;
    let request = rig.post(BODY);
    let first = request.send().await;
    let rig = rig.restart().await;
    rig.advance_millis(2_000);
    let replay = rig.again(&request).send().await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"), "{replay:?}");
    assert_eq!(replay.json(), first.json());
}

#[tokio::test]
async fn an_idempotency_key_holds_across_signatures_for_a_day() {
    let rig = Rig::start().await;
    let with_key = || rig.post(BODY).header("Idempotency-Key", "8e03978e-40d5");
    let first = with_key().send().await;
    let replay = with_key().send().await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    assert_eq!(replay.json(), first.json());
    let other = rig.post(r#"{"tags":["b"]}"#).header("Idempotency-Key", "8e03978e-40d5");
    check("another body", &other.send().await, 422, "idempotency_key_reused");
    rig.advance_millis(24 * 3_600 * 1_000 - 1);
    assert_eq!(with_key().send().await.task(), first.task());
    rig.advance_millis(1);
    assert_ne!(with_key().send().await.task(), first.task());
    assert_eq!(rig.tasks().await.len(), 2);
}

#[tokio::test]
async fn a_key_belongs_to_its_token() {
    let rig = Rig::start().await;
    let other = rig.issue("shop").await;
    let first = rig.post(BODY).header("Idempotency-Key", "k").send().await;
    let second =
        rig.post(BODY).header("Idempotency-Key", "k").token(&other.text).secret(&other.secret).send().await;
    assert_ne!(first.task(), second.task());
}

#[tokio::test]
async fn a_hundred_at_once_with_one_key_are_one_purge() {
    let rig = Rig::start().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let request = rig.post(BODY).header("Idempotency-Key", "once");
        running.spawn(async move { request.send().await });
    }
    let replies = running.join_all().await;
    let fresh = replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count();
    assert_eq!(fresh, 1);
    let tasks = rig.tasks().await;
    assert_eq!(tasks.len(), 1);
    assert!(replies.iter().all(|reply| reply.task() == tasks[0]));
    let left = rig.post(BODY).send().await;
    let left: u32 = left.header("ratelimit").unwrap().split(['=', ';']).nth(2).unwrap().parse().unwrap();
    assert!(left >= 9_998, "a replay costs nothing, but {left} are left");
}

#[tokio::test]
async fn one_signed_request_sent_many_times_at_once_is_done_and_later_replayed() {
    let rig = Rig::start().await;
    let request = rig.post(BODY);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = request.clone();
        running.spawn(async move { request.send().await.task() });
    }
    let mut tasks = running.join_all().await;
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), 20, "within two seconds each is a purge of its own");
    rig.advance_millis(2_000);
    let replay = request.send().await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    assert!(tasks.contains(&replay.task()));
}

#[tokio::test]
async fn a_replay_is_answered_when_the_quota_is_used_up_and_the_name_is_gone() {
    let rig = Rig::start().await;
    rig.set_limits(100, 1).await;
    let request = rig.post(r#"{"hosts":["www.example.com"]}"#);
    let first = request.send().await;
    check("used up", &rig.post(r#"{"everything":true}"#).send().await, 429, "rate_limited");
    rig.set_shop(&["shop.example"], 100, 1).await;
    rig.advance_millis(2_000);
    let replay = request.send().await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"), "{replay:?}");
    assert_eq!(replay.task(), first.task());
}

#[tokio::test]
async fn dry_runs_and_refusals_are_not_stored() {
    let rig = Rig::start().await;
    let dry_run =
        rig.request("POST", "/v1/sites/shop/purge?dry_run=true").json(BODY).header("Idempotency-Key", "k");
    assert_eq!(dry_run.send().await.status, 200);
    rig.advance_millis(3_000);
    let again = dry_run.send().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, None));
    let wrong = rig.post(r#"{"tags":["a,b"]}"#).header("Idempotency-Key", "k");
    check("refused", &wrong.send().await, 400, "invalid_tag");
    let right = rig.post(BODY).header("Idempotency-Key", "k").send().await;
    assert_eq!((right.status, right.header("idempotency-replayed")), (202, None));
}

#[tokio::test]
async fn a_captured_request_is_worth_nothing_later() {
    let rig = Rig::start().await;
    let request = rig.post(BODY);
    request.send().await.task();
    rig.advance_millis(301_000);
    check("stale", &request.send().await, 401, "bad_signature");
}
