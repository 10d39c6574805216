//! Whether the promise was kept, as the console shows it and gives it away.

use batoff_types::message::LeasePolicy;

use super::*;
use crate::tests::node::Node;
use crate::tracker::TaskState;

/// One purge in time, and one that had to wait for a node that was away.
async fn one_in_two_is_late(plane: &Plane) -> String {
    plane.completed(plane.purge("/a").await.task).await;
    let node = Node::available(plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let late = plane.purge("/b").await.task;
    plane.until(late, |view| view.state == TaskState::Partial).await;
    Node::connect(plane, intro).await.follow();
    plane.completed(late).await;
    late.to_string()
}

/// Of a file: status, type, name, content.
async fn file(browser: &Browser, path: &str) -> (u16, String, String, String) {
    let answer = browser.get(path).await;
    let field = |name: &str| {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let (kind, name) = (field("content-type"), field("content-disposition"));
    (answer.status().as_u16(), kind, name, answer.into_body())
}

/// The same of the operators' API.
async fn of_admin(plane: &Plane, query: &str) -> String {
    let request = Request::get(format!("/admin/v1/sla/export?{query}"))
        .header("authorization", format!("Bearer {}", plane.admin_token()))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = crate::admin::router(plane.services().clone()).oneshot(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attainment_stands_day_by_day_with_the_late_and_only_for_whom_it_is() {
    let plane = Plane::start().await;
    plane.change("blog", Some(&["blog.example.org"])).await;
    let late = one_in_two_is_late(&plane).await;

    let operator = Browser::of(&plane, Role::Operator, &[]).await;
    let page = operator.get("/sla").await.into_body();
    assert!(page.contains("<option value=\"*\" selected>All sites</option>"), "{page}");
    assert!(page.contains("50\u{a0}%") && page.contains("width=\"48\""), "{page}");
    assert!(
        page.contains(&format!("<a href=\"/sites/shop/purges/{late}\"><code>{late}</code></a>")),
        "{page}"
    );
    assert!(
        page.contains("fra1/edge-1 <span class=\"muted\" lang=\"en\">unreachable, no connection"),
        "{page}"
    );
    for (query, days) in [("", 14), ("?days=7", 7), ("?site=shop&days=31", 31), ("?site=*", 14)] {
        let page = operator.get(&format!("/sla{query}")).await.into_body();
        assert_eq!(page.matches("<tr id=\"d-").count(), days, "{query}");
    }
    for wrong in ["/sla?days=8", "/sla?window=24h", "/sla/export?format=xml"] {
        assert_eq!(operator.get(wrong).await.status(), 400, "{wrong}");
    }
    let quiet = operator.get("/sla?site=blog").await.into_body();
    assert!(quiet.contains("Nothing was purged in these days.") && !quiet.contains(&late), "{quiet}");
    assert_eq!(operator.get("/sla?site=none").await.status(), 403);
    let russian = operator.with("accept-language", "ru").get("/sla").await.into_body();
    assert!(russian.contains("Дольше 2 с") && russian.contains("Последние 14 дней"), "{russian}");

    // Who has one site sees it at once, and nothing of any other, nor of all together.
    let member = Browser::of(&plane, Role::Member, &["shop"]).await;
    let page = member.get("/sla").await.into_body();
    assert!(page.contains(&late) && page.contains("href=\"/sites/shop\""), "{page}");
    assert!(!page.contains("blog") && !page.contains("All sites"), "{page}");
    let of_blog = Browser::of(&plane, Role::Viewer, &["blog"]).await;
    let page = of_blog.get("/sla").await.into_body();
    assert!(!page.contains(&late) && !page.contains("fra1") && !page.contains("shop"), "{page}");
    for (browser, others) in [(&member, ["blog", "none", "*"]), (&of_blog, ["shop", "none", "*"])] {
        for site in others {
            for path in ["/sla?", "/sla/export?", "/sla/export?format=csv&table=breaches&"] {
                let answer = browser.get(&format!("{path}site={site}")).await;
                assert_eq!(answer.status(), 403, "{path}site={site}");
                assert!(!answer.body().contains(&late), "{path}site={site}");
            }
        }
    }
    let gone = Browser::of(&plane, Role::Manager, &["gone"]).await;
    assert_eq!(gone.get("/sla").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_files_are_those_of_the_operators_api_with_the_viewers_rights() {
    let plane = Plane::start().await;
    plane.change("blog", Some(&["blog.example.org"])).await;
    let late = one_in_two_is_late(&plane).await;
    let member = Browser::of(&plane, Role::Member, &["shop"]).await;

    let (status, kind, name, json) = file(&member, "/sla/export?days=7").await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["site_id"], &report["total"]["late"]), (&"shop".into(), &1.into()));
    let days: Vec<&str> =
        report["days"].as_array().unwrap().iter().map(|day| day["day"].as_str().unwrap()).collect();
    let (first, last) = (days[0], days[6]);
    assert_eq!(name, format!("attachment; filename=\"sla-shop-{first}-{last}.json\""));
    assert_eq!(json, of_admin(&plane, &format!("site=shop&from={first}&until={last}")).await);

    let (status, kind, name, csv) = file(&member, "/sla/export?days=7&format=csv&table=days").await;
    assert_eq!((status, kind.as_str()), (200, "text/csv; charset=utf-8; header=present"));
    assert_eq!(name, format!("attachment; filename=\"sla-days-shop-{first}-{last}.csv\""));
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert!(lines[0].starts_with("site,day,purges,within_target,late,attainment,p50_ms"), "{csv}");
    assert_eq!(lines.len(), 8);
    assert!(lines[7].starts_with(&format!("shop,{last},2,1,1,0.500000,")), "{csv}");
    assert_eq!(csv, of_admin(&plane, &format!("site=shop&from={first}&until={last}&format=csv")).await);

    let (_, _, name, csv) = file(&member, "/sla/export?days=7&format=csv&table=breaches").await;
    assert_eq!(name, format!("attachment; filename=\"sla-breaches-shop-{first}-{last}.csv\""));
    assert!(csv.contains(&format!("\r\nshop,{late},")) && csv.contains(",fra1/edge-1,"), "{csv}");

    let operator = Browser::of(&plane, Role::Operator, &[]).await;
    let (_, _, name, csv) = file(&operator, "/sla/export?site=*&days=7&format=csv").await;
    assert_eq!(name, format!("attachment; filename=\"sla-days-{first}-{last}.csv\""));
    assert!(csv.contains(&format!("\r\n*,{last},2,1,1,0.500000,")), "{csv}");
}

/// Lets the purges of today have been ones of this many days ago, of which nothing but the rows of days is left.
async fn moved_back(plane: &Plane, days: u64) -> String {
    plane.tracker().save_sla().await.unwrap();
    let (kv, today) = (plane.services().store.kv(), plane.services().clock.wall().as_secs() / 86_400);
    for scope in ["shop", "*"] {
        let prefix = batoff_log::Key::from(format!("sla/{scope}/"));
        let slots = kv.scan(&prefix, None, 10).await.unwrap();
        assert_eq!(slots.len(), 1, "the purge is not at the edge of two slots");
        let key = batoff_log::Key::from(format!("sla-days/{scope}/{:06}", today - days));
        crate::store::rows::put(kv, &key, slots[0].1.value.clone()).await.unwrap();
        crate::store::rows::delete(kv, &slots[0].0).await.unwrap();
    }
    day(today - days)
}

fn day(number: u64) -> String {
    let at = batoff_types::UnixMillis(number * 86_400_000);
    crate::clock::rfc3339(at)[..10].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_a_year_are_shown_and_exported_and_what_is_not_kept_is_refused() {
    let plane = Plane::start().await;
    plane.completed(plane.purge("/a").await.task).await;
    let then = moved_back(&plane, 100).await;
    let today = plane.services().clock.wall().as_secs() / 86_400;
    let (before, after) = (day(today - 101), day(today - 98));
    let operator = Browser::of(&plane, Role::Operator, &[]).await;

    let year = operator.get("/sla?site=shop&days=365").await.into_body();
    assert_eq!(year.matches("<tr id=\"d-").count(), 365);
    assert!(year.contains("100\u{a0}%") && !year.contains("type=\"date\""), "{year}");
    // The very purge is of today, and has its page.
    assert!(year.contains("<a href=\"/sites/shop/purges/"), "{year}");
    let month = operator.get("/sla?site=shop&days=31").await.into_body();
    assert!(month.contains("Nothing was purged in these days."), "{month}");
    let range = format!("from={before}&until={after}");
    for site in ["shop", "*"] {
        let page = operator.get(&format!("/sla?site={site}&days=chosen&{range}")).await.into_body();
        assert_eq!(page.matches("<tr id=\"d-").count(), 4);
        assert!(page.contains("100\u{a0}%") && page.contains(&format!("value=\"{before}\"")), "{page}");
        let escaped = range.replace('&', "&#38;");
        assert!(page.contains(&format!("/sla/export?site={site}&#38;{escaped}&#38;format=json")), "{page}");
    }
    let (_, _, name, csv) = file(&operator, &format!("/sla/export?site=shop&{range}&format=csv")).await;
    assert_eq!(name, format!("attachment; filename=\"sla-days-shop-{before}-{after}.csv\""));
    assert!(csv.contains(&format!("\r\nshop,{then},1,1,0,1.000000,")), "{csv}");
    assert_eq!(csv, of_admin(&plane, &format!("site=shop&{range}&format=csv")).await);

    let (first, too_early) = (day(today - 399), day(today - 400));
    assert_eq!(operator.get(&format!("/sla?from={first}")).await.status(), 200);
    for (query, why) in [
        (format!("from={too_early}"), format!("must be {first} or later: 400 days are kept")),
        (format!("from={then}&until={before}"), "must not be after until".to_owned()),
        (format!("from={then}&days=7"), "goes without from and until".to_owned()),
        ("from=yesterday".to_owned(), "a day such as 2026-04-20".to_owned()),
        ("days=8".to_owned(), "7, 14, 31, 90, 365 or chosen".to_owned()),
    ] {
        let page = operator.get(&format!("/sla?{query}")).await;
        assert_eq!(page.status(), 400, "{query}");
        assert!(page.body().contains(&why), "{query}: {}", page.body());
    }
    let refused = of_admin(&plane, &format!("site=shop&from={too_early}")).await;
    assert!(refused.contains(&format!("must be {first} or later: 400 days are kept")), "{refused}");
    let russian = operator.with("accept-language", "ru");
    let page = russian.get(&format!("/sla?from={too_early}")).await.into_body();
    assert!(page.contains(&format!("не раньше {first}: хранятся 400 дней")), "{page}");
    assert!(russian.get("/sla?days=chosen").await.body().contains("Выбранные дни"));
}
