//! The way of spans to the collector. What is lost on it is counted; nothing else comes of it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use super::way::{CollectorWay, WatchedWay};
use super::{LOST, LossReason, SpanSide, SpanValue, TraceSpan, Traces, TracesSection, lost};
use crate::config::ConfigError;

/// Spans that go with one request at most, well below the 4 MiB that a collector takes.
const BATCH_SPANS: usize = 512;

/// How long the first span of a request waits for others.
const GATHER: Duration = Duration::from_millis(500);

/// Between attempts to deliver the same spans; after the last they are lost. A collector that is started again is waited for.
const AGAIN_AFTER: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How long the end of the process may be put off for the last spans.
pub const FAREWELL_MAX: Duration = Duration::from_secs(1);

const SENT: &str = "batoff_trace_spans_sent_total";

/// The flag of W3C Trace Context that says that a trace is recorded.
const SAMPLED: u32 = 1;

/// Brings spans to the collector, from [`Exporter::run_on`] to [`Exporter::finish`].
#[derive(Debug, Default)]
pub struct Exporter {
    stop: CancellationToken,
    /// `None`: there is no collector.
    way: Option<Arc<WatchedWay>>,
    /// Until it runs.
    prepared: Mutex<Option<Export>>,
    running: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Export {
    way: watch::Receiver<CollectorWay>,
    resource: Resource,
    spans: mpsc::Receiver<TraceSpan>,
    stop: CancellationToken,
    /// Whether the last attempt came to nothing, so that it is told once.
    is_away: bool,
}

impl Exporter {
    /// Of a program of this name and version, of which there is this `instance`. Without an endpoint nothing goes anywhere.
    ///
    /// # Errors
    /// The section is wrong, or a file that it names cannot be used.
    pub fn prepare(
        section: &TracesSection,
        program: &str,
        version: &str,
        instance: &str,
    ) -> Result<(Traces, Self), ConfigError> {
        section.validate()?;
        let Some(way) = WatchedWay::read(section)? else {
            return Ok((Traces::default(), Self::default()));
        };
        let stop = CancellationToken::new();
        let (traces, spans) = Traces::channel();
        let export = Export {
            way: way.subscribe(),
            resource: resource(section, program, version, instance)?,
            spans,
            stop: stop.clone(),
            is_away: false,
        };
        let prepared = Mutex::new(Some(export));
        Ok((traces, Self { stop, way: Some(way), prepared, running: Mutex::default() }))
    }

    /// From now on spans are delivered, on a task of this runtime. Call it once there is a recorder of metrics.
    pub fn run_on(&self, runtime: &Handle) {
        let Some(export) = self.prepared.lock().take() else { return };
        metrics::describe_counter!(SENT, "Spans of traced purges that the collector has taken");
        metrics::describe_counter!(
            LOST,
            "Spans that did not reach the collector: too many waited, it was away, or it refused"
        );
        metrics::counter!(SENT).increment(0);
        for why in [LossReason::Queue, LossReason::Away, LossReason::Refused] {
            lost(why, 0);
        }
        if let Some(way) = self.way.as_ref().filter(|way| way.has_files()) {
            runtime.spawn(Arc::clone(way).follow_files(self.stop.clone()));
        }
        *self.running.lock() = Some(runtime.spawn(export.run()));
    }

    /// Reads the authority and the headers again, for the next request. What cannot be used changes nothing. By themselves
    /// they are read again when their files have changed.
    pub fn reload(&self) {
        if let Some(way) = self.way.as_ref().filter(|way| way.has_files()) {
            way.reload();
        }
    }

