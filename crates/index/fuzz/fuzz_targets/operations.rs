//! Sequences of operations, on the index and on the naive model that its tests have.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run operations`, in `crates/index`. Four bytes of an input make
//! one operation; the inputs in `corpus` are replayed by the crate's tests.
#![no_main]

#[path = "../../tests/it/model/bytes.rs"]
mod bytes;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../tests/it/fixture.rs"]
mod fixture;
#[path = "../../tests/it/model/naive.rs"]
mod naive;
#[path = "../../tests/it/model/operation.rs"]
mod operation;
#[path = "../../tests/it/model/run.rs"]
mod run;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::check(data));
