//! Durable accept: through three control planes beside three members, through one, through one with the embedded store, and
//! bare puts into the same members.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_benches::{Load, cpu_seconds, micros, percentiles, prepared, put_one};
use batoff_log::{Store, system_clock};
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::EtcdServers;
use hdrhistogram::Histogram;

use super::arguments::Arguments;
use super::median;
use super::planes::{Log, Planes};

/// Bytes of a put; a record of one URL has about as many.
const PUT_BYTES: usize = 200;

/// Within this time what was accepted is in the files whose size is looked at.
const WRITTEN: Duration = Duration::from_secs(1);

/// What one contender did in one round.
struct Accepted {
    rate: f64,
    latency: Histogram<u64>,
    /// CPU a request, in microseconds: of the control planes, or of this process where it puts itself.
    cpu: f64,
}

pub async fn measure(members: &EtcdServers, arguments: &Arguments) -> anyhow::Result<()> {
    let logs = [Log::Embedded, Log::Etcd(1), Log::Etcd(3)];
    let endpoints = members.endpoints();
    let mut planes = Vec::new();
    for log in logs {
        planes.push(Planes::start(log, &endpoints).await?);
    }
    let store: Arc<dyn Store> = EtcdStore::open(members.config(system_clock())).await?;
    let mut rates: Vec<[f64; 4]> = Vec::new();
    let (mut grown, mut taken) = ([0.0; 3], [0.0; 3]);
    println!("\naccept, {} requests over {} connections:", arguments.requests, arguments.connections);
    for round in 0..=arguments.rounds {
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        let mut all = vec![("one put a purge".to_owned(), puts(&store, arguments).await?)];
        for (at, (log, planes)) in logs.iter().zip(&planes).enumerate() {
            let before = stored(*log, planes, &endpoints).await?;
            let done = drive(planes, arguments, round).await?;
            tokio::time::sleep(WRITTEN).await;
            grown[at] += stored(*log, planes, &endpoints).await? - before;
            taken[at] += done.latency.len() as f64;
            all.push((log.name(), done));
        }
        for (who, done) in &all {
            println!(
                "  {name}  {who:16} {:>7.0}/s  {}  CPU a request {:.0} µs",
                done.rate,
                percentiles(&done.latency),
                done.cpu
            );
        }
        if round > 0 {
            rates.push(std::array::from_fn(|at| all[at].1.rate));
        }
    }
    let ratio = |of: usize, to: usize| median(rates.iter().map(|rates| rates[of] / rates[to]).collect());
    println!(
        "  median of {}: three replicas / one over etcd {:.2}, / one embedded {:.2}, / puts {:.2}; one over etcd / embedded \
         {:.2}, / puts {:.2}",
        arguments.rounds,
        ratio(3, 2),
        ratio(3, 1),
        ratio(3, 0),
        ratio(2, 1),
        ratio(2, 0)
    );
    for (at, log) in logs.iter().enumerate() {
        println!("  bytes kept a purge of one URL, {}: {:.0}", log.name(), grown[at] / taken[at]);
    }
    store.close().await;
    Ok(())
}

async fn drive(planes: &Planes, arguments: &Arguments, round: usize) -> anyhow::Result<Accepted> {
    let replicas = planes.apis.len();
    let each = arguments.requests / replicas;
    let connections = arguments.connections / replicas;
    // Signed before the clock runs.
    let prepared = planes.apis.iter().zip(&planes.customers).enumerate().map(|(at, (api, customer))| {
        let from = (round * replicas + at) * each;
        (api.clone(), prepared(customer, api, from..from + each))
    });
    let prepared: Vec<_> = prepared.collect();
    let (cpu, begun) = (planes.cpu_seconds()?, Instant::now());
    let loads: Vec<_> = prepared
        .into_iter()
        .map(|(api, requests)| {
            tokio::spawn(async move { Load::drive(&api, requests, connections, 202).await })
        })
        .collect();
    let mut latency = micros();
    for load in loads {
        latency.add(load.await??.latency)?;
    }
    let (elapsed, cpu) = (begun.elapsed(), planes.cpu_seconds()? - cpu);
    let requests = latency.len() as f64;
    Ok(Accepted { rate: requests / elapsed.as_secs_f64(), latency, cpu: cpu * 1e6 / requests })
}

/// Bytes that a log takes: its folder, or what a member of etcd has in use, with its history until that is compacted.
async fn stored(log: Log, planes: &Planes, members: &[String]) -> anyhow::Result<f64> {
    const IN_USE: &str = "etcd_mvcc_db_total_size_in_use_in_bytes ";
    if log == Log::Embedded {
        return planes.folder_bytes();
    }
    let text = batoff_tests::http().get(format!("{}/metrics", members[0])).send().await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(IN_USE)).context(IN_USE)?;
    Ok(value.parse()?)
}

async fn puts(store: &Arc<dyn Store>, arguments: &Arguments) -> anyhow::Result<Accepted> {
    let each = arguments.requests / arguments.connections;
    let (cpu, begun) = (cpu_seconds(std::process::id())?, Instant::now());
    let putters: Vec<_> = (0..arguments.connections)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut latency = micros();
                for _ in 0..each {
                    let sent = Instant::now();
                    put_one(Arc::clone(&store), PUT_BYTES).await?;
                    latency.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
                }
                anyhow::Ok(latency)
            })
        })
        .collect();
    let mut latency = micros();
    for putter in putters {
        latency.add(putter.await??)?;
    }
    let (rate, cpu) =
        (latency.len() as f64 / begun.elapsed().as_secs_f64(), cpu_seconds(std::process::id())? - cpu);
    let cpu = cpu * 1e6 / latency.len() as f64;
    Ok(Accepted { rate, latency, cpu })
}
