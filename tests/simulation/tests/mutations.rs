//! An oracle that cannot fail proves nothing: each rule is left out, and must be missed.

use std::sync::atomic::{AtomicUsize, Ordering};

use batoff_simulation::{Options, Switch, search};

/// Seeds within which each must be noticed; most are within thirty.
const SEEDS_MAX: u64 = 600;

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    let next = AtomicUsize::new(0);
    let switches: Vec<_> = Switch::all().collect();
    let unnoticed = || {
        let mut unnoticed = Vec::new();
        while let Some(&without) = switches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let options =
                Options { without: Some(without), profile: without.profile(), ..Options::default() };
            let summary = search(0..SEEDS_MAX, options);
            let found = summary.total.violations.first().map(ToString::to_string);
            println!(
                "{:<18}{:>4} seeds  {}",
                without.as_str(),
                summary.seeds,
                found.as_deref().unwrap_or("nothing")
            );
            unnoticed.extend(found.is_none().then_some(without));
        }
        unnoticed
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let unnoticed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(unnoticed)).collect();
        let each =
            workers.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        each.flatten().collect::<Vec<_>>()
    });
    assert!(unnoticed.is_empty(), "left out of {SEEDS_MAX} runs and not noticed: {unnoticed:?}");
}
