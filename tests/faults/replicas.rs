//! Three control planes over three members of etcd: whichever of them is killed, frozen or cut off, nothing is late and
//! nobody has to go to the origin.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use batoff_tests::{Dice, HOST, Network, Place, Recorder, Service, System, SystemPlan, Visitor, fault_time, isolated};

/// Purges a second.
const RATE: u32 = 20;

/// A page that no purge hits.
const STEADY: &str = "/steady";

/// Between two looks at it on each node.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn three() -> SystemPlan {
    SystemPlan { replicas: 3, ..SystemPlan::default() }
}

/// Looks at a page that nobody purges on every node, until `over`; how often it did not come from the cache.
async fn fetched_from_the_origin(system: &[(String, String)], over: &AtomicBool) -> (u64, Vec<String>) {
    let (looks, visitor) = (AtomicU64::new(0), Visitor::default());
    let visits = system.iter().map(async |(pop, proxy)| {
        let mut fetched = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let answer = visitor.read(proxy, HOST, STEADY).await;
            looks.fetch_add(1, Ordering::Relaxed);
            if answer.x_cache != "HIT" {
                fetched.push(format!("{pop}: {}", answer.x_cache));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        fetched
    });
    let fetched = futures_util::future::join_all(visits).await.concat();
    (looks.into_inner(), fetched)
}

/// Load on a system of strict nodes while `strike` strikes one program after the other: a purge is not late, and a page that
/// was not purged always comes from the cache.
async fn nobody_notices(what: &str, system: System, strike: impl AsyncFnOnce(&mut Strikes, Instant, Dice)) {
    let mut dice = Dice::seeded(what);
    let time = fault_time();
    let recorder = Recorder::of(&system);
    system.warm(STEADY).await;
    let nodes: Vec<_> = system.nodes.iter().map(|edge| (edge.pop.clone(), edge.proxy.clone())).collect();
    let mut strikes = Strikes { system };
    let (over, until, strikes_dice) = (AtomicBool::new(false), Instant::now() + time, dice.fork());
    let run = async {
        tokio::join!(recorder.run(RATE, time, &mut dice), strike(&mut strikes, until, strikes_dice));
        over.store(true, Ordering::Relaxed);
    };
    let ((), (looks, fetched)) = tokio::join!(run, fetched_from_the_origin(&nodes, &over));
    let accepted = recorder.ledger().len();
    assert!(accepted as u64 > time.as_secs(), "only {accepted} purges: that was no load");
    eprintln!("{what}: {accepted} purges, {looks} looks, {} of them not from a cache", fetched.len());
    let late = recorder.ledger().late();
    recorder.settle(strikes.system).await;
    assert!(fetched.is_empty(), "nodes had no lease: {fetched:?}");
    assert_eq!(late, 0, "purges took more than two seconds");
}

/// Whom a story may strike.
struct Strikes {
    system: System,
}

impl Strikes {
    fn replica(&mut self, number: usize) -> &mut Service {
        match number {
            0 => &mut self.system.control,
            other => &mut self.system.others[other - 1],
        }
    }

    /// Replicas and members of etcd alike, so many of each.
    fn any(&mut self, dice: &mut Dice) -> &mut Service {
        let chosen = usize::try_from(dice.between(0, 6)).unwrap();
        if chosen < 3 { self.replica(chosen) } else { &mut self.system.members[chosen - 3] }
    }
}

/// Kills or freezes it, waits, and lets it run again; then waits until it has caught up.
async fn strike(service: &mut Service, kills: bool, dice: &mut Dice) {
    if kills {
        service.kill();
        tokio::time::sleep(Duration::from_millis(dice.between(0, 1_500))).await;
        service.start().await.unwrap_or_else(|why| panic!("{why}"));
    } else {
        service.freeze();
        tokio::time::sleep(Duration::from_millis(dice.between(50, 3_000))).await;
        service.thaw();
    }
}

/// One that was struck has to be well again before another may be struck: of three, one may be away.
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn any_one_replica_killed_or_frozen_is_noticed_by_nobody() {
    let system = System::start(three()).await;
    nobody_notices("a replica killed or frozen", system, async |strikes, until, mut dice| {
        while Instant::now() + RECOVERY < until {
            let (replica, kills) = (usize::try_from(dice.between(0, 3)).unwrap(), dice.one_in(2));
            strike(strikes.replica(replica), kills, &mut dice).await;
            tokio::time::sleep(RECOVERY).await;
        }
    })
    .await;
}
