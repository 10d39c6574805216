//! The two databases: opened, examined, made.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use batoff_types::{LogId, UnixMillis};
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable};
use redb::{StorageBackend, StorageError};
use ulid::Ulid;

use super::checkpoint::{self, CheckpointPlace, MetaNumbers};
use super::committed::CommittedPairs;
use super::directory::{Directory, io_error};
use super::fault::Fault;
use super::layout::{
    FORMAT, FORMAT_MOVED, FORMAT_ONE_FILE, FORMAT_UNCHECKED, KV, KV_EXPIRY, META, META_COMMIT, META_FORMAT,
    META_KV_VERSION, META_LINEAGE, META_LOG_ID,
};
use super::medium::Medium;
use super::open_error::OpenError;
use super::overlay::Overlay;
use super::seal::{self, Seal};

/// Memory that the store may use to cache pages of its databases, in bytes. Smaller: lists of old tasks touch the disk.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;

pub(super) fn new_log_id() -> LogId {
    LogId::from_ulid(Ulid::generate())
}

/// A number that no other store has.
pub(super) fn new_lineage() -> u128 {
    u128::from(Ulid::generate())
}

/// What `purge.redb` turned out to be.
pub(super) enum FoundStore {
    Checkpoint(Database, CheckpointPlace),
    /// A store of one of the formats that kept everything in it.
    OneFile(Database, u32),
}

/// Opens `purge.redb`.
pub(super) fn open_store<M: Medium>(
    medium: &M,
    path: &Path,
    cache_bytes: usize,
) -> Result<FoundStore, OpenError> {
    open_on(
        || medium.open(path),
        path,
        cache_bytes,
        |database, path| {
            let transaction = read(&database, path)?;
            match format(&transaction, path)? {
                FORMAT => {
                    let standing =
                        CheckpointPlace::read(&transaction).map_err(|fault| explain(fault, "read", path))?;
                    drop(transaction);
                    Ok(FoundStore::Checkpoint(database, standing))
                }
                old @ (FORMAT_ONE_FILE | FORMAT_UNCHECKED) => {
                    drop(transaction);
                    Ok(FoundStore::OneFile(database, old))
                }
                found => Err(OpenError::Format { path: path.to_owned(), found, supported: FORMAT }),
            }
        },
    )
}

/// Opens the checkpoint again.
pub(super) fn open_checkpoint<M: Medium>(
    medium: &M,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, CheckpointPlace), OpenError> {
    match open_store(medium, path, cache_bytes)? {
        FoundStore::Checkpoint(database, standing) => Ok((database, standing)),
        FoundStore::OneFile(_, found) => {
            Err(OpenError::Format { path: path.to_owned(), found, supported: FORMAT })
        }
    }
}

/// Opens the pairs of the store `lineage`.
pub(super) fn open_pairs<M: Medium>(
    medium: &M,
    path: &Path,
    cache_bytes: usize,
    lineage: u128,
) -> Result<(Database, CommittedPairs), OpenError> {
    match path.try_exists() {
        Ok(false) => return Err(corrupt(path, "it is missing")),
        Ok(true) => {}
        Err(source) => return Err(io_error("look for", path, source)),
    }
    open_on(
        || medium.open(path),
        path,
        cache_bytes,
        |database, path| {
            let pairs = examine_pairs(&database, path, lineage)?;
            Ok((database, pairs))
        },
    )
}

/// Opens both on a disk that takes no writes. What is written to them is lost.
pub(super) fn open_to_read(
    directory: &Directory,
    cache_bytes: usize,
    lineage: u128,
) -> Result<(Database, CheckpointPlace, Database, CommittedPairs), OpenError> {
    let (store, pairs) = (directory.store(), directory.pairs());
    let (checkpoint, standing) = open_on(
        || Overlay::open(&store),
        &store,
        cache_bytes,
        |database, path| {
            let standing = CheckpointPlace::read(&read(&database, path)?)
                .map_err(|fault| explain(fault, "read", path))?;
            Ok((database, standing))
        },
    )?;
    let (pairs, committed) = open_on(
        || Overlay::open(&pairs),
        &pairs,
        cache_bytes,
        |database, path| {
            let committed = examine_pairs(&database, path, lineage)?;
            Ok((database, committed))
        },
    )?;
    Ok((checkpoint, standing, pairs, committed))
}

/// Where the checkpoint at `path` stands; the file stays as it is.
pub(super) fn inspect(path: &Path) -> Result<CheckpointPlace, OpenError> {
    open_on(
        || Overlay::open(path),
        path,
        1 << 20,
        |database, path| {
            let transaction = read(&database, path)?;
            match format(&transaction, path)? {
                FORMAT => CheckpointPlace::read(&transaction).map_err(|fault| explain(fault, "read", path)),
                found => Err(OpenError::Format { path: path.to_owned(), found, supported: FORMAT }),
            }
        },
    )
}

/// Reads something of the database at `path`, which stays as it is.
pub(super) fn look_at<T>(
    path: &Path,
    cache_bytes: usize,
    read_it: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
) -> Result<T, OpenError> {
    open_on(
        || Overlay::open(path),
        path,
        cache_bytes,
        |database, path| {
            let transaction = read(&database, path)?;
            read_it(&transaction).map_err(|fault| explain(fault, "read", path))
        },
    )
}

