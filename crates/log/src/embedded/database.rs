//! One file: opened, examined, and known to be what was acknowledged.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use batoff_types::{Cursor, LogId, Seq, UnixMillis};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};
use redb::{StorageBackend, StorageError, TableError};
use ulid::Ulid;

use super::committed::Committed;
use super::directory::{Directory, io_error};
use super::fault::Fault;
use super::layout::{
    FORMAT, FORMAT_UNCHECKED, KV_EXPIRY, LOG, META, META_COMMIT, META_FIRST, META_FORMAT, META_KV_VERSION,
    META_LOG_ID,
};
use super::medium::Medium;
use super::open_error::OpenError;
use super::overlay::Overlay;
use super::witness::Witness;
use super::{layout, rows, task_index};

/// Memory that the store may use to cache pages of its file, in bytes. Smaller: reads far behind the tail touch the disk.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Records whose checksums are verified when the store is opened, counted from the tail: what a crash could have torn.
/// Older ones are verified whenever they are read.
const VERIFIED_RECORDS: u64 = 4_096;

pub(super) fn new_log_id() -> LogId {
    LogId::from_ulid(Ulid::generate())
}

/// Opens the directory's store, or makes one where there never was any.
pub(super) fn open_or_create<M: Medium>(
    medium: &M,
    directory: &Directory,
    cache_bytes: usize,
) -> Result<(Database, Committed), OpenError> {
    if !directory.has_store()? {
        if directory.names_a_log()? {
            return Err(OpenError::Lost { path: directory.store() });
        }
        create(medium, directory, new_log_id())?;
    }
    let (database, committed) = open(medium, &directory.store(), cache_bytes)?;
    whole_index(&database, committed.tail, &directory.store())?;
    let beside = directory.read_log_id()?;
    if beside != Some(committed.log_id) {
        return Err(OpenError::Copy { path: directory.store(), stored: committed.log_id, beside });
    }
    Ok((database, committed))
}

/// Refuses a store that lacks what was acknowledged.
pub(super) fn hear(witness: &Witness, directory: &Directory, committed: &Committed) -> Result<(), OpenError> {
    let path = directory.acknowledged();
    let testimony = witness.read().map_err(|source| io_error("read", &path, source))?;
    match testimony.and_then(|testimony| testimony.refutes(committed)) {
        Some(detail) => Err(OpenError::Corrupt { path: directory.store(), detail }),
        None => Ok(()),
    }
}

/// Opens an existing store and verifies what can be verified at once.
pub(super) fn open<M: Medium>(
    medium: &M,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, Committed), OpenError> {
    open_on(|| medium.open(path), path, cache_bytes)
}

/// Opens an existing store on a disk that takes no writes. What is written to it is lost.
pub(super) fn open_to_read(path: &Path, cache_bytes: usize) -> Result<(Database, Committed), OpenError> {
    open_on(|| Overlay::open(path), path, cache_bytes)
}

fn open_on<B: StorageBackend>(
    backend: impl FnOnce() -> io::Result<B>,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, Committed), OpenError> {
    let open = || {
        let backend = backend().map_err(|source| io_error("open", path, source))?;
        let database = open_backend(backend, path, cache_bytes)?;
        let committed = examine(&database, path)?;
        Ok((database, committed))
    };
    // Some kinds of damage make redb panic instead of saying so.
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(contradiction(path)))
}

/// Checks the index of tasks, and makes anew of it what can be.
fn whole_index(database: &Database, tail: Cursor, path: &Path) -> Result<(), OpenError> {
    let check = || task_index::make_whole(database, tail).map_err(|fault| explain(fault, "read", path));
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err(contradiction(path)))
}

fn contradiction(path: &Path) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), detail: "its pages contradict one another".to_owned() }
}

/// Gives the directory's store another identity.
pub(super) fn adopt<M: Medium>(medium: &M, directory: &Directory, log_id: LogId) -> Result<(), OpenError> {
    let path = directory.store();
    if !directory.has_store()? {
        let source = io::ErrorKind::NotFound.into();
        return Err(io_error("find the copied purge log", &path, source));
    }
    let (database, _) = open(medium, &path, CACHE_BYTES)?;
    write_meta(&database, &[(META_LOG_ID, u128::from(log_id.ulid()))])
        .map_err(|fault| explain(fault, "write", &path))?;
    directory.write_log_id(log_id)
}

fn create<M: Medium>(medium: &M, directory: &Directory, log_id: LogId) -> Result<(), OpenError> {
    let path = directory.unfinished_store();
    let backend = medium.create(&path).map_err(|source| io_error("create", &path, source))?;
    let database = open_backend(backend, &path, CACHE_BYTES)?;
    make_tables(&database, log_id).map_err(|fault| explain(fault, "write", &path))?;
    drop(database);
    directory.write_log_id(log_id)?;
    directory.finish_store()
}

