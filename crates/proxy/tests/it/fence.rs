use batoff_types::message::LeasePolicy;

use crate::origin::Plan;
use crate::rig::{Rig, Setup, url};

async fn strict() -> Rig {
    Rig::with(Setup { policy: LeasePolicy::Revalidate, ..Setup::default() }).await
}

#[tokio::test]
async fn without_a_lease_a_cached_page_is_served_only_on_the_origins_word() {
    let rig = strict().await;
    rig.origin.plan("/a", Plan::page("one").confirming("\"1\""));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "one"));
    for _ in 0..2 {
        assert_eq!(rig.get("/a").await.told(), ("EXPIRED", "one"));
    }
    assert_eq!(rig.origin.asked("/a"), 3);
    rig.origin.plan("/a", Plan::page("two"));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "two"), "the origin has another page now");
}

#[tokio::test]
async fn without_a_lease_nothing_is_served_stale() {
    let rig = strict().await;
    let control = "max-age=3600, stale-while-revalidate=600, stale-if-error=600";
    rig.origin.plan("/a", Plan::page("one").header("cache-control", control));
    rig.get("/a").await;
    rig.soft_purge(url("/a")).await;
    rig.origin.plan("/a", Plan { status: 503, ..Plan::page("down") });
    let answer = rig.get("/a").await;
    assert_eq!((answer.status, answer.text()), (503, "down"));
}

#[tokio::test]
async fn without_a_lease_visitors_do_not_queue_for_each_other() {
    let rig = strict().await;
    rig.origin.plan("/a", Plan::page("one").confirming("\"1\""));
    rig.get("/a").await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    rig.origin.plan("/a", Plan::page("one").confirming("\"1\"").held_before_header(&gate));
    let visitors: Vec<_> = (0..5).map(|_| rig.get_later("/a")).collect();
    rig.origin.until_asked("/a", 6).await;
    gate.add_permits(5);
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().told(), ("EXPIRED", "one"));
    }
}
