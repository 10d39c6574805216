//! A caching reverse proxy that takes purges back at once: the edge daemon and a cache in one process.
//!
//! It is the reference of how a cache in Rust embeds `batoff-edge` and `batoff-index`: take a token before asking the
//! origin, register what is stored, ask the rules at each hit, and the lease last.
//!
//! What the purge side costs a hit (`benches/may_serve.rs`, 10,000 rules, an object with 4 tags, AMD EPYC, one run): the
//! rules 57 ns (965 instructions), and the lease on top of them 22 ns (105 instructions, three quarters of them the
//! kernel's reading of `CLOCK_BOOTTIME` in the vDSO) on a strict node, 1 ns (9 instructions) on an available one. Both are
//! asked twice, at the lookup and right before the first byte.
//!
//! It is not: a general web server. Plain HTTP/1.1 on both sides, memory only, `GET` and `HEAD`.

mod collapse;
pub mod config;
pub mod figures;
pub mod origin;
mod server;
mod service;
mod shield;
mod store;
mod tags;

pub use self::server::Proxy;
pub use self::shield::{Children, Shield};
pub use self::store::{Locator, Store};
