//! What is kept of a response, for how long, and what of a confirmation is taken over.

use crate::origin::Plan;
use crate::rig::{Rig, tag};

#[tokio::test]
async fn a_confirmation_brings_its_fields() {
    for date in [None, Some("Thu, 01 Jan 2026 00:00:00 GMT")] {
        let rig = Rig::start().await;
        let page = |value: &str| {
            let page = Plan::page("a").confirming("\"1\"").header("x-side", value).header("cache-tag", value);
            match date {
                Some(date) => page.header("date", date),
                None => page,
            }
        };
        rig.origin
            .plan("/a", page("old").header("cache-control", "max-age=0").header("content-language", "de"));
        rig.get("/a").await;
        let next = page("new").header("content-type", "text/x").header("expires", "0");
        rig.origin.plan("/a", next);
        let confirmed = rig.get("/a").await;
        let hit = rig.get("/a").await;
        assert_eq!((confirmed.told(), hit.told()), (("EXPIRED", "a"), ("HIT", "a")), "{date:?}");
        for answer in [confirmed, hit] {
            assert_eq!(answer.header("x-side"), Some("new"), "{date:?}");
            assert_eq!(answer.header("content-type"), Some("text/x"));
            assert_eq!(answer.header("content-language"), Some("de"), "what it does not name stays");
            assert_eq!(answer.header("content-length"), Some("1"));
        }
        assert_eq!(rig.purge(tag("old")).await, 0);
        assert_eq!(rig.purge(tag("new")).await, 1);
    }
}

#[tokio::test]
async fn a_confirmation_that_varies_otherwise_is_served_to_those_it_is_for() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=0"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan::page("a").confirming("\"1\"").header("vary", "Cookie"));
    rig.get_with("/a", &[("Cookie", "one")]).await;
    rig.origin.plan("/a", Plan::page("b").header("vary", "Cookie"));
    assert_eq!(rig.get_with("/a", &[("Cookie", "two")]).await.text(), "b");
}

#[tokio::test]
async fn fields_of_a_connection_go_no_further() {
    let rig = Rig::start().await;
    let page = Plan::page("a").header("connection", "x-hop").header("x-hop", "1").header("x-end", "2");
    rig.origin.plan("/a", page.header("keep-alive", "timeout=9").header("proxy-authenticate", "Basic"));
    let (miss, hit) = (rig.get("/a").await, rig.get("/a").await);
    assert_eq!((miss.x_cache(), hit.x_cache()), ("MISS", "HIT"));
    for answer in [&miss, &hit] {
        assert_eq!((answer.header("x-hop"), answer.header("x-end")), (None, Some("2")));
    }
    assert_eq!((hit.header("keep-alive"), hit.header("proxy-authenticate")), (None, None));
}

#[tokio::test]
async fn what_was_old_when_it_came_is_old_here_and_what_nobody_can_read_is_older() {
    let rig = Rig::start().await;
    for (path, age, again) in [
        ("/young", "0", "HIT"),
        ("/list", "0, 7200", "MISS"),
        ("/old", "7200, 0", "MISS"),
        ("/suffix", "7200;x=y", "MISS"),
        ("/word", "abc", "MISS"),
        ("/negative", "-1", "MISS"),
    ] {
        rig.origin.plan(path, Plan::page("a").header("age", age));
        rig.get(path).await;
        assert_eq!(rig.get(path).await.x_cache(), again, "{path}");
    }
}

#[tokio::test]
async fn expires_is_read_by_the_clock_that_wrote_it() {
    let rig = Rig::start().await;
    let at = |hour| format!("Thu, 01 Jan 2015 {hour:02}:00:00 GMT");
    for (path, date, expires, again) in
        [("/hour", at(1), at(2), "HIT"), ("/past", at(2), at(1), "MISS"), ("/same", at(1), at(1), "MISS")]
    {
        let page = Plan { headers: Vec::new(), ..Plan::page("a") };
        rig.origin.plan(path, page.header("date", &date).header("expires", &expires));
        rig.get(path).await;
        assert_eq!(rig.get(path).await.x_cache(), again, "{path}");
    }
}

#[tokio::test]
async fn what_is_said_to_cdns_counts_before_what_is_said_to_everybody() {
    let rig = Rig::start().await;
    for (path, everybody, cdns, again) in [
        ("/longer", "no-store", "max-age=60", "HIT"),
        ("/not-at-all", "max-age=60", "no-store", "BYPASS"),
        ("/malformed", "max-age=60", "no store!", "HIT"),
    ] {
        let page = Plan::page("a").header("cache-control", everybody).header("cdn-cache-control", cdns);
        rig.origin.plan(path, page);
        rig.get(path).await;
        let answer = rig.get(path).await;
        assert_eq!((answer.x_cache(), answer.header("cache-control")), (again, Some(everybody)), "{path}");
    }
}
