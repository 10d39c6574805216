//! A page that its origin takes back, or that a visitor changes.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::origin::Plan;
use crate::rig::{HOST, Rig, tag, url};
use crate::visitor::Answer;

/// Until the page has been fetched anew behind the stale answers; the answer after them.
async fn after_stale(rig: &Rig, path: &str) -> Answer {
    loop {
        let answer = rig.get(path).await;
        if answer.x_cache() != "STALE" {
            return answer;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_server_error_ends_what_a_soft_purge_has_made_stale() {
    let gone = |status| Plan { status, headers: Vec::new(), ..Plan::page("gone") };
    for (path, taken_back) in [
        ("/404", gone(404)),
        ("/410", gone(410)),
        ("/401", gone(401)),
        ("/302", gone(302).header("location", "/elsewhere")),
        ("/no-store", Plan::page("gone").header("cache-control", "no-store")),
        ("/private", Plan::page("gone").header("cache-control", "private, max-age=60")),
        ("/cookie", Plan::page("gone").header("set-cookie", "a=b")),
        ("/star", Plan::page("gone").header("vary", "*")),
        ("/silent", gone(200)),
        ("/large", Plan::page(vec![b'x'; 2 << 20])),
        ("/large-without-length", Plan { chunked: true, ..Plan::page(vec![b'x'; 2 << 20]) }),
    ] {
        let rig = Rig::start().await;
        let control = "max-age=3600, stale-while-revalidate=600";
        rig.origin.plan(path, Plan::page("old").header("cache-control", control));
        rig.get(path).await;
        rig.origin.plan(path, taken_back);
        rig.soft_purge(url(path)).await;
        assert_eq!(rig.get(path).await.told(), ("STALE", "old"), "{path}: while it is fetched anew");
        let answer = after_stale(&rig, path).await;
        assert_ne!(answer.body, b"old", "{path}");
        assert_eq!((rig.store.len(), rig.index.stats().entries), (0, 0), "{path}");
    }
}

#[tokio::test]
async fn a_page_that_was_taken_back_is_not_served_when_the_origin_fails_later() {
    let rig = Rig::start().await;
    let control = "max-age=0, stale-if-error=600";
    rig.origin.plan("/a", Plan::page("old").header("cache-control", control));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan { status: 410, headers: Vec::new(), ..Plan::page("gone") });
    assert_eq!(rig.get("/a").await.status, 410);
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") });
    assert_eq!(rig.get("/a").await.text(), "down");
}

#[tokio::test]
async fn a_server_error_leaves_a_stale_page_in_its_window() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan { status: 503, headers: Vec::new(), ..Plan::page("down") });
    rig.soft_purge(url("/a")).await;
    for asked in 2..4 {
        while rig.origin.asked("/a") < asked {
            assert_eq!(rig.get("/a").await.told(), ("STALE", "old"));
        }
    }
}

#[tokio::test]
async fn a_confirmation_that_forbids_keeping_is_the_last_one() {
    let rig = Rig::start().await;
    let page = Plan::page("a").confirming("\"1\"");
    rig.origin.plan("/a", page.clone().header("cache-control", "max-age=0"));
    rig.get("/a").await;
    rig.origin.plan("/a", page.header("cache-control", "no-store"));
    assert_eq!(rig.get("/a").await.told(), ("EXPIRED", "a"));
    assert_eq!(rig.store.len(), 0);
}

#[tokio::test]
async fn a_soft_purge_is_a_hard_one_where_the_origin_forbids_stale_answers() {
    for (control, told) in [
        ("max-age=3600, must-revalidate", ("MISS", "new")),
        ("max-age=3600, proxy-revalidate, stale-while-revalidate=60", ("MISS", "new")),
        ("s-maxage=3600", ("STALE", "old")),
        ("s-maxage=3600, stale-while-revalidate=60", ("STALE", "old")),
        ("s-maxage=3600, proxy-revalidate", ("MISS", "new")),
    ] {
        let rig = Rig::start().await;
        rig.origin.plan("/a", Plan::page("old").header("cache-control", control).header("cache-tag", "t"));
        rig.get("/a").await;
        rig.origin.plan("/a", Plan::page("new"));
        rig.soft_purge(tag("t")).await;
        assert_eq!(rig.get("/a").await.told(), told, "{control}");
    }
}

