//! What the fuzzer has found worth keeping, replayed.

use std::path::Path;

use crate::{cache_tag, model};

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort_unstable();
    assert!(inputs.len() > 5, "{target}: the corpus is missing");
    for input in inputs {
        println!("{}", input.display());
        check(&std::fs::read(input).unwrap());
    }
}

#[test]
fn every_known_sequence_of_operations_does_what_the_specification_says() {
    replay("operations", model::bytes::check);
}

#[test]
fn every_known_line_of_cache_tag_is_read_by_its_grammar() {
    replay("cache_tag", cache_tag::check);
}
