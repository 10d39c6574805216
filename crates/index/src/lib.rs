//! What a node's cache holds, what a purge hits, and whether a cached object may be served

mod entry;
mod index;
mod list;
mod place;
mod plan;
mod rules;
mod snapshot;
mod state;
mod stats;
mod store;
mod sweep;
mod walk;

pub use self::entry::{Effect, Entry, Listed, Match, Refused, Variant, Verdict};
pub use self::index::{Index, IndexConfig};
pub use self::list::Listing;
pub use self::place::{Place, Rule};
pub use self::snapshot::Snapshot;
pub use self::stats::{Bytes, Stats};
pub use self::sweep::Matches;
