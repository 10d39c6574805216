//! What a cache that does not keep to the contract is told.

use batoff_types::message::LeasePolicy::{Revalidate, Serve};
use batoff_wire::local::pb::{self, Verdict, from_cache::Body, to_cache};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::node::{Node, url};
use crate::local::{LocalSection, Mode};

/// A session by hand.
struct Raw {
    outgoing: mpsc::Sender<pb::FromCache>,
    incoming: Streaming<pb::ToCache>,
}

impl Raw {
    async fn open(node: &Node, first: Body) -> Self {
        let (outgoing, sent) = mpsc::channel(8);
        outgoing.send(pb::FromCache { body: Some(first) }).await.unwrap();
        let incoming = node.raw().watch(ReceiverStream::new(sent)).await.unwrap().into_inner();
        Self { outgoing, incoming }
    }

    async fn hello(node: &Node) -> (Self, u64) {
        let mut raw = Self::open(node, hello("web")).await;
        let Some(to_cache::Body::Welcome(welcome)) = raw.next().await.unwrap() else { panic!("no Welcome") };
        (raw, welcome.session)
    }

    async fn next(&mut self) -> Result<Option<to_cache::Body>, Status> {
        Ok(self.incoming.message().await?.and_then(|message| message.body))
    }

    async fn say(&self, body: Option<Body>) {
        self.outgoing.send(pb::FromCache { body }).await.unwrap();
    }
}

fn hello(cache: &str) -> Body {
    Body::Hello(pb::Hello { cache: cache.to_owned(), software: "test".to_owned() })
}

fn object(path: &str, handle: usize) -> pb::Object {
    let token = Some(pb::FillToken { generation: 0, applied: 1 });
    pb::Object {
        url: url(path),
        handle: vec![7; handle].into(),
        cache_tag: Vec::new(),
        token,
        tags_cut: false,
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    let node = Node::start(Serve, &[("web", Mode::Page)]).await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(UnixStream::connect(node.socket()).await.unwrap());
    }
    for mut stream in silent {
        let mut said = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(120), stream.read_to_end(&mut said));
        assert!(ended.await.is_ok(), "a silent connection stays open");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_the_order_ends_with_the_reason() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let held = |count| Body::Held(pb::Held { objects: vec![object("/a", 1); count] });
    let cases = [
        (Body::HeldAll(pb::HeldAll {}), None, Code::InvalidArgument, "first message must be a Hello"),
        (hello("other"), None, Code::PermissionDenied, "\"other\" is not declared"),
        (hello("web"), Some(Some(hello("web"))), Code::InvalidArgument, "second Hello"),
        (hello("web"), Some(None), Code::InvalidArgument, "body"),
        (hello("web"), Some(Some(held(1_001))), Code::InvalidArgument, "at most 1000"),
        (hello("web"), Some(Some(Body::Confirm(pb::Confirm { id: 9 }))), Code::InvalidArgument, "not asked"),
    ];
    for (first, second, code, text) in cases {
        let mut raw = Raw::open(&node, first).await;
        if let Some(second) = second {
            raw.next().await.unwrap();
            raw.say(second).await;
        }
        let status = loop {
            match raw.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{text}: ended without a reason"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
}

#[tokio::test]
async fn a_commit_that_cannot_be_taken_says_why() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let node = node.with(|section| section.objects_max = 2).await;
    let (raw, session) = Raw::hello(&node).await;
    let commit = async |session, object| {
        let reply = node.raw().commit(pb::CommitRequest { session, object: Some(object) }).await;
        reply.map(|reply| reply.into_inner().verdict())
    };
    let no_token = pb::Object { token: None, ..object("/a", 1) };
    let no_url = pb::Object { url: "ftp://x/".to_owned(), ..object("/a", 1) };
    let cases = [
        (object("/a", 0), "handle: must be 1 to 128"),
        (object("/a", 129), "handle: must be 1 to 128"),
        (no_token, "token: missing"),
        (no_url, "url: "),
    ];
    for (object, text) in cases {
        let status = commit(session, object).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains(text), "{status}");
    }
    assert_eq!(commit(session, object("/a", 1)).await.unwrap(), Verdict::Store);
    let again = commit(session, object("/a", 1)).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    assert_eq!(commit(session, object("/a", 2)).await.unwrap(), Verdict::Store);
    assert_eq!(commit(session, object("/a", 3)).await.unwrap(), Verdict::Discard, "objects_max");
    drop(raw);
    super::node::eventually("the session is over", async || {
        commit(session, object("/b", 1)).await.is_err_and(|status| status.code() == Code::FailedPrecondition)
    })
    .await;
}

