//! From one submission to every node: `batoff-control`, durable, beside Redis pub/sub and NATS core, in turns within one run.
//! Subscribers are lean (a process of their own with one epoll thread, each acknowledges every batch it reads), so that what
//! is measured is the sender. Redis and NATS are skipped, with a line that says so, when they are not installed.
//!
//! ```sh
//! cargo bench -p batoff-benches --bench fanout -- --nodes 10,100,1000 --rates 10,100 --seconds 10 --rounds 2
//! cargo bench -p batoff-benches --bench fanout -- --nodes 1000 --burst 10000 --against batoff,redis
//! ```
//! `--nodes 0` measures what accepting takes while nobody listens.

#[path = "fanout/arguments.rs"]
mod arguments;
#[path = "fanout/fleet.rs"]
mod fleet;
#[path = "fanout/nats.rs"]
mod nats;
#[path = "fanout/process.rs"]
mod process;
#[path = "fanout/publish.rs"]
mod publish;
#[path = "fanout/purge_stream.rs"]
mod purge_stream;
#[path = "fanout/redis.rs"]
mod redis;
#[path = "fanout/submit.rs"]
mod submit;
#[path = "fanout/subscribers.rs"]
mod subscribers;
#[path = "fanout/tally.rs"]
mod tally;

use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_benches::Control;
use serde_json::json;

use self::arguments::{Contender, Offered, Request};
use self::fleet::FleetProcess;
use self::process::{Broker, cpu_seconds, machine_seconds, resident_mb};
use self::submit::Submitted;

/// Between the start of everything and the first submission: what begins with a start has ended.
const CALM: Duration = Duration::from_millis(1_500);

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == subscribers::SUBSCRIBERS) {
        return subscribers::run(&arguments.split_off(1));
    }
    let request = Request::parse(arguments.into_iter())?;
    // The servers inherit it.
    batoff_program::descriptors::raise();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("plaintext on loopback; load of the machine before: {}", load.trim());
    println!(
        "| who | nodes | events | request → answer p50 / p99 | → last node p50 / p99 / max | → `completed` p50 / p99 / max \
         | server CPU s for 10^6 deliveries | messages a delivery | server MB | leases lost | refused | cores taken by others |\n\
         | --- | --: | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..request.rounds {
        for &nodes in &request.nodes {
            for &load in &request.loads {
                for &contender in &request.contenders {
                    match contender {
                        Contender::Batoff => runtime.block_on(batoff(nodes, load, request.seconds))?,
                        Contender::Redis | Contender::Nats if nodes == 0 => {}
                        Contender::Redis | Contender::Nats => {
                            broker(contender, nodes, load, request.seconds)?
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

async fn batoff(nodes: usize, load: Offered, seconds: u32) -> anyhow::Result<()> {
    let control = Control::start().await?;
    let address = control.grpc.strip_prefix("http://").context("plaintext")?;
    let fleet = FleetProcess::start(Contender::Batoff, address, nodes)?;
    batoff_tests::eventually("all nodes are there", || async {
        let reply = control.customer.purge(&json!({"tags": ["settle"]})).await;
        let task = control.customer.completed(&reply.task()).await;
        (task["nodes"]["confirmed"] == nodes).then_some(())
    })
    .await;
    tokio::time::sleep(CALM).await;
    let mut measured = Measured::begin(fleet, control.pid())?;
    let submitted = submit::submit(&control, load, seconds).await?;
    measured.end(Contender::Batoff, nodes, load, &submitted)
}

fn broker(contender: Contender, nodes: usize, load: Offered, seconds: u32) -> anyhow::Result<()> {
    let Some(broker) = Broker::start(contender)? else { return Ok(()) };
    let fleet = FleetProcess::start(contender, &broker.address, nodes)?;
    std::thread::sleep(CALM);
    let mut measured = Measured::begin(fleet, broker.pid())?;
    let submitted = publish::publish(contender, &broker.address, nodes, load, seconds)?;
    measured.end(contender, nodes, load, &submitted)
}

/// One row, from its begin.
struct Measured {
    fleet: FleetProcess,
    server: u32,
    server_seconds: f64,
    own_seconds: f64,
    machine_seconds: f64,
    begun: Instant,
}

impl Measured {
    fn begin(mut fleet: FleetProcess, server: u32) -> anyhow::Result<Self> {
        fleet.begin()?;
        let own_seconds = cpu_seconds(std::process::id())? + cpu_seconds(fleet.pid())?;
        Ok(Self {
            server,
            server_seconds: cpu_seconds(server)?,
            own_seconds,
            machine_seconds: machine_seconds()?,
            begun: Instant::now(),
            fleet,
        })
    }

    fn end(
        &mut self,
        contender: Contender,
        nodes: usize,
        load: Offered,
        submitted: &Submitted,
    ) -> anyhow::Result<()> {
        let server = cpu_seconds(self.server)? - self.server_seconds;
        let own = cpu_seconds(std::process::id())? + cpu_seconds(self.fleet.pid())? - self.own_seconds;
        let machine = machine_seconds()? - self.machine_seconds;
        let others = (machine - server - own).max(0.0) / self.begun.elapsed().as_secs_f64();
        let received = self.fleet.report()?;
        let mut last = batoff_benches::micros();
        let mut completed = batoff_benches::micros();
        let mut missing = 0;
        for (name, sent) in &submitted.sent {
            match received.arrivals.get(name) {
                Some((count, at)) if *count == nodes as u64 => {
                    last.saturating_record((at.saturating_sub(*sent) / 1_000).max(1));
                }
                _ if nodes == 0 => {}
                _ => missing += 1,
            }
            match submitted.completed.get(name) {
                Some(at) => completed.saturating_record((at.saturating_sub(*sent) / 1_000).max(1)),
                None => missing += 1,
            }
        }
        let mut answers = batoff_benches::micros();
        for took in &submitted.answers {
            answers.saturating_record((took / 1_000).max(1));
        }
        let deliveries = (submitted.sent.len() * nodes) as f64;
        let events = match load {
            Offered::Rate(rate) => format!("{rate} a second"),
            Offered::Burst(count) => format!("{count} at once"),
        };
        let most = submitted
            .refusals
            .iter()
            .max()
            .map_or(String::new(), |most| format!(" (≤ {} ms)", most / 1_000_000));
        println!(
            "| {} | {nodes} | {events} | {} | {} | {} | {:.2} | {:.2} | {:.0} | {} | {}{most} | {others:.2} |",
            contender.name(),
            millis(&answers, false),
            millis(&last, true),
            millis(&completed, true),
            server * 1e6 / deliveries.max(1.0),
            received.messages as f64 / deliveries.max(1.0),
            resident_mb(self.server)?,
            if contender == Contender::Batoff { received.leases_lost.to_string() } else { "–".to_owned() },
            submitted.refusals.len(),
        );
        if missing > 0 {
            println!(
                "  {missing} times an event had not reached all, or was not completed, when it was waited for no longer"
            );
        }
        Ok(())
    }
}

/// Percentiles in milliseconds.
fn millis(histogram: &hdrhistogram::Histogram<u64>, with_max: bool) -> String {
    if histogram.is_empty() {
        return "–".to_owned();
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let most = if with_max { format!(" / {:.1}", histogram.max() as f64 / 1_000.0) } else { String::new() };
    format!("{:.1} / {:.1}{most} ms", at(0.5), at(0.99))
}