#[tokio::test]
async fn a_soft_purge_does_not_lengthen_the_life_of_what_had_expired() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old").header("cache-control", "max-age=0"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan::page("new"));
    rig.soft_purge(url("/a")).await;
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
}

#[tokio::test]
async fn what_a_visitor_changes_is_fetched_anew_in_every_variant_and_spelling() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE", "M-SEARCH"] {
        let rig = Rig::start().await;
        for path in ["/v~", "/v%7e"] {
            rig.origin.plan(path, Plan::page("v").header("vary", "Accept-Language"));
            rig.get_with(path, &[("Accept-Language", "de")]).await;
            rig.get_with(path, &[("Accept-Language", "en")]).await;
        }
        rig.origin.plan("/w", Plan::page("w"));
        rig.get("/w").await;
        assert_eq!(rig.ask(method, "/v~", &[("Content-Length", "0")]).await.status, 200);
        assert_eq!(rig.store.len(), 1, "{method}: only the other page is left");
        assert_eq!(rig.get("/w").await.x_cache(), "HIT");
    }
}

#[tokio::test]
async fn a_change_that_failed_changes_nothing() {
    for status in [400, 403, 404, 500, 503] {
        let rig = Rig::start().await;
        rig.origin.plan("/a", Plan::page("a"));
        rig.get("/a").await;
        rig.origin.plan("/a", Plan { status, ..Plan::page("no") });
        rig.ask("POST", "/a", &[("Content-Length", "0")]).await;
        rig.ask("OPTIONS", "/a", &[]).await;
        assert_eq!(rig.get("/a").await.told(), ("HIT", "a"), "{status}");
    }
}

#[tokio::test]
async fn a_change_names_other_pages_of_its_own_host() {
    let rig = Rig::start().await;
    for path in ["/form", "/list", "/item", "/other"] {
        rig.origin.plan(path, Plan::page("old"));
        rig.get(path).await;
    }
    let elsewhere = format!("http://other.test/other, http://{HOST}/other");
    let changes = |location: &str, content: &str| {
        Plan { status: 303, headers: Vec::new(), ..Plan::page("done") }
            .header("location", location)
            .header("content-location", content)
    };
    rig.origin.plan("/form", changes("/list", &format!("https://{HOST}/item")));
    rig.ask("POST", "/form", &[("Content-Length", "0")]).await;
    assert_eq!(rig.store.len(), 1);
    rig.origin.plan("/form", changes("//other.test/other", &elsewhere));
    rig.ask("POST", "/form", &[("Content-Length", "0")]).await;
    assert_eq!(rig.get("/other").await.x_cache(), "HIT");
}

#[tokio::test]
async fn what_was_being_fetched_while_a_visitor_changed_it_is_not_stored() {
    for in_the_body in [false, true] {
        let rig = Rig::start().await;
        let gate = Arc::new(Semaphore::new(0));
        let old = Plan::page("old old");
        let held = if in_the_body { old.held_before_body(&gate) } else { old.held_before_header(&gate) };
        rig.origin.plan("/a", held);
        let visitor = rig.get_later("/a");
        rig.origin.until_asked("/a", 1).await;
        rig.origin.plan("/a", Plan::page("new"));
        rig.ask("POST", "/a", &[("Content-Length", "0")]).await;
        gate.add_permits(1);
        assert_eq!(visitor.await.unwrap().text(), "old old", "it asked before the change");
        assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
        assert_eq!((rig.store.len(), rig.index.stats().entries), (1, 1));
    }
}
