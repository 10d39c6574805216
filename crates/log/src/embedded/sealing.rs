//! Puts the seal on a store, and takes it off.

use std::path::Path;

use redb::Database;

use super::database::{self, explain};
use super::fault::Fault;
use super::layout::{FORMAT, FORMAT_MOVED, META, META_FORMAT, META_MOVED_AT, META_MOVED_TO};
use super::medium::Medium;
use super::open_error::OpenError;
use super::seal::{Seal, of};

/// Memory for the pages of the few rows that are read here, in bytes.
const CACHE_BYTES: usize = 1 << 20;

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
