//! Real tiers: an origin, one or two parents, and a child, each of which applies purges when the story says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::origin::{Origin, Plan};
use crate::rig::{Rig, Setup, log_id, tag, url};

/// Half of the time after which a slow fetch is no longer waited for in any case.
const NOT_WAITING: Duration = Duration::from_secs(15);

/// A proxy between `below` (another proxy, or the origin) and whoever connects from this machine.
async fn tier(origin: &Origin, below: Option<&Rig>) -> Rig {
    Rig::with(Setup {
        origin: Some(origin.clone()),
        parent: below.map(|rig| rig.proxy),
        children: &["127.0.0.1"],
        ..Setup::default()
    })
    .await
}

async fn parent_and_child() -> (Rig, Rig) {
    let origin = Origin::start().await;
    let parent = tier(&origin, None).await;
    let child = tier(&origin, Some(&parent)).await;
    (parent, child)
}

#[tokio::test]
async fn a_parent_that_has_not_applied_a_purge_does_not_bring_the_object_back() {
    for purge in [url("/a"), tag("t")] {
        let (parent, child) = parent_and_child().await;
        child.origin.plan("/a", Plan::page("old").header("cache-tag", "t"));
        assert_eq!(child.get("/a").await.told(), ("MISS", "old"));
        assert_eq!(parent.get("/a").await.told(), ("HIT", "old"));
        assert_eq!(child.purge(purge).await, 1);
        child.origin.plan("/a", Plan::page("new"));
        assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
        assert_eq!(child.get("/a").await.told(), ("HIT", "new"), "it was vouched for, so it is kept");
        assert_eq!(parent.get("/a").await.told(), ("HIT", "new"), "what was fetched for the child is kept");
        assert_eq!(child.origin.asked("/a"), 2);
    }
}

#[tokio::test]
async fn a_purge_of_something_else_leaves_the_parents_objects_to_its_children() {
    let (parent, child) = parent_and_child().await;
    child.origin.plan("/a", Plan::page("a").header("cache-tag", "t"));
    assert_eq!(parent.get("/a").await.told(), ("MISS", "a"));
    for rig in [&parent, &child] {
        rig.purge(url("/b")).await;
    }
    assert_eq!(child.get("/a").await.told(), ("MISS", "a"));
    assert_eq!(child.get("/a").await.told(), ("HIT", "a"));
    assert_eq!(
        child.origin.asked("/a"),
        1,
        "the parent's object is older than the purge, and as good as ever"
    );
    assert_eq!(child.purge(tag("t")).await, 1, "a child is told the tags");
}

#[tokio::test]
async fn what_was_fetched_for_one_child_is_good_for_another_that_knows_no_more() {
    let origin = Origin::start().await;
    let parent = tier(&origin, None).await;
    let (one, two) = (tier(&origin, Some(&parent)).await, tier(&origin, Some(&parent)).await);
    origin.plan("/a", Plan::page("old"));
    parent.get("/a").await;
    origin.plan("/a", Plan::page("new"));
    for child in [&one, &two] {
        child.purge(url("/a")).await;
        assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
    }
    assert_eq!(origin.asked("/a"), 2, "the parent lags, and yet is asked once for both");
    one.purge(url("/a")).await;
    origin.plan("/a", Plan::page("newer"));
    assert_eq!(one.get("/a").await.told(), ("MISS", "newer"));
}

#[tokio::test]
async fn a_child_does_not_join_a_fetch_that_began_before_its_purge() {
    for parent_knows in [false, true] {
        let (parent, child) = parent_and_child().await;
        let gate = Arc::new(Semaphore::new(0));
        child.origin.plan("/a", Plan::page("old").held_before_header(&gate));
        let before = parent.get_later("/a");
        child.origin.until_asked("/a", 1).await;
        child.purge(url("/a")).await;
        if parent_knows {
            parent.purge(url("/a")).await;
        }
        child.origin.plan("/a", Plan::page("new"));
        let after = tokio::time::timeout(NOT_WAITING, child.get("/a")).await;
        assert_eq!(after.expect("the older fetch is still held").told(), ("MISS", "new"));
        gate.add_permits(1);
        assert_eq!(before.await.unwrap().text(), "old", "it asked before the purge");
        for rig in [&child, &parent] {
            if !parent_knows {
                rig.purge(url("/b")).await;
            }
            assert_eq!(child.get("/a").await.told(), ("HIT", "new"));
        }
    }
}

#[tokio::test]
async fn a_child_that_waits_for_a_fetch_is_not_given_what_a_purge_by_tag_has_hit() {
    let (parent, child) = parent_and_child().await;
    let gate = Arc::new(Semaphore::new(0));
    child.origin.plan("/a", Plan::page("old").header("cache-tag", "t").held_before_body(&gate));
    let before = parent.get_later("/a");
    child.origin.until_asked("/a", 1).await;
    for rig in [&parent, &child] {
        rig.purge(tag("t")).await;
    }
    let after = child.get_later("/a");
    // Whether it waits by now or comes later, the old fetch must not do.
    tokio::time::sleep(Duration::from_millis(50)).await;
    child.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(after.await.unwrap().told(), ("MISS", "new"));
    assert_eq!(before.await.unwrap().text(), "old");
    assert_eq!(child.get("/a").await.told(), ("HIT", "new"));
}

#[tokio::test]
async fn a_child_is_not_given_what_a_soft_purge_has_made_stale() {
    let (parent, child) = parent_and_child().await;
    child.origin.plan("/a", Plan::page("old"));
    parent.get("/a").await;
    for rig in [&parent, &child] {
        rig.soft_purge(url("/a")).await;
    }
    child.origin.plan("/a", Plan::page("new"));
    assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(child.get("/a").await.told(), ("HIT", "new"), "the child would have kept it as fresh");
}

