//! Three control planes over three members of etcd: whichever of them is killed, frozen or cut off, nothing is late and
//! nobody has to go to the origin.

mod any_one;
mod clocks;
mod disks;
mod power_cuts;
mod rolling;
mod seats;
mod turmoil;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use batoff_tests::{
    Dice, HOST, Network, Place, Recorder, Service, System, SystemPlan, Visitor, fault_time, isolated,
    read_log_in_etcd,
};

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

/// What a story promises besides what is always promised.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// No purge takes more than two seconds.
    InTime,
    /// One may, while the members of etcd elect a leader.
    Kept,
}

/// Load on a system of strict nodes while `strike` strikes one program after the other: a purge is not late, and a page that
/// was not purged always comes from the cache.
async fn nobody_notices(
    what: &str,
    system: System,
    promise: Promise,
    strike: impl AsyncFnOnce(&mut Strikes, Instant, Dice),
) {
    nobody_notices_for(fault_time(), what, system, promise, strike).await;
}

/// The same for as long as a story says that needs longer than others.
async fn nobody_notices_for(
    time: Duration,
    what: &str,
    system: System,
    promise: Promise,
    strike: impl AsyncFnOnce(&mut Strikes, Instant, Dice),
) {
    let (mut dice, began) = (Dice::seeded(what), Instant::now());
    let recorder = Recorder::of(&system);
    system.warm(STEADY).await;
    let nodes: Vec<_> = system.nodes.iter().map(|edge| (edge.pop.clone(), edge.proxy.clone())).collect();
    let mut strikes = Strikes { system, recorder: recorder.clone(), own_time: None };
    let (over, until, strikes_dice) = (AtomicBool::new(false), Instant::now() + time, dice.fork());
    let run = async {
        tokio::join!(recorder.run(RATE, time, &mut dice), strike(&mut strikes, until, strikes_dice));
        over.store(true, Ordering::Relaxed);
    };
    let ((), (looks, mut fetched)) = tokio::join!(run, fetched_from_the_origin(&nodes, &over));
    if let Some(pop) = strikes.own_time {
        fetched.retain(|told| *told != format!("{pop}: EXPIRED"));
    }
    // Of what the story itself has purged.
    recorder.follow_all(began).await;
    let accepted = recorder.ledger().len();
    assert!(accepted as u64 > time.as_secs(), "only {accepted} purges: that was no load");
    let late = recorder.ledger().late();
    eprintln!("{what}: {looks} looks, {} of them not from a cache; {late} purges late", fetched.len());
    recorder.settle(strikes.system).await;
    assert!(fetched.is_empty(), "nodes had no lease: {fetched:?}");
    assert!(late == 0 || promise == Promise::Kept, "{late} purges took more than two seconds");
}

/// How long a process may act after it has shown that its seat is its own.
const SEAT: Duration = Duration::from_secs(30);

/// That, and some seconds after it.
const TWIN_TIME: Duration = Duration::from_secs(38);

/// Whom a story may strike.
struct Strikes {
    system: System,
    /// Who purges, and notes what became of it.
    recorder: Recorder,
    /// The PoP whose clock the story steps: its pages may run out of time.
    own_time: Option<&'static str>,
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
    let story = "a replica killed or frozen";
    nobody_notices(story, system, Promise::InTime, async |strikes, until, mut dice| {
        while Instant::now() + RECOVERY < until {
            let (replica, kills) = (usize::try_from(dice.between(0, 3)).unwrap(), dice.one_in(2));
            strike(strikes.system.replica(replica), kills, &mut dice).await;
            tokio::time::sleep(RECOVERY).await;
        }
    })
    .await;
}

#[tokio::test]
async fn any_one_member_of_etcd_killed_or_frozen_takes_no_lease_and_loses_no_purge() {
    let system = System::start(three()).await;
    let story = "a member of etcd killed or frozen";
    nobody_notices(story, system, Promise::Kept, async |strikes, until, mut dice| {
        while Instant::now() + RECOVERY < until {
            let (member, kills) = (usize::try_from(dice.between(0, 3)).unwrap(), dice.one_in(2));
            strike(&mut strikes.system.members[member], kills, &mut dice).await;
            tokio::time::sleep(RECOVERY).await;
        }
    })
    .await;
}

/// What is cut, from where to where.
struct CutLink(Vec<(Place, Place)>);

impl CutLink {
    /// Cuts the link between two places, one way, the other, or both.
    fn cut(network: &Network, one: Place, other: Place, dice: &mut Dice) -> Self {
        let ways = match dice.between(0, 3) {
            0 => vec![(one, other), (other, one)],
            1 => vec![(other, one)],
            _ => vec![(one, other)],
        };
        ways.iter().for_each(|(from, to)| network.lose(*from, *to));
        Self(ways)
    }

    /// A link between a replica and a node or a member of etcd.
    fn of_replica(network: &Network, replica: usize, dice: &mut Dice) -> Self {
        let at = dice.one_in(2);
        let other = pick_of_three(dice);
        let other = if at { Place::Node(other) } else { Place::Member(other) };
        Self::cut(network, Place::Replica(replica), other, dice)
    }

    /// A link between two members of etcd.
    fn of_members(network: &Network, dice: &mut Dice) -> Self {
        let one = pick_of_three(dice);
        let other = (one + 1 + usize::from(dice.one_in(2))) % 3;
        Self::cut(network, Place::Member(one), Place::Member(other), dice)
    }

    fn mend(self, network: &Network) {
        self.0.into_iter().for_each(|(from, to)| network.mend(from, to));
    }
}

fn pick_of_three(dice: &mut Dice) -> usize {
    usize::try_from(dice.between(0, 3)).unwrap()
}

