//! A store of the formats that kept everything in one database, carried over.
//!
//! ```text
//!  purge.redb (2) ──copied──▶ purge.redb.3, log-….seg, keys-…, pairs.redb ──renamed last──▶ purge.redb (3)
//! ```
//!
//! Until the rename the old store is whole, and what was made beside it is made anew by the next start; after it the new
//! one is. The disk must have room for both.

use std::fs;

use batoff_types::{Cursor, LogId, Seq, TaskId, UnixMillis};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use ulid::Ulid;

use super::aligned::AlignedBytes;
use super::checkpoint::{CheckpointPlace, MetaNumbers, write_run_names};
use super::database::{self, corrupt, explain};
use super::directory::{Directory, io_error};
use super::fault::Fault;
use super::keys::{KeyRows, RunName, write_runs};
use super::layout::{
    COMPLETIONS, FORMAT_UNCHECKED, KV, KV_EXPIRY, META_COMMIT, META_FIRST, META_KV_VERSION, META_LOG_ID,
    OLD_DEDUPE, OLD_LOG, SITE_TASKS, TASK_SEQS, TASKS,
};
use super::log_copy::LogCopy;
use super::medium::Medium;
use super::open_error::OpenError;
use super::rows::{self, SeenKey};
use super::segments::{GroupHead, Onward, put_record};
use super::task_index;

/// Rows that are copied by one transaction.
const ROWS_PER_COMMIT: usize = 65_536;

/// Records of one group, and bytes after which one is closed.
const GROUP_RECORDS: u32 = 1_024;
const GROUP_BYTES: usize = 1024 * 1024;

/// Keys of one run.
const KEYS_PER_RUN: usize = 262_144;

/// Bytes of the file `ACKNOWLEDGED` of such a store: `log id 16 | commit 8 | tail 8 | crc 4`.
const OLD_WITNESS: usize = 36;

/// Makes a store of today's format of `old`, under the old one's name.
pub(super) fn carry_over<M: Medium>(
    medium: &M,
    directory: &Directory,
    old: Database,
    format: u32,
    now: UnixMillis,
) -> Result<(), OpenError> {
    let path = directory.store();
    let carried = directory.carried_store();
    if carried.try_exists().map_err(|source| io_error("look for", &carried, source))? {
        // An earlier start was interrupted.
        directory.remove_made()?;
        directory.remove_if_there(&carried)?;
    } else if directory.names_newer()? {
        return Err(corrupt(&path, "it is of an older format than the files beside it"));
    }
    tracing::info!(path = %path.display(), "a purge log of an older format is carried over");
    if format == FORMAT_UNCHECKED {
        task_index::add_checksums(&old).map_err(|fault| explain(fault, "write", &path))?;
    }
    let outcome = Carry { medium, directory, old: &old, now }.run();
    if outcome.is_err() {
        // Room for the old one, which goes on to be the store. What cannot be removed the next start removes.
        let _ = directory.remove_made();
        let _ = directory.remove_if_there(&carried);
    }
    let standing = outcome?;
    directory.finish_store(&carried)?;
    drop(old);
    tracing::info!(first = %standing.at.first, tail = %standing.at.tail, "the purge log was carried over");
    Ok(())
}

struct Carry<'c, M> {
    medium: &'c M,
    directory: &'c Directory,
    old: &'c Database,
    now: UnixMillis,
}

