//! An oracle that cannot fail proves nothing: each rule is left out, and must be missed.

use batoff_simulation::{Options, Switch, search};

/// Seeds within which each must be noticed.
const SEEDS_MAX: u64 = 2_000;

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    for without in Switch::ALL {
        let summary = search(0..SEEDS_MAX, Options { without: Some(without), trace: false });
        let found = summary.total.violations.first();
        println!("{}: {} seeds, {found:?}", without.as_str(), summary.seeds);
        assert!(found.is_some(), "{} was left out of {SEEDS_MAX} runs and nothing noticed", without.as_str());
    }
}
