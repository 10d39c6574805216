mod fleet;
mod news;
mod purging;
mod sign_on;
mod signing_in;
mod sla;
mod users;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use batoff_types::{Purge, Selector};
use batoff_wire::{Requester, RequesterIdentity};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::plane::{Plane, shop};
use crate::accounts::{Need, NewAccount, Role, Viewer};
use crate::catalog::{NewToken, Scope};
use crate::commit::Submission;
use crate::console::ConsoleDoor;
use crate::console::routes::{ROUTES, Route};

/// Good enough for a password.
const PASSWORD: &str = "correct horse battery staple";

/// A browser.
struct Browser {
    console: Router,
    cookie: Option<String>,
    viewer: Option<Viewer>,
    fields: Vec<(&'static str, &'static str)>,
}

fn home() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

impl Browser {
    /// In which nobody is signed in.
    fn of_nobody(plane: &Plane) -> Self {
        let door = ConsoleDoor { is_secure: false, api: plane.running().addresses.api, sign_on: None };
        let console = crate::console::router(Arc::new(crate::api::Api::new(plane.services().clone())), door);
        Self { console, cookie: None, viewer: None, fields: vec![("sec-fetch-site", "same-origin")] }
    }

    /// In which somebody with this role is signed in, who has changed his one-time password.
    async fn of(plane: &Plane, role: Role, sites: &[&str]) -> Self {
        let accounts = &plane.services().accounts;
        let name = format!("{}-{}", role.as_str(), sites.join("-"));
        let new = NewAccount {
            name: name.trim_end_matches('-').parse().unwrap(),
            role,
            sites: sites.iter().map(|site| site.parse().unwrap()).collect(),
            language: None,
            created_by: "admin".to_owned(),
        };
        let added = accounts.add(new).await.unwrap();
        let name = added.account.name.as_str();
        let first = accounts.sign_in(name, &added.password, None, home()).await.unwrap();
        let session =
            accounts.change_password(&first.viewer, &added.password, PASSWORD, home()).await.unwrap();
        let cookie = session.set_cookie(false).split(';').next().unwrap().to_owned();
        Self { cookie: Some(cookie), viewer: Some(session.viewer), ..Self::of_nobody(plane) }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.retain(|(known, _)| *known != name);
        self.fields.push((name, value));
        self
    }

    async fn ask(&self, method: Method, path: &str, form: &str) -> Response<String> {
        let mut request = Request::builder().method(method).uri(path).header("host", "console.example");
        for (name, value) in &self.fields {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let mut request = request.body(axum::body::Body::from(form.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(home(), 4711)));
        let (parts, body) = self.console.clone().oneshot(request).await.unwrap().into_parts();
        // A stream has no end.
        if parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            return Response::from_parts(parts, String::new());
        }
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Response::from_parts(parts, text)
    }

    async fn get(&self, path: &str) -> Response<String> {
        self.ask(Method::GET, path, "").await
    }
}

/// A purge of the shop's by a token of that label.
async fn purge(plane: &Plane, label: &str, selectors: Vec<Selector>) -> String {
    let new = NewToken {
        site: shop(),
        label: label.to_owned(),
        scopes: vec![Scope::Purge],
        expires_at: None,
        created_by: "admin".to_owned(),
    };
    let token = plane.services().catalog.issue(new).await.unwrap().token.id;
    let submission = Submission {
        purge: Purge { site: shop(), selectors, soft: false },
        request_id: "request-1".into(),
        requester: Some(Requester { identity: RequesterIdentity::Token(token.to_bytes()), address: home() }),
        dedupe: Vec::new(),
        trace: None,
    };
    plane.services().commit.submit(submission).await.unwrap().task.to_string()
}

