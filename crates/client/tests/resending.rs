//! What a client does when the API is away, says no, or hangs up.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use batoff_client::{
    AdminClient, Client, Credentials, Endpoint, Error, NewSite, PurgeRequest, Retry, SiteLimits, State,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Status line with headers, and body.
type Answer = (&'static str, &'static str);

const ACCEPTED: Answer =
    ("202 Accepted", r#"{ "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": "pending", "items_total": 1 }"#);
const UNAVAILABLE: Answer =
    ("503 Service Unavailable", r#"{ "title": "starting up", "code": "unavailable", "status": 503 }"#);
const HANG_UP: Answer = ("", "");

/// Answers one connection each with `answers`, in turn, and is gone then; the requests as they came.
async fn control_plane(answers: &'static [Answer]) -> (String, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
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
    (format!("http://{address}"), requests)
}

async fn api(answers: &'static [Answer]) -> (Client, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    let (address, requests) = control_plane(answers).await;
    (client_of(&address), requests)
}

/// Of several control planes, the answers of each.
async fn several<const N: usize>(
    answers: [&'static [Answer]; N],
) -> (Client, Vec<tokio::task::JoinHandle<Vec<Vec<u8>>>>) {
    let (addresses, requests) = all(answers).await;
    (client_of(&addresses), requests)
}

async fn all<const N: usize>(
    answers: [&'static [Answer]; N],
) -> (String, Vec<tokio::task::JoinHandle<Vec<Vec<u8>>>>) {
    let (mut addresses, mut requests) = (Vec::new(), Vec::new());
    for answers in answers {
        let (address, asked) = control_plane(answers).await;
        addresses.push(address);
        requests.push(asked);
    }
    (addresses.join(","), requests)
}

fn client_of(address: &str) -> Client {
    let endpoint = Endpoint::new(address).unwrap();
    let retry = Retry { attempts: 3, first_pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(endpoint, Credentials::new("bto_live_x", "bts_live_x\n")).unwrap().with_retry(retry)
}

async fn read_request(connection: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let is_read = |request: &[u8]| match request.starts_with(b"GET ") {
        true => request.ends_with(b"\r\n\r\n"),
        false => request.ends_with(b"}"),
    };
    while !is_read(&request) {
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

const IN_PROGRESS: Answer =
    ("200 OK", r#"{ "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": "in_progress" }"#);
const COMPLETED: Answer = ("200 OK", r#"{ "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": "completed" }"#);
const NOT_FOUND: Answer =
    ("404 Not Found", r#"{ "title": "Not found", "code": "not_found", "status": 404 }"#);
const BAD_GATEWAY: Answer = ("502 Bad Gateway", "nobody there");

/// What was sent but for to whom.
fn content(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    text.lines().filter(|line| !line.starts_with("host:")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_one_does_not_answer_goes_to_the_next_with_the_same_bytes_and_is_one_purge() {
    for first in [HANG_UP, UNAVAILABLE, BAD_GATEWAY] {
        let first: &'static [Answer] = vec![first].leak();
        let (client, requests) = several([first, &[ACCEPTED, ACCEPTED]]).await;
        client.submit("shop", &purge()).await.unwrap();
        // The one that has answered is asked next.
        client.submit("shop", &purge()).await.unwrap();
        let mut asked = Vec::new();
        for requests in requests {
            asked.push(requests.await.unwrap());
        }
        assert_eq!((asked[0].len(), asked[1].len()), (1, 2));
        assert_eq!(content(&asked[0][0]), content(&asked[1][0]));
        let key = |request: &[u8]| {
            let text = content(request);
            text.lines().find(|line| line.starts_with("idempotency-key: ")).unwrap().to_owned()
        };
        assert_ne!(key(&asked[1][0]), key(&asked[1][1]), "two purges");
    }
}

#[tokio::test]
async fn one_that_is_not_there_costs_nothing_and_all_that_are_not_are_named() {
    let (client, requests) = several([&[], &[ACCEPTED]]).await;
    client.clone().with_retry(Retry::NEVER).submit("shop", &purge()).await.unwrap();
    for requests in requests {
        requests.await.unwrap();
    }
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_quota_or_a_refusal_of_one_is_that_of_all() {
    let (client, requests) = several([&[("429 Too Many Requests", "")], &[]]).await;
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert!(matches!(error, Error::RateLimited { .. }), "{error:?}");
    drop(requests);
}

#[tokio::test]
async fn a_quota_that_is_used_up_elsewhere_does_not_say_that_nothing_was_done() {
    let (client, requests) = several([&[HANG_UP], &[("429 Too Many Requests\r\nretry-after: 17", "")]]).await;
    let error = client.submit("shop", &purge()).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    for requests in requests {
        requests.await.unwrap();
    }
}

#[tokio::test]
async fn waiting_goes_on_with_another_that_may_hear_of_the_task_later() {
    let (client, requests) = several([&[IN_PROGRESS], &[NOT_FOUND, IN_PROGRESS, COMPLETED]]).await;
    let task = client.wait("shop", "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", Duration::from_secs(30)).await.unwrap();
    assert_eq!(task.state, State::Completed);
    for requests in requests {
        requests.await.unwrap();
    }
}

#[tokio::test]
async fn events_go_on_with_another_behind_the_last_one() {
    const FIRST: Answer = (
        "200 OK\r\ncontent-type: text/event-stream",
        "event: purge\nid: 7\ndata: {\"task_id\":\"a\",\"state\":\"pending\"}\n\n",
    );
    const SECOND: Answer = (
        "200 OK\r\ncontent-type: text/event-stream",
        "event: purge\nid: 8\ndata: {\"task_id\":\"a\",\"state\":\"completed\"}\n\n",
    );
    let (client, requests) = several([&[FIRST], &[SECOND]]).await;
    let mut events = client.events("shop", None).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().state, State::Pending);
    assert!(events.next().await.unwrap().is_none());
    let mut events = client.events("shop", events.last_id()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().state, State::Completed);
    let mut asked = Vec::new();
    for requests in requests {
        asked.push(requests.await.unwrap());
    }
    assert!(content(&asked[1][0]).contains("last-event-id: 7"), "{}", content(&asked[1][0]));
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_made_again_elsewhere() {
    const MADE: Answer = ("201 Created", r#"{ "site_id": "shop", "hostnames": ["www.example.com"] }"#);
    let new = NewSite {
        site_id: "shop".into(),
        hostnames: vec!["www.example.com".into()],
        limits: SiteLimits::default(),
        takes_names: false,
    };
    let (addresses, requests) = all([&[HANG_UP], &[MADE]]).await;
    let admin = AdminClient::new(Endpoint::admin(&addresses).unwrap(), "bto_admin_x").unwrap();
    let error = admin.create_site(&new).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert!(!requests[1].is_finished());
    // Who has not taken it has not made it.
    let (addresses, requests) = all([&[], &[UNAVAILABLE], &[MADE]]).await;
    let admin = AdminClient::new(Endpoint::admin(&addresses).unwrap(), "bto_admin_x").unwrap();
    assert_eq!(admin.create_site(&new).await.unwrap().site_id, "shop");
    for requests in requests {
        requests.await.unwrap();
    }
}
