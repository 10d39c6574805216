//! The seal of a store whose log goes on in another engine.
//!
//! It lies in the format of `pairs.redb`, which every build has always looked at before it takes a store for its own; earlier
//! ones refuse the number, this one says where the log is. A start writes nothing before it has come to it.

use batoff_types::UnixMillis;
use redb::ReadTransaction;

use super::checkpoint::MetaNumbers;
use super::fault::Fault;
use super::layout::{FORMAT_MOVED, META_FORMAT, META_MOVED_AT, META_MOVED_TO};

/// Where a log has moved to, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// When.
    pub at: UnixMillis,
    /// The id of the etcd cluster.
    pub cluster: u64,
}

/// The seal of pairs of which a transaction reads, if they have one.
pub(super) fn of(transaction: &ReadTransaction) -> Result<Option<Seal>, Fault> {
    let numbers = MetaNumbers(transaction);
    if numbers.narrow(META_FORMAT)? != u64::from(FORMAT_MOVED) {
        return Ok(None);
    }
    Ok(Some(Seal { at: UnixMillis(numbers.narrow(META_MOVED_AT)?), cluster: numbers.narrow(META_MOVED_TO)? }))
}
