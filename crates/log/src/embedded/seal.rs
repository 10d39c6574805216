//! The seal of a store whose log goes on in another engine.
//!
//! It lies in the format of `pairs.redb`, which every build has always looked at before it takes a store for its own; earlier
//! ones refuse the number, this one says where the log is. A start writes nothing before it has come to it.

use std::path::Path;

use batoff_types::UnixMillis;
use redb::{Database, ReadTransaction};

use super::checkpoint::MetaNumbers;
use super::database::{self, explain};
use super::fault::Fault;
use super::layout::{FORMAT, FORMAT_MOVED, META, META_FORMAT, META_MOVED_AT, META_MOVED_TO};
use super::medium::Medium;
use super::open_error::OpenError;

/// Memory for the pages of the few rows that are read here, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// Where a log has moved to, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// When.
    pub at: UnixMillis,
    /// The id of the etcd cluster.
    pub cluster: u64,
}

/// Seals pairs.
pub(super) fn write(pairs: &Database, seal: Seal, path: &Path) -> Result<(), OpenError> {
    let write = || -> Result<(), Fault> {
        let transaction = pairs.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, u128::from(FORMAT_MOVED))?;
            meta.insert(META_MOVED_AT, u128::from(seal.at.0))?;
            meta.insert(META_MOVED_TO, u128::from(seal.cluster))?;
        }
        Ok(transaction.commit()?)
    };
    write().map_err(|fault| explain(fault, "write", path))
}

/// The seal of the pairs at `path`, which stay as they are.
pub(super) fn read(path: &Path) -> Result<Option<Seal>, OpenError> {
    database::look_at(path, CACHE_BYTES, of)
}

/// The seal of pairs of which a transaction reads, if they have one.
pub(super) fn of(transaction: &ReadTransaction) -> Result<Option<Seal>, Fault> {
    let numbers = MetaNumbers(transaction);
    if numbers.narrow(META_FORMAT)? != u64::from(FORMAT_MOVED) {
        return Ok(None);
    }
    Ok(Some(Seal { at: UnixMillis(numbers.narrow(META_MOVED_AT)?), cluster: numbers.narrow(META_MOVED_TO)? }))
}

/// Takes the seal off.
pub(super) fn remove<M: Medium>(medium: &M, path: &Path) -> Result<(), OpenError> {
    let (database, seal) = database::open_sealed(medium, path, CACHE_BYTES)?;
    if seal.is_none() {
        return Ok(());
    }
    let write = || -> Result<(), Fault> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, u128::from(FORMAT))?;
            meta.remove(META_MOVED_AT)?;
            meta.remove(META_MOVED_TO)?;
        }
        Ok(transaction.commit()?)
    };
    write().map_err(|fault| explain(fault, "write", path))
}
