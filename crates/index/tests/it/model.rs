//! Any sequence of operations, on the index and on a model that could not be simpler: a list of objects, a list of
//! records, and [`Selector::matches`](batoff_types::Selector::matches).

pub mod bytes;
mod naive;
mod operation;
mod run;

use proptest::prelude::*;

use self::operation::{Operation, operations};
use self::run::Run;

fn check(rules_max: usize, ports: bool, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let mut run = Run::new(rules_max, ports);
    for operation in operations {
        run.step(operation)?;
    }
    run.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Verdicts, counts and matches are those of the model, through moves of hostnames, resets, restarts and
    /// forgetting.
    #[test]
    fn the_index_does_what_the_specification_says(ports: bool, operations in operations(60)) {
        check(usize::MAX, ports, operations)?;
    }

    /// With room for a few rules only, everything that the specification hits is hit, and nothing that was filled after
    /// the last record.
    #[test]
    fn folding_only_widens(rules_max in 0..12_usize, ports: bool, operations in operations(60)) {
        check(rules_max, ports, operations)?;
    }
}
