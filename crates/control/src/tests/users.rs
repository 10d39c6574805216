//! Users of the console, by the operator's API: what each call does, that it is written down, and what is never told.

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::administration::compare;
use super::plane::Plane;

async fn admin(plane: &Plane, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("/admin/v1/{path}"))
        .header("authorization", format!("Bearer {}", plane.admin_token()));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = crate::admin::router(plane.services().clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let bytes = body.collect().await.unwrap().to_bytes();
    compare(method, &format!("/admin/v1/{path}"), &parts, &bytes);
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

/// What is answered to who reads Russian.
async fn in_russian(plane: &Plane, method: &str, path: &str) -> Value {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("/admin/v1/{path}"))
        .header("accept-language", "ru")
        .header("authorization", format!("Bearer {}", plane.admin_token()));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = crate::admin::router(plane.services().clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    compare(method, &format!("/admin/v1/{path}"), &parts, &bytes);
    assert_eq!(parts.headers["content-language"], "ru");
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_the_first_operator_and_forgets_the_password() {
    let mut plane = Plane::start().await;
    let (_, list) = admin(&plane, "GET", "users", None).await;
    let first = &list["users"][0];
    assert_eq!((&first["name"], &first["role"]), (&json!("admin"), &json!("operator")));
    assert_eq!(
        (&first["must_change_password"], &first["created_by"]),
        (&json!(true), &json!("batoff-control"))
    );
    assert!(!plane.file("console.password").exists());
    let from = "127.0.0.1".parse().unwrap();
    let password = plane.console_password().to_owned();
    let session = plane.services().accounts.sign_in("admin", &password, None, from).await.unwrap();
    plane.crash().await;
    let viewer = plane.services().accounts.session(&session.cookie_value, from).await.unwrap().unwrap();
    assert_eq!(viewer, session.viewer, "sessions outlive the process");
    assert_eq!(admin(&plane, "GET", "users", None).await.1["users"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_changed_reset_and_removed_and_each_call_has_its_entry() {
    let plane = Plane::start().await;
    let anna = json!({"name": "Anna", "role": "member", "sites": ["shop"], "language": "ru"});
    let (status, added) = admin(&plane, "POST", "users", Some(anna.clone())).await;
    assert_eq!((status, &added["name"], &added["sites"]), (201, &json!("anna"), &json!(["shop"])));
    assert_eq!(admin(&plane, "POST", "users", Some(anna)).await.0, 409);
    for (body, pointer) in [
        (json!({"name": "-x", "role": "viewer"}), "/name"),
        (json!({"name": "x", "role": "root"}), "/role"),
        (json!({"name": "x", "role": "viewer", "sites": ["shop", "none"]}), "/sites/1"),
        (json!({"name": "x", "role": "operator", "sites": ["shop"]}), "/sites"),
        (json!({"name": "x", "role": "viewer", "language": "de"}), "/language"),
    ] {
        let (status, problem) = admin(&plane, "POST", "users", Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(pointer)), "{problem}");
    }
    assert_eq!(admin(&plane, "POST", "users", Some(json!({"name": "x", "rolle": "viewer"}))).await.0, 400);
    let change = json!({"role": "manager", "language": "auto", "disabled": true});
    let (status, changed) = admin(&plane, "PATCH", "users/anna", Some(change)).await;
    assert_eq!((status, &changed["role"], &changed["disabled"]), (200, &json!("manager"), &json!(true)));
    assert_eq!((&changed["sites"], &changed["language"]), (&json!(["shop"]), &Value::Null));
    let (status, reset) = admin(&plane, "POST", "users/anna/reset", Some(json!({}))).await;
    assert_eq!(status, 200);
    assert_ne!(reset["password"], added["password"]);
    let (status, problem) = admin(&plane, "DELETE", "users/admin", None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert!(problem["detail"].as_str().unwrap().contains("admin is the last operator"), "{problem}");
    let problem = in_russian(&plane, "DELETE", "users/admin").await;
    assert_eq!(
        (&problem["code"], &problem["title"]),
        (&json!("conflict"), &json!("Этому мешает то, что уже есть"))
    );
    assert!(problem["detail"].as_str().unwrap().starts_with("admin — последний оператор"), "{problem}");
    assert_eq!(admin(&plane, "DELETE", "users/anna", None).await.0, 204);
    for gone in ["anna", "no%20name"] {
        assert_eq!(admin(&plane, "GET", &format!("users/{gone}"), None).await.0, 404);
    }

    let (_, page) = admin(&plane, "GET", "audit?actor=admin&limit=100", None).await;
    let text = page.to_string();
    for secret in [&added["password"], &reset["password"]] {
        assert!(!text.contains(secret.as_str().unwrap()));
    }
    let told: Vec<String> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|entry| entry["result"] == "done" && entry["action"].as_str().unwrap().starts_with("user."))
        .map(|entry| format!("{} {}", entry["action"].as_str().unwrap(), entry["object"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["user.add anna", "user.change anna", "user.reset anna", "user.remove anna"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authenticator_and_the_sessions_of_a_user_are_taken_away_each_alone() {
    const PASSWORD: &str = "a long one of four words";
    let (plane, from) = (Plane::start().await, "127.0.0.1".parse().unwrap());
    let accounts = &plane.services().accounts;
    let anna = json!({"name": "anna", "role": "member", "sites": ["shop"]});
    let (_, added) = admin(&plane, "POST", "users", Some(anna)).await;
    let first = added["password"].as_str().unwrap();
    let signs_in = async |password: &str| accounts.sign_in("anna", password, None, from).await;
    let begun = signs_in(first).await.unwrap();
    let open = accounts.change_password(&begun.viewer, first, PASSWORD, from).await.unwrap();
    let is_open = async || accounts.session(&open.cookie_value, from).await.unwrap().is_some();
    let offer = accounts.totp_begin(&open.viewer, PASSWORD, from).await.unwrap();
    let secret = totp_rs::Secret::try_from_base32(&*offer.secret).unwrap();
    let now = plane.services().clock.wall().0 / 1_000;
    let code = totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(now).to_string();
    accounts.totp_confirm(&open.viewer, &code, from).await.unwrap();
    assert!(signs_in(PASSWORD).await.is_err(), "a code is needed");

    assert_eq!(admin(&plane, "DELETE", "users/anna/codes", None).await.0, 204);
    let (_, shown) = admin(&plane, "GET", "users/anna", None).await;
    assert_eq!((&shown["codes"], &shown["recovery_codes"]), (&json!(false), &Value::Null));
    let other = signs_in(PASSWORD).await.unwrap();
    assert!(is_open().await, "sessions go on");

    assert_eq!(admin(&plane, "DELETE", "users/anna/sessions", None).await.0, 204);
    let still = accounts.session(&other.cookie_value, from).await.unwrap();
    assert!(!is_open().await && still.is_none());
    assert!(signs_in(PASSWORD).await.is_ok(), "the password is as it was");

    for path in ["users/nobody/codes", "users/nobody/sessions"] {
        let (status, problem) = admin(&plane, "DELETE", path, None).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
        let problem = in_russian(&plane, "DELETE", path).await;
        assert!(problem["detail"].as_str().unwrap().contains("пользователя nobody нет"), "{problem}");
    }
    let (_, page) = admin(&plane, "GET", "audit?actor=admin&limit=100", None).await;
    let told: Vec<(&str, &str, &str)> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|entry| entry["result"] != "begun")
        .map(|entry| ["action", "object", "result"].map(|key| entry[key].as_str().unwrap()).into())
        .filter(|(action, ..): &(&str, &str, &str)| action.starts_with("user.") && *action != "user.add")
        .collect();
    let expected = [
        ("user.codes_off", "anna", "done"),
        ("user.sign_out", "anna", "done"),
        ("user.codes_off", "nobody", "refused"),
        ("user.codes_off", "nobody", "refused"),
        ("user.sign_out", "nobody", "refused"),
        ("user.sign_out", "nobody", "refused"),
    ];
    assert_eq!(told, expected, "{page}");
}
