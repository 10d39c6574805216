//! A node whose configuration names parents. The parent is an origin that answers as a story wants it to.

use crate::origin::Plan;
use crate::rig::{Rig, Setup, tag, url};

const MARK: &str = "x-batoff-stale";

async fn child() -> Rig {
    Rig::with(Setup { names_parents: true, ..Setup::default() }).await
}

/// The control plane says that the parents are where the child is.
fn parents_are_here(child: &Rig) {
    let here = child.index.begin_fill();
    child.path.tell(here.generation, here.applied);
}

#[tokio::test]
async fn what_was_purged_is_stored_again_only_when_the_parents_are_there() {
    for purge in [url("/a"), tag("t")] {
        let child = child().await;
        parents_are_here(&child);
        child.origin.plan("/a", Plan::page("old").header("cache-tag", "t"));
        child.get("/a").await;
        assert_eq!(child.get("/a").await.told(), ("HIT", "old"));
        assert_eq!(child.purge(purge).await, 1);
        for _ in 0..2 {
            assert_eq!(child.get("/a").await.told(), ("MISS", "old"), "the parent has it still");
        }
        child.origin.plan("/b", Plan::page("b"));
        child.get("/b").await;
        assert_eq!(child.get("/b").await.told(), ("HIT", "b"), "no purge has hit it");
        parents_are_here(&child);
        child.origin.plan("/a", Plan::page("new"));
        assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
        assert_eq!(child.get("/a").await.told(), ("HIT", "new"));
    }
}

#[tokio::test]
async fn what_a_parent_serves_stale_is_passed_on_as_such_and_not_stored() {
    let child = child().await;
    parents_are_here(&child);
    child.origin.plan("/a", Plan::page("old").header(MARK, "1"));
    for asked in 1..4 {
        let answer = child.get("/a").await;
        assert_eq!((answer.told(), answer.header(MARK)), (("MISS", "old"), Some("1")));
        assert_eq!(child.origin.asked("/a"), asked);
    }
    child.origin.plan("/a", Plan::page("new"));
    child.get("/a").await;
    let answer = child.get("/a").await;
    assert_eq!((answer.told(), answer.header(MARK)), (("HIT", "new"), None));
}

#[tokio::test]
async fn a_confirmation_that_a_parent_gives_for_something_stale_renews_nothing() {
    let child = child().await;
    parents_are_here(&child);
    let expired = Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=0");
    child.origin.plan("/a", expired);
    child.get("/a").await;
    let confirmed = Plan::page("a").confirming("\"1\"");
    child.origin.plan("/a", confirmed.clone().header(MARK, "1"));
    for asked in 2..4 {
        let answer = child.get("/a").await;
        assert_eq!((answer.text(), answer.header(MARK)), ("a", Some("1")));
        assert_eq!(child.origin.asked("/a"), asked);
    }
    child.origin.plan("/a", confirmed);
    child.get("/a").await;
    let answer = child.get("/a").await;
    assert_eq!((answer.told(), answer.header(MARK)), (("HIT", "a"), None), "renewed");
}

#[tokio::test]
async fn what_is_served_stale_carries_the_mark() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old"));
    rig.get("/a").await;
    assert_eq!(rig.get("/a").await.header(MARK), None);
    rig.soft_purge(url("/a")).await;
    rig.origin.plan("/a", Plan::page("new"));
    let stale = rig.get("/a").await;
    assert_eq!((stale.told(), stale.header(MARK)), (("STALE", "old"), Some("1")));
    rig.origin.plan("/b", Plan::page("b").header("cache-control", "max-age=0, stale-if-error=600"));
    rig.get("/b").await;
    rig.origin.plan("/b", Plan { status: 503, ..Plan::page("down") });
    let stale = rig.get("/b").await;
    assert_eq!((stale.text(), stale.header(MARK)), ("b", Some("1")));
}
