//! From one submission to every node: `batoff-control`, durable, beside Redis pub/sub and NATS core, in turns within one run.
//! Subscribers are lean (a process of their own with one epoll thread, each acknowledges every batch it reads), so that what
//! is measured is the sender. Redis and NATS are skipped, with a line that says so, when they are not installed.
//!
//! ```sh
//! cargo bench -p batoff-benches --bench fanout -- --nodes 10,100,1000 --rates 10,100 --seconds 10 --rounds 2
//! cargo bench -p batoff-benches --bench fanout -- --nodes 1000 --burst 10000 --against batoff,redis
//! ```
//! `--nodes 0` measures what accepting takes while nobody listens, `--tls` with nodes that speak mutual TLS.

#[path = "fanout/arguments.rs"]
mod arguments;
#[path = "fanout/certificates.rs"]
mod certificates;
#[path = "fanout/fleet.rs"]
mod fleet;
#[path = "fanout/held_lease.rs"]
mod held_lease;
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
#[path = "fanout/sealed.rs"]
mod sealed;
#[path = "fanout/stamped.rs"]
mod stamped;
#[path = "fanout/submit.rs"]
mod submit;
#[path = "fanout/subscribers.rs"]
mod subscribers;
#[path = "fanout/tally.rs"]
mod tally;

use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_benches::{Control, cpu_seconds, machine_seconds, resident_mb};
use serde_json::json;

use self::arguments::{Contender, Offered, Request};
use self::fleet::{FleetProcess, Received};
use self::process::Broker;
use self::submit::Submitted;

