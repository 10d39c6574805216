//! Purging Varnish: through the adapter, and as an operator would do it today. Needs Debian's varnish and
//! varnish-modules.
//!
//! `cargo bench -p batoff-benches --bench varnish`; `BATOFF_BENCH_OBJECTS` for another number than 100,000, 0 for the hits
//! alone.

#[path = "varnish/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use batoff_caches::shared::pipeline::{Address, Pipeline};
use batoff_caches::varnish::{Varnish, VarnishSection};
use batoff_caches::{Locator, Surroundings};
use batoff_edge::cache::Cache;
use batoff_edge::{Fence, Identity, Path, Provenance};
use batoff_index::{Index, IndexConfig};
use batoff_types::message::LeasePolicy;
use batoff_types::{Body, Purge, Record, Selector, Seq, SiteChange, SiteLimits, TaskId, UnixMillis};

use self::server::{Server, cpu};

const HOST: &str = "www.example.test";

/// Connections that fill at one time.
const CONNECTIONS: usize = 8;

/// Objects that are looked at after a purge, evenly spread.
const SAMPLE: usize = 1_000;

/// Hits whose cost is measured, on each configuration and in each of the rounds.
const HITS: usize = 100_000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let objects =
        std::env::var("BATOFF_BENCH_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir()?;
    let origin = server::origin().await?;
    let ours = Server::start(&dir.path().join("ours"), origin, true).await?;
    let plain = Server::start(&dir.path().join("plain"), origin, false).await?;
    let _lease = Adapter::open(&ours).await?;
    if objects > 0 {
        purges(&ours, &plain, objects).await?;
    }
    hit_costs(&ours, &plain).await
}

async fn purges(ours: &Server, plain: &Server, objects: usize) -> anyhow::Result<()> {
    let adapter = Adapter::open(ours).await?;
    println!("{objects} objects, from the record's arrival until the last of them misses:");
    let tag = Selector::Tag("many".parse()?);
    let through_xkey = timed(ours, objects, async || adapter.purge(tag.clone()).await).await?;
    row("adapter, by tag (guard, settle, one xkey purge)", through_xkey, through_xkey);
    let prefix = Selector::Prefix(format!("https://{HOST}/many/").parse()?);
    let through_ban = timed(ours, objects, async || adapter.purge(prefix.clone()).await).await?;
    row("adapter, by prefix (guard, settle, one ban)", through_ban, through_xkey);
    let one_by_one = timed(plain, objects, async || plain.purge_one_by_one(objects).await).await?;
    row("one PURGE a URL, one after the other", one_by_one, through_xkey);
    let banned = timed(plain, objects, async || plain.ban("ban req.url ~ ^/many/").await).await?;
    row("a ban on req.url by hand (no guard)", banned, through_xkey);

    println!("until their memory is free again:");
    for (server, name, ban) in [
        (ours, "ban on obj.http, ban_lurker_age 1 s as the adapter sets it", "ban obj.http.Batoff-Key ~ ^"),
        (plain, "ban on obj.http, default ban_lurker_age 60 s", "ban obj.http.X-Url ~ ^"),
    ] {
        fill(server, objects).await?;
        let begun = Instant::now();
        server.ban(ban).await?;
        while server.objects()? > objects as u64 / 100 {
            ensure!(begun.elapsed() < Duration::from_secs(180), "{name}: the lurker does not come");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("  {name}: {:.1} s", begun.elapsed().as_secs_f64());
    }

    Ok(())
}

async fn hit_costs(ours: &Server, plain: &Server) -> anyhow::Result<()> {
    println!("a hit, in microseconds of varnishd's CPU (least of {ROUNDS} rounds of {HITS}, taken in turn):");
    let (mut fenced, mut bare) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        fenced = fenced.min(hit_cost(ours).await?);
        bare = bare.min(hit_cost(plain).await?);
    }
    println!("  batoff.vcl {fenced:.2}, plain {bare:.2}: {:+.0} %", (fenced / bare - 1.0) * 100.0);
    Ok(())
}

fn row(what: &str, took: Duration, unit: Duration) {
    let ratio = took.as_secs_f64() / unit.as_secs_f64();
    println!("  {what}: {:.0} ms ({ratio:.2}x)", took.as_secs_f64() * 1_000.0);
}

