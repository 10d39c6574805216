//! Several control planes beside one log, on seeds that nobody has seen before.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "seeds/first.rs"]
mod seeds;

use batoff_simulation::{SeveralOptions, SeveralSummary, run_several};

use self::seeds::first_seed;

/// Runs in an ordinary test, with so many replicas in the first set. More:
/// `cargo run -p batoff-simulation -- several --replicas 3 --seeds 10000`.
const SEEDS: [(u8, u64); 3] = [(1, 30), (3, 150), (5, 40)];

/// An oracle that sees few leases proves little.
const SHARE_LEASED_MIN: f64 = 0.4;

#[test]
fn completed_is_true_whichever_replica_says_it() {
    let first = first_seed();
    for (replicas, seeds) in SEEDS {
        println!("{replicas} replicas, seeds {first} to {}", first + seeds - 1);
        let mut summary = SeveralSummary::default();
        let options = SeveralOptions { replicas, ..SeveralOptions::default() };
        (first..first + seeds).for_each(|seed| summary += run_several(seed, options));
        println!("{summary}");
        if let Some(seed) = summary.bad.first() {
            let violations = &summary.total.violations;
            panic!(
                "seed {seed} (replay: cargo run -p batoff-simulation -- several --replicas {replicas} --seed {seed}): \
                 {violations:#?}"
            );
        }
        assert!(summary.share_leased() > SHARE_LEASED_MIN, "{}", summary.share_leased());
    }
}

#[test]
fn a_seed_of_several_replays_exactly() {
    let told = |seed| format!("{:?}", run_several(seed, SeveralOptions::default()));
    for seed in [3, 4] {
        assert_eq!(told(seed), told(seed));
    }
}