#[tokio::test]
async fn what_a_cache_holds_with_a_token_that_was_never_given_out_is_evicted() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let now: pb::FillToken = node.index.begin_fill().into();
    let (mut raw, _) = Raw::hello(&node).await;
    let with = |path: &str, token| pb::Object { token: Some(token), ..object(path, 1) };
    let objects = vec![
        with("/now", now),
        with("/ahead", pb::FillToken { applied: now.applied + 1, ..now }),
        with("/never", pb::FillToken { applied: u64::MAX, ..now }),
        with("/generation", pb::FillToken { generation: now.generation + 1, ..now }),
    ];
    raw.say(Some(Body::Held(pb::Held { objects }))).await;
    raw.say(Some(Body::HeldAll(pb::HeldAll {}))).await;
    let Some(to_cache::Body::Evict(evict)) = raw.next().await.unwrap() else { panic!("nothing is evicted") };
    let gone: Vec<_> = evict.objects.iter().map(|object| object.url.as_str()).collect();
    assert_eq!(gone, ["/ahead", "/never", "/generation"].map(url));
    assert!(evict.objects.iter().all(|object| object.effect() == pb::Effect::Gone), "{evict:?}");
    raw.say(Some(Body::Confirm(pb::Confirm { id: evict.id }))).await;
    while !matches!(raw.next().await.unwrap(), Some(to_cache::Body::InSync(_))) {}
}

#[test]
fn a_section_that_cannot_work_is_refused() {
    let refused = |text: &str, policy| {
        let section: Result<LocalSection, _> = toml::from_str(text);
        match section {
            Ok(section) => section.validate(policy).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    };
    for (text, reason) in [
        ("", "name at least one cache"),
        ("[caches]\nWeb = \"page\"", "\"Web\" must be"),
        ("[caches]\ncheck = \"page\"", "not \"check\""),
        ("[caches]\nweb = \"pages\"", "unknown variant"),
        ("[caches]\nweb = \"evict\"", "cannot be fenced"),
        ("socket = \"local.sock\"\n[caches]\nweb = \"page\"", "absolute"),
        ("confirm_within_ms = 0\n[caches]\nweb = \"page\"", "1 to 60000"),
        ("sokcet = \"/x\"\n[caches]\nweb = \"page\"", "sokcet"),
    ] {
        let said = refused(text, Revalidate);
        assert!(said.contains(reason), "{text:?}: {said}");
    }
    let evict: LocalSection = toml::from_str("[caches]\nweb = \"evict\"").unwrap();
    evict.validate(Serve).unwrap();
}

/// Every key stands there with its default.
#[test]
fn the_example_configuration_says_what_is_so() {
    let text = include_str!("../../../../../deploy/edge.toml");
    let ours = text.split_once("# [caches.local]").expect("it has a section").1;
    let keys: String = ours
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .take_while(|line| !line.starts_with('[') || line.starts_with("[caches.local"))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .map(|line| format!("{}\n", line.replace("caches.local.", "")))
        .collect();
    let said: LocalSection = toml::from_str(&keys).unwrap_or_else(|error| panic!("{error}: {keys}"));
    said.validate(Revalidate).unwrap();
    let default: LocalSection = toml::from_str("[caches]\nweb = \"page\"").unwrap();
    let default = LocalSection { group: said.group.clone(), ..default };
    assert_eq!(format!("{said:?}"), format!("{default:?}"));
}
