//! Makes a store of a backup.

use std::fs;
use std::path::Path;

use redb::{Database, WriteTransaction};

use super::super::checkpoint::{CheckpointPlace, write_run_names};
use super::super::database;
use super::super::directory::{Directory, io_error};
use super::super::fault::Fault;
use super::super::keys::{KeyRows, RunName, write_runs};
use super::super::layout::{COMPLETIONS, KV, KV_EXPIRY, SITE_TASKS, TASK_SEQS, TASKS};
use super::super::log_copy::LogCopy;
use super::super::medium::Medium;
use super::super::open_error::OpenError;
use super::super::rows::{self, NEVER};
use super::error::{BackupError, BackupSummary};
use super::verify::{BackupPart, read_backup, verify_backup};

/// Rows that are written by one transaction.
const ROWS_PER_COMMIT: usize = 65_536;

/// Keys of one run.
const KEYS_PER_RUN: usize = 262_144;

/// Which log a store that is made of a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum RestoredLog {
    /// One of its own.
    New,
    /// The one that was backed up, in which nothing happened since.
    Same,
}

/// Makes a store of the backup at `path` in `directory`, which holds nothing yet. A start finds no store there before all of
/// it is durable.
pub(in crate::embedded) fn restore<M: Medium>(
    medium: &M,
    path: &Path,
    directory: &Directory,
    identity: RestoredLog,
) -> Result<(batoff_types::LogId, BackupSummary), BackupError> {
    // All of it, before anything is made.
    let whole = verify_backup(path)?;
    let lineage = database::new_lineage();
    let log_id = match identity {
        RestoredLog::New => database::new_log_id(),
        RestoredLog::Same => whole.log_id,
    };
    // Whoever starts on a half of it is told that there was a log.
    directory.write_log_id(log_id)?;
    let mut making: Option<Making<'_, M>> = None;
    let summary = read_backup(path, |part| {
        match (part, &mut making) {
            (BackupPart::Begin { at, kv_version }, None) => {
                let mut place = CheckpointPlace { lineage, at };
                place.at.log_id = log_id;
                making = Some(Making::begin(medium, directory, place, kv_version)?);
            }
            (part, Some(making)) => making.take(part)?,
            (_, None) => {}
        }
        Ok(())
    })?;
    let Some(making) = making else { return Err(BackupError::Foreign(path.to_owned())) };
    making.finish()?;
    Ok((log_id, summary))
}

/// A store that is being made.
struct Making<'m, M> {
    medium: &'m M,
    directory: &'m Directory,
    place: CheckpointPlace,
    checkpoint: Database,
    pairs: Database,
    /// What is being written to the pairs, and to the checkpoint; and rows in it.
    writing: Option<(WriteTransaction, bool, usize)>,
    keys: KeyRows,
    runs: Vec<RunName>,
    log: Option<LogCopy<'m, M>>,
}

impl<'m, M: Medium> Making<'m, M> {
    fn begin(
        medium: &'m M,
        directory: &'m Directory,
        place: CheckpointPlace,
        kv_version: u64,
    ) -> Result<Self, OpenError> {
        let checkpoint = database::create_checkpoint(medium, &directory.restored_store(), &place)?;
        let pairs = database::create_pairs(medium, &directory.pairs(), place.lineage, kv_version)?;
        Ok(Self {
            medium,
            directory,
            place,
            checkpoint,
            pairs,
            writing: None,
            keys: KeyRows::new(),
            runs: Vec::new(),
            log: None,
        })
    }

    fn take(&mut self, part: BackupPart<'_>) -> Result<(), OpenError> {
        match part {
            BackupPart::Begin { .. } => Ok(()),
            BackupPart::Pair { key, row, expires } => self.write(true, |transaction| {
                transaction.open_table(KV)?.insert(key, row)?;
                if expires != NEVER {
                    transaction.open_table(KV_EXPIRY)?.insert((expires, key), ())?;
                }
                Ok(())
            }),
            BackupPart::Task { seq, row } => self.write(false, |transaction| {
                let task = rows::read_task(seq, row)?;
                transaction.open_table(TASKS)?.insert(seq, row)?;
                transaction.open_table(TASK_SEQS)?.insert(&task.task.to_bytes(), seq)?;
                transaction.open_table(SITE_TASKS)?.insert((task.site.as_str(), seq), ())?;
                Ok(())
            }),
            BackupPart::Completion { seq, row } => self.write(false, |transaction| {
                transaction.open_table(COMPLETIONS)?.insert(seq, row)?;
                Ok(())
            }),
            BackupPart::Key { key, seen } => {
                self.keys.insert(key, seen);
                if self.keys.len() >= KEYS_PER_RUN { self.end_run() } else { Ok(()) }
            }
            BackupPart::Log(onward) => {
                self.end_run()?;
                self.log = Some(LogCopy::begin(self.medium, self.directory, self.place.lineage, onward)?);
                Ok(())
            }
            BackupPart::Group { head, frames } => match &mut self.log {
                Some(log) => log
                    .append(head, frames)
                    .map_err(|source| io_error("write", self.directory.path(), source)),
                None => Ok(()),
            },
        }
    }

    fn write(
        &mut self,
        is_pairs: bool,
        row: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), OpenError> {
        let write = || -> Result<(), Fault> {
            let (transaction, rows) = match self.writing.take() {
                Some((transaction, of_pairs, rows)) if of_pairs == is_pairs && rows < ROWS_PER_COMMIT => {
                    (transaction, rows)
                }
                full => {
                    full.map(|(transaction, ..)| transaction.commit()).transpose()?;
                    let database = if is_pairs { &self.pairs } else { &self.checkpoint };
                    (database.begin_write()?, 0)
                }
            };
            row(&transaction)?;
            self.writing = Some((transaction, is_pairs, rows + 1));
            Ok(())
        };
        write().map_err(|fault| database::explain(fault, "write", self.directory.path()))
    }

    fn end_run(&mut self) -> Result<(), OpenError> {
        let keys = std::mem::take(&mut self.keys);
        let number = self.runs.len() as u64 + 1;
        // Those that have expired meanwhile the first checkpoint drops.
        let runs = write_runs(self.directory.path(), number, &keys, batoff_types::UnixMillis(0));
        let runs = runs.map_err(|source| io_error("write", self.directory.path(), source))?;
        self.runs.extend(runs.iter().map(|written| written.run.name()));
        Ok(())
    }

    fn finish(mut self) -> Result<(), OpenError> {
        let mut last = || -> Result<(), Fault> {
            if let Some((transaction, ..)) = self.writing.take() {
                transaction.commit()?;
            }
            let transaction = self.checkpoint.begin_write()?;
            write_run_names(&transaction, &self.runs)?;
            Ok(transaction.commit()?)
        };
        last().map_err(|fault| database::explain(fault, "write", self.directory.path()))?;
        let restored = self.directory.restored_store();
        drop((self.checkpoint, self.pairs));
        self.directory.finish_store(&restored)
    }
}

/// Refuses a folder that holds anything but what a new file system has.
///
/// # Errors
/// It holds something, or cannot be looked at.
pub(in crate::embedded) fn refuse_occupied(dir: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::File { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        if entry.map_err(failed)?.file_name() != "lost+found" {
            return Err(BackupError::Occupied(dir.to_owned()));
        }
    }
    Ok(())
}
