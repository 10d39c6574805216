//! A copy of a store that runs, in one file that says of itself whether it is whole; and a store made of such a file.
//!
//! ```text
//!  head 16: "batoffBK" 8 | version 4 | crc 4
//!  chunk:   kind 1 | length 4 | content | crc 4       the checksum covers salt, number, kind, length and content
//!
//!  begin · pairs… · tasks… · completions… · keys… · log · group… · end
//!  └ salt, who wrote it, where the checkpoint stands           └ how many there are of each
//! ```
//!
//! Numbers are little-endian. A chunk that is cut, altered, missing or in another's place is found by its checksum, and told
//! by the byte at which it begins. What is sorted after what follows from how the parts depend on one another: nothing in
//! the pairs speaks of a record that the log, which is read last, does not have.
//!
//! The store that is made of it has a log of its own: what happened after the backup is unknown, so no number of the old log
//! may be given a second time under the old identity. Only when nothing happened afterwards, because the log was refused to
//! everybody before (it moves to another engine, or back), it stays the same log.

mod chunk;
mod compose;
mod contents;
mod error;
mod restore;
mod take;
mod verify;

pub use self::compose::compose_backup;
pub use self::contents::BackupContents;
pub use self::error::{BackupError, BackupSummary};
pub(super) use self::restore::{RestoredLog, refuse_occupied, restore};
pub(super) use self::take::take;
pub use self::verify::verify_backup;
