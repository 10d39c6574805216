//! Both ends of the protocol against each other in virtual time, with an oracle for what `completed` promises.
//!
//! Delays, losses that break a stream, one-way cuts, frozen machines, crashes of both sides, caches that outlive their
//! daemon, clocks of different rates, records that take long to apply, cursors that are stored late.
//! `BATOFF_SIMULATION_SEEDS=5000 cargo test -p batoff-delivery simulation -- --nocapture` for more;
//! `BATOFF_SIMULATION_FIRST` to begin elsewhere. A failing run prints its seed, and replays exactly.

mod control;
mod node;
mod random;
mod world;

use std::time::Duration;

use self::world::{Outcome, World};
use crate::LeaseTimes;
use crate::roster::rules::Rule;

/// Runs in an ordinary test.
const SEEDS: u64 = 200;

/// What is switched off in a run: nothing, or one rule.
#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    times: LeaseTimes,
    off: Option<Rule>,
    lease_counts_from_receipt: bool,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    seeds: u64,
    unsafe_seeds: u64,
    late_seeds: u64,
    first_bad: Option<u64>,
    total: Outcome,
}

fn run_all(switches: Switches, seeds: u64, stop_at_first: bool) -> Summary {
    let first = setting("BATOFF_SIMULATION_FIRST", 0);
    let mut summary = Summary::default();
    for seed in first..first + seeds {
        let outcome = World::new(seed, switches).run();
        summary.seeds += 1;
        summary.unsafe_seeds += u64::from(outcome.violations > 0);
        summary.late_seeds += u64::from(outcome.late > 0);
        summary.total.purges += outcome.purges;
        summary.total.violations += outcome.violations;
        summary.total.late += outcome.late;
        summary.total.slowest = summary.total.slowest.max(outcome.slowest);
        summary.total.lookups += outcome.lookups;
        summary.total.lookups_under_lease += outcome.lookups_under_lease;
        if outcome.violations + outcome.late > 0 {
            summary.first_bad.get_or_insert(seed);
            if stop_at_first {
                break;
            }
        }
    }
    let share = summary.total.lookups_under_lease as f64 / summary.total.lookups.max(1) as f64;
    println!("{switches:?}\n{summary:?}\nlookups under a lease: {share:.2}");
    summary
}

#[test]
fn completed_means_that_no_node_serves_it_and_comes_within_two_seconds() {
    let summary = run_all(Switches::default(), setting("BATOFF_SIMULATION_SEEDS", SEEDS), false);
    assert_eq!(summary.first_bad, None, "seed {:?}: {summary:?}", summary.first_bad);
    let share = summary.total.lookups_under_lease as f64 / summary.total.lookups as f64;
    assert!(share > 0.5, "an oracle that sees few leases proves little: {share}");
}

fn is_noticed(what: &str, switches: Switches) {
    // With a number of seeds asked for, how often it is noticed; otherwise whether it ever is.
    let stop_at_first = std::env::var_os("BATOFF_SIMULATION_SEEDS").is_none();
    let summary = run_all(switches, setting("BATOFF_SIMULATION_SEEDS", 3_000), stop_at_first);
    assert!(summary.first_bad.is_some(), "{what} was switched off and nothing noticed");
}

#[test]
fn a_lease_without_margin_is_noticed() {
    let times = LeaseTimes { margin: Duration::ZERO, drift: 0.0, ..LeaseTimes::default() };
    is_noticed("the margin", Switches { times, ..Switches::default() });
}

#[test]
fn a_lease_counted_from_its_receipt_is_noticed() {
    is_noticed("the echo", Switches { lease_counts_from_receipt: true, ..Switches::default() });
}

#[test]
fn a_start_without_waiting_for_old_leases_is_noticed() {
    is_noticed("the wait", Switches { off: Some(Rule::WaitAfterStart), ..Switches::default() });
}

#[test]
fn a_start_without_a_floor_is_noticed() {
    is_noticed("the floor at a start", Switches { off: Some(Rule::FloorAtStart), ..Switches::default() });
}

#[test]
fn a_lease_below_the_floor_is_noticed() {
    is_noticed("the floor", Switches { off: Some(Rule::Floor), ..Switches::default() });
}

#[test]
fn renewing_the_lease_of_a_stuck_node_is_noticed() {
    is_noticed("progress", Switches { off: Some(Rule::Progress), ..Switches::default() });
}

#[test]
fn waiting_for_a_stuck_node_to_join_is_noticed() {
    is_noticed("the stuck joiner", Switches { off: Some(Rule::JoiningStuck), ..Switches::default() });
}

#[test]
fn forgetting_the_lease_of_an_earlier_incarnation_is_noticed() {
    is_noticed("one incarnation", Switches { off: Some(Rule::OneIncarnation), ..Switches::default() });
}
