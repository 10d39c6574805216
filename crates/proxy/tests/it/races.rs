use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::origin::Plan;
use crate::rig::{Rig, tag, url};

fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

#[tokio::test]
async fn a_confirmation_that_began_before_a_purge_brings_nothing_back() {
    let rig = Rig::start().await;
    let gate = gate();
    let plan =
        Plan::page("old").confirming("\"1\"").header("cache-control", "max-age=0").header("cache-tag", "t");
    rig.origin.plan("/a", plan.clone());
    rig.get("/a").await;
    rig.origin.plan("/a", plan.header("cache-control", "max-age=3600").held_before_header(&gate));
    let visitor = rig.get_later("/a");
    rig.origin.until_asked("/a", 2).await;
    rig.purge(tag("t")).await;
    rig.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(visitor.await.unwrap().told(), ("EXPIRED", "old"), "it asked before the purge");
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert_eq!((rig.store.len(), rig.index.stats().entries), (1, 1));
}

#[tokio::test]
async fn a_background_fetch_that_began_before_a_purge_is_not_stored() {
    let rig = Rig::start().await;
    let gate = gate();
    rig.origin.plan("/a", Plan::page("old"));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan::page("older than the purge").held_before_header(&gate));
    rig.soft_purge(url("/a")).await;
    assert_eq!(rig.get("/a").await.told(), ("STALE", "old"));
    rig.origin.until_asked("/a", 2).await;
    rig.purge(url("/a")).await;
    rig.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(rig.get("/a").await.told(), ("HIT", "new"));
}

#[tokio::test]
async fn an_error_of_the_origin_does_not_bring_a_purged_page_back() {
    let rig = Rig::start().await;
    let control = "max-age=0, stale-if-error=600";
    let gate = gate();
    rig.origin.plan("/a", Plan::page("old").header("cache-control", control));
    rig.get("/a").await;
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") });
    assert_eq!(rig.get("/a").await.told(), ("STALE", "old"), "what the origin asked for");
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") }.held_before_header(&gate));
    let visitor = rig.get_later("/a");
    rig.origin.until_asked("/a", 3).await;
    rig.purge(url("/a")).await;
    gate.add_permits(1);
    let answer = visitor.await.unwrap();
    assert_eq!((answer.status, answer.text()), (503, "down"));
}
