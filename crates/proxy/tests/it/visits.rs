//! What a visitor can write into a request, and what of it reaches the origin and the next visitor.

use crate::origin::Plan;
use crate::rig::{HOST, Rig};
use crate::visitor::ask;

#[tokio::test]
async fn a_strange_spelling_of_a_host_is_sent_on_in_its_normal_form() {
    for host in [
        "www%2Eexample.test",
        "ｗｗｗ.example.test",
        "www.exam\u{ad}ple.test",
        "WWW.Example.TEST",
        "www.example.test:80",
        "www.example.test:443",
        "www.example.test:",
    ] {
        let rig = Rig::start().await;
        rig.origin.plan("/a", Plan::page("a"));
        let strange = ask(rig.proxy, "GET", "/a", &[("Host", host)]).await;
        assert_eq!((strange.status, strange.text()), (200, "a"), "{host}");
        let seen = rig.origin.last_request("/a")["host"].clone();
        if strange.x_cache() == "MISS" {
            assert_eq!(seen, HOST, "{host}: the origin answers to the name that the key says");
            assert_eq!(rig.get("/a").await.x_cache(), "HIT");
        } else {
            assert_eq!((strange.x_cache(), rig.store.len()), ("BYPASS", 0), "{host}");
        }
    }
}

#[tokio::test]
async fn another_port_is_another_page() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    ask(rig.proxy, "GET", "/a", &[("Host", "www.example.test:8443")]).await;
    assert_eq!(rig.origin.last_request("/a")["host"], "www.example.test:8443");
    assert_eq!(rig.get("/a").await.x_cache(), "MISS");
}

#[tokio::test]
async fn an_absolute_target_stores_nothing_under_another_hosts_name() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    let target = "http://other.test/a";
    let mixed = ask(rig.proxy, "GET", target, &[("Host", HOST)]).await;
    assert_eq!(mixed.status, 400, "two hosts in one request");
    ask(rig.proxy, "GET", &format!("http://{HOST}/a"), &[("Host", HOST)]).await;
    assert_eq!(rig.store.len(), 0);
}

#[tokio::test]
async fn what_no_site_owns_is_not_stored() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    for host in ["other.test", "127.0.0.1", "[::1]", "localhost"] {
        for _ in 0..2 {
            let answer = ask(rig.proxy, "GET", "/a", &[("Host", host)]).await;
            assert_eq!((answer.status, answer.told()), (200, ("BYPASS", "a")), "{host}");
        }
    }
    assert_eq!((rig.store.len(), rig.index.stats().entries), (0, 0));
}

#[tokio::test]
async fn a_field_that_connection_takes_away_decides_no_variant() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("for nobody").header("vary", "Accept-Language"));
    let nominated = [("Connection", "close, Accept-Language"), ("Accept-Language", "de")];
    let answer = rig.get_with("/a", &nominated).await;
    assert_eq!(answer.text(), "for nobody");
    assert!(!rig.origin.last_request("/a").contains_key("accept-language"));
    rig.origin.plan("/a", Plan::page("für Deutsche").header("vary", "Accept-Language"));
    assert_eq!(rig.get_with("/a", &[("Accept-Language", "de")]).await.told(), ("MISS", "für Deutsche"));
}

#[tokio::test]
async fn a_body_is_no_part_of_a_key_so_what_has_one_goes_past_the_cache() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    for headers in [[("Content-Length", "3")], [("Transfer-Encoding", "chunked")]] {
        let body = if headers[0].0 == "Content-Length" { "abc" } else { "3\r\nabc\r\n0\r\n\r\n" };
        let answer = rig.send("GET", "/a", &headers, body).await;
        assert_eq!(answer.told(), ("BYPASS", "a"));
        assert!(rig.origin.last_request("/a").contains_key(headers[0].0));
    }
    assert_eq!(rig.get_with("/a", &[("Content-Length", "0")]).await.x_cache(), "MISS");
}

#[tokio::test]
async fn trace_does_not_reach_the_origin() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    for method in ["TRACE", "TRACK"] {
        let answer = rig.ask(method, "/a", &[("Cookie", "secret")]).await;
        assert_eq!((answer.status, answer.text()), (405, ""), "{method}");
        assert!(answer.header("allow").unwrap().contains("GET"));
    }
    assert_eq!(rig.origin.asked("/a"), 0);
}
