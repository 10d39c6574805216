//! The longest time without a 202 for a customer who repeats the same bytes with the next control plane, when the one that he
//! speaks to is killed or frozen, and when etcd's leader is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use batoff_benches::{Caller, prepared};
use batoff_log_etcd::testing::EtcdServers;
use batoff_tests::Customer;
use std::sync::Mutex;
use tokio::sync::watch;

use super::arguments::Arguments;
use super::median;
use super::planes::{Log, Planes};

/// How long the customer waits for an answer before he turns to the next one.
const PATIENCE: Duration = Duration::from_secs(1);

/// After a refusal.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two purges.
const APART: Duration = Duration::from_millis(5);

/// How long each fault lasts, and what is looked at before it.
const FAULT: Duration = Duration::from_secs(4);
const BEFORE: Duration = Duration::from_secs(1);

/// What is lost.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Killed,
    Frozen,
    EtcdLeader,
}

pub async fn measure(members: &mut EtcdServers, arguments: &Arguments) -> anyhow::Result<()> {
    let mut planes = Planes::start(Log::Etcd(3), &members.endpoints()).await?;
    let purger = Purger::start(&planes);
    println!(
        "\nfail-over, three control planes; the customer waits {} ms for an answer and then repeats the bytes with the next:",
        PATIENCE.as_millis()
    );
    for (fault, name) in [
        (Fault::None, "nothing is lost"),
        (Fault::Killed, "the control plane that he speaks to is killed (SIGKILL)"),
        (Fault::Frozen, "the control plane that he speaks to is frozen (SIGSTOP)"),
        (Fault::EtcdLeader, "the leader of etcd is killed"),
    ] {
        let mut gaps = Vec::new();
        // A fault that is told by its worst case is looked at more often than a rate.
        for _ in 0..arguments.rounds.max(3) {
            gaps.push(round(fault, members, &mut planes, &purger).await?);
        }
        let most = gaps.iter().copied().fold(0.0, f64::max);
        println!("  {name:56} median {:>5.0} ms, max {most:>5.0} ms of {}", median(gaps.clone()), gaps.len());
    }
    purger.end().await
}

/// The longest gap between two 202s in milliseconds.
async fn round(
    fault: Fault,
    members: &mut EtcdServers,
    planes: &mut Planes,
    purger: &Purger,
) -> anyhow::Result<f64> {
    let leader = members.leader().await;
    purger.take_gap()?;
    tokio::time::sleep(BEFORE).await;
    let victim = purger.at.load(Relaxed);
    match fault {
        Fault::None => {}
        Fault::Killed => planes.services[victim].kill(),
        Fault::Frozen => planes.services[victim].freeze(),
        Fault::EtcdLeader => members.kill(leader),
    }
    tokio::time::sleep(FAULT).await;
    let gap = purger.take_gap()?;
    match fault {
        Fault::None => {}
        Fault::Killed => drop(planes.services[victim].start().await.map_err(anyhow::Error::msg)?),
        Fault::Frozen => planes.services[victim].thaw(),
        Fault::EtcdLeader => {
            members.restart(leader);
            members.leader().await;
        }
    }
    planes.accepting().await;
    Ok(gap.as_secs_f64() * 1e3)
}

/// When the last 202 came, and the longest time between two since somebody looked.
struct Gap {
    last: Instant,
    longest: Duration,
}

impl Gap {
    /// A 202 has come.
    fn close(gap: &Mutex<Self>) -> anyhow::Result<()> {
        let mut gap = gap.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        gap.longest = gap.longest.max(gap.last.elapsed());
        gap.last = Instant::now();
        Ok(())
    }
}

/// Purges one after the other for as long as it lives.
struct Purger {
    /// Which control plane is spoken to.
    at: Arc<AtomicUsize>,
    gap: Arc<Mutex<Gap>>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Purger {
    fn start(planes: &Planes) -> Self {
        let at = Arc::new(AtomicUsize::new(0));
        let gap = Arc::new(Mutex::new(Gap { last: Instant::now(), longest: Duration::ZERO }));
        let (stop, stopped) = watch::channel(false);
        let customer = planes.customers[0].clone();
        let task =
            tokio::spawn(purge(customer, planes.apis.clone(), Arc::clone(&at), Arc::clone(&gap), stopped));
        Self { at, gap, stop, task }
    }

    /// The longest since it was last taken, the one that lasts included.
    fn take_gap(&self) -> anyhow::Result<Duration> {
        let mut gap = self.gap.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        let lasting = gap.last.elapsed();
        Ok(std::mem::take(&mut gap.longest).max(lasting))
    }

    async fn end(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

async fn purge(
    customer: Customer,
    apis: Vec<String>,
    at: Arc<AtomicUsize>,
    gap: Arc<Mutex<Gap>>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut open: Option<Caller> = None;
    for number in 0.. {
        let request = prepared(&customer, &apis[0], number..number + 1).remove(0);
        loop {
            if *stopped.borrow() {
                return Ok(());
            }
            let place = at.load(Relaxed);
            match tokio::time::timeout(PATIENCE, send(&mut open, &apis[place], &request)).await {
                Ok(Ok(202)) => break,
                // It may still come to an answer, so nothing else may be sent there.
                Ok(Err(_)) | Err(_) => open = None,
                Ok(Ok(503)) => {
                    open = None;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Ok(status)) => anyhow::bail!("answered {status}"),
            }
            at.store((place + 1) % apis.len(), Relaxed);
        }
        Gap::close(&gap)?;
        tokio::time::sleep(APART).await;
    }
    Ok(())
}

async fn send(open: &mut Option<Caller>, api: &str, request: &[u8]) -> anyhow::Result<u16> {
    let caller = match open {
        Some(caller) => caller,
        None => open.insert(Caller::connect(api).await?),
    };
    let (status, _) = caller.call(request).await?;
    Ok(status)
}
