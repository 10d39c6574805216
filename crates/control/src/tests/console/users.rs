//! Users, by the console: the same functions as the operators' API, and a password that is shown once.

use http::{Method, Response};

use super::super::plane::Plane;
use super::{Browser, PASSWORD, home};
use crate::accounts::Role;
use crate::audit::{AuditEntry, AuditFilter, LISTED_MAX};

/// The password that the page shows.
fn shown(page: &Response<String>) -> Option<String> {
    let after = page.body().split("<code id=\"password\">").nth(1)?;
    Some(after.split('<').next().unwrap().to_owned())
}

/// The hidden key of the page's form.
fn key(page: &Response<String>) -> String {
    let after = page.body().split("name=\"key\" value=\"").nth(1).expect("the form has a key");
    after.split('"').next().unwrap().to_owned()
}

fn location(answer: &Response<String>) -> &str {
    answer.headers().get("location").map_or("", |path| path.to_str().unwrap())
}

async fn post(browser: &Browser, path: &str, form: &str) -> Response<String> {
    browser.ask(Method::POST, path, form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_adds_changes_helps_and_removes_users_and_each_step_has_its_entry() {
    let plane = Plane::start().await;
    let operator = Browser::of(&plane, Role::Operator, &[]).await;
    let accounts = &plane.services().accounts;
    let signs_in = async |password: String| accounts.sign_in("anna", &password, None, home()).await;

    let page = operator.get("/users").await;
    assert!(
        page.body().contains("/users/operator") && page.body().contains("/users/admin"),
        "{}",
        page.body()
    );
    let form = format!("key={}&name=Anna&role=member&sites=shop%0D%0A", key(&page));
    let added = post(&operator, "/users", &form).await;
    let first = shown(&added).unwrap_or_else(|| panic!("{}", added.body()));
    assert_eq!(added.headers()["cache-control"], "no-store");
    // Loaded again, the page makes nothing a second time, and shows no secret.
    let again = post(&operator, "/users", &form).await;
    assert_eq!((again.status().as_u16(), shown(&again)), (422, None));
    assert!(again.body().contains("This form was sent before") && !again.body().contains(&first));
    let session = signs_in(first).await.unwrap();

    let user = operator.get("/users/anna").await;
    assert!(user.body().contains("<dd>shop</dd>") && !user.body().contains("drop-codes"), "{}", user.body());
    let changed = post(&operator, "/users/anna", "role=manager&sites=shop").await;
    assert_eq!(location(&changed), "/users/anna");
    assert!(accounts.session(&session.cookie_value, home()).await.unwrap().is_none(), "another role");
    post(&operator, "/users/anna", "role=manager&sites=shop&disabled=yes").await;
    assert!(operator.get("/users").await.body().contains("cannot sign in"));
    post(&operator, "/users/anna", "role=manager&sites=shop").await;

    let form = format!("key={}&codes=yes", key(&user));
    let second = shown(&post(&operator, "/users/anna/reset", &form).await).unwrap();
    assert_eq!(shown(&post(&operator, "/users/anna/reset", &form).await), None);
    let begun = signs_in(second.clone()).await.unwrap();
    let own = accounts.change_password(&begun.viewer, &second, PASSWORD, home()).await.unwrap();
    let offer = accounts.totp_begin(&own.viewer, PASSWORD, home()).await.unwrap();
    let secret = totp_rs::Secret::try_from_base32(&*offer.secret).unwrap();
    let now = plane.services().clock.wall().0 / 1_000;
    let code = totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(now).to_string();
    accounts.totp_confirm(&own.viewer, &code, home()).await.unwrap();
    assert!(signs_in(PASSWORD.to_owned()).await.is_err(), "a code is needed");
    assert!(operator.get("/users/anna").await.body().contains("/users/anna/drop-codes"));
    assert_eq!(location(&post(&operator, "/users/anna/drop-codes", "").await), "/users/anna");
    let open = signs_in(PASSWORD.to_owned()).await.unwrap();
    assert_eq!(location(&post(&operator, "/users/anna/sign-out", "").await), "/users/anna");
    assert!(accounts.session(&open.cookie_value, home()).await.unwrap().is_none());

    assert!(operator.get("/users/anna/remove").await.body().contains("Remove this user?"));
    assert_eq!(location(&post(&operator, "/users/anna/remove", "").await), "/users");
    assert_eq!(operator.get("/users/anna").await.status(), 404);

    let page = plane.services().audit.list(&AuditFilter::default(), None, LISTED_MAX).await.unwrap();
    let entries =
        page.entries.iter().rev().map(|entry| serde_json::from_str::<AuditEntry>(entry.as_str()).unwrap());
    let by_operator =
        entries.filter(|entry| entry.actor == "user:operator" && entry.object.as_deref() == Some("anna"));
    let told: Vec<String> = by_operator
        .map(|entry| format!("{} {} {}", entry.action, entry.result, entry.change.unwrap_or_default()))
        .collect();
    let change = |rest: &str| {
        format!("user.change done {{\"disabled\":{rest},\"role\":\"manager\",\"sites\":[\"shop\"]}}")
    };
    assert_eq!(
        told,
        [
            "user.add done {\"name\":\"Anna\",\"role\":\"member\",\"sites\":[\"shop\"]}".to_owned(),
            change("false"),
            change("true"),
            change("false"),
            "user.reset done {\"codes\":true}".to_owned(),
            "user.codes_off done null".to_owned(),
            "user.sign_out done null".to_owned(),
            "user.remove done null".to_owned(),
        ]
    );
    for secret in [&second, PASSWORD] {
        assert!(!page.entries.iter().any(|entry| entry.as_str().contains(secret)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_form_says_why_in_the_readers_language_and_can_be_sent_again() {
    let plane = Plane::start().await;
    let operator = Browser::of(&plane, Role::Operator, &[]).await.with("accept-language", "ru");
    let key = key(&operator.get("/users").await);
    for (form, why) in [
        ("name=-x&role=viewer&sites=shop", "первый — буква или цифра"),
        ("name=x&role=root&sites=shop", "должно быть одним из"),
        ("name=x&role=viewer&sites=none", "такого сайта нет"),
        ("name=x&role=operator&sites=shop", "оператор — для всех сайтов"),
        ("name=admin&role=operator&sites=", "учётная запись admin уже есть"),
    ] {
        let refused = post(&operator, "/users", &format!("key={key}&{form}")).await;
        assert_eq!(refused.status(), 400, "{form}");
        assert!(refused.body().contains(why), "{form}: {}", refused.body());
    }
    let added = post(&operator, "/users", &format!("key={key}&name=x&role=viewer&sites=shop")).await;
    assert!(shown(&added).is_some(), "what came to nothing uses no form up: {}", added.body());
    let without = post(&operator, "/users", "name=y&role=viewer&sites=shop").await;
    assert_eq!(without.status(), 400);
    assert!(without.body().contains("у формы нет ключа"), "{}", without.body());
    for path in ["/users/y/reset", "/users/y/sign-out", "/users/y/drop-codes", "/users/y/remove"] {
        let form = format!("key={}", ulid::Ulid::generate());
        let answer = post(&operator, path, if path.ends_with("reset") { &form } else { "" }).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
    let last = post(&operator, "/users/admin/remove", "").await;
    assert_eq!(location(&last), "/users", "another operator is left: {}", last.body());
    let last = post(&operator, "/users/operator/remove", "").await;
    assert!(last.body().contains("operator — последний оператор"), "{}", last.body());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_page_that_is_loaded_again_issues_no_second_token() {
    let plane = Plane::start().await;
    let manager = Browser::of(&plane, Role::Manager, &["shop"]).await;
    let key = key(&manager.get("/tokens").await);
    let form = format!("key={key}&site=shop&label=ci&may=purge&ends=");
    let issued = post(&manager, "/tokens", &form).await;
    assert!(issued.body().contains("bts_live_"), "{}", issued.body());
    let again = post(&manager, "/tokens", &form).await;
    assert_eq!(again.status(), 422);
    assert!(again.body().contains("This form was sent before") && !again.body().contains("bts_live_"));
    assert_eq!(plane.services().catalog.tokens("shop").len(), 1);
    // The key is the account's own: nobody uses up another's form.
    let other = Browser::of(&plane, Role::Operator, &[]).await;
    assert_eq!(post(&other, "/tokens", &form).await.status(), 200);
}