/// The adapter as the daemon runs it, without the daemon.
struct Adapter {
    cache: Varnish,
    index: Arc<Index<Locator>>,
}

impl Adapter {
    async fn open(server: &Server) -> anyhow::Result<Self> {
        let index = Arc::new(Index::new(IndexConfig::default()));
        let hostnames = vec![HOST.parse()?];
        let change = SiteChange {
            site: "bench".parse()?,
            hostnames: Some(hostnames),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        };
        drop(index.apply(&record(1, Body::Site(change))?));
        let section: VarnishSection = serde_json::from_value(server.section())?;
        let fence = Arc::new(Fence::new(LeasePolicy::Serve));
        let around = Surroundings {
            index: Arc::clone(&index),
            fence: Arc::clone(&fence),
            path: Arc::new(Path::new(false)),
            overflow: Arc::default(),
            provenance: Provenance::new(Identity::random(), fence),
            policy: LeasePolicy::Serve,
            state_dir: server.dir.clone(),
            resumes: true,
            stop: tokio_util::sync::CancellationToken::new(),
        };
        Ok(Self { cache: Varnish::open(&section, around).await?, index })
    }

    /// What the daemon does when a record arrives: the rule, then the cache.
    async fn purge(&self, selector: Selector) -> anyhow::Result<()> {
        let purge = Purge { site: "bench".parse()?, selectors: vec![selector], soft: false };
        let record = Arc::new(record(self.index.applied().get() + 1, Body::Purge(purge))?);
        drop(self.index.apply(&record));
        self.cache.purge(&[record]).await?;
        Ok(())
    }
}

fn record(seq: u64, body: Body) -> anyhow::Result<Record> {
    let seq = Seq::new(seq).context("a seq")?;
    let task = TaskId::from_bytes([0; 16]);
    Ok(Record {
        seq,
        accepted_at: UnixMillis(0),
        task,
        request_id: "bench".into(),
        semantics: 1,
        trace: None,
        body,
    })
}

/// Fills, purges, and makes sure that everything is gone; how long the purge took.
async fn timed(
    server: &Server,
    objects: usize,
    purge: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    fill(server, objects).await?;
    let sample: Vec<_> = (0..objects).step_by((objects / SAMPLE).max(1)).collect();
    ensure!(hits(server, &sample).await? == sample.len(), "not everything was stored");
    let begun = Instant::now();
    purge().await?;
    let took = begun.elapsed();
    ensure!(hits(server, &sample).await? == 0, "something survived");
    Ok(took)
}

fn get(n: usize) -> Vec<u8> {
    format!("GET /many/{}/{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", n % 100).into_bytes()
}

async fn fill(server: &Server, objects: usize) -> anyhow::Result<()> {
    let all: Vec<_> = (0..objects).collect();
    let mut tasks = Vec::new();
    for part in all.chunks(objects.div_ceil(CONNECTIONS)) {
        let (address, requests) = (server.visitors.clone(), part.iter().map(|n| get(*n)).collect::<Vec<_>>());
        tasks.push(tokio::spawn(async move { Pipeline::new(Address::Tcp(address)).send(&requests).await }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// How many of these come from the cache: then Varnish names two transactions.
async fn hits(server: &Server, sample: &[usize]) -> anyhow::Result<usize> {
    let requests: Vec<_> = sample.iter().map(|n| get(*n)).collect();
    let replies = Pipeline::new(Address::Tcp(server.visitors.clone())).send(&requests).await?;
    let hit = |reply: &&batoff_caches::shared::pipeline::Reply| {
        reply.header("x-varnish").is_some_and(|transactions| transactions.contains(' '))
    };
    Ok(replies.iter().filter(hit).count())
}

async fn hit_cost(server: &Server) -> anyhow::Result<f64> {
    let requests = vec![get(0); HITS / CONNECTIONS];
    hits(server, &[0]).await?;
    let before = cpu(server.child()?)?;
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let (address, requests) = (server.visitors.clone(), requests.clone());
        tasks.push(tokio::spawn(async move {
            let mut visitor = Pipeline::new(Address::Tcp(address));
            for request in &requests {
                // One at a time, as browsers do.
                visitor.send(std::slice::from_ref(request)).await?;
            }
            std::io::Result::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let spent = cpu(server.child()?)? - before;
    Ok(spent.as_secs_f64() * 1e6 / (requests.len() * CONNECTIONS) as f64)
}