fn make_tables(database: &Database, log_id: LogId) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?;
    transaction.open_table(layout::TASKS)?;
    transaction.open_table(layout::TASK_SEQS)?;
    transaction.open_table(layout::SITE_TASKS)?;
    transaction.open_table(layout::COMPLETIONS)?;
    transaction.open_table(layout::DEDUPE)?;
    transaction.open_table(layout::DEDUPE_EXPIRY)?;
    transaction.open_table(layout::KV)?;
    transaction.open_table(KV_EXPIRY)?;
    transaction.commit()?;
    write_meta(
        database,
        &[
            (META_FORMAT, u128::from(FORMAT)),
            (META_LOG_ID, u128::from(log_id.ulid())),
            (META_COMMIT, 0),
            (META_FIRST, 1),
            (META_KV_VERSION, 0),
        ],
    )
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

fn explain(fault: Fault, action: &'static str, path: &Path) -> OpenError {
    match fault {
        Fault::Full => io_error(action, path, io::ErrorKind::StorageFull.into()),
        Fault::Io(detail) => io_error(action, path, io::Error::other(detail)),
        Fault::Damaged(detail) => OpenError::Corrupt { path: path.to_owned(), detail },
    }
}

fn examine(database: &Database, path: &Path) -> Result<Committed, OpenError> {
    let failed = |fault| explain(fault, "read", path);
    let read = || {
        let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
        match Meta::read(&transaction) {
            Ok(meta) => Ok((transaction, meta)),
            Err(Fault::Damaged(_)) => Err(OpenError::Foreign { path: path.to_owned() }),
            Err(fault) => Err(failed(fault)),
        }
    };
    let (mut transaction, mut meta) = read()?;
    if meta.format == FORMAT_UNCHECKED {
        drop(transaction);
        task_index::add_checksums(database).map_err(failed)?;
        (transaction, meta) = read()?;
    }
    if meta.format != FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found: meta.format, supported: FORMAT });
    }
    verify(&transaction, meta).map_err(failed)
}

struct Meta {
    format: u32,
    log_id: LogId,
    commit: u64,
    first: u64,
    kv_version: u64,
}

impl Meta {
    /// Damaged when a number is missing: then the file is a database, but none of ours.
    fn read(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let table = match transaction.open_table(META) {
            Err(TableError::Storage(error)) => return Err(error.into()),
            other => other?,
        };
        let wide = |name: &str| match table.get(name)? {
            Some(value) => Ok(value.value()),
            None => Err(Fault::Damaged(format!("its {name} is missing"))),
        };
        let number = |name: &str| {
            u64::try_from(wide(name)?).map_err(|_| Fault::Damaged(format!("its {name} is out of range")))
        };
        Ok(Self {
            format: u32::try_from(number(META_FORMAT)?).unwrap_or(u32::MAX),
            log_id: LogId::from_ulid(Ulid::from(wide(META_LOG_ID)?)),
            commit: number(META_COMMIT)?,
            first: number(META_FIRST)?,
            kv_version: number(META_KV_VERSION)?,
        })
    }
}

/// Checks that the records are numbered without gaps and that the newest are what was written.
fn verify(transaction: &ReadTransaction, meta: Meta) -> Result<Committed, Fault> {
    let log = transaction.open_table(LOG)?;
    let first = Seq::new(meta.first).ok_or_else(|| Fault::Damaged("its log begins at 0".to_owned()))?;
    let mut committed = Committed {
        log_id: meta.log_id,
        commit: meta.commit,
        first,
        tail: Cursor::before(first),
        high: UnixMillis(0),
        kv_version: meta.kv_version,
        kv_expiry: transaction.open_table(KV_EXPIRY)?.first()?.map(|(key, _)| UnixMillis(key.value().0)),
    };
    let (Some(oldest), Some(newest)) = (log.first()?, log.last()?) else {
        return Ok(committed);
    };
    let (oldest, tail, high) = (oldest.0.value(), newest.0.value(), rows::record_high(newest.1.value()));
    let expected = tail - oldest + 1;
    if oldest != meta.first || log.len()? != expected {
        return Err(Fault::Damaged(format!(
            "its log should hold the records {} to {tail}, but holds {} beginning at {oldest}",
            meta.first,
            log.len()?
        )));
    }
    for row in log.range(tail.saturating_sub(VERIFIED_RECORDS - 1)..)? {
        let (seq, row) = row?;
        rows::read_record(seq.value(), row.value())?;
    }
    committed.tail = Cursor::new(tail);
    committed.high = high;
    Ok(committed)
}
