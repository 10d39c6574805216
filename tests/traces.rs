//! One purge is one trace, from the request to each node's ack; and a collector that is away is noticed by nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use batoff_tests::{
    Program, Reply, SITE, System, SystemPlan, eventually, free_port, kill, read_log, scratch,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Interceptor;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A caller's trace, and its span in it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

/// The time of acceptance in a record has whole milliseconds.
const MILLISECOND: u64 = 1_000_000;

/// A collector: keeps what it is sent, each span with the service and the instance that sent it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Collected>>>);

#[derive(Clone, Debug)]
struct Collected {
    service: String,
    instance: String,
    span: Span,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for from in request.into_inner().resource_spans {
            let resource = from.resource.unwrap_or_default().attributes;
            let (service, instance) =
                (said(&resource, "service.name"), said(&resource, "service.instance.id"));
            for span in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.lock().push(Collected { service: service.clone(), instance: instance.clone(), span });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens there, until the test ends.
    async fn listen(port: u16) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (collector, at) = (Self::default(), listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let serving =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        (collector, at)
    }

    fn named(&self, name: &str) -> Vec<Collected> {
        self.0.lock().iter().filter(|one| one.span.name == name).cloned().collect()
    }
}

fn said(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|one| one.key == key).and_then(|one| one.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn at_event(span: &Span, name: &str) -> u64 {
    span.events.iter().find(|event| event.name == name).expect("the event").time_unix_nano
}

fn environment(settings: &[(&str, String)]) -> Vec<(String, String)> {
    settings.iter().map(|(key, value)| (format!("BATOFF_TRACES_{key}"), value.clone())).collect()
}

/// Two nodes and a control plane that trace this share of all purges.
async fn system(collector: SocketAddr, ratio: &str) -> System {
    let endpoint = format!("http://{collector}");
    System::start(SystemPlan {
        nodes: 2,
        control_environment: environment(&[("ENDPOINT", endpoint.clone()), ("RATIO", ratio.to_owned())]),
        node_environment: environment(&[("ENDPOINT", endpoint)]),
        ..SystemPlan::default()
    })
    .await
}

/// A purge whose caller says that he records the trace; its answer once it is completed.
async fn traced_purge(system: &System) -> Reply {
    let body = format!("{{\"urls\":[{:?}]}}", System::url("/page"));
    let path = format!("/v1/sites/{SITE}/purge?wait=20");
    let request = system.customer.request("POST", &path, Some(body.as_bytes()));
    let request = request.header("traceparent", format!("00-{TRACE}-{CALLERS_SPAN}-01"));
    let reply = system.customer.send(request).await.unwrap();
    assert_eq!((reply.status, reply.json["state"].as_str()), (200, Some("completed")), "{}", reply.text);
    reply
}

async fn metric(url: &str, line: &str) -> Option<f64> {
    let page = batoff_tests::http().get(url).send().await.ok()?.text().await.ok()?;
    let line = page.lines().find_map(|shown| shown.strip_prefix(line)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[tokio::test]
async fn one_purge_is_one_trace_from_its_request_to_the_ack_of_each_node() {
    let (collector, at) = Collector::listen(0).await;
    let mut system = system(at, "1").await;
    system.warm("/page").await;
    let reply = traced_purge(&system).await;
    assert_eq!(reply.header("x-batoff-trace"), TRACE);
    let task = reply.json["task_id"].as_str().unwrap().to_owned();

    eventually("all spans of the purge", || async {
        let one_of = |name| collector.named(name).len() == 1;
        let all =
            ["purge", "stream", "completed"].into_iter().all(one_of) && collector.named("apply").len() == 2;
        all.then_some(())
    })
    .await;
    let [purge] = &collector.named("purge")[..] else { panic!("one request") };
    assert_eq!((purge.service.as_str(), purge.instance.as_str()), ("batoff-control", "replica-1"));
    assert_eq!(hex::encode(&purge.span.parent_span_id), CALLERS_SPAN);
    assert_eq!(said(&purge.span.attributes, "batoff.task"), task);

    // Each in the same trace, under the request, and by itself.
    let all: Vec<Collected> = collector.0.lock().clone();
    let ids: HashSet<_> = all.iter().map(|one| one.span.span_id.clone()).collect();
    assert_eq!(ids.len(), all.len());
    for one in &all {
        assert_eq!(hex::encode(&one.span.trace_id), TRACE, "{one:?}");
        assert!(one.span.name == "purge" || one.span.parent_span_id == purge.span.span_id, "{one:?}");
        assert!(one.span.start_time_unix_nano <= one.span.end_time_unix_nano, "{one:?}");
        assert!(one.span.status.is_none(), "{one:?}");
    }

    // The request's steps follow one another, and are its own.
    let mut before = purge.span.start_time_unix_nano;
    for step in ["verify", "parse", "admit", "append"] {
        let [step] = &collector.named(step)[..] else { panic!("one {step}") };
        assert_eq!(step.span.start_time_unix_nano, before, "{step:?}");
        before = step.span.end_time_unix_nano;
    }
    assert!(before <= purge.span.end_time_unix_nano);

    // Every node: received, in force, evicted, acknowledged. All programs have this machine's clock.
    let applied = collector.named("apply");
    let instances: HashSet<_> = applied.iter().map(|one| one.instance.clone()).collect();
    assert_eq!(instances.len(), 2, "{instances:?}");
    let completed = &collector.named("completed")[0].span;
    for one in &applied {
        let span = &one.span;
        assert_eq!(one.service, "batoff-proxy");
        assert_eq!(said(&span.attributes, "batoff.task"), task);
        assert_eq!(said(&span.attributes, "batoff.objects"), "1");
        let times = [
            purge.span.start_time_unix_nano,
            span.start_time_unix_nano,
            at_event(span, "in force"),
            at_event(span, "evicted"),
            span.end_time_unix_nano,
        ];
        assert!(times.is_sorted(), "{times:?}");
        assert!(at_event(span, "evicted") <= completed.end_time_unix_nano, "{span:?} {completed:?}");
    }
    assert!(purge.span.start_time_unix_nano <= completed.start_time_unix_nano + MILLISECOND);
    assert_eq!(said(&completed.attributes, "batoff.nodes"), "2");

    // Found by the log, too.
    let log = system.control.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(TRACE)).collect();
    assert!(lines.iter().any(|line| line.contains("purge accepted") && line.contains(&task)), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("purge completed")), "{lines:?}");
    for node in &mut system.nodes {
        assert_eq!(node.service.stop().await, 0);
    }
    assert_eq!(system.control.stop().await, 0);
}

#[tokio::test]
async fn nothing_is_traced_that_was_not_drawn_whatever_its_caller_says() {
    let (collector, at) = Collector::listen(0).await;
    let mut system = system(at, "0").await;
    let reply = traced_purge(&system).await;
    assert_eq!(reply.header("x-batoff-trace"), "");
    // What they have, they deliver before they end.
    for node in &mut system.nodes {
        assert_eq!(node.service.stop().await, 0);
    }
    assert_eq!(system.control.stop().await, 0);
    assert!(collector.0.lock().is_empty(), "{:?}", collector.0.lock());
    assert!(read_log(&system.data_dir).await.iter().all(|record| record.trace.is_none()));
}

#[tokio::test]
async fn a_collector_that_is_away_is_noticed_by_no_purge_and_told_what_comes_once_it_is_there() {
    let port = free_port();
    let mut system = system(SocketAddr::from(([127, 0, 0, 1], port)), "1").await;
    for _ in 0..20 {
        traced_purge(&system).await;
    }
    let lost = || metric(&system.metrics, "batoff_trace_spans_lost_total{reason=\"away\"}");
    let lost = eventually("spans are given up", || async { lost().await.filter(|spans| *spans > 0.0) }).await;
    assert!(lost >= 1.0);
    let log = system.control.log();
    assert_eq!(log.lines().filter(|line| line.contains("spans cannot be delivered")).count(), 1, "{log}");

    let (collector, _) = Collector::listen(port).await;
    eventually("spans are delivered again", || async {
        traced_purge(&system).await;
        (!collector.named("purge").is_empty() && !collector.named("apply").is_empty()).then_some(())
    })
    .await;
    assert_eq!(system.control.stop().await, 0);
}

/// Takes spans from whoever knows its token, over TLS; to others it says which one they came with, as some do.
#[derive(Clone)]
struct Doorkeeper(Arc<Mutex<String>>);

impl Interceptor for Doorkeeper {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let shown = shown.unwrap_or_default().to_owned();
        if shown == format!("Bearer {}", self.0.lock()) {
            return Ok(request);
        }
        Err(Status::unauthenticated(format!("this is no token of ours: {shown}")))
    }
}

/// With a certificate of this authority.
async fn guarded(pki: &Path, token: &str) -> (Collector, SocketAddr, Doorkeeper) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (collector, at) = (Collector::default(), listener.local_addr().unwrap());
    let doorkeeper = Doorkeeper(Arc::new(Mutex::new(token.to_owned())));
    let read = |name: &str| std::fs::read(pki.join(name)).unwrap();
    let identity = Identity::from_pem(read("control.pem"), read("control.key"));
    let service = TraceServiceServer::with_interceptor(collector.clone(), doorkeeper.clone());
    let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let serving = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    (collector, at, doorkeeper)
}

