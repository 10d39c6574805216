//! Whether an object may be stored, or served.

use batoff_edge_client::{Committed, Looked};
use batoff_types::message::LeasePolicy::{Revalidate, Serve};

use super::node::{CHILD, Node, by_tag, by_url, eventually, url};
use super::shelf::Cache;
use crate::local::Mode;

#[tokio::test]
async fn a_fill_that_began_before_a_purge_is_discarded() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    for purge in [by_url("/a"), by_tag("t")] {
        let object = web.object("/a", "x, t");
        node.purge(purge).await.unwrap();
        assert_eq!(web.keep(object).await.unwrap(), Committed::Discarded);
        assert!(web.serves().is_empty());
    }
    let object = web.object("/a", "t");
    node.purge_soft(by_url("/a")).await.unwrap();
    assert_eq!(web.keep(object).await.unwrap(), Committed::Stale);
    assert_eq!(web.serves(), ["~/a"]);
    let object = web.object("/b", "t");
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(web.keep(object).await.unwrap(), Committed::Fresh, "a neighbor's purge does not touch it");
}

#[tokio::test]
async fn fills_and_purges_that_cross_in_every_way_leave_nothing_behind() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    for round in 0..200 {
        let object = web.object("/a", "t");
        let purge = async {
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            node.purge(by_tag("t")).await.unwrap();
        };
        let (_, kept) = tokio::join!(purge, web.keep(object));
        kept.unwrap();
        assert!(web.serves().is_empty(), "round {round}: stored before the purge and served after it");
    }
}

#[tokio::test]
async fn a_cache_that_asks_gets_the_verdict_and_the_time() {
    let node = Node::start(Revalidate, &[("web", Mode::Lookup)]).await;
    let web = Cache::start(&node, "web").await;
    let ask = async |handle: &bytes::Bytes| web.client.lookup(&url("/a"), handle.clone()).await.unwrap();
    let handle = web.fill("/a", "t").await;
    assert_eq!(ask(&handle).await, Looked::Fresh);
    assert_eq!(ask(&web.client.new_handle()).await, Looked::No, "not registered");
    node.fence.close();
    assert_eq!(ask(&handle).await, Looked::No, "fenced");
    node.fence.set_until(batoff_edge::boottime() + std::time::Duration::from_secs(60));
    node.purge_soft(by_url("/a")).await.unwrap();
    assert_eq!(ask(&handle).await, Looked::Stale);
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(ask(&handle).await, Looked::No);
}

#[tokio::test]
async fn only_the_process_that_has_the_name_serves() {
    let node = Node::start(Serve, &[("web", Mode::Page)]).await;
    let first = Cache::start(&node, "web").await;
    first.fill("/a", "t").await;
    let session = node.page("web").read().unwrap().session;
    // It will try to take the name back; what counts is that both never serve at once.
    let second = Cache::start(&node, "web").await;
    let page = node.page("web");
    let both = page.may_serve(session, true) && second.client.may_serve();
    assert!(!both || page.read().unwrap().session == 0);
}

#[tokio::test]
async fn a_token_comes_by_call_too() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    assert_eq!(web.client.begin_fill().await.unwrap(), web.client.fill_token().unwrap());
}

#[tokio::test]
async fn what_was_purged_is_stored_again_only_when_the_parents_are_there() {
    let node = Node::start(Revalidate, &[(CHILD, Mode::Page)]).await;
    let child = Cache::start(&node, CHILD).await;
    assert_eq!(child.client.fill_token().unwrap().applied.get(), 0, "nothing is known of the parents");
    let own = node.index.begin_fill();
    node.path.tell(own.generation, own.applied);
    eventually("the page says so", async || child.client.fill_token() == Some(own)).await;
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(child.client.fill_token(), Some(own), "the parents have not confirmed it");
    let fetched = child.object("/a", "t");
    assert_eq!(child.client.begin_fill().await.unwrap(), child.client.fill_token().unwrap());
    assert_eq!(
        child.keep(fetched).await.unwrap(),
        Committed::Discarded,
        "a parent may have the old page still"
    );
    let other = child.object("/b", "t");
    assert_eq!(child.keep(other).await.unwrap(), Committed::Fresh, "no purge has hit it");

    let own = node.index.begin_fill();
    node.path.tell(own.generation, own.applied);
    eventually("the page says so", async || child.client.fill_token() == Some(own)).await;
    let fetched = child.object("/a", "t");
    assert_eq!(child.keep(fetched).await.unwrap(), Committed::Fresh);
}
