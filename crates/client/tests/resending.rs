//! What a client does when the API is away, says no, or hangs up.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use batoff_client::{Client, Credentials, Endpoint, Error, PurgeRequest, Retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Status line with headers, and body.
type Answer = (&'static str, &'static str);

const ACCEPTED: Answer =
    ("202 Accepted", r#"{ "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": "pending", "items_total": 1 }"#);
const UNAVAILABLE: Answer =
    ("503 Service Unavailable", r#"{ "title": "starting up", "code": "unavailable", "status": 503 }"#);
const HANG_UP: Answer = ("", "");

/// Answers one connection each with `answers`, in turn; the requests as they came.
async fn api(answers: &'static [Answer]) -> (Client, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            requests.push(read_request(&mut connection).await);
            if *answer != HANG_UP {
                let (head, body) = answer;
                let length = body.len();
                let text =
                    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                connection.write_all(text.as_bytes()).await.unwrap();
            }
        }
        requests
    });
    let endpoint = Endpoint::new(&format!("http://{address}")).unwrap();
    let retry = Retry { attempts: 3, first_pause: Duration::from_millis(1), ..Retry::default() };
    let client =
        Client::new(endpoint, Credentials::new("bto_live_x", "bts_live_x\n")).unwrap().with_retry(retry);
    (client, requests)
}

async fn read_request(connection: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut piece = [0; 4096];
        let read = connection.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "the request ended early");
        request.extend_from_slice(&piece[..read]);
    }
    request
}

fn purge() -> PurgeRequest {
    PurgeRequest::default().url("https://www.example.com/")
}

#[tokio::test]
async fn all_attempts_carry_the_same_signed_bytes() {
    let (client, requests) = api(&[UNAVAILABLE, HANG_UP, ACCEPTED]).await;
    let task = client.submit("shop", &purge()).await.unwrap();
    assert_eq!(task.task_id, "01JF7M2KZ7YH9Q4K0P2BDH9W3Y");
    let requests = requests.await.unwrap();
    let text = String::from_utf8_lossy(&requests[0]);
    assert!(text.starts_with("POST /v1/sites/shop/purge HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("x-batoff-signature: sha256="), "{text}");
    assert!(requests.iter().all(|request| *request == requests[0]));
}

#[tokio::test]
async fn a_lost_answer_leaves_the_outcome_open() {
    let (client, _requests) = api(&[HANG_UP, UNAVAILABLE, UNAVAILABLE]).await;
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_means_nothing_was_done() {
    let (client, requests) = api(&[]).await;
    requests.await.unwrap();
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_final_and_names_each_item() {
    const REFUSAL: &str = r#"{ "title": "URL does not belong to the site", "status": 400, "code": "invalid_url",
        "errors": [ { "pointer": "/urls/1", "value": "https://evil.example/", "detail": "not yours" } ] }"#;
    let (client, requests) = api(&[("400 Bad Request", REFUSAL)]).await;
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_url"));
    assert!(error.to_string().contains("/urls/1 https://evil.example/: not yours"), "{error}");
    assert_eq!(requests.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_quota_is_the_callers_to_wait_for() {
    let (client, _requests) = api(&[("429 Too Many Requests\r\nretry-after: 17", "")]).await;
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
}
