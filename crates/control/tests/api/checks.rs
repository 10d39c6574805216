//! What is asserted of every refusal.

use crate::client::Reply;

/// A refusal with this status and code, in the form of the contract; gives the document.
#[track_caller]
pub fn check(name: &str, reply: &Reply, status: u16, code: &str) -> serde_json::Value {
    assert_eq!(reply.status, status, "{name}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{name}");
    let problem = reply.json();
    assert_eq!(problem["code"], code, "{name}: {problem}");
    assert_eq!(problem["status"], status, "{name}");
    assert_eq!(problem["type"], format!("https://docs.batoff.ru/errors/{code}"), "{name}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}");
    assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"), "{name}");
    assert!(reply.header("date").is_some(), "{name}");
    let retries = matches!(status, 429 | 503);
    let wait = reply.header("retry-after").map(|secs| secs.parse::<u64>().unwrap());
    assert_eq!(wait.is_some_and(|secs| secs > 0), retries, "{name}: Retry-After {wait:?}");
    problem
}

/// The pointers of the bad items, in order.
pub fn pointers(problem: &serde_json::Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}