#[tokio::test]
async fn a_child_does_not_keep_what_a_parent_serves_because_the_origin_is_down() {
    let (parent, child) = parent_and_child().await;
    child.origin.plan("/a", Plan::page("a").header("cache-control", "max-age=0, stale-if-error=600"));
    parent.get("/a").await;
    child.origin.plan("/a", Plan { status: 503, ..Plan::page("down") });
    for asked in 2..4 {
        assert_eq!(child.get("/a").await.told(), ("MISS", "a"));
        assert_eq!((child.origin.asked("/a"), child.store.len()), (asked, 0));
    }
}

#[tokio::test]
async fn an_object_is_renewed_only_by_a_parent_that_has_applied_the_purge() {
    let (parent, child) = parent_and_child().await;
    let page = Plan::page("old").confirming("\"1\"").header("cache-control", "max-age=3600, must-revalidate");
    child.origin.plan("/a", page);
    child.get("/a").await;
    child.soft_purge(url("/a")).await;
    child.origin.plan("/a", Plan::page("new").confirming("\"2\""));
    // The parent's copy has the same ETag, and the parent holds it for fresh.
    assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(parent.get("/a").await.told(), ("HIT", "new"));
    assert_eq!(child.origin.asked("/a"), 2);
}

#[tokio::test]
async fn a_confirmation_through_a_parent_that_has_applied_the_purge_renews() {
    let (parent, child) = parent_and_child().await;
    let page = Plan::page("a").confirming("\"1\"").header("cache-control", "max-age=3600, must-revalidate");
    child.origin.plan("/a", page);
    child.get("/a").await;
    for rig in [&parent, &child] {
        rig.soft_purge(url("/a")).await;
    }
    assert_eq!(child.get("/a").await.told(), ("EXPIRED", "a"));
    assert_eq!(child.get("/a").await.told(), ("HIT", "a"));
    assert_eq!(parent.get("/a").await.told(), ("HIT", "a"));
    assert_eq!(child.origin.asked("/a"), 2);
}

#[tokio::test]
async fn two_tiers_deep_the_one_that_knows_most_is_heard() {
    // Which of them have applied the purge; the child always has.
    for (middle_knows, top_knows) in [(false, false), (true, false), (false, true), (true, true)] {
        let origin = Origin::start().await;
        let top = tier(&origin, None).await;
        let middle = tier(&origin, Some(&top)).await;
        let child = tier(&origin, Some(&middle)).await;
        origin.plan("/a", Plan::page("old"));
        child.get("/a").await;
        assert_eq!(
            (top.get("/a").await.told(), middle.get("/a").await.told()),
            (("HIT", "old"), ("HIT", "old"))
        );
        child.purge(url("/a")).await;
        if middle_knows {
            middle.purge(url("/a")).await;
        }
        if top_knows {
            top.purge(url("/a")).await;
        }
        origin.plan("/a", Plan::page("new"));
        let case = format!("middle: {middle_knows}, top: {top_knows}");
        assert_eq!(child.get("/a").await.told(), ("MISS", "new"), "{case}");
        assert_eq!(child.get("/a").await.told(), ("HIT", "new"), "{case}");
        assert_eq!(middle.get("/a").await.told(), ("HIT", "new"), "{case}");
        assert_eq!(origin.asked("/a"), 2, "{case}");
    }
}

#[tokio::test]
async fn two_tiers_deep_nobody_vouches_for_a_cache_that_cannot_compare() {
    let origin = Origin::start().await;
    // It caches, for all that those above it know.
    let middle = Rig::with(Setup {
        origin: Some(origin.clone()),
        parent: origin.address,
        children: &["127.0.0.1"],
        ..Setup::default()
    })
    .await;
    let child = tier(&origin, Some(&middle)).await;
    origin.plan("/a", Plan::page("a"));
    for asked in 1..4 {
        assert_eq!(child.get("/a").await.told(), ("MISS", "a"));
        assert_eq!(origin.asked("/a"), asked);
    }
}

#[tokio::test]
async fn a_daemon_that_was_restarted_asks_no_parents_cache_until_it_has_caught_up() {
    let origin = Origin::start().await;
    let top = tier(&origin, None).await;
    let middle = tier(&origin, Some(&top)).await;
    let child = tier(&origin, Some(&middle)).await;
    origin.plan("/a", Plan::page("old"));
    assert_eq!((top.get("/a").await.text(), middle.get("/a").await.text()), ("old", "old"));
    // Its predecessor had acknowledged a purge of the page that nobody here has applied yet.
    child.standing.set(log_id(1), child.index.generation(), false);
    origin.plan("/a", Plan::page("new"));
    assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(child.get("/a").await.told(), ("HIT", "new"), "straight from the origin, so it is kept");
    child.purge(url("/a")).await;
    child.standing.set(log_id(1), child.index.generation(), true);
    for rig in [&middle, &top] {
        rig.purge(url("/b")).await;
    }
    assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(origin.asked("/a"), 2, "out of a cache again");
}

#[tokio::test]
async fn a_parent_that_follows_another_log_does_not_answer_from_its_cache() {
    let (parent, child) = parent_and_child().await;
    parent.standing.set(log_id(2), parent.index.generation(), true);
    child.origin.plan("/a", Plan::page("old"));
    for n in 0..3 {
        parent.purge(url(&format!("/{n}"))).await;
    }
    parent.get("/a").await;
    child.origin.plan("/a", Plan::page("new"));
    assert_eq!(child.get("/a").await.told(), ("MISS", "new"));
}
