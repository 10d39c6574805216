use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::checks::check;
use crate::rig::Rig;

const BODY: &str = r#"{"tags":["a"]}"#;

#[tokio::test]
async fn a_task_shows_all_its_members_from_the_start() {
    let rig = Rig::start().await;
    rig.register_absent_node("fra1/edge-1").await;
    let task = rig.post(r#"{"tags":["a","b"]}"#).send().await.task();
    let reply = rig.get(&format!("/v1/sites/shop/purge/{task}?include=pops,items")).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let document = reply.json();
    assert_eq!(document["task_id"], task.as_str());
    assert_eq!(document["items_total"], 2);
    assert_eq!(document["items_done"], 0);
    assert_eq!(document["started_at"], rig.wall_text());
    assert_eq!(document["nodes"]["total"], 1);
    assert_eq!(document["nodes"]["confirmed"], 0);
    assert!(document["objects_evicted"].is_u64() && document["objects_final"].is_boolean());
    assert!(document.get("completed_at").is_none() && document.get("propagation_ms").is_none(), "{document}");
    assert_eq!(document["pops"][0]["pop"], "fra1");
    assert_eq!(document["items"][1], serde_json::json!({ "kind": "tag", "value": "b" }));
}

#[tokio::test]
async fn without_nodes_a_purge_is_completed_and_says_so() {
    let rig = Rig::start().await;
    let task = rig.post(BODY).send().await.task();
    let document = rig.get(&format!("/v1/sites/shop/purge/{task}?wait=10")).send().await.json();
    assert_eq!(document["state"], "completed", "{document}");
    assert_eq!(document["items_done"], 1);
    assert!(document["completed_at"].is_string() && document["propagation_ms"].is_u64(), "{document}");
    assert_eq!(
        document["nodes"],
        serde_json::json!({ "total": 0, "confirmed": 0, "fenced": 0, "unreachable": 0 })
    );
}

#[tokio::test]
async fn a_wait_holds_the_reply_no_longer_than_asked() {
    let rig = Rig::start().await;
    rig.register_absent_node("fra1/edge-1").await;
    let task = rig.post(BODY).send().await.task();
    let target = format!("/v1/sites/shop/purge/{task}");
    let waited = rig.get(&format!("{target}?wait=1")).send().await;
    assert_ne!(waited.json()["state"], "completed");
    assert_eq!(waited.header("preference-applied"), None);
    let preferred = rig.get(&target).header("Prefer", "wait=1").send().await;
    assert_eq!(preferred.header("preference-applied"), Some("wait=1"));
    let at_once = rig.get(&format!("{target}?wait=0")).header("Prefer", "wait=30").send().await;
    assert_eq!((at_once.status, at_once.header("preference-applied")), (200, None));
}

#[tokio::test]
async fn a_task_is_shown_to_its_own_site_only() {
    let rig = Rig::start().await;
    let task = rig.post(BODY).send().await.task();
    let blog = rig.issue("blog").await;
    let request = rig.get(&format!("/v1/sites/blog/purge/{task}")).token(&blog.text).secret(&blog.secret);
    check("blog's view", &request.send().await, 404, "not_found");
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let rig = Rig::start().await;
    let task = rig.post(BODY).send().await.task();
    let head = rig.request("HEAD", &format!("/v1/sites/shop/purge/{task}")).send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let refused = rig.request("HEAD", "/v1/sites/shop/purge/none").open().await;
    let mut whole = Vec::new();
    tokio::io::BufReader::new(refused).read_to_end(&mut whole).await.unwrap();
    let whole = String::from_utf8(whole).unwrap();
    assert!(whole.starts_with("HTTP/1.1 404") && whole.ends_with("\r\n\r\n"), "{whole}");
    assert!(!whole.contains("content-length: 0"), "the length is that of the body that is left out: {whole}");
}

#[tokio::test]
async fn a_list_is_read_page_by_page_newest_first() {
    let rig = Rig::start().await;
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.push(rig.post(BODY).send().await.task());
    }
    sent.reverse();
    let mut seen = Vec::new();
    let mut target = "/v1/sites/shop/purges?limit=3".to_owned();
    for page in 0.. {
        let reply = rig.get(&target).send().await;
        let document = reply.json();
        let ids = document["purges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["task_id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        match document["next_cursor"].as_str() {
            Some(cursor) => {
                let link = reply.header("link").unwrap();
                assert_eq!(link, format!("</v1/sites/shop/purges?limit=3&cursor={cursor}>; rel=\"next\""));
                target = link[1..].split('>').next().unwrap().to_owned();
            }
            None => {
                assert_eq!((page, reply.header("link")), (2, None));
                break;
            }
        }
    }
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn a_list_is_narrowed_by_kind_state_and_time() {
    let rig = Rig::start().await;
    let tag = rig.post(BODY).send().await.task();
    rig.advance_millis(5_000);
    let since = rig.wall_text();
    let host = rig.post(r#"{"hosts":["www.example.com"]}"#).send().await.task();
    for task in [&tag, &host] {
        rig.get(&format!("/v1/sites/shop/purge/{task}?wait=10")).send().await;
    }
    let list = async |query: &str| {
        let reply = rig.get(&format!("/v1/sites/shop/purges?{query}")).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let document = reply.json();
        let tasks = document["purges"].as_array().unwrap();
        tasks.iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("kind=tag").await, std::slice::from_ref(&tag));
    assert_eq!(list("kind=host").await, std::slice::from_ref(&host));
    assert_eq!(list("kind=everything").await, Vec::<String>::new());
    assert_eq!(list(&format!("since={since}")).await, std::slice::from_ref(&host));
    assert_eq!(list("state=completed").await, [host, tag]);
    assert_eq!(list("state=partial").await, Vec::<String>::new());
}

#[tokio::test]
async fn the_sla_of_a_site_is_told() {
    let rig = Rig::start().await;
    let task = rig.post(BODY).send().await.task();
    rig.get(&format!("/v1/sites/shop/purge/{task}?wait=10")).send().await;
    let sla = rig.get("/v1/sites/shop/sla?window=24h").send().await.json();
    assert_eq!(
        (&sla["window"], &sla["target_ms"], &sla["purges"]),
        (&"24h".into(), &2_000.into(), &1.into()),
        "{sla}"
    );
    assert_eq!((&sla["within_target"], &sla["breaches"]), (&1.0.into(), &serde_json::json!([])));
    assert!(["p50", "p95", "p99", "p999", "max"].iter().all(|name| sla["propagation_ms"][name].is_u64()));
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_after_the_last_event_seen() {
    let rig = Rig::start().await;
    let mut live = Events::open(&rig, None).await;
    let first = rig.post(BODY).send().await.task();
    let accepted = live.next().await;
    assert_eq!(accepted.task["task_id"], first.as_str());
    assert_eq!(accepted.task["state"], "pending");
    let mut last = accepted;
    while last.task["state"] != "completed" {
        last = live.next().await;
    }
    drop(live);

    let missed = rig.post(BODY).send().await.task();
    let mut resumed = Events::open(&rig, Some(&last.id)).await;
    let next = resumed.next().await;
    assert_eq!(next.task["task_id"], missed.as_str(), "what was missed comes first");
    assert_ne!(next.id, last.id);
}

#[tokio::test]
async fn after_a_restart_a_stream_goes_on_with_new_ids_and_tells_nothing_twice() {
    let rig = Rig::start().await;
    rig.register_absent_node("fra1/edge-1").await;
    let mut live = Events::open(&rig, None).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let task = rig.post(BODY).send().await.task();
        let event = live.next().await;
        assert_eq!((&event.task["task_id"], &event.task["state"]), (&task.into(), &"pending".into()));
        seen.push(event);
    }
    drop(live);
    let rig = rig.restart().await;

    let new = rig.post(BODY).send().await.task();
    let mut resumed = Events::open(&rig, Some(&seen[2].id)).await;
    let event = resumed.next().await;
    assert_eq!(event.task["task_id"], new.as_str(), "what was told before is told once");
    seen.push(event);

    // Cut off after the first event: the others are new, one by one, each with an id to go on after.
    let mut behind = Events::open(&rig, Some(&seen[0].id)).await;
    let missed = [behind.next().await, behind.next().await, behind.next().await];
    for (event, told) in missed.iter().zip(&seen[1..]) {
        assert_eq!(event.task["task_id"], told.task["task_id"]);
    }
    let mut further = Events::open(&rig, Some(&missed[0].id)).await;
    assert_eq!(further.next().await.task["task_id"], missed[1].task["task_id"], "and not all of them again");

    let ids: Vec<_> = seen[..3].iter().chain(&missed).map(|event| &*event.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:#?}");
    let foreign = Events::open(&rig, Some("0000ffff-1-1-1-1-1")).await;
    drop(foreign);
}

#[tokio::test]
async fn no_completion_is_lost_to_a_stream_that_was_cut_off_anywhere_before_a_restart() {
    let rig = Rig::start().await;
    let mut live = Events::open(&rig, None).await;
    for _ in 0..3 {
        rig.post(BODY).send().await.task();
    }
    let mut seen = Vec::new();
    while seen.iter().filter(|event: &&Event| event.task["state"] == "completed").count() < 3 {
        seen.push(live.next().await);
    }
    drop(live);
    let rig = rig.restart().await;
    let completed = |events: &[Event]| {
        let ids = events.iter().filter(|event| event.task["state"] == "completed");
        ids.map(|event| event.task["task_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = completed(&seen);
    for cut in 0..seen.len() {
        let mut resumed = Events::open(&rig, Some(&seen[cut].id)).await;
        let mut told = completed(&seen[..=cut]);
        while told.len() < all.len() {
            let event = resumed.next().await;
            assert!(event.id > seen[cut].id, "{} is not after {}", event.id, seen[cut].id);
            told.extend(completed(&[event]));
        }
        told.sort();
        assert_eq!(told, all, "each once, when cut off after event {cut}");
    }
}

#[tokio::test]
async fn one_token_cannot_hold_all_event_streams() {
    let rig = Rig::start().await;
    let mut streams = Vec::new();
    let refused = loop {
        let mut stream = rig.reader(rig.get("/v1/sites/shop/purges/stream")).open().await;
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 200") {
            break head;
        }
        streams.push(stream);
        assert!(streams.len() < 100, "a token has a hundred streams");
    };
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after"), "{refused}");
    // The owner's token has its own.
    Events::open(&rig, None).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let rig = Rig::start().await;
    let token = rig.issue("shop").await;
    let request = rig.get("/v1/sites/shop/purges/stream").token(&token.text).secret(&token.secret);
    let mut stream = request.open().await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("retry:") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert!(rig.services.catalog.revoke("shop", token.token.id, "rig").await.unwrap());
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut seen)).await;
    assert!(end.is_ok(), "the stream goes on");
}

/// An open event stream.
struct Events {
    stream: TcpStream,
    text: String,
}

struct Event {
    id: String,
    task: serde_json::Value,
}

impl Events {
    async fn open(rig: &Rig, last: Option<&str>) -> Self {
        let mut request = rig.get("/v1/sites/shop/purges/stream");
        if let Some(id) = last {
            request = request.header("Last-Event-ID", id);
        }
        let mut events = Self { stream: request.open().await, text: String::new() };
        events.read_until("retry:").await;
        assert!(events.text.contains("content-type: text/event-stream"), "{}", events.text);
        let head = events.text.find("retry:").unwrap();
        events.text.drain(..head);
        events
    }

    async fn read_until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let mut chunk = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut chunk)).await;
            assert_ne!(read.expect("no event in time").unwrap(), 0, "the stream ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            self.read_until("data: ").await;
            let data = self.text.find("data: ").unwrap();
            let Some(end) = self.text[data..].find('\n') else {
                let have = self.text.len();
                while self.text.len() == have {
                    let mut chunk = Vec::new();
                    assert_ne!(self.stream.read_buf(&mut chunk).await.unwrap(), 0);
                    self.text.push_str(&String::from_utf8_lossy(&chunk));
                }
                continue;
            };
            let event: String = self.text.drain(..data + end).collect();
            assert!(event.contains("event: purge"), "{event}");
            let field =
                |name: &str| event.lines().filter_map(|line| line.strip_prefix(name)).next_back().unwrap();
            return Event {
                id: field("id: ").to_owned(),
                task: serde_json::from_str(field("data: ")).unwrap(),
            };
        }
    }
}
