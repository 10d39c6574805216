//! A caching reverse proxy that takes purges back at once: the edge daemon and a cache in one process.
//!
//! It is the reference of how a cache in Rust embeds `batoff-edge` and `batoff-index`: take a token before asking the
//! origin, register what is stored, ask the rules at each hit, and the lease last.
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
