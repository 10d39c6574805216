//! What can be derived from the log, as a database holds it: everything through one group, and which one.
//!
//! ```text
//!  log          | 1 | 2 | 3 | 4 | 5 | 6 |
//!  database     ------------^ stands at group 3: a start reads on from there
//!  layers                   |--leaving--|changing
//! ```

use std::fs;
use std::path::Path;
use std::sync::Arc;

use batoff_types::{Cursor, LogId, Seq, TaskId, UnixMillis};
use redb::{Database, ReadTransaction, TableError, WriteTransaction};
use ulid::Ulid;

use super::committed::Committed;
use super::fault::Fault;
use super::keys::{KeyRows, RunName, WrittenRun, write_runs};
use super::layer::TaskLayer;
use super::layout::{
    COMPLETIONS, FORMAT, KEY_RUNS, META, META_COMMIT, META_FIRST, META_FORMAT, META_HIGH, META_KV_VERSION,
    META_LAST_TASK, META_LINEAGE, META_LOG_ID, META_TAIL, SITE_TASKS, TASK_SEQS, TASKS,
};
use super::rows;

/// Where a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointPlace {
    /// Of the store whose files these are.
    pub(super) lineage: u128,
    /// What the last group that is in it left.
    pub(super) at: Committed,
}

impl CheckpointPlace {
    /// Of a log in which nothing was ever written.
    pub(super) fn of_new(lineage: u128, log_id: LogId) -> Self {
        let at = Committed {
            log_id,
            group: 0,
            first: Seq::FIRST,
            tail: Cursor::START,
            high: UnixMillis(0),
            last_task: TaskId::from_bytes([0; 16]),
        };
        Self { lineage, at }
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let at = &self.at;
        let mut meta = transaction.open_table(META)?;
        let rows = [
            (META_FORMAT, u128::from(FORMAT)),
            (META_LOG_ID, u128::from(at.log_id.ulid())),
            (META_COMMIT, u128::from(at.group)),
            (META_FIRST, u128::from(at.first.get())),
            (META_KV_VERSION, 0),
            (META_LINEAGE, self.lineage),
            (META_TAIL, u128::from(at.tail.get())),
            (META_HIGH, u128::from(at.high.0)),
            (META_LAST_TASK, u128::from_be_bytes(at.last_task.to_bytes())),
        ];
        for (name, value) in rows {
            meta.insert(name, value)?;
        }
        Ok(())
    }

    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let numbers = MetaNumbers(transaction);
        let first = Seq::new(numbers.narrow(META_FIRST)?);
        let at = Committed {
            log_id: LogId::from_ulid(Ulid::from(numbers.wide(META_LOG_ID)?)),
            group: numbers.narrow(META_COMMIT)?,
            first: first.ok_or_else(|| Fault::Damaged("its log begins at 0".to_owned()))?,
            tail: Cursor::new(numbers.narrow(META_TAIL)?),
            high: UnixMillis(numbers.narrow(META_HIGH)?),
            last_task: TaskId::from_bytes(numbers.wide(META_LAST_TASK)?.to_be_bytes()),
        };
        Ok(Self { lineage: numbers.wide(META_LINEAGE)?, at })
    }
}

/// The numbers of a database about itself.
pub(super) struct MetaNumbers<'t>(pub(super) &'t ReadTransaction);

impl MetaNumbers<'_> {
    /// Damaged when it is missing: then the file is a database, but none of ours.
    pub(super) fn wide(&self, name: &str) -> Result<u128, Fault> {
        let table = match self.0.open_table(META) {
            Err(TableError::Storage(error)) => return Err(error.into()),
            other => other?,
        };
        match table.get(name)? {
            Some(value) => Ok(value.value()),
            None => Err(Fault::Damaged(format!("its {name} is missing"))),
        }
    }

    pub(super) fn narrow(&self, name: &str) -> Result<u64, Fault> {
        u64::try_from(self.wide(name)?).map_err(|_| Fault::Damaged(format!("its {name} is out of range")))
    }
}

/// What a checkpoint is to take over.
pub(super) struct CheckpointDraft {
    pub(super) database: Arc<Database>,
    pub(super) standing: CheckpointPlace,
    pub(super) layer: Arc<TaskLayer>,
    pub(super) keys: Arc<KeyRows>,
    /// The number of the first run that it may write.
    pub(super) next_run: u64,
    /// The runs that stay.
    pub(super) alive: Vec<RunName>,
    pub(super) now: UnixMillis,
}

