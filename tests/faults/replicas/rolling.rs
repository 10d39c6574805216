//! Replicas and members of etcd stopped in order and started again, one after the other, as an upgrade does it; over and over
//! when there is time.

use std::time::{Duration, Instant};

use batoff_tests::{Dice, System};

use super::{Promise, nobody_notices, three};

/// Who is restarted, in this order.
#[derive(Clone, Copy)]
enum Turn {
    Replica(usize),
    Member(usize),
}

/// The shortest and the longest time between a start and the next stop, in milliseconds. An operator looks whether the one
/// that was started is well.
const PAUSE_MS: [u64; 2] = [2_000, 4_000];

/// Each in its turn, at least once, and until it is time.
async fn restart(system: &mut System, turns: &[Turn], until: Instant, mut dice: Dice) {
    let mut restarts = 0;
    for turn in turns.iter().cycle() {
        if restarts >= turns.len() && Instant::now() >= until {
            break;
        }
        let service = match turn {
            Turn::Replica(number) => {
                let service = system.replica(*number);
                assert_eq!(service.stop().await, 0, "{} ends well", service.name);
                service
            }
            Turn::Member(number) => {
                let service = &mut system.members[*number];
                // etcd ends by the signal that it was sent.
                service.stop().await;
                service
            }
        };
        // What a package takes to be replaced, now and then.
        tokio::time::sleep(Duration::from_millis(dice.between(0, 1_000))).await;
        service.start().await.unwrap_or_else(|why| panic!("{why}"));
        restarts += 1;
        let [least, most] = PAUSE_MS;
        tokio::time::sleep(Duration::from_millis(dice.between(least, most))).await;
    }
    eprintln!("{restarts} restarts");
}

#[tokio::test]
async fn all_replicas_are_restarted_one_after_the_other_and_nobody_notices() {
    let system = System::start(three()).await;
    let story = "replicas restarted one after the other";
    nobody_notices(story, system, Promise::InTime, async |strikes, until, dice| {
        restart(&mut strikes.system, &[0, 1, 2].map(Turn::Replica), until, dice).await;
    })
    .await;
}

#[tokio::test]
async fn all_members_of_etcd_are_restarted_one_after_the_other_and_no_lease_is_taken() {
    let system = System::start(three()).await;
    let story = "members of etcd restarted one after the other";
    nobody_notices(story, system, Promise::Kept, async |strikes, until, dice| {
        restart(&mut strikes.system, &[0, 1, 2].map(Turn::Member), until, dice).await;
    })
    .await;
}

/// A machine has one of each, and machines are restarted in their turn.
#[tokio::test]
async fn replicas_and_members_of_etcd_are_restarted_in_turn_and_no_lease_is_taken() {
    let system = System::start(three()).await;
    let story = "replicas and members of etcd restarted in turn";
    let turns = [0, 1, 2].map(|number| [Turn::Member(number), Turn::Replica(number)]).concat();
    nobody_notices(story, system, Promise::Kept, async |strikes, until, dice| {
        restart(&mut strikes.system, &turns, until, dice).await;
    })
    .await;
}
