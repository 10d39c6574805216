//! A log that moves here from another engine, or from here to another: the same log, with the same numbers.
//!
//! ```text
//!  in    i ──▶ k/ e/ · x/ q/ · l/ p/ · h f ──▶ read again, compared ──▶ m (and no i)
//!  out   m says that it has moved ──▶ everything is read
//! ```
//!
//! `m` is written last, so half a log is none; and `i` first, so that no store makes a new log meanwhile, and whoever tries a
//! second time knows that what lies there may go. Each write compares `i`: of two who move at once, the earlier one stops.
//! On the way out `m` changes first: each append and trim compares it, so nothing is accepted behind what is being read.

mod export;
mod import;
mod place;

pub use self::import::ImportedLog;
pub use self::place::{EtcdMove, EtcdMoveError, FoundLog, MovedTo};
