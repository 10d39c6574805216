//! One control plane becomes three, by the operator's commands, while purges go on.

use std::time::{Duration, Instant};

use batoff_tests::{Dice, Recorder, System, SystemPlan, read_log_in_etcd};

/// Purges a second.
const RATE: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn one_control_plane_moves_into_etcd_and_becomes_three_while_purges_go_on() {
    let mut system = System::start(SystemPlan::default()).await;
    let mut dice = Dice::seeded("from one control plane to three");
    let (alone, before) = (Recorder::of(&system), system.resets().await);
    let (mut load, growing) = (dice.fork(), Instant::now());
    let grow = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        system.move_to_etcd().await;
        system.grow_to_three().await;
        system.settled().await;
    };
    tokio::join!(alone.run(RATE, Duration::from_secs(12), &mut load), grow);
    eprintln!("grown, and all followed to their end, after {:?}: {}", growing.elapsed(), alone.ledger());
    assert_eq!(system.resets().await, before, "nodes go on where they were");

    // The one that was alone is not needed any more.
    let three = Recorder::of(&system);
    system.control.kill();
    three.run(RATE, Duration::from_secs(5), &mut dice).await;
    let late = three.ledger().late();
    system.control.start().await.unwrap_or_else(|why| panic!("{why}"));
    system.settled().await;
    let records = read_log_in_etcd(&system.member_clients).await;
    alone.ledger().compare_log(&records);
    alone.ledger().must_agree();
    three.settle(system).await;
    assert_eq!(late, 0, "purges took more than two seconds without the first");
}