/// A checkpoint that is durable.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The last group that is in it.
    pub(super) group: u64,
    pub(super) runs: Vec<WrittenRun>,
}

impl CheckpointDraft {
    /// Writes all of it: the runs of keys first, then one transaction.
    pub(super) fn write(&self, dir: &Path) -> Result<Checkpoint, Fault> {
        let runs = write_runs(dir, self.next_run, &self.keys, self.now)?;
        let transaction = self.database.begin_write()?;
        write_tasks(&transaction, &self.layer)?;
        let names = self.alive.iter().copied().chain(runs.iter().map(|written| written.run.name()));
        let gone = write_run_names(&transaction, &names.collect::<Vec<_>>())?;
        self.standing.write(&transaction)?;
        transaction.commit()?;
        for run in gone {
            // What is left of it is removed at the next start.
            let _ = fs::remove_file(run.path(dir));
        }
        Ok(Checkpoint { group: self.standing.at.group, runs })
    }
}

/// In the order of each table, so that neighbouring rows share their pages.
fn write_tasks(transaction: &WriteTransaction, layer: &TaskLayer) -> Result<(), Fault> {
    let mut tasks = transaction.open_table(TASKS)?;
    let mut task_seqs = transaction.open_table(TASK_SEQS)?;
    let mut site_tasks = transaction.open_table(SITE_TASKS)?;
    let mut completions = transaction.open_table(COMPLETIONS)?;
    // First: a task that was forgotten may have come once more, of a later record.
    for seq in layer.forgotten() {
        let task = match tasks.remove(seq)? {
            Some(row) => rows::read_task(seq, row.value())?,
            None => continue,
        };
        task_seqs.remove(&task.task.to_bytes())?;
        site_tasks.remove((task.site.as_str(), seq))?;
        completions.remove(seq)?;
    }
    let (mut by_task, mut by_site) = (Vec::new(), Vec::new());
    for row in layer.tasks_from(0) {
        let seq = row.seq.get();
        let bytes = rows::task(seq, &row.site, row.task, row.accepted_at, &row.meta);
        tasks.insert(seq, bytes.as_slice())?;
        by_task.push((row.task.to_bytes(), seq));
        by_site.push((&row.site, seq));
    }
    by_task.sort_unstable();
    by_site.sort_unstable_by_key(|(site, seq)| (site.as_str(), *seq));
    for (task, seq) in by_task {
        task_seqs.insert(&task, seq)?;
    }
    for (site, seq) in by_site {
        site_tasks.insert((site.as_str(), seq), ())?;
    }
    for (seq, completion) in layer.completions() {
        completions.insert(seq, rows::completion(seq, completion).as_slice())?;
    }
    Ok(())
}

/// Makes these the runs that there are; returns those that were and are not any more.
pub(super) fn write_run_names(
    transaction: &WriteTransaction,
    names: &[RunName],
) -> Result<Vec<RunName>, Fault> {
    let mut table = transaction.open_table(KEY_RUNS)?;
    let mut gone = Vec::new();
    table.retain(|number, (rows, expires_at)| {
        let stays = names.iter().any(|name| name.number == number);
        if !stays {
            gone.push(run_name(number, rows, expires_at));
        }
        stays
    })?;
    for name in names {
        table.insert(name.number, (u64::from(name.rows), name.expires_at.0))?;
    }
    Ok(gone)
}

/// The runs that a checkpoint has.
pub(super) fn read_run_names(transaction: &ReadTransaction) -> Result<Vec<RunName>, Fault> {
    let table = transaction.open_table(KEY_RUNS)?;
    let mut names = Vec::new();
    for row in redb::ReadableTable::iter(&table)? {
        let (number, row) = row?;
        let (rows, expires_at) = row.value();
        names.push(run_name(number.value(), rows, expires_at));
    }
    Ok(names)
}

fn run_name(number: u64, rows: u64, expires_at: u64) -> RunName {
    RunName { number, rows: u32::try_from(rows).unwrap_or(u32::MAX), expires_at: UnixMillis(expires_at) }
}

/// Makes the tables of a checkpoint that holds nothing yet.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(TASKS)?;
    transaction.open_table(TASK_SEQS)?;
    transaction.open_table(SITE_TASKS)?;
    transaction.open_table(COMPLETIONS)?;
    transaction.open_table(KEY_RUNS)?;
    Ok(())
}
