//! What traces cost whoever accepts purges: CPU of the control plane a request, without traces, at 1 % and at 100 %, each a process
//! of its own, in turns, in the same run, with a collector that takes everything.
//!
//! ```sh
//! cargo bench -p batoff-benches --bench traces -- --rounds 5 --requests 20000 --connections 64
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use batoff_benches::{Control, Load, cpu_seconds, percentiles, prepared};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Takes everything, and counts it.
#[derive(Clone, Default)]
struct Sink(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let all = request.into_inner().resource_spans.into_iter().flat_map(|from| from.scope_spans);
        self.0.fetch_add(all.map(|scope| scope.spans.len() as u64).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [rounds, each, connections] = asked(std::env::args().skip(1))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let collector = listener.local_addr()?;
    let sink = Sink::default();
    let service = TraceServiceServer::new(sink.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));

    let traced = |ratio: &str| {
        format!("plaintext = true\n[traces]\nendpoint = \"http://{collector}\"\nratio = {ratio}")
    };
    let mut ways = Vec::new();
    for (name, lines) in
        [("off", "plaintext = true".to_owned()), ("1 %", traced("0.01")), ("100 %", traced("1.0"))]
    {
        ways.push((name, Control::start_with(&lines).await?, Vec::new()));
    }
    for round in 0..=rounds {
        for (name, control, costs) in &mut ways {
            let numbers = round * each..(round + 1) * each;
            let requests = prepared(&control.customer, &control.api, numbers);
            let before = cpu_seconds(control.pid())?;
            let load = Load::drive(&control.api, requests, connections, 202).await?;
            let cost = (cpu_seconds(control.pid())? - before) * 1e6 / each as f64;
            let told = percentiles(&load.latency);
            println!("round {round}, {name}: {:.0}/s ({told}), CPU a request {cost:.1} µs", load.rate());
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let mut off = None;
    for (name, control, costs) in &mut ways {
        costs.sort_by(f64::total_cmp);
        let cost = costs[rounds / 2];
        let off = *off.get_or_insert(cost);
        println!(
            "{name}: CPU a request {cost:.1} µs, median of {rounds}; {:+.1} %",
            (cost / off - 1.0) * 100.0
        );
        if *name != "off" {
            let sent = control.counted("batoff_trace_spans_sent_total").await?;
            let lost = control.counted("batoff_trace_spans_lost_total{reason=\"queue\"}").await?;
            println!("  spans sent {sent}, lost for want of room {lost}");
        }
    }
    println!("the collector has taken {} spans", sink.0.load(Ordering::Relaxed));
    Ok(())
}

/// Rounds, requests in each, connections with one request under way.
fn asked(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<[usize; 3]> {
    let mut asked = [5, 20_000, 64];
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--rounds" => 0,
            "--requests" => 1,
            "--connections" => 2,
            // Given by cargo bench.
            "--bench" => continue,
            other => bail!("{other}: expected --rounds 5 --requests 20000 --connections 64"),
        };
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        asked[place] = value.parse().with_context(|| format!("{argument} {value}"))?;
    }
    ensure!(!asked.contains(&0), "--rounds, --requests and --connections are at least 1");
    Ok(asked)
}
