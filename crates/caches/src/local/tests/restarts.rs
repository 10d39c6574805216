//! Either side goes away and comes back.

use std::sync::Arc;

use batoff_types::Cursor;
use batoff_types::message::LeasePolicy::{Revalidate, Serve};

use super::node::{Node, by_tag, by_url, eventually};
use super::shelf::Cache;
use crate::local::Mode;

#[tokio::test]
async fn what_was_purged_while_the_daemon_was_down_is_evicted_and_the_rest_stays() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    for (path, tag) in [("/a", "t"), ("/b", "u"), ("/c", "v"), ("/d", "w")] {
        web.fill(path, tag).await;
    }
    let node = node.restart().await;
    assert!(!web.client.may_serve(), "a daemon that starts fences first");
    node.purge(by_tag("t")).await.unwrap();
    node.purge_soft(by_url("/b")).await.unwrap();
    assert!(!web.client.may_serve() || web.serves() == ["~/b", "/c", "/d"], "done, and not served");
    eventually("it serves again", async || web.client.may_serve()).await;
    assert_eq!(web.serves(), ["~/b", "/c", "/d"]);
    node.purge(by_url("/c")).await.unwrap();
    assert_eq!(web.serves(), ["~/b", "/d"], "what it named is known again");
    let node = node.restart().await;
    eventually("it serves again", async || web.client.may_serve()).await;
    assert_eq!(web.serves(), ["~/b", "/d"], "what was stale stays stale");
    assert_eq!(node.status().await[0].objects, 2);
}

#[tokio::test]
async fn an_available_cache_serves_through_a_restart_of_its_daemon() {
    let node = Node::start(Serve, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    web.fill("/a", "t").await;
    web.fill("/b", "u").await;
    let busy = web.shelf.busy.lock().await;
    let node = node.restart().await;
    assert_eq!(web.serves(), ["/a", "/b"], "nothing was purged");
    let purge = node.purge(by_url("/a"));
    let release = async {
        tokio::task::yield_now().await;
        assert!(web.client.may_serve());
        drop(busy);
    };
    let (purged, ()) = tokio::join!(purge, release);
    purged.unwrap();
    assert_eq!(web.serves(), ["/b"], "the purge waited until it had met the rule");
}

#[tokio::test]
async fn a_cache_that_comes_back_empty_leaves_nothing_behind() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    for n in 0..100 {
        web.fill(&format!("/{n}"), "t").await;
    }
    drop(web);
    let web = Cache::start(&node, "web").await;
    eventually("the index has forgotten them", async || node.index.stats().entries == 0).await;
    web.fill("/new", "t").await;
    node.purge(by_tag("t")).await.unwrap();
    assert!(web.serves().is_empty());
}

#[tokio::test]
async fn a_cache_that_kept_its_objects_names_them_again() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    for n in 0..2_500 {
        web.fill(&format!("/{n}"), if n % 2 == 0 { "even" } else { "odd" }).await;
    }
    let shelf = Arc::clone(&web.shelf);
    drop(web);
    eventually("the session ends", async || node.status().await[0].objects == 0).await;
    node.purge(by_tag("odd")).await.unwrap();
    let web = Cache::with(&node, "web", shelf).await;
    assert_eq!(web.serves().len(), 1_250);
    node.purge(by_tag("even")).await.unwrap();
    assert!(web.serves().is_empty());
}

/// Rules that were forgotten cannot be asked any more; that a cache has confirmed them is what keeps its objects.
#[tokio::test]
async fn objects_survive_a_restart_after_old_rules_were_forgotten() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    web.fill("/a", "t").await;
    for n in 0..5 {
        node.purge(by_url(&format!("/other/{n}"))).await.unwrap();
    }
    let through = node.index.applied();
    // Its last news has to have arrived.
    web.fill("/b", "t").await;
    node.purge(by_url("/b")).await.unwrap();
    assert_eq!(node.index.forget(through), Cursor::new(through.get()));
    let node = node.restart().await;
    eventually("it serves again", async || web.client.may_serve()).await;
    assert_eq!(web.serves(), ["/a"]);
    node.purge(by_tag("t")).await.unwrap();
    assert!(web.serves().is_empty());
}

#[tokio::test]
async fn a_reset_clears_the_cache() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    web.fill("/a", "t").await;
    let late = web.object("/late", "t");
    let generation = batoff_types::Generation(node.index.generation().0 + 1);
    node.index.reset(generation, Cursor::new(900), node.index.sites().as_ref().clone());
    node.caches[0].flush().await.unwrap();
    assert!(web.serves().is_empty());
    eventually("it begins anew", async || web.client.may_serve()).await;
    assert!(web.serves().is_empty());
    let kept = web.keep(late).await.unwrap();
    assert_eq!(kept, batoff_edge_client::Committed::Discarded, "its token is of the generation before");
    web.fill("/b", "t").await;
    assert_eq!(web.serves(), ["/b"]);
    eventually("nothing else is registered", async || {
        while node.index.sweep(100).is_some() {}
        node.index.stats().entries == 1
    })
    .await;
}

#[tokio::test]
async fn two_processes_of_one_name_never_serve_what_only_the_other_was_told_of() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let first = Cache::start(&node, "web").await;
    first.fill("/a", "t").await;
    let second = Cache::start(&node, "web").await;
    for _ in 0..20 {
        node.purge(by_url("/a")).await.unwrap();
        assert!(first.serves().is_empty() && second.serves().is_empty());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
