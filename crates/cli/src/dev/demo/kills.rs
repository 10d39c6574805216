//! What several replicas are for: one of them is killed in the middle of a run of purges, then the leader of etcd, and
//! nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use batoff_client::{Client, Credentials, Endpoint, Error, PurgeRequest, Retry, Task};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::super::announcement::{Running, RunningNode};
use super::super::http;
use super::{cached, x_cache};
use crate::exit::Failure;
use crate::output::{self, Narrow, note};

/// How long each of the three parts lasts.
const PART: Duration = Duration::from_secs(5);

/// Between two purges.
const EVERY: Duration = Duration::from_millis(50);

/// Between two visits on each PoP.
const VISIT_EVERY: Duration = Duration::from_millis(20);

/// What a purge may take, from durable to completed.
const TARGET: Duration = Duration::from_secs(2);

/// The longest wait for one; what is late is told, too.
const COMPLETED_WITHIN: Duration = Duration::from_secs(20);

/// How long a purge is sent to one replica after the other until it is accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(10);

/// A page that no purge hits: whoever does not get it from the cache was at a node without a lease.
const STEADY: &str = "/demo/steady";

/// What happened in one part of the run.
#[derive(Debug, Default)]
struct KillStage {
    purges: Vec<SentPurge>,
    visits: u64,
    origin_fetches: u64,
}

/// One purge.
#[derive(Debug)]
struct SentPurge {
    accepted_after: Duration,
    tries: u32,
    task: Task,
}

impl SentPurge {
    fn took(&self) -> Duration {
        let completed = self.task.propagation_ms.filter(|_| self.task.is_completed());
        completed.map_or(COMPLETED_WITHIN, Duration::from_millis)
    }
}

/// Purges and visits without a pause; meanwhile the last replica dies, and then the leader of etcd. A failure when a purge
/// is late or refused, or a node had to ask the origin. Nothing is done where the control plane is alone.
pub async fn run(running: &Running, quiet: bool) -> Result<(), Failure> {
    let Some(victim) = running.replicas.last() else { return Ok(()) };
    let host = running.hosts.first().map_or("www.example.test", String::as_str);
    for node in &running.nodes {
        cached(node, host, STEADY).await?;
    }
    let clients = Arc::new(clients(running)?);
    let leader = leader(running).await?;
    let mut parts = Vec::new();
    for what in ["all run", "a replica is killed", "the leader of etcd is killed"] {
        match what {
            "a replica is killed" => kill(victim.pid)?,
            "the leader of etcd is killed" => kill(leader)?,
            _ => {}
        }
        parts.push((what, part(running, host, &clients, parts.len()).await?));
    }
    show(&parts, quiet)?;
    let purges = || parts.iter().flat_map(|(_, part)| &part.purges);
    let late = purges().filter(|sent| sent.took() > TARGET).count();
    let fetches: u64 = parts.iter().map(|(_, part)| part.origin_fetches).sum();
    let verdict = format!(
        "{} purges, purges late: {late}; {} visits, origin fetches because of lost leases: {fetches}",
        purges().count(),
        parts.iter().map(|(_, part)| part.visits).sum::<u64>()
    );
    if late > 0 || fetches > 0 {
        return Err(Failure::Failed(verdict));
    }
    if quiet {
        note(&verdict);
        Ok(())
    } else {
        output::text(&verdict)
    }
}

/// One for each replica. None repeats anything by itself: another replica is quicker.
fn clients(running: &Running) -> Result<Vec<Client>, Failure> {
    let client = |api: &String| {
        let credentials = Credentials::new(&running.token, &running.secret);
        Ok(Client::new(Endpoint::new(api)?, credentials)?.with_retry(Retry::NEVER))
    };
    running.replicas.iter().map(|replica| client(&replica.api)).collect()
}

async fn part(
    running: &Running,
    host: &str,
    clients: &Arc<Vec<Client>>,
    number: usize,
) -> Result<KillStage, Failure> {
    let over = CancellationToken::new();
    let visits: Arc<[AtomicU64; 2]> = Arc::default();
    let mut visitors = JoinSet::new();
    for node in &running.nodes {
        let visiting = visit(node.clone(), host.to_owned(), Arc::clone(&visits));
        let over = over.clone();
        visitors.spawn(async move { over.run_until_cancelled(visiting).await });
    }
    let mut sending = JoinSet::new();
    let (begun, mut every) = (Instant::now(), interval(EVERY));
    let mut count = 0;
    while begun.elapsed() < PART {
        every.tick().await;
        let (clients, site) = (Arc::clone(clients), running.site.clone());
        let purge = PurgeRequest::default().url(format!("http://{host}/demo/run/{number}/{count}"));
        sending.spawn(async move { send(&clients, &site, &purge, count).await });
        count += 1;
    }
    let mut purges = Vec::with_capacity(count);
    while let Some(sent) = sending.join_next().await {
        purges.push(sent.map_err(|e| Failure::Internal(e.to_string()))??);
    }
    // The lease of whoever was granted one by the dead runs out meanwhile.
    over.cancel();
    while let Some(visited) = visitors.join_next().await {
        if let Some(failed) = visited.map_err(|e| Failure::Internal(e.to_string()))? {
            return Err(failed);
        }
    }
    let [visits, origin_fetches] = [0, 1].map(|n: usize| visits[n].load(Ordering::Relaxed));
    Ok(KillStage { purges, visits, origin_fetches })
}

