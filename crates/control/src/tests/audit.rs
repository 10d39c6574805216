use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::administration::compare;
use super::plane::Plane;

const ADDRESS: &str = "192.0.2.9";

/// Asks the operator's API from an address; status and body.
async fn ask(plane: &Plane, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("/admin/v1/{path}"))
        .header("x-request-id", "story-1")
        .header("authorization", format!("Bearer {token}"))
        .extension(ConnectInfo(SocketAddr::new(ADDRESS.parse().unwrap(), 4_711)));
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
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn admin(plane: &Plane, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, text) = ask(plane, &plane.admin_token(), method, path, body).await;
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
}

async fn entries(plane: &Plane, query: &str) -> Vec<Value> {
    let (status, page) = admin(plane, "GET", &format!("audit{query}"), None).await;
    assert_eq!(status, 200, "{page}");
    page["entries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_by_the_operator_has_its_entry_and_no_secret_is_in_it() {
    let plane = Plane::start().await;
    let site = json!({"site_id": "blog", "hostnames": ["blog.example.com"]});
    admin(&plane, "POST", "sites", Some(site.clone())).await;
    assert_eq!(admin(&plane, "POST", "sites", Some(site)).await.0, 409);
    let limits = json!({"limits": {"items_per_minute": 7}});
    admin(&plane, "PATCH", "sites/blog", Some(limits)).await;
    let (_, issued) = admin(&plane, "POST", "sites/blog/tokens", Some(json!({"label": "ci"}))).await;
    let id = issued["token_id"].as_str().unwrap();
    admin(&plane, "DELETE", &format!("sites/blog/tokens/{id}"), None).await;
    admin(&plane, "DELETE", "sites/blog", None).await;
    assert_eq!(admin(&plane, "DELETE", "nodes/fra1/edge-9?force=true", None).await.0, 404);

    let mut told: Vec<(String, String, Value, Value)> = Vec::new();
    for entry in entries(&plane, "?actor=admin").await.into_iter().rev() {
        assert_eq!((&entry["address"], &entry["request_id"]), (&json!(ADDRESS), &json!("story-1")));
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        told.push((text("action"), text("result"), entry["site"].clone(), entry["object"].clone()));
        for secret in [&issued["token"], &issued["secret"]] {
            assert!(!entry.to_string().contains(secret.as_str().unwrap()));
        }
    }
    let row = |action: &str, result: &str, site: Value, object: Value| {
        (action.to_owned(), result.to_owned(), site, object)
    };
    assert_eq!(
        told,
        [
            row("site.create", "done", json!("blog"), Value::Null),
            row("site.create", "refused", json!("blog"), Value::Null),
            row("site.change", "done", json!("blog"), Value::Null),
            row("token.issue", "done", json!("blog"), json!(id)),
            row("token.revoke", "done", json!("blog"), json!(id)),
            row("site.remove", "done", json!("blog"), Value::Null),
            row("node.remove", "refused", Value::Null, json!("fra1/edge-9")),
        ]
    );
    let changed = &entries(&plane, "?action=site.change").await[0];
    assert_eq!(changed["change"], json!({"limits": {"items_per_minute": 7}}));
    assert_eq!(entries(&plane, "?action=site.create&limit=1").await[0]["code"], "conflict");
    let (_, report) = admin(&plane, "GET", "audit/verify", None).await;
    assert_eq!(report["ok"], true, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_reads_the_audit_log() {
    let plane = Plane::start().await;
    let (_, issued) = admin(&plane, "POST", "sites/shop/tokens", Some(json!({}))).await;
    for path in ["audit", "audit/export", "audit/verify"] {
        for token in ["", "bto_admin_wrong", issued["token"].as_str().unwrap()] {
            assert_eq!(ask(&plane, token, "GET", path, None).await.0, 401, "{path}");
        }
        // The customers' API has no such route, whatever token is shown.
        let request = http::Request::builder()
            .uri(format!("/v1/{path}"))
            .header("authorization", format!("Bearer {}", issued["token"].as_str().unwrap()))
            .body(axum::body::Body::empty())
            .unwrap();
        let response = crate::api::router(plane.services().clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_chain_as_it_was_hashed() {
    use sha2::{Digest, Sha256};

    let plane = Plane::start().await;
    for number in 0..3 {
        plane.purge(&format!("/{number}")).await;
    }
    admin(&plane, "POST", "sites/shop/tokens", Some(json!({"label": "Я \u{1f600}"}))).await;
    let (status, text) = ask(&plane, &plane.admin_token(), "GET", "audit/export", None).await;
    assert_eq!(status, 200);
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut hash = hex::decode(head["previous"].as_str().unwrap()).unwrap();
    let mut count = 0;
    for line in lines {
        let (front, end) = line.split_at(line.len() - r#","hash":""}"#.len() - 64);
        hash = Sha256::new().chain_update(&hash).chain_update(format!("{front}}}")).finalize().to_vec();
        assert_eq!(end, format!(",\"hash\":\"{}\"}}", hex::encode(&hash)));
        count += 1;
    }
    assert_eq!(count, 6, "the beginning, the first operator, three purges, a token");
    let (_, report) = admin(&plane, "GET", "audit/verify", None).await;
    assert_eq!(report["head"], format!("1:6:{}", hex::encode(&hash)));
    let known = report["head"].as_str().unwrap();
    let (_, report) = admin(&plane, "GET", &format!("audit/verify?head={known}"), None).await;
    assert_eq!(report["known_head"], "confirmed");
    assert_eq!(ask(&plane, &plane.admin_token(), "GET", "audit/export?from=7", None).await.0, 404);
    assert_eq!(ask(&plane, &plane.admin_token(), "GET", "audit/verify?head=x", None).await.0, 400);
    assert_eq!(ask(&plane, &plane.admin_token(), "GET", "audit?action=x", None).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_has_its_entry_after_a_crash_at_any_moment() {
    let mut plane = Plane::start().await;
    for number in 0..5 {
        plane.purge(&format!("/{number}")).await;
        plane.crash().await;
    }
    assert_eq!(entries(&plane, "?action=purge").await.len(), 5);
    let (_, report) = admin(&plane, "GET", "audit/verify", None).await;
    assert_eq!((&report["ok"], &report["store_changes"]), (&json!(true), &json!([])), "{report}");
}
