//! The caches beside the daemon: nginx, Varnish, HAProxy, Traffic Server, whatever is told by HTTP, and whatever registers
//! what it stores through the local API. The program `batoff-edge` is the daemon with these.
//!
//! ```text
//!  batoff-edge (daemon): records ──▶ trait Cache ──▶ here: one folder a kind ──▶ the cache's own process
//! ```
//!
//! It is not: what a purge hits, when a record counts as applied, or who may serve. That is the daemon's, and nothing here
//! decides it; an adapter makes come true what it is told, and says when it has.

pub mod config;
pub mod doctor;
mod exit;
pub mod haproxy;
pub mod http;
pub mod kinds;
pub mod local;
mod locator;
pub mod nginx;
pub mod section;
pub mod shared;
mod surroundings;
pub mod trafficserver;
pub mod varnish;

pub use self::locator::Locator;
pub use self::surroundings::{CacheOpenError, Surroundings};
