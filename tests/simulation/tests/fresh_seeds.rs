//! The whole system on seeds that nobody has seen before.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "seeds/first.rs"]
mod seeds;

use batoff_simulation::{Options, Summary, run};

use self::seeds::first_seed;

/// Runs in an ordinary test. More: `cargo run -p batoff-simulation -- --seeds 10000`.
const SEEDS: u64 = 200;

/// An oracle that sees few leases proves little.
const SHARE_UNDER_LEASE_MIN: f64 = 0.55;

#[test]
fn completed_is_true_on_seeds_that_nobody_has_seen() {
    let first = first_seed();
    println!("seeds {first} to {}", first + SEEDS - 1);
    let summary = all(first, SEEDS);
    println!("{summary}");
    if let Some(seed) = summary.bad.first() {
        let violations = &summary.total.violations;
        panic!("seed {seed} (replay: cargo run -p batoff-simulation -- --seed {seed}): {violations:#?}");
    }
    assert!(summary.share_under_lease() > SHARE_UNDER_LEASE_MIN, "{}", summary.share_under_lease());
}

#[test]
fn a_seed_replays_exactly() {
    let told = |seed| format!("{:?}", run(seed, Options::default()));
    for seed in [3, 4] {
        assert_eq!(told(seed), told(seed));
    }
}

fn all(first: u64, seeds: u64) -> Summary {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let runs = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let mine = (first..first + seeds).filter(move |seed| seed % threads == worker);
                scope.spawn(move || mine.map(|seed| run(seed, Options::default())).collect::<Vec<_>>())
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    let mut summary = Summary::default();
    runs.into_iter().for_each(|outcome| summary += outcome);
    summary
}
