use std::time::Duration;

use batoff_types::Selector;
use batoff_types::message::{FromNode, IndexSize, Trouble};
use http::Method;

use super::super::node::Node;
use super::super::plane::{PATIENCE, Plane};
use super::{Browser, purge};
use crate::accounts::Role;

/// The page once it says that.
async fn until(browser: &Browser, path: &str, said: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = browser.get(path).await.into_body();
        if page.contains(said) {
            return page;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path} does not say {said}: {page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_says_that_all_is_well_and_otherwise_what_is_not() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    assert_eq!(browser.get("/").await.headers()["location"], "/now");
    assert!(browser.get("/now").await.into_body().contains("No node is registered yet."));

    let quick = Node::strict(&plane, "fra1/edge-1").await.follow();
    let task = purge(&plane, "ci", vec![Selector::Everything]).await;
    plane.completed(task.parse().unwrap()).await;
    let page = until(&browser, "/now", "Slowest completion in the last hour").await;
    assert!(page.contains("The only node is current.") && page.contains("fra1/edge-1"), "{page}");
    assert!(page.contains(&format!("href=\"/sites/shop/purges/{task}\"")), "{page}");
    assert!(page.contains("Nothing needs attention.") && page.contains("every 2s"), "{page}");
    until(&browser, "/now", "<rect x=").await;

    let mut slow = Node::strict(&plane, "waw1/edge-2").await;
    slow.say(FromNode::Trouble(Trouble {
        cache: "<b>varnish</b>".to_owned(),
        message: "<i>refused</i>".to_owned(),
        stuck: None,
    }));
    slow.beat();
    let page = until(&browser, "/now", "&#60;i&#62;refused").await;
    assert!(page.contains("Cache in trouble") && page.contains("href=\"/nodes/waw1/edge-2\""), "{page}");
    assert!(!page.contains("<i>") && !page.contains("<b>") && !page.contains("Nothing needs"), "{page}");
    let page = until(&browser, "/nodes?state=attention", "&#60;i&#62;refused").await;
    assert!(page.contains("edge-2") && !page.contains("edge-1") && !page.contains("<i>"), "{page}");

    let part = Browser { fields: vec![("hx-request", "true")], ..browser }.get("/now").await.into_body();
    assert!(part.trim_start().starts_with("<div id=\"now\"") && !part.contains("<html"), "{part}");
    let viewer = Browser::of(&plane, Role::Viewer, &["shop"]).await;
    assert_eq!(viewer.get("/").await.headers()["location"], "/purges");
    let purges = viewer.get("/purges").await.into_body();
    assert!(!purges.contains("href=\"/now\"") && !purges.contains("href=\"/nodes\""), "{purges}");
    for path in ["/now", "/nodes", "/nodes/waw1/edge-2"] {
        assert_eq!(viewer.get(path).await.status(), 403, "{path}");
    }
    quick.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_found_looked_at_and_decommissioned_by_typing_its_name() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    assert!(browser.get("/nodes").await.into_body().contains("No node is registered yet."));
    let kept = Node::strict(&plane, "fra1/edge-1").await.follow();
    let gone = Node::strict(&plane, "waw1/edge-2").await;
    let page = until(&browser, "/nodes?pop=waw1", "edge-2").await;
    assert!(!page.contains("edge-1") && page.contains("<option selected>waw1</option>"), "{page}");
    assert!(page.contains("<td data-label=\"Version\">test</td>") && page.contains("nginx"), "{page}");
    let page = until(&browser, "/nodes?state=leased", "edge-1").await;
    assert!(page.contains("Leased") && page.contains("class=\"fill\""), "{page}");
    assert!(browser.get("/nodes?pop=none").await.into_body().contains("No such node."));
    assert_eq!(browser.get("/nodes?state=nonsense").await.status(), 400);
    drop(gone);

    let path = "/nodes/waw1/edge-2";
    let page = browser.get(path).await.into_body();
    assert!(page.contains("name=\"confirm\"") && page.contains("Without a lease it"), "{page}");
    assert_eq!(browser.ask(Method::POST, path, "confirm=waw1%2Fedge-1").await.status(), 400);
    assert_eq!(browser.get(path).await.status(), 200, "nothing was done");
    let manager = Browser::of(&plane, Role::Manager, &["shop"]).await;
    assert_eq!(manager.ask(Method::POST, path, "confirm=waw1%2Fedge-2").await.status(), 403);
    let done = browser.ask(Method::POST, path, "confirm=waw1%2Fedge-2").await;
    assert_eq!((done.status().as_u16(), &done.headers()["location"]), (303, &"/nodes".parse().unwrap()));
    assert_eq!(browser.get(path).await.status(), 404);
    let page = browser.get("/nodes").await.into_body();
    assert!(page.contains("<code>waw1/edge-2</code>") && !page.contains("href=\"/nodes/waw1"), "{page}");

    let audit = browser.get("/audit?action=node.remove").await.into_body();
    assert!(audit.contains("user:operator") && audit.contains("waw1/edge-2"), "{audit}");
    kept.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_large_an_index_is_stands_there_once_the_node_has_said_so() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    node.lease().await;
    let page = until(&browser, "/nodes/fra1/edge-1", "Objects in the index").await;
    assert!(page.contains("<dt>Objects in the index</dt><dd>–</dd>"), "{page}");
    assert!(page.contains("<dt>Memory of the index</dt><dd>–</dd>"), "{page}");
    let page = browser.get("/nodes").await.into_body();
    assert!(page.contains("<td data-label=\"Index\"><span class=\"none\">–</span></td>"), "{page}");

    node.beat_with(Some(IndexSize { objects: 1_234_567, bytes: 3_355_444 }));
    let page = until(&browser, "/nodes/fra1/edge-1", "1\u{202f}234\u{202f}567").await;
    assert!(page.contains("<dt>Memory of the index</dt><dd>3.2\u{a0}MiB</dd>"), "{page}");
    node.lease().await;
    let page = browser.get("/nodes").await.into_body();
    assert!(
        page.contains("1\u{202f}234\u{202f}567 objects <span class=\"muted\">3.2\u{a0}MiB</span>"),
        "{page}"
    );
    let russian =
        Browser { fields: vec![("accept-language", "ru")], ..browser }.get("/nodes").await.into_body();
    assert!(
        russian.contains("1\u{202f}234\u{202f}567 объектов <span class=\"muted\">3,2\u{a0}МиБ"),
        "{russian}"
    );

    // The next run of its daemon may have nothing cached.
    drop(node);
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    node.lease().await;
    let status = plane.tracker().nodes();
    assert!(status.len() == 1 && status[0].index_size.is_none(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_node_is_admitted_again_by_who_confirms_it() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let node = Node::strict(&plane, "fra1/edge-1").await.follow();
    until(&browser, "/nodes", "edge-1").await;
    drop(node);
    let gone = browser.ask(Method::POST, "/nodes/fra1/edge-1", "confirm=fra1%2Fedge-1&force=yes").await;
    assert_eq!(gone.headers()["location"], "/nodes", "{}", gone.body());
    let page = until(&browser, "/nodes", "action=\"/nodes/fra1/edge-1/admit\"").await;
    assert!(page.contains("Admit again"), "{page}");
    let unsure = browser.ask(Method::POST, "/nodes/fra1/edge-1/admit", "").await;
    assert_eq!(unsure.status(), 400);
    assert!(unsure.body().contains("must be ticked"), "{}", unsure.body());
    let admitted = browser.ask(Method::POST, "/nodes/fra1/edge-1/admit", "confirm=yes").await;
    assert_eq!(admitted.headers()["location"], "/nodes", "{}", admitted.body());
    let audit = until(&browser, "/audit?action=node.admit", "fra1/edge-1").await;
    assert!(audit.contains("user:operator"), "{audit}");
    let _again = Node::strict(&plane, "fra1/edge-1").await.follow();
    until(&browser, "/nodes", "href=\"/nodes/fra1/edge-1\"").await;
    let unknown = browser.ask(Method::POST, "/nodes/fra1/edge-9/admit", "confirm=yes").await;
    assert_eq!(unknown.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn pops_that_have_a_place_are_on_a_map_with_the_sign_of_their_worst_node() {
    let pops = "pops = [{ name = 'fra1', latitude = 50.1, longitude = 8.7 }, { name = 'syd1', latitude = -33.9, longitude = 151.2 }]";
    let plane = Plane::start_with_console(tempfile::tempdir().unwrap(), pops.to_owned()).await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    assert!(!browser.get("/nodes").await.body().contains("class=\"card map\""), "no node, no map");
    let _quick = Node::strict(&plane, "fra1/edge-1").await.follow();
    let mut slow = Node::strict(&plane, "waw1/edge-2").await;
    slow.beat();
    let page = until(&browser, "/nodes", "<a href=\"/nodes?pop=fra1\" class=\"completed\"").await;
    assert!(page.contains("Not on the map: waw1") && !page.contains("syd1"), "{page}");
}
