//! How many purges a second does the embedded store make durable?
//!
//! `cargo run --release -p batoff-log --example append_rate [-- DIR [SECONDS]]`: appends records of 200 bytes with a
//! task row and one dedupe key each, one record an append, from 1, 64 and 256 appenders at once, on the disk of DIR
//! (default: the current directory), and prints records/s and latencies. Then 64 appenders beside one task that changes
//! values of 200 bytes beside the log, one after the other, as sessions and tokens do.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{
    CasError, Dedupe, Expect, Key, Kv, NewRecord, NewTask, PurgeLog, Store, StoreError, Write, system_clock,
};
use batoff_types::{TaskId, UnixMillis};
use bytes::Bytes;
use ulid::Ulid;

const BODY_BYTES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    println!(
        "appenders  records/s   p50 µs   p99 µs  values/s  (records of {BODY_BYTES} bytes, task row, one key)"
    );
    for (appenders, changers) in [(1, 0), (64, 0), (256, 0), (64, 1)] {
        let dir = parent.join(format!("append-rate-{}", Ulid::generate()));
        let measured = measure(&dir, appenders, changers, Duration::from_secs(seconds)).await;
        std::fs::remove_dir_all(&dir)?;
        let Measured { rate, p50, p99, changed } = measured?;
        println!("{appenders:>9} {rate:>10.0} {:>8} {:>8} {changed:>9.0}", p50.as_micros(), p99.as_micros());
    }
    Ok(())
}

struct Measured {
    rate: f64,
    p50: Duration,
    p99: Duration,
    /// Values changed a second.
    changed: f64,
}

async fn measure(
    dir: &std::path::Path,
    appenders: usize,
    changers: usize,
    time: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let store = EmbeddedStore::open(EmbeddedConfig::new(dir, system_clock()))?;
    let begin = Instant::now();
    let running: Vec<_> =
        (0..appenders).map(|_| tokio::spawn(append(Arc::clone(&store), begin + time))).collect();
    let changing: Vec<_> = (0..changers)
        .map(|changer| tokio::spawn(change(Arc::clone(&store), changer, begin + time)))
        .collect();
    let mut latencies = Vec::new();
    for appender in running {
        latencies.extend(appender.await??);
    }
    let mut changed = 0;
    for changer in changing {
        changed += changer.await??;
    }
    let elapsed = begin.elapsed();
    store.close().await;
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let at = (latencies.len() as f64 * q) as usize;
        latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    let changed = f64::from(changed) / elapsed.as_secs_f64();
    Ok(Measured { rate, p50: quantile(0.5), p99: quantile(0.99), changed })
}

/// Changes one value after the other, and counts.
async fn change(store: Arc<EmbeddedStore>, changer: usize, until: Instant) -> Result<u32, CasError> {
    let mut changed = 0;
    while Instant::now() < until {
        let key = Key::new(format!("session/{changer}/{}", changed % 1_000));
        let write = Write::Put { value: Bytes::from(vec![b'v'; BODY_BYTES]), ttl: None };
        store.cas(&key, Expect::Any, write).await?;
        changed += 1;
    }
    Ok(changed)
}

async fn append(store: Arc<EmbeddedStore>, until: Instant) -> Result<Vec<Duration>, StoreError> {
    let clock = system_clock();
    let Ok(site) = "shop".parse() else { return Err(StoreError::Invalid("the site's name")) };
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let (task, spread) = (Ulid::generate(), Ulid::generate());
        let mut key = [0; 32];
        // The random half first: keys are hashes.
        key[..16].copy_from_slice(&u128::from(spread).to_le_bytes());
        let now = clock();
        let record = NewRecord {
            body: Bytes::from(vec![b'x'; BODY_BYTES]),
            accepted_at: now,
            task: Some(NewTask {
                site: Clone::clone(&site),
                task: TaskId::from_ulid(task),
                meta: Bytes::new(),
            }),
            dedupe: vec![Dedupe {
                key,
                body_hash: [0; 32],
                fresh_for_ms: 2_000,
                expires_at: UnixMillis(now.0 + 600_000),
            }],
        };
        let begin = Instant::now();
        store.append(vec![record]).await?;
        latencies.push(begin.elapsed());
    }
    Ok(latencies)
}