/// Opens pairs, sealed or not, to change their seal.
pub(super) fn open_sealed<M: Medium>(
    medium: &M,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, Option<Seal>), OpenError> {
    open_on(
        || medium.open(path),
        path,
        cache_bytes,
        |database, path| {
            let seal = seal::of(&read(&database, path)?).map_err(|fault| explain(fault, "read", path))?;
            Ok((database, seal))
        },
    )
}

fn open_on<B: StorageBackend, T>(
    backend: impl FnOnce() -> io::Result<B>,
    path: &Path,
    cache_bytes: usize,
    examine: impl FnOnce(Database, &Path) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let open = || {
        let backend = backend().map_err(|source| io_error("open", path, source))?;
        examine(open_backend(backend, path, cache_bytes)?, path)
    };
    calm(path, open)
}

/// Some kinds of damage make redb panic instead of saying so.
pub(super) fn calm<T>(path: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(corrupt(path, "its pages contradict one another")))
}

pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), detail: detail.into() }
}

/// Gives the store's log another identity.
pub(super) fn rename_log(database: &Database, log_id: LogId, path: &Path) -> Result<(), OpenError> {
    write_meta(database, &[(META_LOG_ID, u128::from(log_id.ulid()))])
        .map_err(|fault| explain(fault, "write", path))
}

/// Makes a checkpoint that holds nothing yet.
pub(super) fn create_checkpoint<M: Medium>(
    medium: &M,
    path: &Path,
    standing: &CheckpointPlace,
) -> Result<Database, OpenError> {
    let backend = medium.create(path).map_err(|source| io_error("create", path, source))?;
    let database = open_backend(backend, path, CACHE_BYTES)?;
    let make = || -> Result<(), Fault> {
        let transaction = database.begin_write()?;
        checkpoint::make_tables(&transaction)?;
        standing.write(&transaction)?;
        Ok(transaction.commit()?)
    };
    make().map_err(|fault| explain(fault, "write", path))?;
    Ok(database)
}

/// Makes pairs of which there are none yet.
pub(super) fn create_pairs<M: Medium>(
    medium: &M,
    path: &Path,
    lineage: u128,
    version: u64,
) -> Result<Database, OpenError> {
    let backend = medium.create(path).map_err(|source| io_error("create", path, source))?;
    let database = open_backend(backend, path, CACHE_BYTES)?;
    let make = || -> Result<(), Fault> {
        let transaction = database.begin_write()?;
        transaction.open_table(KV)?;
        transaction.open_table(KV_EXPIRY)?;
        transaction.commit()?;
        let rows = [
            (META_FORMAT, u128::from(FORMAT)),
            (META_LINEAGE, lineage),
            (META_COMMIT, 0),
            (META_KV_VERSION, u128::from(version)),
        ];
        write_meta(&database, &rows)
    };
    make().map_err(|fault| explain(fault, "write", path))?;
    Ok(database)
}

fn write_meta(database: &Database, values: &[(&str, u128)]) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        for (name, value) in values {
            meta.insert(name, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn open_backend(
    backend: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
) -> Result<Database, OpenError> {
    Builder::new().set_cache_size(cache_bytes).create_with_backend(backend).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { path: path.to_owned() }
        }
        DatabaseError::UpgradeRequired(_) => OpenError::Foreign { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            OpenError::Foreign { path: path.to_owned() }
        }
        other => explain(other.into(), "open", path),
    })
}

pub(super) fn explain(fault: Fault, action: &'static str, path: &Path) -> OpenError {
    match fault {
        Fault::Full => io_error(action, path, io::ErrorKind::StorageFull.into()),
        Fault::Io(detail) => io_error(action, path, io::Error::other(detail)),
        Fault::Damaged(detail) => OpenError::Corrupt { path: path.to_owned(), detail },
    }
}

fn read(database: &Database, path: &Path) -> Result<ReadTransaction, OpenError> {
    database.begin_read().map_err(|error| explain(error.into(), "read", path))
}

fn format(transaction: &ReadTransaction, path: &Path) -> Result<u32, OpenError> {
    match MetaNumbers(transaction).narrow(META_FORMAT) {
        Ok(format) => Ok(u32::try_from(format).unwrap_or(u32::MAX)),
        Err(Fault::Damaged(_)) => Err(OpenError::Foreign { path: path.to_owned() }),
        Err(fault) => Err(explain(fault, "read", path)),
    }
}

fn examine_pairs(database: &Database, path: &Path, lineage: u128) -> Result<CommittedPairs, OpenError> {
    let transaction = read(database, path)?;
    let found = format(&transaction, path)?;
    if found == FORMAT_MOVED
        && let Some(Seal { at, cluster }) =
            seal::of(&transaction).map_err(|fault| explain(fault, "read", path))?
    {
        return Err(OpenError::Moved { path: path.to_owned(), at, cluster });
    }
    if found != FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found, supported: FORMAT });
    }
    let numbers = MetaNumbers(&transaction);
    let examine = || -> Result<CommittedPairs, Fault> {
        if numbers.wide(META_LINEAGE)? != lineage {
            return Err(Fault::Damaged("it belongs to another store than the files beside it".to_owned()));
        }
        let expiry = transaction.open_table(KV_EXPIRY)?.first()?.map(|(key, _)| UnixMillis(key.value().0));
        Ok(CommittedPairs {
            commit: numbers.narrow(META_COMMIT)?,
            version: numbers.narrow(META_KV_VERSION)?,
            expiry,
        })
    };
    examine().map_err(|fault| explain(fault, "read", path))
}