/// The operator puts another token in the place of the one before.
fn put_token(file: &Path, token: &str, mode: u32) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, format!("authorization: Bearer {token}\n")).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn a_collector_that_wants_a_token_gets_the_one_of_now_over_tls_and_no_log_has_any() {
    const TOKENS: [&str; 3] =
        ["the-first-of-the-tenant", "the-second-of-the-tenant", "the-third-of-the-tenant"];
    let folder = scratch();
    for words in [
        &["certs", "init", "--dir", "pki"][..],
        &["certs", "issue", "--dir", "pki", "--control", "127.0.0.1"],
    ] {
        assert!(Program::run("batoff", words, folder.path()).status.success(), "{words:?}");
    }
    let pki = folder.path().join("pki");
    let headers = folder.path().join("headers");
    put_token(&headers, TOKENS[0], 0o600);
    let (collector, at, doorkeeper) = guarded(&pki, TOKENS[0]).await;
    let settings = environment(&[
        ("ENDPOINT", format!("https://{at}")),
        ("CA", pki.join("ca.pem").display().to_string()),
        ("HEADERS_FILE", headers.display().to_string()),
    ]);
    let mut system = System::start(SystemPlan {
        nodes: 1,
        control_environment: [settings.clone(), environment(&[("RATIO", "1".to_owned())])].concat(),
        node_environment: settings,
        ..SystemPlan::default()
    })
    .await;
    let told = |name: &'static str| collector.named(name).len();
    let (purges, applies) = (|| told("purge"), || told("apply"));

    traced_purge(&system).await;
    eventually("spans of both programs, by the first token", || async {
        (purges() == 1 && applies() == 1).then_some(())
    })
    .await;

    // The collector wants another one: what comes with the old one is lost, and counted.
    TOKENS[1].clone_into(&mut doorkeeper.0.lock());
    let refused = "batoff_trace_spans_lost_total{reason=\"refused\"}";
    eventually("spans are refused", || async {
        traced_purge(&system).await;
        metric(&system.metrics, refused).await.filter(|spans| *spans > 0.0)
    })
    .await;
    assert_eq!((purges(), applies()), (1, 1));

    // A file that everybody may read is not believed, and says so; what was there before stays in use.
    put_token(&headers, TOKENS[2], 0o644);
    eventually("it is not taken up", || async {
        let log = system.control.log();
        log.lines().any(|line| line.contains("not reloaded") && line.contains("chmod 600")).then_some(())
    })
    .await;
    put_token(&headers, TOKENS[1], 0o600);
    eventually("spans of both programs, by the second token", || async {
        traced_purge(&system).await;
        (purges() > 1 && applies() > 1).then_some(())
    })
    .await;

    // By hand, and at once.
    put_token(&headers, TOKENS[2], 0o600);
    TOKENS[2].clone_into(&mut doorkeeper.0.lock());
    kill(system.control.pid(), Signal::HUP);
    let reloaded = |log: String| log.matches("the collector's authority and headers reloaded").count();
    let before = purges();
    eventually("the signal is obeyed, and spans come by the third token", || async {
        traced_purge(&system).await;
        (reloaded(system.control.log()) >= 2 && purges() > before).then_some(())
    })
    .await;

    let logs = [system.control.log(), system.nodes[0].service.log()];
    assert!(logs[0].contains("this is no token of ours"), "{}", logs[0]);
    for token in TOKENS {
        assert!(logs.iter().all(|log| !log.contains(token)), "{token} stands in a log: {logs:?}");
    }
    assert_eq!(system.control.stop().await, 0);
}

