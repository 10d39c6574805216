//! One purge is one trace, from the request to each node's ack; and a collector that is away is noticed by nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use batoff_tests::{Reply, SITE, System, SystemPlan, eventually, free_port, read_log};
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
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
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
