//! nginx: what a purge takes at the node, and what the daemon's means cost each hit, beside what an operator would do
//! without it.
//!
//! `apt-get install nginx libnginx-mod-http-cache-purge wrk`, then `cargo bench -p batoff-benches --bench nginx`. As root, or
//! nginx's workers run as you. `BATOFF_BENCH_FILES` for another number than 100,000, 0 for the hits alone;
//! `BATOFF_BENCH_WATCH=fanotify` for the other source of news.

#![allow(missing_docs, reason = "a program")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use batoff_caches::nginx::{Nginx, NginxSection};
use batoff_caches::{Locator, Surroundings};
use batoff_edge::cache::Cache;
use batoff_edge::{Fence, Identity, Provenance};
use batoff_index::{Index, IndexConfig};
use batoff_types::message::LeasePolicy;
use batoff_types::{
    Body, HostPattern, Purge, Record, Selector, Seq, SiteChange, SiteId, SiteLimits, TaskId, UnixMillis,
};
use tokio_util::sync::CancellationToken;

#[path = "nginx/client.rs"]
mod client;
#[path = "nginx/floor.rs"]
mod floor;
#[path = "nginx/server.rs"]
mod server;

use self::client::Client;
use self::server::{HOST, Server};

/// Objects that one call of the cache is given, as the daemon does it.
const BATCH: usize = 1_000;

/// Objects that are asked for after a purge, evenly spread.
const SAMPLE: usize = 500;

/// URLs purged one by one, each way.
const URLS: usize = 200;

/// Attempts to fill the cache.
const FILLS_MAX: usize = 10;

/// Rounds of the hit path; with and without the lease in turn. Short ones and many: a machine that others use too is at
/// another speed from one second to the next.
const ROUNDS: usize = 15;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let files =
        std::env::var("BATOFF_BENCH_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let node = Node::open(&server).await?;
    if files > 0 {
        purges(&server, &node, dir.path(), files).await?;
    }
    hit_costs(&server).await
}

