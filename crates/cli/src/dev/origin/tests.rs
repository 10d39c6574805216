use std::time::Instant;

use super::*;
use crate::dev::http::{Answer, get};

async fn origin() -> SocketAddr {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Origin::start(any, CancellationToken::new()).await.unwrap().address()
}

async fn page(path: &str) -> Answer {
    get(origin().await, "www.example.test", path).await.unwrap()
}

/// What the origin says to a visitor with these headers.
async fn visit(path: &str, headers: &[(&'static str, &str)]) -> Response {
    let shop = Shop {
        opened: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        counters: Counters::default(),
    };
    let mut request = Request::builder().uri(path).header("host", "www.example.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(State(Arc::new(shop)), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_path_is_a_page_that_names_itself_and_may_be_kept_for_an_hour() {
    let answer = page("/any/where?x=1").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), "max-age=3600");
    assert!(answer.body.contains("path: /any/where?x=1\n"), "{}", answer.body);
    assert_eq!(answer.header("cache-tag"), "");
}

#[tokio::test]
async fn each_page_counts_its_own_requests() {
    let at = origin().await;
    let mut seen = Vec::new();
    for path in ["/a", "/a", "/b", "/a"] {
        let body = get(at, "www.example.test", path).await.unwrap().body;
        seen.push(body.lines().last().unwrap().to_owned());
    }
    assert_eq!(seen, ["request: 1", "request: 2", "request: 1", "request: 3"]);
}

#[tokio::test]
async fn a_product_carries_its_tags() {
    assert_eq!(page("/product/42").await.header("cache-tag"), "product:42, catalog");
}

#[tokio::test]
async fn a_status_can_be_ordered() {
    assert_eq!(page("/status/404/x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(page("/status/503").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page("/status/nonsense").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(page("/status/100").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_slow_page_waits() {
    let begun = Instant::now();
    assert_eq!(page("/slow/50/x").await.status, StatusCode::OK);
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_page_that_varies_says_so_and_differs() {
    let german = visit("/vary/x", &[("accept-language", "de")]).await;
    let polish = visit("/vary/x", &[("accept-language", "pl")]).await;
    assert_eq!(german.headers()["vary"], "Accept-Language");
    assert_ne!(german.headers()["etag"], polish.headers()["etag"]);
    assert!(!visit("/x", &[]).await.headers().contains_key("vary"));
}

#[tokio::test]
async fn a_copy_is_confirmed_by_its_tag_or_else_by_its_date() {
    let first = visit("/x", &[]).await;
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let modified = first.headers()["last-modified"].to_str().unwrap().to_owned();
    let status = |headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        visit("/x", &headers).await.status()
    };
    let not_modified = StatusCode::NOT_MODIFIED;
    assert_eq!(status(vec![("if-none-match", etag.clone())]).await, not_modified);
    assert_eq!(status(vec![("if-none-match", format!("\"a\", {etag}"))]).await, not_modified);
    assert_eq!(status(vec![("if-modified-since", modified.clone())]).await, not_modified);
    let both = vec![("if-none-match", "\"other\"".to_owned()), ("if-modified-since", modified)];
    assert_eq!(status(both).await, StatusCode::OK);
}
