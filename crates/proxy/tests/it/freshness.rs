use crate::origin::Plan;
use crate::rig::{Rig, tag, url};

#[tokio::test]
async fn after_a_soft_purge_the_old_answer_is_stale_while_one_fetch_runs() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old").header("cache-tag", "t"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan::page("new").header("cache-tag", "t"));
    assert_eq!(rig.soft_purge(tag("t")).await, 1);
    let stale = rig.get("/a").await;
    assert_eq!(stale.told(), ("STALE", "old"));
    assert!(stale.header("cache-status").unwrap().starts_with("batoff; hit"));
    let mut answer = rig.get("/a").await;
    while answer.x_cache() == "STALE" {
        assert_eq!(answer.text(), "old");
        answer = rig.get("/a").await;
    }
    assert_eq!(answer.told(), ("HIT", "new"));
    assert_eq!(rig.origin.asked("/a"), 2);
}

#[tokio::test]
async fn a_later_soft_purge_does_not_weaken_a_hard_one() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old").header("cache-tag", "t"));
    rig.get("/a").await;
    rig.rule(url("/a"));
    rig.soft_purge(tag("t")).await;
    rig.origin.plan("/a", Plan::page("new"));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
}

#[tokio::test]
async fn what_must_be_revalidated_is_not_served_stale_after_a_soft_purge() {
    let rig = Rig::start().await;
    rig.origin.plan(
        "/a",
        Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=3600, must-revalidate"),
    );
    rig.get("/a").await;
    rig.soft_purge(url("/a")).await;
    assert_eq!(rig.get("/a").await.told(), ("EXPIRED", "a"));
    assert_eq!(rig.origin.last_request("/a")["if-none-match"], "\"1\"");
    assert_eq!(rig.get("/a").await.told(), ("HIT", "a"), "the confirmation began after the purge");
}

#[tokio::test]
async fn an_expired_object_that_the_origin_confirms_is_served_as_expired() {
    let rig = Rig::start().await;
    let plan =
        Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=0").header("cache-tag", "t");
    rig.origin.plan("/a", plan.clone());
    rig.get("/a").await;
    let confirmed = rig.get("/a").await;
    assert_eq!(confirmed.told(), ("EXPIRED", "a"));
    assert_eq!(confirmed.header("cache-status"), Some("batoff; fwd=stale; fwd-status=304; purge-seq=1"));
    assert_eq!(confirmed.header("cache-tag"), None);
    assert_eq!(rig.purge(tag("t")).await, 1, "a confirmed object is still known by its tags");
    rig.origin.plan("/a", plan);
    assert_eq!(rig.get("/a").await.x_cache(), "MISS");
}

#[tokio::test]
async fn a_normal_expiry_gets_no_stale_window_that_its_origin_did_not_give() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("one").header("cache-control", "max-age=0"));
    rig.origin.plan("/b", Plan::page("one").header("cache-control", "max-age=0, stale-while-revalidate=60"));
    for path in ["/a", "/b"] {
        rig.get(path).await;
    }
    rig.origin.plan("/a", Plan::page("two"));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "two"));
    assert_eq!(rig.get("/b").await.told(), ("STALE", "one"));
}

#[tokio::test]
async fn a_hard_purged_object_is_fetched_whole() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old").confirming("\"1\""));
    rig.get("/a").await;
    rig.rule(url("/a"));
    rig.origin.plan("/a", Plan::page("new").confirming("\"1\""));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert!(!rig.origin.last_request("/a").contains_key("if-none-match"));
}

#[tokio::test]
async fn head_and_ranges_are_answered_from_a_stored_page() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("0123456789"));
    let head = rig.ask("HEAD", "/a", &[]).await;
    assert_eq!((head.status, head.x_cache(), head.body.len()), (200, "MISS", 0));
    let head = rig.ask("HEAD", "/a", &[]).await;
    assert_eq!((head.x_cache(), head.header("content-length"), head.body.len()), ("HIT", Some("10"), 0));
    let range = rig.get_with("/a", &[("Range", "bytes=2-4")]).await;
    assert_eq!((range.status, range.told()), (206, ("HIT", "234")));
    assert_eq!(rig.get("/a").await.told(), ("HIT", "0123456789"));
    assert_eq!(rig.origin.asked("/a"), 1);
}

#[tokio::test]
async fn a_visitor_who_has_the_page_is_told_so() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a").header("etag", "\"1\""));
    rig.get("/a").await;
    let same = rig.get_with("/a", &[("If-None-Match", "\"1\"")]).await;
    assert_eq!((same.status, same.told()), (304, ("HIT", "")));
}

#[tokio::test]
async fn what_is_not_for_the_cache_goes_past_it() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    rig.origin.plan("/private", Plan::page("p").header("cache-control", "private"));
    rig.origin.plan("/silent", Plan { headers: Vec::new(), ..Plan::page("s") });
    rig.origin.plan("/cookie", Plan::page("c").header("set-cookie", "a=b"));
    rig.origin.plan("/star", Plan::page("s").header("vary", "Accept, *"));
    assert_eq!(rig.ask("POST", "/a", &[("Content-Length", "0")]).await.x_cache(), "BYPASS");
    for path in ["/private", "/silent", "/cookie", "/star"] {
        for _ in 0..2 {
            let answer = rig.get(path).await;
            assert_eq!((answer.status, answer.x_cache()), (200, "BYPASS"), "{path}");
        }
    }
    let twice = crate::visitor::ask(rig.proxy, "GET", "/a", &[("Host", "a.test"), ("Host", "b.test")]).await;
    assert_ne!(twice.x_cache(), "MISS", "a request for two hosts is stored under neither");
    assert_eq!(rig.store.len(), 0);
    assert_eq!(rig.index.stats().entries, 0);
}