/// Sends a purge to one replica after the other until it is accepted, and waits for it there.
async fn send(
    clients: &[Client],
    site: &str,
    purge: &PurgeRequest,
    number: usize,
) -> Result<SentPurge, Failure> {
    // With it the second replica knows what the first has accepted and could not say.
    let key = format!("{}-{number}", rand_key());
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        let client = &clients[(number + tries as usize) % clients.len()];
        tries += 1;
        match client.send(&client.prepare(site, purge, Some(&key))?).await {
            Ok(task) => {
                let accepted_after = begun.elapsed();
                let task = wait(clients, site, &task.task_id, number + tries as usize).await?;
                return Ok(SentPurge { accepted_after, tries, task });
            }
            Err(error) if begun.elapsed() > ACCEPTED_WITHIN || !is_passing(&error) => {
                return Err(error.into());
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Waits at one replica after the other: the one that was asked may die.
async fn wait(clients: &[Client], site: &str, task: &str, first: usize) -> Result<Task, Failure> {
    let begun = Instant::now();
    let mut turn = first;
    loop {
        let client = &clients[turn % clients.len()];
        let left = COMPLETED_WITHIN.saturating_sub(begun.elapsed());
        match client.wait(site, task, left).await {
            Ok(task) => return Ok(task),
            Err(error) if left.is_zero() || !is_passing(&error) => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
        turn += 1;
    }
}

const fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. })
}

/// Differs from run to run, so that a folder that is used again knows none of the keys.
fn rand_key() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("demo-{}", since.as_nanos())
}

/// Reads the page again and again; counts visits, and those that were not answered from the cache.
async fn visit(node: RunningNode, host: String, counts: Arc<[AtomicU64; 2]>) -> Failure {
    let mut every = interval(VISIT_EVERY);
    loop {
        every.tick().await;
        match x_cache(&node, &host, STEADY).await {
            Ok(seen) => {
                counts[0].fetch_add(1, Ordering::Relaxed);
                counts[1].fetch_add(u64::from(seen != "HIT"), Ordering::Relaxed);
            }
            Err(failure) => return failure,
        }
    }
}

/// The process of the member of etcd that leads.
async fn leader(running: &Running) -> Result<u32, Failure> {
    for member in &running.etcd {
        let failed = |e: &dyn std::fmt::Display| Failure::Failed(format!("{}: {e}", member.client));
        let address: SocketAddr =
            member.client.trim_start_matches("http://").parse().map_err(|e| failed(&e))?;
        let metrics = http::get(address, "localhost", "/metrics").await.map_err(|e| failed(&e))?;
        if metrics.body.lines().any(|line| line.trim() == "etcd_server_is_leader 1") {
            return Ok(member.pid);
        }
    }
    Err(Failure::Failed("no member of etcd leads".to_owned()))
}

fn kill(pid: u32) -> Result<(), Failure> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| Failure::Internal(format!("no process {pid}")))?;
    kill_process(process, Signal::KILL).map_err(|e| Failure::Failed(format!("process {pid}: {e}")))
}

fn show(parts: &[(&'static str, KillStage)], quiet: bool) -> Result<(), Failure> {
    let mut table = output::table([
        ("MEANWHILE", Narrow::Stay),
        ("PURGES", Narrow::Stay),
        ("SENT AGAIN", Narrow::Go(1)),
        ("SLOWEST 202", Narrow::Go(2)),
        ("SLOWEST COMPLETED", Narrow::Stay),
        ("VISITS", Narrow::Go(3)),
        ("ORIGIN FETCHES", Narrow::Stay),
    ]);
    let ms = |time: Option<Duration>| output::or_dash(time.map(|time| format!("{} ms", time.as_millis())));
    for (what, part) in parts {
        let again: u32 = part.purges.iter().map(|sent| sent.tries - 1).sum();
        table.add_row([
            (*what).to_owned(),
            part.purges.len().to_string(),
            again.to_string(),
            ms(part.purges.iter().map(|sent| sent.accepted_after).max()),
            ms(part.purges.iter().map(SentPurge::took).max()),
            part.visits.to_string(),
            part.origin_fetches.to_string(),
        ]);
    }
    if quiet {
        note(&table.text());
        return Ok(());
    }
    table.print("no purges")
}