async fn purges(server: &Server, node: &Node, dir: &Path, files: usize) -> anyhow::Result<()> {
    println!("--- nginx, {files} files that have reached the disk");
    node.fill(server, "/many/", files).await?;
    rustix::fs::sync();
    let before = cpu_time()?;
    let (in_force, out, acked) = node.purge(Selector::Tag("many".parse()?)).await?;
    let cpu = cpu_time()? - before;
    let began = Instant::now();
    server.must_miss("/many/", files, SAMPLE).await?;
    println!(
        "purge of a tag: in force after {in_force:.1?}, all {files} files unservable after {out:.2?}, acknowledged after \
         {acked:.2?}; {cpu:.2?} of CPU"
    );
    while server.spoiled_files()? > 0 {
        ensure!(began.elapsed() < Duration::from_secs(300), "spoiled files are left");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("  their disk space is free after {:.1?}", acked + began.elapsed());
    for threads in [1, 4] {
        let (gone, cpu) = floor::remove(&dir.join("floor"), files, threads)?;
        println!(
            "what the disk allows: as many files unlinked by {threads} threads that know nothing else: {gone:.2?}, \
             {cpu:.2?} of CPU"
        );
    }

    node.fill(server, "/many/", files).await?;
    rustix::fs::sync();
    let began = Instant::now();
    let removed = Command::new("sh")
        .arg("-c")
        .arg(format!("grep -rlZa 'KEY: http://{HOST}/many/' {:?} | xargs -0 rm -f", server.cache()))
        .status()?;
    ensure!(removed.success(), "grep and rm");
    println!("grep -r KEY and rm:   all {files} files gone after {:.2?}", began.elapsed());

    node.fill(server, "/one/", URLS).await?;
    let mut ours = batoff_benches::micros();
    for n in 0..URLS {
        let url = Selector::Url(format!("http://{HOST}/one/{n}").parse()?);
        let (_, gone, _) = node.purge(url).await?;
        ours.record(u64::try_from(gone.as_micros())?)?;
    }
    println!("purge of a URL: unservable after {}", batoff_benches::percentiles(&ours));
    match server.purge_urls(URLS).await? {
        Some(theirs) => {
            println!("the same by libnginx-mod-http-cache-purge: {}", batoff_benches::percentiles(&theirs))
        }
        None => println!("libnginx-mod-http-cache-purge is not installed or does not answer: not compared"),
    }
    Ok(())
}

async fn hit_costs(server: &Server) -> anyhow::Result<()> {
    server.allow_strict_hits()?;
    let mut costs: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (path, costs) in ["/plain/hit", "/fenced/hit", "/strict/hit"].into_iter().zip(&mut costs) {
            costs.push(server.cost_of_a_hit(path).await?);
        }
    }
    let [plain, available, strict] = costs;
    println!("CPU of a worker for a hit, medians of {ROUNDS} rounds in turn:");
    println!("  without: {:.1} µs", median(plain.clone()));
    for (name, costs) in [("available", available), ("strict", strict)] {
        // In the same second the machine is more or less the same.
        let ratios = costs.iter().zip(&plain).map(|(cost, plain)| cost / plain).collect();
        println!("  {name}: {:.1} µs, {:+.1} %", median(costs), (median(ratios) - 1.0) * 100.0);
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// User and system time of this process. nginx is another one.
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(") ").next().context("fields")?.split(' ').collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The adapter, called as the daemon calls it.
struct Node {
    index: Arc<Index<Locator>>,
    nginx: Nginx,
    site: SiteId,
    seq: std::cell::Cell<u64>,
    stop: CancellationToken,
}

impl Node {
    async fn open(server: &Server) -> anyhow::Result<Self> {
        let index = Arc::new(Index::<Locator>::new(IndexConfig::default()));
        index.reset(batoff_types::Generation(1), batoff_types::Cursor::START, Default::default());
        let section: NginxSection = toml::from_str(&format!(
            "path = {:?}\nrun_dir = {:?}\nwatch = {:?}\n",
            server.cache(),
            server.run_dir(),
            std::env::var("BATOFF_BENCH_WATCH").unwrap_or_else(|_| "inotify".to_owned())
        ))?;
        let (stop, policy) = (CancellationToken::new(), LeasePolicy::Serve);
        let fence = Arc::new(Fence::new(policy));
        let around = Surroundings {
            index: Arc::clone(&index),
            fence: Arc::clone(&fence),
            path: Arc::new(batoff_edge::Path::new(false)),
            overflow: Arc::default(),
            provenance: Provenance::new(Identity::random(), fence),
            policy,
            state_dir: server.dir().to_owned(),
            resumes: true,
            stop: stop.clone(),
        };
        let nginx = Nginx::open(&section, around).await?;
        let node = Self { index, nginx, site: "bench".parse()?, seq: 0.into(), stop };
        let names: Vec<HostPattern> = vec![HOST.parse()?];
        let change = SiteChange {
            site: node.site.clone(),
            hostnames: Some(names.clone()),
            affected: names,
            limits: SiteLimits::default(),
        };
        node.apply(Body::Site(change)).await?;
        // Before the directory has been read nothing is stored.
        while !server.run_dir().join("slots/open").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(node)
    }

    /// Puts objects into the cache, and waits until the daemon knows them all. On a machine with other work its queue of
    /// events may run over; then nginx stores nothing until the directory is read anew, and what is missing is fetched
    /// again.
    async fn fill(&self, server: &Server, folder: &'static str, files: usize) -> anyhow::Result<()> {
        for _ in 0..FILLS_MAX {
            server.fill(folder, files).await?;
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(15) {
                if self.index.stats().entries >= files as u64 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        bail!("not all of {files} files become known: {:?}", self.index.stats())
    }

    async fn purge(&self, selector: Selector) -> anyhow::Result<(Duration, Duration, Duration)> {
        self.apply(Body::Purge(Purge { site: self.site.clone(), selectors: vec![selector], soft: false }))
            .await
    }

    /// From the record's arrival: until the rule is in force, until the last object is gone, until the ack.
    async fn apply(&self, body: Body) -> anyhow::Result<(Duration, Duration, Duration)> {
        self.seq.set(self.seq.get() + 1);
        let record = Arc::new(Record {
            seq: Seq::new(self.seq.get()).context("a number")?,
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([0; 16]),
            request_id: "bench".into(),
            semantics: 1,
            trace: None,
            body,
        });
        let began = Instant::now();
        let mut matches = self.index.apply(&record);
        let in_force = began.elapsed();
        self.nginx.begin(&[record]).await?;
        while let Some(batch) = matches.next_batch(BATCH) {
            self.nginx.evict(&batch).await?;
        }
        let gone = began.elapsed();
        self.nginx.finish().await?;
        Ok((in_force, gone, began.elapsed()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
