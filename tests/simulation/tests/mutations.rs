//! An oracle that cannot fail proves nothing: each rule is left out, and must be missed.

use std::sync::atomic::{AtomicUsize, Ordering};

use batoff_simulation::{Options, SeveralOptions, Switch, search, search_several};

/// Seeds within which each must be noticed; most are within thirty.
const SEEDS_MAX: u64 = 600;

/// The same for three replicas; their worlds are quicker.
const SEEDS_OF_SEVERAL_MAX: u64 = 6_000;

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    each_is_noticed(Switch::all().collect(), SEEDS_MAX, |without| {
        let options = Options { without: Some(without), profile: without.profile(), ..Options::default() };
        let summary = search(0..SEEDS_MAX, options);
        (summary.seeds, summary.total.violations.first().map(ToString::to_string))
    });
}

#[test]
fn every_rule_that_is_left_out_of_three_replicas_is_noticed() {
    each_is_noticed(Switch::of_several().collect(), SEEDS_OF_SEVERAL_MAX, |without| {
        let options =
            SeveralOptions { without: Some(without), temper: without.temper(), ..SeveralOptions::default() };
        let summary = search_several(0..SEEDS_OF_SEVERAL_MAX, options);
        (summary.seeds, summary.total.violations.first().map(ToString::to_string))
    });
}

/// `look`: how many seeds it took, and what was found.
fn each_is_noticed(switches: Vec<Switch>, seeds: u64, look: impl Fn(Switch) -> (u64, Option<String>) + Sync) {
    let next = AtomicUsize::new(0);
    let unnoticed = || {
        let mut unnoticed = Vec::new();
        while let Some(&without) = switches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (seeds, found) = look(without);
            println!("{:<18}{seeds:>4} seeds  {}", without.as_str(), found.as_deref().unwrap_or("nothing"));
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
    assert!(unnoticed.is_empty(), "left out of {seeds} runs and not noticed: {unnoticed:?}");
}
