//! What a child makes of its parent's word. The parent is an origin that says what a story wants it to.

use batoff_types::FillToken;
use batoff_types::message::LeasePolicy;

use crate::origin::{Origin, Plan};
use crate::rig::{Rig, Setup, log_id, tag, url};

const SEQ: &str = "x-batoff-seq";

async fn child() -> Rig {
    let parent = Origin::start().await;
    let address = parent.address;
    Rig::with(Setup { origin: Some(parent), parent: address, ..Setup::default() }).await
}

fn through(log: u8, seq: u64) -> String {
    format!("{};{seq}", log_id(log))
}

#[tokio::test]
async fn a_child_says_how_far_it_had_come_when_it_asked() {
    let child = child().await;
    child.origin.plan("/a", Plan::page("a"));
    child.get_with("/a", &[("X-Batoff-Seq", "what a visitor says")]).await;
    assert_eq!(child.origin.last_request("/a")[SEQ], through(1, 1));
    child.purge(url("/b")).await;
    child.get("/a").await;
    assert_eq!(child.origin.last_request("/a")[SEQ], through(1, 2));
}

#[tokio::test]
async fn what_a_parent_does_not_vouch_for_is_served_and_not_stored() {
    for (case, said, stored) in [
        ("/it-has-applied-as-much", Some(through(1, 2)), true),
        ("/it-has-applied-more", Some(through(1, 7)), true),
        ("/it-cannot-compare", None, false),
        ("/it-has-applied-less", Some(through(1, 1)), false),
        ("/it-follows-another-log", Some(through(2, 9)), false),
        ("/it-answered-somebody-else", Some("origin;0000000000000000".to_owned()), false),
        ("/it-says-something-new", Some("42".to_owned()), false),
    ] {
        let child = child().await;
        child.purge(url("/b")).await;
        let page = Plan::page("a");
        child.origin.plan(
            case,
            match said {
                Some(said) => page.header(SEQ, &said),
                None => page,
            },
        );
        for x_cache in ["MISS", if stored { "HIT" } else { "MISS" }] {
            let answer = child.get(case).await;
            assert_eq!((answer.status, answer.told()), (200, (x_cache, "a")), "{case}");
            assert_eq!(answer.header(SEQ), None, "it is none of a visitor's business");
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_page_that_nobody_vouches_for_is_sent_on_together() {
    let child = child().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    child.origin.plan("/a", Plan::page("a").held_before_header(&gate));
    let visitors: Vec<_> = (0..6).map(|_| child.get_later("/a")).collect();
    child.origin.until_asked("/a", 1).await;
    gate.add_permits(1);
    child.origin.until_asked("/a", 6).await;
    gate.add_permits(5);
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().text(), "a");
    }
}

#[tokio::test]
async fn a_confirmation_that_a_parent_does_not_vouch_for_renews_nothing() {
    let child = child().await;
    let expired = Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=0");
    child.origin.plan("/a", expired.header(SEQ, &through(1, 1)));
    child.get("/a").await;
    let confirmed = Plan::page("a").confirming("\"1\"");
    child.origin.plan("/a", confirmed.clone());
    for asked in 2..4 {
        assert_eq!(child.get("/a").await.told(), ("EXPIRED", "a"));
        assert_eq!(child.origin.asked("/a"), asked);
        assert!(child.origin.last_request("/a").contains_key("if-none-match"));
    }
    child.origin.plan("/a", confirmed.header(SEQ, &through(1, 1)));
    assert_eq!(child.get("/a").await.told(), ("EXPIRED", "a"));
    assert_eq!(child.get("/a").await.told(), ("HIT", "a"), "renewed");
}

#[tokio::test]
async fn until_it_has_caught_up_a_child_asks_for_nothing_out_of_a_cache() {
    let child = child().await;
    child.standing.set(log_id(1), child.index.generation(), false);
    let mut nonces = std::collections::BTreeSet::new();
    // More than any purge could be, but from a cache; and what a cache has kept that does not know what it means.
    for said in [through(1, u64::MAX), "origin;0000000000000000".to_owned(), through(1, 1)] {
        child.origin.plan("/a", Plan::page("a").header(SEQ, &said));
        assert_eq!(child.get("/a").await.told(), ("MISS", "a"));
        let asked = child.origin.last_request("/a")[SEQ].to_str().unwrap().to_owned();
        assert!(asked.starts_with("origin;"), "{asked}");
        nonces.insert(asked);
    }
    assert_eq!(nonces.len(), 3, "an answer to one request is none to another");
    child.standing.clear();
    child.get("/a").await;
    assert!(child.origin.last_request("/a")[SEQ].to_str().unwrap().starts_with("origin;"), "amid a reset");
}

#[tokio::test]
async fn what_a_parent_has_kept_for_a_while_is_as_old_here() {
    let child = child().await;
    let page = Plan::page("a").header(SEQ, &through(1, 1));
    child.origin.plan("/young", page.clone().header("age", "100"));
    child.origin.plan("/old", page.header("age", "3600"));
    for path in ["/young", "/old"] {
        child.get(path).await;
    }
    let young = child.get("/young").await;
    let age: u64 = young.header("age").unwrap().parse().unwrap();
    assert!(young.x_cache() == "HIT" && (100..200).contains(&age), "{young:?}");
    assert_eq!(child.get("/old").await.x_cache(), "MISS", "its hour is over");
}

#[tokio::test]
async fn a_confirmation_from_the_origin_makes_an_old_object_new() {
    let child = child().await;
    let page = Plan::page("a").confirming("\"1\"").header(SEQ, &through(1, 1));
    child.origin.plan("/a", page.clone().header("age", "3600"));
    child.get("/a").await;
    child.origin.plan("/a", page);
    assert_eq!(child.get("/a").await.told(), ("EXPIRED", "a"));
    let hit = child.get("/a").await;
    assert_eq!(hit.told(), ("HIT", "a"));
    assert!(hit.header("age").unwrap().parse::<u64>().unwrap() < 1_000, "{hit:?}");
}

#[tokio::test]
async fn the_origin_hears_nothing_of_all_this_and_its_word_means_nothing() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a").header(SEQ, &through(2, 1)).header("cache-tag", "t"));
    let answer = rig.get_with("/a", &[("X-Batoff-Seq", &through(1, 99))]).await;
    assert_eq!(answer.told(), ("MISS", "a"));
    assert!(!rig.origin.last_request("/a").contains_key(SEQ), "it goes no further");
    let again = rig.get_with("/a", &[("X-Batoff-Seq", &through(1, 99))]).await;
    assert_eq!(again.told(), ("HIT", "a"), "a stranger does not go past the cache");
    for answer in [answer, again] {
        assert_eq!((answer.header(SEQ), answer.header("cache-tag")), (None, None));
    }
    let children = &["192.0.2.0/24"];
    let rig = Rig::with(Setup { children, ..Setup::default() }).await;
    rig.origin.plan("/a", Plan::page("a"));
    for x_cache in ["MISS", "HIT"] {
        let answer = rig.get_with("/a", &[("X-Batoff-Seq", &through(1, 99))]).await;
        assert_eq!((answer.x_cache(), answer.header(SEQ)), (x_cache, None), "not one of its children");
    }
}

#[tokio::test]
async fn a_fenced_child_takes_its_parents_confirmation_each_time() {
    let parent = Origin::start().await;
    let address = parent.address;
    let policy = LeasePolicy::Revalidate;
    let child = Rig::with(Setup { origin: Some(parent), parent: address, policy, ..Setup::default() }).await;
    child.origin.plan("/a", Plan::page("a").confirming("\"1\"").header(SEQ, &through(1, 1)));
    child.get("/a").await;
    for asked in 2..4 {
        assert_eq!(child.get("/a").await.told(), ("EXPIRED", "a"));
        assert_eq!(child.origin.asked("/a"), asked);
    }
}

#[tokio::test]
async fn an_object_that_came_through_a_parent_is_purged_by_its_tags() {
    let child = child().await;
    child.origin.plan("/a", Plan::page("a").header(SEQ, &through(1, 1)).header("cache-tag", "t"));
    assert_eq!(child.get("/a").await.header("cache-tag"), None);
    let FillToken { applied, .. } = child.index.begin_fill();
    assert_eq!(applied.get(), 1);
    assert_eq!(child.purge(tag("t")).await, 1);
}
