//! One replica at a time, struck by whatever may happen to it.

use std::time::{Duration, Instant};

use batoff_tests::{Dice, Network, Place, System, SystemPlan, fault_time, isolated};

use super::{CUT_MS, CutLink, Promise, RECOVERY, nobody_notices_for, pick_of_three, strike, three};
use crate::wall_clock::TimeOfDay;

/// In the gate three or four blows; `BATOFF_FAULTS_SECONDS` makes it longer.
const TIME_MIN: Duration = Duration::from_secs(20);

/// The replica whose time of day may be stepped, counted from 0. One only: each look at a clock that is stepped costs a system
/// call more, and with three of them it is the machine that is late.
const OWN_CLOCK: usize = 1;

/// What may happen to a replica.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Killed,
    Frozen,
    StoppedInOrder,
    /// One of its links cut, one way or both.
    LinkCut,
    /// The time of day of [`OWN_CLOCK`] is another for a while.
    ClockStepped,
}

const BLOWS: [Blow; 5] =
    [Blow::Killed, Blow::Frozen, Blow::StoppedInOrder, Blow::LinkCut, Blow::ClockStepped];

/// The furthest that a clock is stepped, in seconds: less than what a signed request may be off, so that the customer, whose
/// clock is right, is not refused.
const STEP_SECONDS: i64 = 240;

impl Blow {
    async fn falls(
        self,
        replica: usize,
        (system, network, clock): (&mut System, &Network, &TimeOfDay),
        dice: &mut Dice,
    ) {
        match self {
            Self::Killed | Self::Frozen => {
                strike(system.replica(replica), matches!(self, Self::Killed), dice).await;
            }
            Self::StoppedInOrder => {
                let service = system.replica(replica);
                assert_eq!(service.stop().await, 0, "{} ends well", service.name);
                tokio::time::sleep(Duration::from_millis(dice.between(0, 1_500))).await;
                service.start().await.unwrap_or_else(|why| panic!("{why}"));
            }
            Self::LinkCut => {
                let link = CutLink::of_replica(network, replica, dice);
                tokio::time::sleep(Duration::from_millis(dice.between(50, CUT_MS))).await;
                link.mend(network);
            }
            Self::ClockStepped => {
                let range = u64::try_from(2 * STEP_SECONDS).unwrap();
                clock.step(i64::try_from(dice.between(0, range)).unwrap() - STEP_SECONDS);
                tokio::time::sleep(Duration::from_millis(dice.between(50, CUT_MS))).await;
                clock.step(0);
            }
        }
    }
}

#[test]
fn any_one_replica_struck_by_whatever_may_happen_to_it_is_noticed_by_nobody() {
    isolated(&["nft", "etcd"], async || {
        let Some(clock) = TimeOfDay::new() else { return };
        let own_environment = vec![(Place::Replica(OWN_CLOCK), clock.environment())];
        let plan = SystemPlan { apart: true, own_environment, ..three() };
        let network = Network::lay_for(plan.nodes, plan.replicas);
        let system = System::start(plan).await;
        let (story, time) = ("a replica struck by whatever may happen to it", fault_time().max(TIME_MIN));
        let began = Instant::now();
        nobody_notices_for(time, story, system, Promise::InTime, async |strikes, until, mut dice| {
            while Instant::now() + RECOVERY < until {
                let blow = BLOWS[usize::try_from(dice.between(0, BLOWS.len() as u64)).unwrap()];
                let any = pick_of_three(&mut dice);
                let replica = if matches!(blow, Blow::ClockStepped) { OWN_CLOCK } else { any };
                eprintln!("{:.1} s: replica {} {blow:?}", began.elapsed().as_secs_f32(), replica + 1);
                blow.falls(replica, (&mut strikes.system, &network, &clock), &mut dice).await;
                tokio::time::sleep(RECOVERY).await;
            }
        })
        .await;
    });
}
