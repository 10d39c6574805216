//! Lines of `Cache-Tag`, as an origin may send them.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run cache_tag`, in `crates/index`. Lines are separated by line feeds, which no header
//! can have; the inputs in `corpus` are replayed by the crate's tests.
#![no_main]

#[path = "../../tests/it/cache_tag.rs"]
mod cache_tag;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cache_tag::check(data));
