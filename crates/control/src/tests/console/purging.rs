//! Purging in the console, and what is shown of a purge.

use batoff_types::message::Trouble;

use super::*;
use crate::audit::{AuditEntry, AuditFilter};
use crate::tests::node::Node;

/// The entries of purges, newest first: actor, result, what, code.
async fn told(plane: &Plane) -> Vec<[String; 4]> {
    let audit = &plane.services().audit;
    audit.flush().await.unwrap();
    let page = audit.list(&AuditFilter::default(), None, 100).await.unwrap();
    let entries =
        page.entries.iter().map(|entry| serde_json::from_str::<AuditEntry>(entry.as_str()).unwrap());
    entries
        .filter(|entry| entry.action == "purge")
        .map(|entry| {
            let code = entry.code.unwrap_or_default();
            [entry.actor, entry.result.into_owned(), entry.what.unwrap_or_default(), code]
        })
        .collect()
}

fn form(button: &str, rest: &str) -> String {
    format!("site=shop&key=01JF7M2KZ7YH9Q4K0P2BDH9W3Y&do={button}&{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_in_the_console_goes_the_apis_way_in_the_name_of_the_account() {
    let plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await.follow();
    let browser = Browser::of(&plane, Role::Member, &["shop"]).await;
    let page = browser.get("/purges/new").await;
    assert!(page.body().contains("name=\"site\" value=\"shop\""), "{}", page.body());

    let counting = form(
        "count",
        "urls=http%3A%2F%2FWWW.example.com%2F.%2Fa%0D%0Ahttps%3A%2F%2Fwww.example.com%2Fb&tags=",
    );
    let page = browser.ask(Method::POST, "/purges/new", &counting).await.into_body();
    assert!(page.contains("<code>http://www.example.com/a</code>") && page.contains("14 objects"), "{page}");
    assert!(
        page.contains("name=\"max_objects\" inputmode=\"numeric\" autocomplete=\"off\" value=\"24\""),
        "{page}"
    );

    let purging = form("purge", "urls=https%3A%2F%2Fwww.example.com%2Fa&max_objects=7&counted=7&how=soft");
    let answer = browser.ask(Method::POST, "/purges/new", &purging).await;
    assert_eq!(answer.status(), 303, "{}", answer.body());
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(to.starts_with("/sites/shop/purges/01"), "{to}");
    let flash = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    // Sent again by a finger that was too quick: the same purge.
    let again = browser.ask(Method::POST, "/purges/new", &purging).await;
    assert_eq!(again.headers()["location"].to_str().unwrap(), to);

    let mut reader =
        Browser { cookie: Some(format!("{}; {flash}", browser.cookie.clone().unwrap())), ..browser };
    let page = reader.get(&to).await;
    assert!(page.body().contains("The purge is durable"), "{}", page.body());
    assert!(page.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"), "said once");
    let list = reader.get("/purges").await.into_body();
    assert_eq!(list.matches("<tr id=").count(), 1);
    assert!(list.contains("member-shop") && list.contains("192.0.2.1"), "{list}");

    // Over the limit: refused, with what was typed, and listed as refused.
    let over = form("purge", "urls=https%3A%2F%2Fwww.example.com%2Fc&max_objects=6&counted=");
    let answer = reader.ask(Method::POST, "/purges/new", &over).await;
    assert_eq!(answer.status(), 412);
    assert!(answer.body().contains("https://www.example.com/c</textarea>"), "{}", answer.body());
    let foreign = form("purge", "urls=https%3A%2F%2Fevil.example%2F");
    let answer = reader.ask(Method::POST, "/purges/new", &foreign).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.body().contains("evil.example is not a hostname of site shop"), "{}", answer.body());
    let told = told(&plane).await;
    let done = ["user:member-shop", "done", "url https://www.example.com/a, soft", ""].map(str::to_owned);
    assert!(told.contains(&done), "{told:?}");
    let codes: Vec<_> =
        told.iter().filter(|entry| entry[1] == "refused").map(|entry| entry[3].as_str()).collect();
    assert_eq!(codes.len(), 2, "{told:?}");
    assert!(codes.contains(&"too_many_objects") && codes.contains(&"invalid_url"), "{told:?}");

    // Not of another site, and not by who may only read.
    let answer = reader.ask(Method::POST, "/purges/new", "site=other&do=purge&everything=yes").await;
    assert_eq!(answer.status(), 403);
    reader = Browser::of(&plane, Role::Viewer, &["shop"]).await;
    assert_eq!(reader.ask(Method::POST, "/purges/new", &purging).await.status(), 403);
    assert!(!reader.get("/purges").await.body().contains("/purges/new"));
    node.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_empties_a_host_types_the_sites_name() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    for rest in ["everything=yes", "hosts=www.example.com", "prefixes=https%3A%2F%2Fwww.example.com%2F"] {
        for confirm in ["", "&confirm=sho", "&confirm=www.example.com"] {
            let answer =
                browser.ask(Method::POST, "/purges/new", &form("purge", &format!("{rest}{confirm}"))).await;
            assert_eq!(answer.status(), 400, "{rest}{confirm}");
            assert!(answer.body().contains("name=\"confirm\""), "{rest}{confirm}");
        }
        let answer =
            browser.ask(Method::POST, "/purges/new", &form("purge", &format!("{rest}&confirm=shop"))).await;
        assert_eq!(answer.status(), 303, "{rest}: {}", answer.body());
    }
    let narrow = form("purge", "prefixes=https%3A%2F%2Fwww.example.com%2Fimg%2F");
    assert_eq!(browser.ask(Method::POST, "/purges/new", &narrow).await.status(), 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shares_the_sites_quotas_with_the_api() {
    let plane = Plane::start_with("\n[limits]\nprefixes_per_minute = 1\n").await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let of = |path: &str| form("purge", &format!("prefixes=https%3A%2F%2Fwww.example.com%2F{path}%2F"));
    assert_eq!(browser.ask(Method::POST, "/purges/new", &of("a")).await.status(), 303);
    let answer = browser.ask(Method::POST, "/purges/new", &of("b")).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.body().contains("has 0 left"), "{}", answer.body());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_as_one_types_is_a_part_of_the_page() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await.with("hx-request", "true");
    let part = browser.ask(Method::POST, "/purges/preview", &form("", "tags=%3Cb%3E")).await.into_body();
    assert!(part.trim_start().starts_with("<section id=\"preview\""), "{part}");
    assert!(part.contains("&#60;b&#62;") && !part.contains("<b>&#60;b") && !part.contains("<html"), "{part}");
    let part = browser.ask(Method::POST, "/purges/preview", &form("", "urls=nonsense")).await.into_body();
    assert!(part.contains("role=\"alert\"") && part.contains("<code>nonsense</code>"), "{part}");
    let part = browser.ask(Method::POST, "/purges/preview", &form("", "urls=")).await.into_body();
    assert!(part.contains("Say what to purge"), "{part}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purges_page_shows_whom_it_waits_for_and_why() {
    let plane = Plane::start().await;
    let quick = Node::strict(&plane, "fra1/edge-1").await.follow();
    // Waited for however long the test takes: a strict one would be fenced when its lease has run out.
    let mut slow = Node::available(&plane, "waw1/edge-2").await;
    let tag = "a<script>alert(1)</script>";
    let task = purge(&plane, "ci", vec![Selector::Tag(tag.parse().unwrap())]).await;
    slow.say(batoff_types::message::FromNode::Trouble(Trouble {
        cache: "<b>varnish</b>".to_owned(),
        message: "<i>refused</i>".to_owned(),
        stuck: None,
    }));
    slow.beat();
    let browser = Browser::of(&plane, Role::Viewer, &["shop"]).await;
    let path = format!("/sites/shop/purges/{task}");
    let id = task.parse().unwrap();
    plane.until(id, |view| view.nodes.confirmed == 1).await;
    let deadline = tokio::time::Instant::now() + crate::tests::plane::PATIENCE;
    let page = loop {
        let page = browser.get(&path).await.into_body();
        if page.contains("refused") {
            break page;
        }
        assert!(tokio::time::Instant::now() < deadline, "{page}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(
        page.contains("<th scope=\"row\">fra1</th>") && page.contains("<th scope=\"row\">waw1</th>"),
        "{page}"
    );
    assert!(page.contains("waw1/edge-2") && page.contains("still waiting"), "{page}");
    assert!(
        page.contains("&#60;i&#62;refused") && !page.contains("<i>") && !page.contains("<script>"),
        "{page}"
    );
    assert!(page.contains("hx-trigger=\"live, every 2s\""), "it is followed");
    assert!(!page.contains("/purges/new?again"), "a viewer does not purge");
    let part = Browser { fields: vec![("hx-request", "true")], ..browser }.get(&path).await.into_body();
    assert!(part.trim_start().starts_with("<div id=\"purge\"") && !part.contains("<html"), "{part}");

    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let page = browser.get(&path).await.into_body();
    assert!(page.contains(&format!("/purges/new?again={task}")), "{page}");
    let page = browser.get(&format!("/purges/new?again={task}")).await.into_body();
    assert!(page.contains("a&#60;script&#62;alert(1)&#60;/script&#62;\n</textarea>"), "{page}");
    for missing in ["/sites/shop/purges/01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "/sites/shop/purges/nonsense"] {
        assert_eq!(browser.get(missing).await.status(), 404, "{missing}");
    }
    plane.change("blog", Some(&["blog.example.org"])).await;
    assert_eq!(browser.get(&format!("/sites/blog/purges/{task}")).await.status(), 404);
    quick.abort();
}