/// What `batoff-control` counts itself.
const LEASES_LOST: &str = "batoff_control_node_leases_lost_total";

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
    let wire = if request.tls { "mutual TLS for batoff's nodes" } else { "plaintext" };
    println!("{wire} on loopback; load of the machine before: {}", load.trim());
    println!(
        "| who | nodes | events | request → answer p50 / p99 | → last node p50 / p99 / max | … into its socket \
         | → `completed` p50 / p99 / max | server CPU s for 10^6 deliveries | … µs an event | messages a delivery | server MB \
         | KiB a node | leases lost: to the server, refused, to the subscribers; the server's own count \
         | read late, mean / max | refused | cores taken by others |\n\
         | --- | --: | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..request.rounds {
        for &nodes in &request.nodes {
            for &load in &request.loads {
                for &contender in &request.contenders {
                    match contender {
                        Contender::Batoff => runtime.block_on(batoff(nodes, load, &request))?,
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

async fn batoff(nodes: usize, load: Offered, request: &Request) -> anyhow::Result<()> {
    let certificates = request.tls.then(tempfile::tempdir).transpose()?;
    let certificates = certificates.as_ref().map(tempfile::TempDir::path);
    let control = match certificates {
        None => Control::start().await?,
        Some(folder) => {
            certificates::issue(folder, nodes)?;
            let [cert, key, ca] =
                [certificates::CONTROL[0], certificates::CONTROL[1], certificates::AUTHORITY];
            let [cert, key, ca] = [cert, key, ca].map(|name| folder.join(name));
            Control::start_with(&format!("cert = {cert:?}\nkey = {key:?}\nca = {ca:?}")).await?
        }
    };
    let address = control.grpc.strip_prefix("http://").context("an address")?;
    let alone_mb = resident_mb(control.pid())?;
    let fleet = FleetProcess::start(Contender::Batoff, address, nodes, certificates)?;
    batoff_tests::eventually("all nodes are there", || async {
        let reply = control.customer.purge(&json!({"tags": ["settle"]})).await;
        let task = control.customer.completed(&reply.task()).await;
        (task["nodes"]["confirmed"] == nodes).then_some(())
    })
    .await;
    tokio::time::sleep(CALM).await;
    let lost_before = control.counted(LEASES_LOST).await?;
    let mut measured = Measured::begin(fleet, control.pid(), alone_mb)?;
    let submitted = submit::submit(&control, load, request.seconds).await?;
    measured.stop()?;
    // It is told once a second.
    tokio::time::sleep(CALM).await;
    let counted = control.counted(LEASES_LOST).await? - lost_before;
    measured.print(Contender::Batoff, nodes, load, &submitted, Some(counted))
}

fn broker(contender: Contender, nodes: usize, load: Offered, seconds: u32) -> anyhow::Result<()> {
    let Some(broker) = Broker::start(contender)? else { return Ok(()) };
    let alone_mb = resident_mb(broker.pid())?;
    let fleet = FleetProcess::start(contender, &broker.address, nodes, None)?;
    std::thread::sleep(CALM);
    let mut measured = Measured::begin(fleet, broker.pid(), alone_mb)?;
    let submitted = publish::publish(contender, &broker.address, nodes, load, seconds)?;
    measured.stop()?;
    measured.print(contender, nodes, load, &submitted, None)
}

/// CPU seconds: of the server, of ours, of the whole machine.
#[derive(Clone, Copy)]
struct Spent {
    server: f64,
    own: f64,
    machine: f64,
    at: Instant,
}

/// One row, from its begin.
struct Measured {
    fleet: FleetProcess,
    server: u32,
    /// What each node has added to the server's memory, in KiB, before there was a load.
    node_kib: f64,
    /// At the begin, and at the end.
    spent: [Spent; 2],
    received: Option<Received>,
}

impl Measured {
    fn begin(mut fleet: FleetProcess, server: u32, alone_mb: f64) -> anyhow::Result<Self> {
        let node_kib = (resident_mb(server)? - alone_mb) * 1_000.0 / fleet.count().max(1) as f64;
        fleet.begin()?;
        let spent = Self::spent(&fleet, server)?;
        Ok(Self { fleet, server, node_kib, spent: [spent; 2], received: None })
    }

    fn spent(fleet: &FleetProcess, server: u32) -> anyhow::Result<Spent> {
        let own = cpu_seconds(std::process::id())? + cpu_seconds(fleet.pid())?;
        Ok(Spent { server: cpu_seconds(server)?, own, machine: machine_seconds()?, at: Instant::now() })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.spent[1] = Self::spent(&self.fleet, self.server)?;
        self.received = Some(self.fleet.report()?);
        Ok(())
    }

    fn print(
        &self,
        contender: Contender,
        nodes: usize,
        load: Offered,
        submitted: &Submitted,
        leases_counted: Option<f64>,
    ) -> anyhow::Result<()> {
        let [before, after] = self.spent;
        let (server, own) = (after.server - before.server, after.own - before.own);
        let others = (after.machine - before.machine - server - own).max(0.0);
        let others = others / (after.at - before.at).as_secs_f64();
        let received = self.received.as_ref().context("stopped")?;
        let [mut last, mut came, mut completed, mut answers] = [(); 4].map(|()| batoff_benches::micros());
        let mut missing = 0;
        let since = |sent: &u64, at: &u64| (at.saturating_sub(*sent) / 1_000).max(1);
        for (name, sent) in &submitted.sent {
            match received.arrivals.get(name) {
                Some((count, read, arrived)) if *count == nodes as u64 => {
                    last.saturating_record(since(sent, read));
                    came.saturating_record(since(sent, arrived));
                }
                _ if nodes == 0 => {}
                _ => missing += 1,
            }
            match submitted.completed.get(name) {
                Some(at) => completed.saturating_record(since(sent, at)),
                None => missing += 1,
            }
        }
        for took in &submitted.answers {
            answers.saturating_record((took / 1_000).max(1));
        }
        let (events, deliveries) =
            (submitted.sent.len().max(1) as f64, (submitted.sent.len() * nodes) as f64);
        let of_deliveries = |value: f64| {
            if nodes == 0 { "–".to_owned() } else { format!("{:.2}", value / deliveries.max(1.0)) }
        };
        let offered = match load {
            Offered::Rate(rate) => format!("{rate} a second"),
            Offered::Burst(count) => format!("{count} at once"),
        };
        let most = submitted
            .refusals
            .iter()
            .max()
            .map_or(String::new(), |most| format!(" (≤ {} ms)", most / 1_000_000));
        let leases = leases_counted.map_or("–".to_owned(), |counted| {
            let [server, refused, own] = received.leases_lost;
            format!("{server}, {refused}, {own}; {counted}")
        });
        let (late_mean, late_most) = received.late_ns;
        println!(
            "| {} | {nodes} | {offered} | {} | {} | {} | {} | {} | {:.0} | {} | {:.0} | {} | {leases} | {:.1} / {:.0} ms \
             | {}{most} | {others:.2} |",
            contender.name(),
            millis(&answers, false),
            millis(&last, true),
            millis(&came, true),
            millis(&completed, true),
            of_deliveries(server * 1e6),
            server * 1e6 / events,
            of_deliveries(received.messages as f64),
            resident_mb(self.server)?,
            if nodes == 0 { "–".to_owned() } else { format!("{:.0}", self.node_kib) },
            late_mean as f64 / 1e6,
            late_most as f64 / 1e6,
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