/// The path of a route, about the shop.
fn path_of(route: &Route, task: &str) -> String {
    let path = route.path.replace("{site}", "shop").replace("{task}", task).replace("{name}", "nothing");
    path.replace("{user}", "nobody")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_the_table_lets_in_whom_it_says() {
    let plane = Plane::start().await;
    let task = purge(&plane, "ci", vec![Selector::Everything]).await;
    let mut browsers = Vec::new();
    for (role, sites) in [
        (Role::Operator, &[][..]),
        (Role::Manager, &["shop"]),
        (Role::Member, &["shop"]),
        (Role::Viewer, &["shop"]),
        (Role::Manager, &["other"]),
    ] {
        browsers.push(Browser::of(&plane, role, sites).await);
    }
    let stranger = Browser::of_nobody(&plane);
    for route in ROUTES {
        let path = path_of(route, &task);
        let named = route.path.contains("{site}").then(shop);
        for browser in &browsers {
            let viewer = browser.viewer.as_ref().unwrap();
            let may = route.need.is_none_or(|need| viewer.may(need, named.as_ref()));
            let status = browser.ask(route.method.clone(), &path, "").await.status().as_u16();
            assert_eq!(
                status != 403,
                may,
                "{} {path} as {} answers {status}",
                route.method,
                viewer.name.as_str()
            );
            assert!(status < 500, "{} {path} answers {status}", route.method);
        }
        let answer = stranger.ask(route.method.clone(), &path, "").await;
        let is_led =
            answer.headers().get("location").is_some_and(|to| to.as_bytes().starts_with(b"/sign-in"));
        assert_eq!(is_led, route.need.is_some(), "{} {path} for a stranger", route.method);
    }
}

#[test]
fn what_changes_something_is_no_get_and_needs_more_than_reading() {
    for route in ROUTES.iter().filter(|route| !route.method.is_safe()) {
        assert_ne!(route.need, Some(Need::ReadSite), "{}", route.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_allows_nothing_that_stands_in_it_and_is_kept_by_nobody() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    for path in ["/purges", "/nothing", "/purges?state=nonsense", "/sites/none/purges/x"] {
        let answer = browser.get(path).await;
        let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = field("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(field("x-content-type-options"), "nosniff");
        assert_eq!(field("cache-control"), "no-store");
        assert!(field("content-type").starts_with("text/html"), "{path}");
        let page = answer.body();
        for forbidden in ["<style", " style=", "<script>", " onclick=", "hx-on", "javascript:"] {
            assert!(!page.contains(forbidden), "{path} has {forbidden}");
        }
        assert!(page.contains("<main id=\"main\"") && page.contains("class=\"skip\""), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_page_changes_nothing() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let answer = browser.ask(Method::POST, "/language", "to=ru&back=/purges%3Fstate%3Dpartial").await;
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (303.try_into().unwrap(), "/purges?state=partial".as_bytes().try_into().as_ref().unwrap())
    );
    assert!(answer.headers()["set-cookie"].to_str().unwrap().starts_with("batoff-language=ru;"));
    let answer = browser.ask(Method::POST, "/language", "to=en&back=https://evil.example/").await;
    assert_eq!(answer.headers()["location"], "/");
    let elsewhere = browser.with("sec-fetch-site", "cross-site");
    let answer = elsewhere.ask(Method::POST, "/language", "to=ru&back=/").await;
    assert_eq!((answer.status(), answer.headers().get("set-cookie")), (403.try_into().unwrap(), None));
    assert!(answer.body().contains("The request comes from elsewhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_customers_write_is_text_and_never_markup() {
    let plane = Plane::start().await;
    let hostile = "<img src=x onerror=alert(1)>";
    let tag = Selector::Tag("<b>&\"'".parse().unwrap());
    purge(&plane, hostile, vec![tag]).await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let page = browser.get("/purges").await.into_body();
    assert!(page.contains("&#60;img src=x onerror=alert(1)&#62;"), "{page}");
    assert!(page.contains("&#60;b&#62;&#38;&#34;&#39;"), "{page}");
    assert!(!page.contains(hostile) && !page.contains("<b>&"), "{page}");
    let page = browser.get("/purges?state=%3Cb%3E&site=").await.into_body();
    assert!(page.contains("called &#60;b&#62;") && !page.contains("called <b>"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_speaks_the_viewers_language() {
    let plane = Plane::start().await;
    purge(&plane, "ci", vec![Selector::Everything]).await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await.with("accept-language", "ru");
    let answer = browser.get("/purges").await;
    assert_eq!(answer.headers()["content-language"], "ru");
    assert!(answer.body().contains("<html lang=\"ru\"") && answer.body().contains("Очистки"));
    let missing = browser.get("/nothing").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.body().contains("Не найдено") && missing.body().contains("Что можно сделать"));
    // Chosen once, it holds in another browser, too.
    browser.ask(Method::POST, "/language", "to=ru&back=/").await;
    let elsewhere = browser.with("accept-language", "en");
    assert_eq!(elsewhere.get("/purges").await.headers()["content-language"], "ru");
}

/// What a page of a refusal says about it, in the words of whoever refused.
fn refused_because(page: &str) -> Vec<&str> {
    let after = page.split("class=\"failure\"").nth(1).unwrap_or_default();
    let after = after.split("<p><b>").next().unwrap_or_default();
    let details = after.split("<p class=\"detail\">").skip(1).map(|rest| rest.split("</p>").next().unwrap());
    let items = after.split("<li>").skip(1).map(|rest| rest.split("</li>").next().unwrap());
    details.chain(items).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_something_is_refused_is_told_in_russian_too() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await.with("accept-language", "ru");
    let key = ulid::Ulid::generate();
    let long = format!("key={key}&site=shop&may=purge&label={}", "x".repeat(300));
    for (method, path, form) in [
        (Method::GET, "/nothing", ""),
        (Method::GET, "/purges?state=none", ""),
        (Method::GET, "/purges?task=01JF7M2KZ7YH9Q4K0P2BDH9W3Y", ""),
        (Method::GET, "/sites/shop/purges/01JF7M2KZ7YH9Q4K0P2BDH9W3Y", ""),
        (Method::GET, "/sites/shop?kind=none&value=x", ""),
        (Method::GET, "/sites/shop?kind=url&value=https://evil.example/", ""),
        (Method::GET, "/nodes?state=none", ""),
        (Method::GET, "/nodes/fra1/edge-9", ""),
        (Method::GET, "/users/nobody", ""),
        (Method::GET, "/audit?since=none", ""),
        (Method::GET, "/audit/chain?head=none", ""),
        (Method::GET, "/sites/shop/tokens/01JF7M2KZ7YH9Q4K0P2BDH9W3Y/revoke", ""),
        (Method::POST, "/sites", "site=shop&hostnames=www.example.org"),
        (Method::POST, "/sites", "site=new&hostnames=www.example.com"),
        (Method::POST, "/sites/shop", "hostnames=www.example.com&items_per_minute=many"),
        (Method::POST, "/sites/shop", "hostnames=www.example.com&items_per_minute=0"),
        (Method::POST, "/tokens", "site=shop&may=purge"),
        (Method::POST, "/tokens", "site=shop&may=everything&key=01JF7M2KZ7YH9Q4K0P2BDH9W3Y"),
        (Method::POST, "/tokens", &long),
        (Method::POST, "/nodes/fra1/edge-9", "confirm=yes"),
        (Method::POST, "/nodes/fra1/edge-9", "confirm=fra1%2Fedge-9"),
        (Method::POST, "/nodes/fra1/edge-9/admit", "confirm=yes"),
        (Method::POST, "/purges/new", "site=%3F"),
        (Method::POST, "/language", "to=de&back=/"),
        (Method::POST, "/account/language", "to=de"),
    ] {
        let answer = browser.ask(method.clone(), path, form).await;
        assert!(answer.status().is_client_error(), "{method} {path} {form}: {}", answer.status());
        let why = refused_because(answer.body());
        assert!(!why.is_empty(), "{method} {path} {form}: {}", answer.body());
        for text in why {
            assert!(
                text.contains(|c| ('а'..='я').contains(&c)),
                "{method} {path} {form} is told in English: {text}"
            );
        }
    }
    let elsewhere = browser.with("sec-fetch-site", "cross-site");
    let answer = elsewhere.ask(Method::POST, "/language", "to=ru&back=/").await;
    assert!(
        refused_because(answer.body())[0].starts_with("запрос пришёл не со страницы"),
        "{}",
        answer.body()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_are_filtered_by_their_url_and_found_by_their_id() {
    let plane = Plane::start().await;
    plane.change("blog", Some(&["blog.example.org"])).await;
    for place in 0..55 {
        let url = format!("https://www.example.com/{place}").parse().unwrap();
        purge(&plane, "ci", vec![Selector::Url(url)]).await;
    }
    let task = purge(&plane, "ci", vec![Selector::Tag("a".parse().unwrap())]).await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let page = browser.get("/purges?site=shop&kind=tag&state=&since=1h&task=").await.into_body();
    assert_eq!((page.matches("<tr id=").count(), page.contains(&task)), (1, true));
    let page = browser.get("/purges?site=blog").await.into_body();
    assert_eq!(page.matches("<tr id=").count(), 0);
    // Over both sites, page by page, each once.
    let first = browser.get("/purges").await.into_body();
    assert_eq!(first.matches("<tr id=").count(), 50);
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let second = browser.get(next).await.into_body();
    assert_eq!(second.matches("<tr id=").count(), 6);
    assert!(!second.contains("rel=\"next\""));
    let found = browser.get(&format!("/purges?task={task}")).await;
    assert_eq!(found.headers()["location"].to_str().unwrap(), format!("/sites/shop/purges/{task}"));
    assert_eq!(browser.get("/purges?task=01JF7M2KZ7YH9Q4K0P2BDH9W3Y").await.status(), 404);
    // Somebody else's site is refused like one that does not exist.
    let member = Browser::of(&plane, Role::Member, &["blog"]).await;
    assert_eq!(member.get("/purges?site=shop").await.status(), 403);
    assert_eq!(member.get("/purges?site=none").await.status(), 403);
    assert_eq!(member.get("/purges").await.into_body().matches("<tr id=").count(), 0);
    assert_eq!(member.get(&format!("/purges?task={task}")).await.status(), 404);
}
