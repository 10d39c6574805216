//! Programs killed and frozen at random moments under load, each by itself, so that any of them may be away at once.

use std::time::{Duration, Instant};

use batoff_tests::{Dice, Edge, Recorder, Service, System, SystemPlan, fault_time};

/// Purges a second.
const RATE: u32 = 25;

/// What is done to a program.
#[derive(Clone, Copy)]
struct Blows {
    kills: bool,
    freezes: bool,
    /// The longest quiet time before the next, in milliseconds.
    quiet_ms: u64,
}

/// Strikes a program again and again; it runs when this ends.
async fn strike(service: &mut Service, blows: Blows, until: Instant, mut dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(100, blows.quiet_ms))).await;
        if Instant::now() >= until {
            return;
        }
        if blows.kills && (!blows.freezes || dice.one_in(2)) {
            service.kill();
            tokio::time::sleep(Duration::from_millis(dice.between(0, 1_500))).await;
            service.start().await.unwrap_or_else(|why| panic!("{why}"));
        } else if blows.freezes {
            service.freeze();
            tokio::time::sleep(Duration::from_millis(dice.between(50, 2_500))).await;
            service.thaw();
        }
    }
}

/// Load on a system of strict nodes, while `control` is done to the control plane and `node` to each node.
async fn every_promise_is_kept(what: &str, control: Option<Blows>, node: Option<Blows>) {
    let mut dice = Dice::seeded(what);
    let mut system = System::start(SystemPlan::default()).await;
    let recorder = Recorder::of(&system);
    let time = fault_time();
    let until = Instant::now() + time;
    let control_dice = dice.fork();
    let control_struck = async {
        if let Some(blows) = control {
            strike(&mut system.control, blows, until, control_dice).await;
        }
    };
    let nodes_struck = system.nodes.iter_mut().filter_map(|Edge { service, .. }| {
        let dice = dice.fork();
        node.map(|blows| strike(service, blows, until, dice))
    });
    let nodes_struck: Vec<_> = nodes_struck.collect();
    let mut load_dice = dice.fork();
    tokio::join!(
        recorder.run(RATE, time, &mut load_dice),
        control_struck,
        futures_util::future::join_all(nodes_struck)
    );
    let accepted = recorder.ledger().len();
    assert!(accepted as u64 > time.as_secs(), "only {accepted} purges: that was no load");
    recorder.settle(system).await;
}

#[tokio::test]
async fn every_202_is_kept_while_all_programs_are_killed_and_frozen_at_random() {
    let blows = Blows { kills: true, freezes: true, quiet_ms: 3_000 };
    every_promise_is_kept("all programs killed and frozen", Some(blows), Some(blows)).await;
}

#[tokio::test]
async fn every_202_is_kept_while_the_control_plane_is_killed_again_and_again() {
    let blows = Blows { kills: true, freezes: false, quiet_ms: 1_200 };
    every_promise_is_kept("the control plane killed again and again", Some(blows), None).await;
}

#[tokio::test]
async fn a_node_that_freezes_never_serves_on_waking_what_was_completed_without_it() {
    let blows = Blows { kills: false, freezes: true, quiet_ms: 1_500 };
    every_promise_is_kept("nodes frozen", None, Some(blows)).await;
}
