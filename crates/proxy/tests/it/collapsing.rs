use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::origin::Plan;
use crate::rig::{Rig, tag, url};

#[tokio::test]
async fn many_visitors_of_one_page_cost_one_fetch() {
    let rig = Rig::start().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.origin.plan("/a", Plan::page("a").held_before_header(&gate));
    let visitors: Vec<_> = (0..20).map(|_| rig.get_later("/a")).collect();
    rig.origin.until_asked("/a", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    gate.add_permits(1);
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().text(), "a");
    }
    assert_eq!(rig.origin.asked("/a"), 1);
}

#[tokio::test]
async fn who_comes_after_a_purge_does_not_wait_for_an_older_fetch() {
    let rig = Rig::start().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.origin.plan("/a", Plan::page("old").held_before_header(&gate));
    let before = rig.get_later("/a");
    rig.origin.until_asked("/a", 1).await;
    rig.purge(url("/a")).await;
    rig.origin.plan("/a", Plan::page("new"));
    // Half of the time after which a slow fetch is no longer waited for in any case.
    let after = tokio::time::timeout(std::time::Duration::from_secs(15), rig.get("/a")).await;
    assert_eq!(after.expect("the older fetch is still held").told(), ("MISS", "new"));
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().text(), "old");
    assert_eq!(rig.get("/a").await.told(), ("HIT", "new"));
}

#[tokio::test]
async fn who_waits_when_a_purge_comes_is_not_given_the_purged_body() {
    let rig = Rig::start().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.origin.plan("/a", Plan::page("old").header("cache-tag", "t").held_before_body(&gate));
    let first = rig.get_later("/a");
    rig.origin.until_asked("/a", 1).await;
    let waiting: Vec<_> = (0..5).map(|_| rig.get_later("/a")).collect();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    // By tag: nobody can know before the header is there that this fetch is concerned.
    rig.purge(tag("t")).await;
    rig.origin.plan("/a", Plan::page("new"));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().text(), "old", "it asked before the purge, and waited for nobody");
    for visitor in waiting {
        assert_eq!(visitor.await.unwrap().text(), "new");
    }
    assert_eq!(rig.origin.asked("/a"), 2, "those who waited share one further fetch");
}

#[tokio::test]
async fn a_page_that_may_not_be_kept_does_not_queue_its_visitors() {
    let rig = Rig::start().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.origin.plan("/a", Plan::page("a").header("cache-control", "no-store").held_before_header(&gate));
    let visitors: Vec<_> = (0..5).map(|_| rig.get_later("/a")).collect();
    rig.origin.until_asked("/a", 1).await;
    gate.add_permits(5);
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().told(), ("BYPASS", "a"));
    }
    assert_eq!(rig.origin.asked("/a"), 5);
}