/// The longest time that a link is cut, in milliseconds.
const CUT_MS: u64 = 4_000;

/// One link at a time is cut for a while, one way or both.
async fn cut_one_after_the_other(
    network: &Network,
    until: Instant,
    mut dice: Dice,
    cut: impl Fn(&Network, &mut Dice) -> CutLink,
) {
    while Instant::now() + RECOVERY < until {
        let link = cut(network, &mut dice);
        tokio::time::sleep(Duration::from_millis(dice.between(50, CUT_MS))).await;
        link.mend(network);
        tokio::time::sleep(RECOVERY).await;
    }
}

/// Between a replica and a node or a member of etcd.
#[test]
fn any_one_link_of_a_replica_cut_is_noticed_by_nobody() {
    isolated(&["nft", "etcd"], async || {
        let plan = SystemPlan { apart: true, ..three() };
        let network = Network::lay_for(plan.nodes, plan.replicas);
        let system = System::start(plan).await;
        let story = "links of replicas cut";
        nobody_notices(story, system, Promise::InTime, async |_, until, dice| {
            let of_replica =
                |network: &_, dice: &mut _| CutLink::of_replica(network, pick_of_three(dice), dice);
            cut_one_after_the_other(&network, until, dice, of_replica).await;
        })
        .await;
    });
}

/// A member of etcd that the others do not hear, or that does not hear them.
#[test]
fn any_one_link_between_members_of_etcd_cut_takes_no_lease_and_loses_no_purge() {
    isolated(&["nft", "etcd"], async || {
        let plan = SystemPlan { apart: true, ..three() };
        let network = Network::lay_for(plan.nodes, plan.replicas);
        let system = System::start(plan).await;
        let story = "links of members of etcd cut";
        nobody_notices(story, system, Promise::Kept, async |_, until, dice| {
            cut_one_after_the_other(&network, until, dice, CutLink::of_members).await;
        })
        .await;
    });
}

/// The second process of a replica, on another host as far as it can tell, waits until the first has certainly stopped, and
/// the first stands down when it hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_replica_never_act_together_and_nobody_notices() {
    let system = System::start(three()).await;
    let recorder = Recorder::of(&system);
    system.warm(STEADY).await;
    let mut dice = Dice::seeded("two processes of one replica");
    let nodes: Vec<_> = system.nodes.iter().map(|edge| (edge.pop.clone(), edge.proxy.clone())).collect();
    let over = AtomicBool::new(false);
    let story = async {
        let (mut twin, _) = system.twin_of_the_second();
        // It announces itself when it has the seat.
        let starting = async {
            let begun = Instant::now();
            twin.start().await.unwrap_or_else(|why| panic!("{why}"));
            begun.elapsed()
        };
        let (took, ()) = tokio::join!(starting, recorder.run(RATE / 2, TWIN_TIME, &mut dice));
        over.store(true, Ordering::Relaxed);
        (twin, took)
    };
    let ((twin, took), (looks, fetched)) = tokio::join!(story, fetched_from_the_origin(&nodes, &over));
    eprintln!("it took the seat after {took:?}; {looks} looks");
    assert!(took > SEAT, "a process of which nothing is known may act for so long: {took:?}");
    let log = system.others[0].log();
    assert!(
        log.contains("another process has taken this replica's seat"),
        "the first has not noticed:\n{log}"
    );
    assert!(fetched.is_empty(), "nodes had no lease: {fetched:?}");
    assert_eq!(recorder.ledger().late(), 0, "purges took more than two seconds");
    drop(twin);
    let records = read_log_in_etcd(&system.member_clients).await;
    recorder.ledger().compare_log(&records);
    recorder.ledger().must_agree();
}

/// Longer than a purge may take.
const STANDSTILL: Duration = Duration::from_millis(2_500);

/// A replica is stopped in the middle of purges that it has accepted. The others complete them, and it says so when it runs
/// again: none was late.
#[tokio::test]
async fn a_replica_that_stood_still_calls_no_purge_late_that_the_others_completed() {
    let system = System::start(three()).await;
    let recorder = Recorder::of(&system);
    system.warm(STEADY).await;
    let mut dice = Dice::seeded("a replica stands still");
    for replica in 0..3 {
        let stopped = if replica == 0 { &system.control } else { &system.others[replica - 1] };
        let since = Instant::now();
        // A choice picks the replica that is asked first.
        let choices: Vec<u64> = (0..6).map(|_| dice.throw() / 3 * 3 + replica as u64).collect();
        let accepted = choices.iter().map(|choice| recorder.submit(*choice));
        let tasks = futures_util::future::join_all(accepted).await;
        stopped.freeze();
        let runs_again = async {
            tokio::time::sleep(STANDSTILL).await;
            stopped.thaw();
        };
        let followed = futures_util::future::join_all(tasks.iter().map(|task| recorder.follow(task, since)));
        tokio::join!(followed, runs_again);
        let says = stopped.log();
        assert!(!says.contains("purge not completed within the target"), "{says}");
    }
    assert_eq!(recorder.ledger().late(), 0, "nobody waited for it");
    recorder.settle(system).await;
}

/// It moves to another host, as far as it can tell, by a clean stop and a start there: without the wait for its seat.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_stopped_in_order_has_its_seat_at_once_on_another_host() {
    let mut system = System::start(three()).await;
    assert_eq!(system.others[0].stop().await, 0, "it ends well");
    let log = system.others[0].log();
    assert!(log.contains("this process has released the replica's seat"), "{log}");
    let (mut moved, _) = system.twin_of_the_second();
    moved.start().await.unwrap_or_else(|why| panic!("{why}"));
    let log = moved.log();
    assert!(log.contains("this process has the replica's seat"), "{log}");
    assert!(!log.contains("waiting until an earlier process"), "{log}");
}
