//! What an ack waits for.

use std::time::Duration;

use batoff_types::message::LeasePolicy::{Revalidate, Serve};
use batoff_wire::local::pb::cache_status::Presence;

use super::node::{Node, by_tag, by_url, eventually};
use super::shelf::Cache;
use crate::local::Mode;

#[tokio::test]
async fn a_purge_is_done_when_every_cache_has_let_go_of_what_it_hits() {
    let node = Node::start(Revalidate, &[("web", Mode::Page), ("img", Mode::Page)]).await;
    let (web, img) = (Cache::start(&node, "web").await, Cache::start(&node, "img").await);
    for cache in [&web, &img] {
        cache.fill("/a", "t").await;
        cache.fill("/b", "t").await;
    }
    img.fill("/c", "t").await;
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(web.serves(), ["/b"], "the same URL in two caches goes from both");
    assert_eq!(img.serves(), ["/b", "/c"]);
    node.purge_soft(by_url("/b")).await.unwrap();
    assert_eq!((web.serves(), img.serves().len()), (vec!["~/b".to_owned()], 2));
    node.purge(by_tag("t")).await.unwrap();
    assert_eq!((web.serves().len(), img.serves().len()), (0, 0));
    let objects: Vec<_> = node.status().await.iter().map(|status| status.objects).collect();
    assert_eq!(objects, [0, 0]);
}

#[tokio::test]
async fn all_objects_of_a_url_go_and_a_successor_hides_none() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    let first = web.fill("/a", "t").await;
    web.fill("/a", "t").await;
    web.fill("/a?x", "t").await;
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(web.serves(), ["/a?x"], "the old one was still there");
    web.client.gone(vec![(super::node::url("/a"), first)]).await.unwrap();
    assert_eq!(node.status().await[0].objects, 1);
}

#[tokio::test]
async fn a_cache_that_does_not_confirm_is_fenced_and_not_waited_for() {
    let node = Node::start(Serve, &[("web", Mode::Page), ("img", Mode::Page)]).await;
    let node = node.with(|section| section.confirm_within_ms = 100).await;
    let (web, img) = (Cache::start(&node, "web").await, Cache::start(&node, "img").await);
    web.fill("/a", "t").await;
    img.fill("/b", "t").await;
    let busy = web.shelf.busy.lock().await;
    node.purge(by_url("/a")).await.unwrap();
    assert!(!web.client.may_serve(), "it still has the page, and the purge is done");
    assert_eq!(img.serves(), ["/b"], "the other one goes on");
    drop(busy);
    eventually("it comes back", async || web.client.may_serve()).await;
    assert!(web.serves().is_empty(), "what it held met the rule");
}

#[tokio::test]
async fn a_cache_without_a_page_is_waited_for() {
    let node = Node::start(Serve, &[("web", Mode::Evict)]).await;
    let node = node.with(|section| section.resync_within_ms = 50).await;
    let trouble = node.purge(by_url("/a")).await.unwrap_err().to_string();
    assert!(trouble.contains("web") && trouble.contains("no session"), "{trouble}");
    let web = Cache::start(&node, "web").await;
    web.fill("/a", "t").await;
    node.purge(by_url("/a")).await.unwrap();
    drop(web);
    eventually("its session ends", async || node.status().await[0].presence() == Presence::Awaited).await;
    node.purge(by_url("/a")).await.unwrap_err();
}

#[tokio::test]
async fn a_cache_that_asks_is_not_waited_for() {
    let node = Node::start(Revalidate, &[("web", Mode::Lookup)]).await;
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(node.caches[0].proof(), batoff_edge::cache::Proof::Rule);
}

#[tokio::test]
async fn a_strict_cache_without_a_session_is_fenced_at_once() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    let (page, session) = (node.page("web"), node.page("web").read().unwrap().session);
    assert!(page.may_serve(session, true));
    drop(web);
    eventually("the page is closed", async || !page.may_serve(session, true)).await;
    node.purge(by_url("/a")).await.unwrap();
    assert_eq!(node.status().await[0].presence(), Presence::Fenced);
}

#[tokio::test]
async fn an_available_cache_without_a_session_serves_on_until_a_purge_has_waited_enough() {
    let node = Node::start(Serve, &[("web", Mode::Page)]).await;
    let node = node.with(|section| section.resync_within_ms = 200).await;
    let web = Cache::start(&node, "web").await;
    let (page, session) = (node.page("web"), node.page("web").read().unwrap().session);
    drop(web);
    eventually("its session ends", async || node.status().await[0].presence() == Presence::Awaited).await;
    assert!(page.may_serve(session, true), "it holds nothing that was purged");
    node.purge(by_url("/a")).await.unwrap();
    assert!(!page.may_serve(session, true), "now it may");
    assert_eq!(node.status().await[0].presence(), Presence::Fenced);
}

#[tokio::test]
async fn the_page_follows_the_lease_and_the_purges() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let web = Cache::start(&node, "web").await;
    let before = web.client.fill_token().unwrap();
    node.purge(by_url("/x")).await.unwrap();
    assert!(web.client.fill_token().unwrap().applied > before.applied, "shown before the purge is done");
    node.fence.close();
    node.caches[0].serve_until(batoff_types::Moment::ZERO);
    assert!(!web.client.may_serve());
    node.fence.set_until(batoff_edge::boottime() + Duration::from_millis(150));
    eventually("renewed without being told", async || web.client.may_serve()).await;
    eventually("and it ends by itself", async || !web.client.may_serve()).await;
}