    /// Delivers what is there, if that is done within [`FAREWELL_MAX`].
    pub async fn finish(&self) {
        self.stop.cancel();
        let running = self.running.lock().take();
        if let Some(running) = running {
            // It ends by itself in time; an error would be a panic in it, which its own line tells.
            let _ = tokio::time::timeout(FAREWELL_MAX * 2, running).await;
        }
    }
}

/// Who speaks, with the names that OpenTelemetry's conventions have for it. What the operator says goes before.
fn resource(
    section: &TracesSection,
    program: &str,
    version: &str,
    instance: &str,
) -> Result<Resource, ConfigError> {
    let own = [
        ("service.name", section.service.as_deref().unwrap_or(program)),
        ("service.version", version),
        ("service.instance.id", instance),
    ];
    let said = section.pairs()?;
    let own = own.into_iter().filter(|(key, _)| said.iter().all(|(known, _)| known != key));
    let text = |(key, value): (&str, &str)| attribute(key, Value::StringValue(value.to_owned()));
    Ok(Resource { attributes: own.chain(said.iter().copied()).map(text).collect(), ..Resource::default() })
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

impl Export {
    async fn run(mut self) {
        let mut client = self.connect();
        while !self.stop.is_cancelled() {
            let batch = self.gather().await;
            if !batch.is_empty() {
                self.deliver(&mut client, batch).await;
            }
        }
        // Nothing that comes from here on would be delivered.
        self.spans.close();
        let farewell = async {
            loop {
                let mut batch = Vec::new();
                if self.spans.recv_many(&mut batch, BATCH_SPANS).await == 0 {
                    return;
                }
                let spans = batch.len() as u64;
                let request = self.request(batch);
                match self.send(&mut client, request).await {
                    Ok(_) => metrics::counter!(SENT).increment(spans),
                    Err(_) => lost(LossReason::Away, spans),
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL_MAX, farewell).await;
    }

    /// To where the files say now; the connection is made by the first request.
    fn connect(&mut self) -> TraceServiceClient<Channel> {
        TraceServiceClient::new(self.way.borrow_and_update().endpoint.connect_lazy())
    }

    /// By the way of now: with another token, or by another authority, than the request before, if the files were exchanged.
    async fn send(
        &mut self,
        client: &mut TraceServiceClient<Channel>,
        spans: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, tonic::Status> {
        // An error says that nobody will exchange it any more.
        if self.way.has_changed().unwrap_or(false) {
            *client = self.connect();
        }
        let request = self.way.borrow().addressed(spans);
        client.export(request).await.map(tonic::Response::into_inner)
    }

    /// The first span that comes, and what follows it soon; nothing when the process stops.
    async fn gather(&mut self) -> Vec<TraceSpan> {
        let mut batch = Vec::new();
        let (stop, spans) = (&self.stop, &mut self.spans);
        if stop
            .run_until_cancelled(spans.recv_many(&mut batch, BATCH_SPANS))
            .await
            .is_none_or(|came| came == 0)
        {
            if spans.is_closed() {
                // Whoever would record one has gone.
                stop.cancel();
            }
            return batch;
        }
        let more = async {
            while batch.len() < BATCH_SPANS {
                let room = BATCH_SPANS - batch.len();
                if spans.recv_many(&mut batch, room).await == 0 {
                    return;
                }
            }
        };
        let _ = stop.run_until_cancelled(tokio::time::timeout(GATHER, more)).await;
        batch
    }

    async fn deliver(&mut self, client: &mut TraceServiceClient<Channel>, batch: Vec<TraceSpan>) {
        let spans = batch.len() as u64;
        let request = self.request(batch);
        let mut waits = AGAIN_AFTER.into_iter();
        loop {
            let status = match self.send(client, request.clone()).await {
                Ok(answer) => {
                    let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
                    let refused = u64::try_from(refused).unwrap_or(0).min(spans);
                    lost(LossReason::Refused, refused);
                    metrics::counter!(SENT).increment(spans - refused);
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!("spans are delivered again");
                    }
                    return;
                }
                Err(status) => status,
            };
            if !std::mem::replace(&mut self.is_away, true) {
                let way = self.way.borrow();
                let (code, reason) = (status.code(), way.hide(told(&status)));
                tracing::warn!(endpoint = %way.endpoint.uri(), ?code, reason, "spans cannot be delivered; purges go on untold");
            }
            if !is_passing(status.code()) {
                return lost(LossReason::Refused, spans);
            }
            let wait = waits.next().map(tokio::time::sleep);
            let has_waited = match wait {
                Some(wait) => self.stop.run_until_cancelled(wait).await.is_some(),
                None => false,
            };
            if !has_waited {
                return lost(LossReason::Away, spans);
            }
        }
    }

    fn request(&self, batch: Vec<TraceSpan>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope { name: "batoff".to_owned(), ..InstrumentationScope::default() };
        let spans = batch.into_iter().map(encode).collect();
        let scope = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let of_this = ResourceSpans { resource, scope_spans: vec![scope], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_this] }
    }
}

/// Whether trying again may help (OTLP specification, "OTLP/gRPC throttling").
const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}

/// tonic says "transport error" and keeps the reason in the sources.
fn told(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn encode(span: TraceSpan) -> Span {
    let kind = match span.side {
        SpanSide::Internal => SpanKind::Internal,
        SpanSide::Server => SpanKind::Server,
        SpanSide::Consumer => SpanKind::Consumer,
    };
    let value = |value| match value {
        SpanValue::Text(text) => Value::StringValue(text),
        SpanValue::Number(number) => Value::IntValue(number),
        SpanValue::Flag(flag) => Value::BoolValue(flag),
    };
    let event =
        |(name, at): (&str, u64)| Event { time_unix_nano: at, name: name.to_owned(), ..Event::default() };
    Span {
        trace_id: span.at.trace().to_vec(),
        span_id: span.at.span().to_vec(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.began,
        end_time_unix_nano: span.ended.max(span.began),
        attributes: span.attributes.into_iter().map(|(key, said)| attribute(key, value(said))).collect(),
        events: span.events.into_iter().map(event).collect(),
        status: span.failed.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
        TraceService, TraceServiceServer,
    };

    use super::super::way::ANSWER_MAX;
    use super::*;
    use crate::certificates::LOOK_EVERY;
    use crate::traces::tests::span;

    fn section(endpoint: &str) -> TracesSection {
        TracesSection { endpoint: Some(endpoint.to_owned()), ..TracesSection::default() }
    }

    #[test]
    fn who_speaks_is_said_and_what_the_operator_says_goes_before() {
        let mut section = section("http://collector:4317");
        section.attributes = vec!["service.instance.id=mine".to_owned(), "host.name=h".to_owned()];
        let resource = resource(&section, "batoff-edge", "1.0", "fra1/edge-1").unwrap();
        let said: Vec<_> = resource.attributes.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(said, ["service.name", "service.version", "service.instance.id", "host.name"]);
        let value = resource.attributes[2].value.clone().and_then(|value| value.value);
        assert_eq!(value, Some(Value::StringValue("mine".to_owned())));
    }

    /// The address is one that takes connections and never answers.
    #[tokio::test]
    async fn a_collector_that_does_not_answer_puts_off_the_end_for_no_longer_than_said() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let (traces, exporter) = Exporter::prepare(&section(&endpoint), "test", "1", "one").unwrap();
        exporter.run_on(&Handle::current());
        traces.record(span("purge"));
        tokio::time::timeout(FAREWELL_MAX * 5, exporter.finish()).await.unwrap();
        assert!(exporter.running.lock().is_none());
    }

    /// A collector that takes what comes with its token, and repeats any other.
    struct Guarded(std::sync::Mutex<mpsc::UnboundedSender<String>>, Mutex<String>);

    #[tonic::async_trait]
    impl TraceService for Guarded {
        async fn export(
            &self,
            request: tonic::Request<ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
            let token = request.metadata().get("x-token").map_or("none", |token| token.to_str().unwrap());
            self.0.lock().unwrap().send(token.to_owned()).unwrap();
            if token == *self.1.lock() {
                return Ok(tonic::Response::new(ExportTraceServiceResponse::default()));
            }
            Err(tonic::Status::unauthenticated(format!("no token of ours: {token}")))
        }
    }

    #[tokio::test]
    async fn each_request_goes_with_the_token_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        let put = |token: &str| {
            std::fs::write(&file, format!("x-token: {token}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let (came, mut told) = mpsc::unbounded_channel();
        let guarded = Arc::new(Guarded(std::sync::Mutex::new(came), Mutex::new("the-first".to_owned())));
        let service = TraceServiceServer::from_arc(Arc::clone(&guarded));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(at));
        put("the-first");
        let mut section = section(&format!("http://{at}"));
        section.headers_file = Some(file.clone());
        let (traces, exporter) = Exporter::prepare(&section, "test", "1", "one").unwrap();
        exporter.run_on(&Handle::current());
        let mut next = async || {
            traces.record(span("purge"));
            tokio::time::timeout(ANSWER_MAX * 2, told.recv()).await.unwrap().unwrap()
        };
        assert_eq!(next().await, "the-first");
        // It is refused, and given up at once: another attempt would say the same.
        "the-second".clone_into(&mut guarded.1.lock());
        assert_eq!(next().await, "the-first");
        put("the-second");
        exporter.reload();
        assert_eq!(next().await, "the-second");
        // By itself, once the file has been the same for two looks.
        put("the-third");
        let begun = tokio::time::Instant::now();
        while next().await != "the-third" {
            assert!(begun.elapsed() < LOOK_EVERY * 10, "nobody looks at the file");
        }
        exporter.finish().await;
    }

    #[test]
    fn without_an_endpoint_nothing_is_on() {
        let (traces, _) = Exporter::prepare(&TracesSection::default(), "test", "1", "one").unwrap();
        assert!(!traces.is_on());
    }
}
