//! How many purges a second does the store in etcd make durable? In turns with one put a purge into the same cluster, which
//! is what a log without group commit would do, and with the embedded store on the same disk.
//!
//! `cargo bench -p batoff-benches --bench log_etcd [-- FOLDER [SECONDS [ROUNDS]]]`; three members and all appenders share
//! this machine. Needs etcd (`apt-get install etcd-server`).

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_benches::{micros, percentiles, put_one};
use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Dedupe, NewRecord, NewTask, Store, system_clock};
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::{EtcdServers, EtcdSettings};
use batoff_types::{SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use hdrhistogram::Histogram;
use ulid::Ulid;

const APPENDERS: usize = 64;
const BODY_BYTES: usize = 200;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(compare())
}

async fn compare() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let folder = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let time = Duration::from_secs(arguments.next().map_or(Ok(4), |text| text.parse())?);
    let rounds: usize = arguments.next().map_or(Ok(3), |text| text.parse())?;

    let dir = tempfile::TempDir::new_in(&folder)?;
    let settings = EtcdSettings { dir: Some(folder), ..EtcdSettings::default() };
    let servers = EtcdServers::start_with(3, settings).await;
    let embedded = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock()))?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for member in 0..3 {
        let mut config = servers.config(system_clock());
        config.endpoints.rotate_left(member);
        stores.push(EtcdStore::open(config).await?);
    }
    let alone = vec![Arc::clone(&stores[0])];
    let local: Vec<Arc<dyn Store>> = vec![embedded];

    for appenders in [APPENDERS, 4 * APPENDERS] {
        let mut ratios = Vec::new();
        for round in 0..=rounds {
            let puts = drive(&alone, appenders, time, |store| put_one(store, BODY_BYTES)).await?;
            let one = drive(&alone, appenders, time, append_one).await?;
            let three = drive(&stores, appenders, time, append_one).await?;
            let local = drive(&local, appenders, time, append_one).await?;
            let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
            println!("{name}, {appenders} appenders:");
            for (what, measured) in [
                ("one put a purge", &puts),
                ("one store", &one),
                ("three stores", &three),
                ("embedded store", &local),
            ] {
                println!("  {what:16} {:>8.0}/s  {}", measured.rate, percentiles(&measured.latency));
            }
            if round > 0 {
                ratios.push([one.rate / puts.rate, three.rate / puts.rate, one.rate / local.rate]);
            }
        }
        let median = |at: usize| {
            let mut all: Vec<f64> = ratios.iter().map(|ratios| ratios[at]).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        println!(
            "{appenders} appenders, median of {rounds}: one store / puts {:.2}, three stores / puts {:.2}, one store / \
             embedded {:.2}",
            median(0),
            median(1),
            median(2)
        );
    }
    for store in stores.iter().chain(&local) {
        store.close().await;
    }
    Ok(())
}

struct Measured {
    rate: f64,
    latency: Histogram<u64>,
}

/// Appenders, spread over the stores, each one purge after the other.
async fn drive<Fut>(
    stores: &[Arc<dyn Store>],
    appenders: usize,
    time: Duration,
    write: impl Fn(Arc<dyn Store>) -> Fut + Copy + Send + 'static,
) -> anyhow::Result<Measured>
where
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = Instant::now();
    let running: Vec<_> = (0..appenders)
        .map(|appender| {
            let store = Arc::clone(&stores[appender % stores.len()]);
            tokio::spawn(async move {
                let mut latency = micros();
                while begin.elapsed() < time {
                    let sent = Instant::now();
                    write(Arc::clone(&store)).await?;
                    latency.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
                }
                anyhow::Ok(latency)
            })
        })
        .collect();
    let mut latency = micros();
    for appender in running {
        latency.add(appender.await??)?;
    }
    let rate = latency.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Measured { rate, latency })
}

async fn append_one(store: Arc<dyn Store>) -> anyhow::Result<()> {
    let (task, spread) = (Ulid::generate(), Ulid::generate());
    let mut key = [0; 32];
    // The random half first: keys are hashes.
    key[..16].copy_from_slice(&u128::from(spread).to_le_bytes());
    let now = (system_clock())();
    let site: SiteId = "shop".parse()?;
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let record = NewRecord {
        body: body.clone(),
        accepted_at: now,
        // As the control plane does: the row holds the record once more.
        task: Some(NewTask { site, task: TaskId::from_ulid(task), meta: body }),
        dedupe: vec![Dedupe {
            key,
            body_hash: [0; 32],
            fresh_for_ms: 2_000,
            expires_at: UnixMillis(now.0 + 600_000),
        }],
    };
    store.log().append(vec![record]).await?.first().context("an answer for each record")?;
    Ok(())
}
