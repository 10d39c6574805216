use batoff_control::audit::{AuditEntry, AuditFilter, LISTED_MAX};

use crate::rig::Rig;

/// What the audit log says of purges, newest first.
async fn entries(rig: &Rig) -> Vec<AuditEntry> {
    let filter = AuditFilter { site: Some("shop".to_owned()), ..AuditFilter::default() };
    let page = rig.services.audit.list(&filter, None, LISTED_MAX).await.unwrap();
    page.entries.iter().map(|entry| serde_json::from_str(entry.as_str()).unwrap()).collect()
}

#[tokio::test]
async fn a_purge_is_told_with_who_asked_and_from_where_and_once() {
    let rig = Rig::start_with(&[("BATOFF_API_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let request = rig.post(r#"{"tags":["a","b"],"soft":true}"#).header("X-Forwarded-For", "203.0.113.9");
    let request = request.header("X-Request-Id", "deploy-42").header("Idempotency-Key", "once");
    let task = request.send().await.task();
    // The same again, and a dry run: nothing more was done.
    assert_eq!(request.send().await.task(), task);
    rig.request("POST", "/v1/sites/shop/purge?dry_run=true").json(r#"{"tags":["a"]}"#).send().await;

    let told = entries(&rig).await;
    let done: Vec<&AuditEntry> = told.iter().filter(|entry| entry.result == "done").collect();
    assert_eq!(done.len(), 1, "{told:?}");
    assert!(done[0].actor.starts_with("token:"), "{told:?}");
    assert_eq!(done[0].object.as_deref(), Some(task.as_str()));
    assert_eq!(done[0].what.as_deref(), Some("tag a and 1 more, soft"));
    assert_eq!(done[0].address, Some("203.0.113.9".parse().unwrap()));
    assert_eq!(done[0].request_id.as_deref(), Some("deploy-42"));
    let others: Vec<(&str, Option<&str>)> = told
        .iter()
        .filter(|entry| entry.result != "done")
        .map(|entry| (&*entry.result, entry.object.as_deref()))
        .collect();
    assert_eq!(others, [("repeated", Some(task.as_str()))]);
}

#[tokio::test]
async fn a_refused_purge_of_a_known_token_is_told_and_strangers_write_nothing() {
    let rig = Rig::start().await;
    let purge = r#"{"tags":["a"]}"#;
    rig.post(purge).secret("bts_live_wrong").send().await;
    rig.reader(rig.post(purge)).send().await;
    rig.post(r#"{"urls":["https://elsewhere.test/"]}"#).send().await;
    for stranger in [rig.post(purge).no_token(), rig.post(purge).token(&rig.never_issued)] {
        assert_eq!(stranger.send().await.status, 401);
    }
    let codes: Vec<Option<String>> = entries(&rig).await.into_iter().map(|entry| entry.code).collect();
    let told = |code: &str| Some(code.to_owned());
    assert_eq!(codes, [told("invalid_url"), told("scope_denied"), told("bad_signature")]);
}

/// Who has found a token, or a script that has gone wild, cannot fill the log; how often it tried is told all the same.
#[tokio::test]
async fn one_token_is_listed_so_often_and_then_counted() {
    let rig = Rig::start().await;
    // Within what one address may fail at once.
    for _ in 0..90 {
        rig.post(r#"{"tags":["a"]}"#).secret("bts_live_wrong").send().await;
    }
    let listed = entries(&rig).await;
    assert!((60..70).contains(&listed.len()), "{}", listed.len());
    let left_out = 90 - listed.len() as u64 - listed.iter().filter_map(|entry| entry.unlisted).sum::<u64>();
    assert!(left_out > 0);
    // Another token is not concerned.
    let other = rig.issue("shop").await;
    rig.post("{").token(&other.text).secret(&other.secret).send().await;
    assert_eq!(entries(&rig).await.len(), listed.len() + 1);
    // The next one that is listed says how many were not: a place comes free every 10 s.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    rig.post(r#"{"tags":["a"]}"#).secret("bts_live_wrong").send().await;
    assert_eq!(entries(&rig).await[0].unlisted, Some(left_out));
}