impl<M: Medium> Carry<'_, M> {
    fn run(&self) -> Result<CheckpointPlace, OpenError> {
        let path = self.directory.store();
        let read = |fault| explain(fault, "read", &path);
        let transaction = self.old.begin_read().map_err(|error| read(error.into()))?;
        let meta = OldMeta::read(&transaction).map_err(read)?;
        self.hear(&meta)?;
        let mut standing = CheckpointPlace::of_new(database::new_lineage(), meta.log_id);
        standing.at.first = meta.first;
        standing.at.tail = Cursor::before(meta.first);

        let carried = self.directory.carried_store();
        let new = database::create_checkpoint(self.medium, &carried, &standing)?;
        self.directory.flush()?;
        self.copy_pairs(&transaction, &standing, meta.kv_version)?;
        self.copy_log(&transaction, &mut standing)?;
        task_index::make_whole(self.old, standing.at.tail).map_err(read)?;
        let mut rest = || -> Result<(), Fault> {
            copy_tasks(&transaction, &new)?;
            let runs = self.copy_keys(&transaction)?;
            if let Some((last, _)) = transaction.open_table(TASK_SEQS)?.last()? {
                standing.at.last_task = TaskId::from_bytes(*last.value());
            }
            let last = new.begin_write()?;
            write_run_names(&last, &runs)?;
            standing.write(&last)?;
            Ok(last.commit()?)
        };
        rest().map_err(|fault| explain(fault, "write", &carried))?;
        Ok(standing)
    }

    /// Refuses an old store that lacks what was acknowledged.
    fn hear(&self, meta: &OldMeta) -> Result<(), OpenError> {
        let path = self.directory.acknowledged();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(io_error("read", &path, source)),
        };
        let said = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let is_sound =
            bytes.len() == OLD_WITNESS && bytes[32..] == crc32fast::hash(&bytes[..32]).to_le_bytes();
        let is_ours = is_sound && bytes[..16] == u128::from(meta.log_id.ulid()).to_le_bytes();
        match (said(16), said(24)) {
            (Some(commit), Some(tail)) if is_ours && commit > meta.commit => Err(corrupt(
                &self.directory.store(),
                format!(
                    "commit {commit} with record {tail} was acknowledged, but it ends with commit {}",
                    meta.commit
                ),
            )),
            _ => Ok(()),
        }
    }

    fn copy_pairs(
        &self,
        old: &ReadTransaction,
        standing: &CheckpointPlace,
        version: u64,
    ) -> Result<(), OpenError> {
        let path = self.directory.pairs();
        let new = database::create_pairs(self.medium, &path, standing.lineage, version)?;
        let copy = || -> Result<(), Fault> {
            let transaction = new.begin_write()?;
            {
                let mut pairs = transaction.open_table(KV)?;
                for row in old.open_table(KV)?.iter()? {
                    let (key, row) = row?;
                    // The empty key was the writer's own.
                    if !key.value().is_empty() {
                        pairs.insert(key.value(), row.value())?;
                    }
                }
                let mut expiry = transaction.open_table(KV_EXPIRY)?;
                for row in old.open_table(KV_EXPIRY)?.iter()? {
                    expiry.insert(row?.0.value(), ())?;
                }
            }
            Ok(transaction.commit()?)
        };
        copy().map_err(|fault| explain(fault, "write", &path))
    }

    /// Writes the records, in order, into segments.
    fn copy_log(&self, old: &ReadTransaction, standing: &mut CheckpointPlace) -> Result<(), OpenError> {
        let path = self.directory.store();
        let read = |fault| explain(fault, "read", &path);
        let onward = Onward { first_seq: standing.at.first.get(), first_group: 1, high: UnixMillis(0) };
        let log = LogCopy::begin(self.medium, self.directory, standing.lineage, onward)?;
        let mut out = CarriedGroups { log, frames: AlignedBytes::default(), records: 0 };
        let table = old.open_table(OLD_LOG).map_err(|error| read(error.into()))?;
        for row in table.iter().map_err(|error| read(error.into()))? {
            let (seq, row) = row.map_err(|error| read(error.into()))?;
            let record = rows::read_record(seq.value(), row.value()).map_err(read)?;
            if record.seq != standing.at.tail.next() {
                return Err(corrupt(&path, format!("record {} is missing", standing.at.tail.next())));
            }
            put_record(&mut out.frames, record.accepted_at, &record.body, None, &[]);
            out.records += 1;
            standing.at.tail = Cursor::after(record.seq);
            standing.at.high = rows::record_high(row.value());
            if out.records >= GROUP_RECORDS || out.frames.len() >= GROUP_BYTES {
                out.close(standing).map_err(|source| io_error("write", self.directory.path(), source))?;
            }
        }
        out.close(standing).map_err(|source| io_error("write", self.directory.path(), source))
    }

    fn copy_keys(&self, old: &ReadTransaction) -> Result<Vec<RunName>, Fault> {
        let mut names = Vec::new();
        let mut chunk = KeyRows::new();
        let mut write = |chunk: &mut KeyRows| -> Result<(), Fault> {
            let runs = write_runs(self.directory.path(), names.len() as u64 + 1, chunk, self.now)?;
            names.extend(runs.iter().map(|written| written.run.name()));
            chunk.clear();
            Ok(())
        };
        for row in old.open_table(OLD_DEDUPE)?.iter()? {
            let (key, row) = row?;
            chunk.insert(*key.value(), SeenKey::from_row(row.value()));
            if chunk.len() >= KEYS_PER_RUN {
                write(&mut chunk)?;
            }
        }
        write(&mut chunk)?;
        Ok(names)
    }
}

/// The group that is being filled, and where groups go.
struct CarriedGroups<'c, M> {
    log: LogCopy<'c, M>,
    frames: AlignedBytes,
    records: u32,
}

impl<M: Medium> CarriedGroups<'_, M> {
    /// Writes the group that was filled, which ends with the record that `standing` ends with.
    fn close(&mut self, standing: &mut CheckpointPlace) -> std::io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let head = GroupHead {
            bytes: 0,
            records: self.records,
            first_seq: standing.at.tail.get() + 1 - u64::from(self.records),
            group: standing.at.group + 1,
            segment: 0,
            high: standing.at.high,
        };
        self.log.append(head, self.frames.as_slice())?;
        standing.at.group += 1;
        self.records = 0;
        self.frames.clear();
        Ok(())
    }
}

struct OldMeta {
    log_id: LogId,
    commit: u64,
    first: Seq,
    kv_version: u64,
}

impl OldMeta {
    fn read(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let numbers = MetaNumbers(transaction);
        let first = Seq::new(numbers.narrow(META_FIRST)?);
        Ok(Self {
            log_id: LogId::from_ulid(Ulid::from(numbers.wide(META_LOG_ID)?)),
            commit: numbers.narrow(META_COMMIT)?,
            first: first.ok_or_else(|| Fault::Damaged("its log begins at 0".to_owned()))?,
            kv_version: numbers.narrow(META_KV_VERSION)?,
        })
    }
}

/// The tables of tasks are what they were.
fn copy_tasks(old: &ReadTransaction, new: &Database) -> Result<(), Fault> {
    macro_rules! copy {
        ($($table:ident),*) => {$({
            let table = old.open_table($table)?;
            let mut rows = table.iter()?.peekable();
            while rows.peek().is_some() {
                let transaction = new.begin_write()?;
                {
                    let mut table = transaction.open_table($table)?;
                    for row in rows.by_ref().take(ROWS_PER_COMMIT) {
                        let (key, value) = row?;
                        table.insert(key.value(), value.value())?;
                    }
                }
                transaction.commit()?;
            }
        })*};
    }
    copy!(TASKS, TASK_SEQS, SITE_TASKS, COMPLETIONS);
    Ok(())
}