#[tokio::test]
async fn a_collector_of_another_authority_is_told_nothing_until_its_authority_is_named() {
    let folder = scratch();
    for (dir, words) in
        [("ours", &["init"][..]), ("other", &["init"]), ("ours", &["issue", "--control", "127.0.0.1"])]
    {
        let words = [&["certs", words[0], "--dir", dir], &words[1..]].concat();
        assert!(Program::run("batoff", &words, folder.path()).status.success(), "{words:?}");
    }
    let headers = folder.path().join("headers");
    put_token(&headers, "of-the-tenant", 0o600);
    let (collector, at, _) = guarded(&folder.path().join("ours"), "of-the-tenant").await;
    let ca = folder.path().join("ca.pem");
    std::fs::copy(folder.path().join("other/ca.pem"), &ca).unwrap();
    let settings = environment(&[
        ("ENDPOINT", format!("https://{at}")),
        ("CA", ca.display().to_string()),
        ("HEADERS_FILE", headers.display().to_string()),
        ("RATIO", "1".to_owned()),
    ]);
    let plan = SystemPlan { nodes: 0, control_environment: settings, ..SystemPlan::default() };
    let mut system = System::start(plan).await;
    traced_purge(&system).await;
    let lost = || metric(&system.metrics, "batoff_trace_spans_lost_total{reason=\"away\"}");
    eventually("spans are given up", || async { lost().await.filter(|spans| *spans > 0.0) }).await;
    assert!(collector.0.lock().is_empty());

    std::fs::copy(folder.path().join("ours/ca.pem"), &ca).unwrap();
    eventually("spans are delivered", || async {
        traced_purge(&system).await;
        (!collector.named("purge").is_empty()).then_some(())
    })
    .await;
    assert_eq!(system.control.stop().await, 0);
}
