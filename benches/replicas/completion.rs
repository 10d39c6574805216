//! How long until every node has a purge and it is completed, with one control plane and with several; and what following one,
//! two and three of them costs a node and a control plane, idle and under that load.

use std::time::{Duration, Instant};

use anyhow::ensure;
use batoff_benches::{cpu_seconds, machine_seconds, micros, percentiles};
use batoff_log_etcd::testing::EtcdServers;
use batoff_tests::eventually;
use serde_json::json;

use super::arguments::Arguments;
use super::nodes::Nodes;
use super::offered::{Accepted, offer};
use super::planes::{Log, Planes};
use super::wire::{self, Wire};

/// What begins with a start has ended by then.
const CALM: Duration = Duration::from_secs(2);

pub async fn measure(members: &EtcdServers, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { nodes, rate, seconds, .. } = *arguments;
    println!(
        "\ncompletion, {nodes} nodes with a stream to each replica, {rate} purges a second for {seconds} s:"
    );
    for round in 1..=arguments.rounds {
        for log in [Log::Embedded, Log::Etcd(1), Log::Etcd(2), Log::Etcd(3)] {
            println!("  round {round}, control planes: {}", log.name());
            one(log, members, arguments).await?;
        }
    }
    Ok(())
}

async fn one(log: Log, members: &EtcdServers, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { nodes: count, rate, seconds, .. } = *arguments;
    let planes = Planes::start(log, &members.endpoints()).await?;
    let mut nodes = Nodes::start(count, &arguments.feeds, &planes.grpc)?;
    eventually("each node follows each control plane", || async {
        let wire = wire::count(&planes.grpc).unwrap_or_default();
        (wire.connections == count * planes.grpc.len()).then_some(())
    })
    .await;
    eventually("all nodes confirm", || async {
        let reply = planes.customers[0].purge(&json!({"tags": ["settle"]})).await;
        let task = planes.customers[0].completed(&reply.task()).await;
        (task["nodes"]["confirmed"] == count).then_some(())
    })
    .await;
    tokio::time::sleep(CALM).await;

    let begin = Spent::now(&nodes, &planes)?;
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    let idle = Spent::now(&nodes, &planes)?;
    let accepted = offer(&planes, rate, seconds).await?;
    let loaded = Spent::now(&nodes, &planes)?;

    purges(&accepted, &mut nodes, &planes, count).await?;
    println!("    {}", idle.since(&begin).told("idle", count, planes.grpc.len()));
    println!("    {}", loaded.since(&idle).told("under load", count, planes.grpc.len()));
    Ok(())
}

async fn purges(
    accepted: &[Accepted],
    nodes: &mut Nodes,
    planes: &Planes,
    count: usize,
) -> anyhow::Result<()> {
    let (mut answer, mut last, mut propagation) = (micros(), micros(), micros());
    let mut approximate = 0;
    for one in accepted {
        // Any of them knows.
        let task = planes.customers[0].completed(&one.task).await;
        approximate += usize::from(task["approximate"] == true);
        let took = task["propagation_ms"].as_u64().unwrap_or_default();
        propagation.saturating_record((took * 1_000).max(1));
    }
    let arrivals = nodes.report()?;
    let mut missing = 0;
    for one in accepted {
        let since = |at: u64| (at.saturating_sub(one.sent_ns) / 1_000).max(1);
        answer.saturating_record(since(one.answered_ns));
        match arrivals.get(&one.task) {
            Some((reached, at)) if *reached == count => last.saturating_record(since(*at)),
            _ => missing += 1,
        }
    }
    ensure!(missing == 0, "{missing} purges are completed, and not every node was told of them");
    println!("    request to 202            {}", percentiles(&answer));
    println!("    request to the last node  {}", percentiles(&last));
    println!(
        "    durable to completed      {} (whole milliseconds; {approximate} of {} approximate)",
        percentiles(&propagation),
        accepted.len()
    );
    Ok(())
}

/// CPU seconds and what went over the wire, so far or in between.
struct Spent {
    at: Instant,
    elapsed: f64,
    nodes: f64,
    planes: f64,
    machine: f64,
    wire: Wire,
}

impl Spent {
    fn now(nodes: &Nodes, planes: &Planes) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            elapsed: 0.0,
            nodes: cpu_seconds(nodes.pid())?,
            planes: planes.cpu_seconds()?,
            machine: machine_seconds()?,
            wire: wire::count(&planes.grpc)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at,
            elapsed: self.at.duration_since(before.at).as_secs_f64(),
            nodes: self.nodes - before.nodes,
            planes: self.planes - before.planes,
            machine: self.machine - before.machine,
            wire: Wire {
                connections: self.wire.connections,
                bytes: self.wire.bytes - before.wire.bytes,
                segments: self.wire.segments - before.wire.segments,
            },
        }
    }

    fn told(&self, when: &str, nodes: usize, replicas: usize) -> String {
        let (seconds, nodes) = (self.elapsed, nodes as f64);
        format!(
            "{when:10}  CPU a second: a node {:.2} ms, a control plane {:.0} ms, all else {:.2} cores; a node's wire: {:.0} B/s, \
             {:.1} segments/s over {} streams",
            self.nodes * 1e3 / seconds / nodes,
            self.planes * 1e3 / seconds / replicas as f64,
            (self.machine - self.nodes - self.planes) / seconds,
            self.wire.bytes / seconds / nodes,
            self.wire.segments / seconds / nodes,
            self.wire.connections as f64 / nodes
        )
    }
}
