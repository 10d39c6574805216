use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::operation::operations;
use super::run::Run;

/// Longer than what the plain tests try: a fuzzer finds its way to what is far in.
const OPERATIONS_MAX: usize = 120;

/// Bytes of one operation. Each is drawn by itself, so that a change of some bytes leaves the other operations as they
/// are.
const EACH: usize = 4;

/// Does what the bytes say. The first says how many rules there is room for, mostly for all, and whether keys have ports,
/// as mostly they have.
pub fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let rules_max = if first < 192 { usize::MAX } else { usize::from(first - 192) };
    let mut run = Run::new(rules_max, first % 8 != 7);
    let one = operations(2);
    for bytes in rest.chunks_exact(EACH).take(OPERATIONS_MAX) {
        let mut seed = [0; 32];
        seed[..EACH].copy_from_slice(bytes);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for operation in one.new_tree(&mut runner).unwrap().current() {
            let said = format!("{operation:?}");
            run.step(operation).unwrap_or_else(|error| panic!("{said}: {error}"));
        }
    }
    run.end().unwrap();
}
