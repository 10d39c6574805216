//! Replicas and members of etcd struck at the same time, more of them than the system can do without: then purges may be
//! late and pages may be fetched, and nothing else is given up.

use std::time::{Duration, Instant};

use batoff_tests::{Dice, Network, Recorder, Service, System, SystemPlan, fault_time, isolated};

use super::{CUT_MS, CutLink, Promise, RATE, RECOVERY, nobody_notices, pick_of_three, strike, three};

/// The longest quiet time of one program before it is struck again, in milliseconds.
const QUIET_MS: u64 = 6_000;

/// How often a program is started before the story gives up.
const STARTS_MAX: u32 = 40;

/// Starts a program as a supervisor does, again while it ends with 75: whoever starts while etcd has no majority gives up for
/// this time, and says so.
async fn supervise(service: &mut Service) {
    for _ in 0..STARTS_MAX {
        match service.start().await {
            Ok(_) => return,
            // `None`: it has closed its output, and ends.
            Err(why) if why.contains("(Some(75))") || why.contains("(None)") => {}
            Err(why) => panic!("{why}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{} did not start {STARTS_MAX} times", service.name);
}

/// Strikes a program again and again; it runs when this ends.
async fn strike_until(service: &mut Service, until: Instant, mut dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(200, QUIET_MS))).await;
        if Instant::now() >= until {
            return;
        }
        if dice.one_in(2) {
            service.kill();
            tokio::time::sleep(Duration::from_millis(dice.between(0, 1_500))).await;
            supervise(service).await;
        } else {
            strike(service, false, &mut dice).await;
        }
    }
}

/// Links that are cut at one time.
const CUTS: usize = 2;

/// Cuts one link after another between those that talk to each other: replicas, nodes and members of etcd. All are whole when
/// this ends.
async fn cut_until(network: &Network, until: Instant, mut dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(200, QUIET_MS / 2))).await;
        if Instant::now() >= until {
            return;
        }
        let link = if dice.one_in(3) {
            CutLink::of_members(network, &mut dice)
        } else {
            CutLink::of_replica(network, pick_of_three(&mut dice), &mut dice)
        };
        tokio::time::sleep(Duration::from_millis(dice.between(50, CUT_MS))).await;
        link.mend(network);
    }
}

/// Every replica, member and node is struck by itself, and links between them where there is a network, so that any of them
/// may be away at once.
async fn every_202_is_kept(what: &str, mut system: System, network: Option<&Network>) {
    let mut dice = Dice::seeded(what);
    let recorder = Recorder::of(&system);
    let (time, mut load) = (fault_time(), dice.fork());
    let until = Instant::now() + time;
    let System { control, others, members, nodes, .. } = &mut system;
    let nodes = nodes.iter_mut().map(|edge| &mut edge.service);
    let all = std::iter::once(control).chain(others).chain(members).chain(nodes);
    let struck: Vec<_> = all.map(|service| strike_until(service, until, dice.fork())).collect();
    let cut = network.into_iter().flat_map(|network| std::iter::repeat_n(network, CUTS));
    let cut: Vec<_> = cut.map(|network| cut_until(network, until, dice.fork())).collect();
    tokio::join!(
        recorder.run(RATE, time, &mut load),
        futures_util::future::join_all(struck),
        futures_util::future::join_all(cut)
    );
    let accepted = recorder.ledger().len();
    assert!(accepted as u64 > time.as_secs(), "only {accepted} purges: that was no load");
    eprintln!("{what}: {} purges late", recorder.ledger().late());
    recorder.settle(system).await;
}

#[tokio::test]
async fn every_202_is_kept_while_replicas_members_and_nodes_are_killed_and_frozen_at_random() {
    let system = System::start(three()).await;
    every_202_is_kept("replicas, members and nodes killed and frozen", system, None).await;
}

#[test]
fn every_202_is_kept_while_links_are_cut_and_replicas_members_and_nodes_killed_and_frozen_at_random() {
    isolated(&["nft", "etcd"], async || {
        let plan = SystemPlan { apart: true, ..three() };
        let network = Network::lay_for(plan.nodes, plan.replicas);
        let system = System::start(plan).await;
        let story = "links cut, and replicas, members and nodes killed and frozen";
        every_202_is_kept(story, system, Some(&network)).await;
    });
}

/// The same moment strikes a replica and a member; two of each are left, and that is enough.
#[tokio::test]
async fn a_replica_and_a_member_of_etcd_struck_at_once_take_no_lease_and_lose_no_purge() {
    let system = System::start(three()).await;
    let story = "a replica and a member of etcd struck at once";
    nobody_notices(story, system, Promise::Kept, async |strikes, until, mut dice| {
        while Instant::now() + RECOVERY < until {
            let mut pick = || usize::try_from(dice.between(0, 3)).unwrap();
            let (replica, member) = (pick(), pick());
            let (mut one, mut other) = (dice.fork(), dice.fork());
            let kills = [one.one_in(2), other.one_in(2)];
            let System { control, others, members, .. } = &mut strikes.system;
            let replica = if replica == 0 { control } else { &mut others[replica - 1] };
            tokio::join!(
                strike(replica, kills[0], &mut one),
                strike(&mut members[member], kills[1], &mut other)
            );
            tokio::time::sleep(RECOVERY).await;
        }
    })
    .await;
}

/// A replica that starts finds a member that does not answer, the one that it asks first or another.
#[tokio::test]
async fn a_replica_starts_while_a_member_of_etcd_is_frozen() {
    let system = System::start(three()).await;
    let story = "a replica starts while a member of etcd is frozen";
    nobody_notices(story, system, Promise::Kept, async |strikes, until, mut dice| {
        while Instant::now() + RECOVERY < until {
            let mut pick = || usize::try_from(dice.between(0, 3)).unwrap();
            let (replica, member) = (pick(), pick());
            strikes.system.members[member].freeze();
            let replica = strikes.system.replica(replica);
            replica.kill();
            replica.start().await.unwrap_or_else(|why| panic!("{why}"));
            strikes.system.members[member].thaw();
            tokio::time::sleep(RECOVERY).await;
        }
    })
    .await;
}

/// Longer than a watch is believed that says nothing.
const FROZEN: Duration = Duration::from_secs(6);

/// All replicas ask the same member first, and what they hear of one another comes by it.
#[tokio::test]
async fn a_member_of_etcd_that_everybody_listens_to_freezes_and_purges_are_late_for_a_moment_only() {
    let system = System::start(three()).await;
    let story = "the member that everybody listens to frozen";
    nobody_notices(story, system, Promise::Kept, async |strikes, _, mut dice| {
        strikes.system.members[0].freeze();
        let begun = Instant::now();
        // While it is frozen, purges are completed.
        loop {
            strikes.recorder.purge_one(dice.throw()).await;
            if begun.elapsed() > FROZEN {
                break;
            }
        }
        strikes.system.members[0].thaw();
        let most = strikes.recorder.ledger().slowest();
        assert!(most < FROZEN, "nothing was completed before it woke: {most:?}");
    })
    .await;
}
