//! The index of tasks, checked like the log.
//!
//! ```text
//!  TASKS         seq → task, site, …   each row has a checksum; what is damaged stops the start and is named
//!  TASK_SEQS     task → seq            ┐ hold what TASKS holds, in other orders: compared as a whole at each start,
//!  SITE_TASKS    site, seq             ┘ and made anew when they differ
//!  COMPLETIONS   seq → opaque          each row has a checksum
//! ```

use std::hash::{DefaultHasher, Hash, Hasher};

use batoff_types::Cursor;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::fault::Fault;
use super::layout::{COMPLETIONS, FORMAT_ONE_FILE, META, META_FORMAT, SITE_TASKS, TASK_SEQS, TASKS};
use super::rows;

/// What a table holds, in no order: how many rows, and a sum over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, row: impl Hash) {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// Reads all of the index once, in the order in which it lies. What can be told from the tasks themselves is made anew where
/// it differs; a row that is not what was written is an error that names it.
pub(super) fn make_whole(database: &Database, tail: Cursor) -> Result<(), Fault> {
    if is_whole(database, tail)? {
        return Ok(());
    }
    tracing::warn!("the index of tasks did not hold what the tasks say; it is made anew");
    let transaction = database.begin_write()?;
    rebuild(&transaction)?;
    transaction.commit()?;
    if is_whole(database, tail)? {
        return Ok(());
    }
    Err(Fault::Damaged("its index of tasks cannot be made anew".to_owned()))
}

fn is_whole(database: &Database, tail: Cursor) -> Result<bool, Fault> {
    let transaction = database.begin_read()?;
    let (mut by_task, mut by_site) = (Sum::default(), Sum::default());
    let tasks = transaction.open_table(TASKS)?;
    for row in tasks.iter()? {
        let (seq, row) = row?;
        let task = rows::read_task(seq.value(), row.value())?;
        if !tail.covers(task.seq) {
            return Err(Fault::Damaged(format!("it has a task of record {}, which it has not", task.seq)));
        }
        by_task.add((task.task.to_bytes(), seq.value()));
        by_site.add((task.site.as_str(), seq.value()));
    }
    complete("tasks", tasks.len()?, by_task.rows)?;

    let completions = transaction.open_table(COMPLETIONS)?;
    let mut read = 0;
    for row in completions.iter()? {
        let (seq, row) = row?;
        rows::read_completion(seq.value(), row.value())?;
        read += 1;
    }
    complete("completions", completions.len()?, read)?;

    let (mut found_by_task, mut found_by_site) = (Sum::default(), Sum::default());
    for row in transaction.open_table(TASK_SEQS)?.iter()? {
        let (task, seq) = row?;
        found_by_task.add((*task.value(), seq.value()));
    }
    for row in transaction.open_table(SITE_TASKS)?.iter()? {
        let (key, ()) = (row?.0, ());
        found_by_site.add(key.value());
    }
    let counted = transaction.open_table(TASK_SEQS)?.len()? == by_task.rows
        && transaction.open_table(SITE_TASKS)?.len()? == by_site.rows;
    Ok(counted && found_by_task == by_task && found_by_site == by_site)
}

fn complete(what: &str, expected: u64, found: u64) -> Result<(), Fault> {
    if expected == found {
        return Ok(());
    }
    Err(Fault::Damaged(format!("it should hold {expected} {what}, but {found} can be read")))
}

fn rebuild(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.delete_table(TASK_SEQS)?;
    transaction.delete_table(SITE_TASKS)?;
    let tasks = transaction.open_table(TASKS)?;
    let mut task_seqs = transaction.open_table(TASK_SEQS)?;
    let mut site_tasks = transaction.open_table(SITE_TASKS)?;
    for row in tasks.iter()? {
        let (seq, row) = row?;
        let task = rows::read_task(seq.value(), row.value())?;
        task_seqs.insert(&task.task.to_bytes(), seq.value())?;
        site_tasks.insert((task.site.as_str(), seq.value()), ())?;
    }
    Ok(())
}

/// Brings a store without checksums on tasks up to date.
pub(super) fn add_checksums(database: &Database) -> Result<(), Fault> {
    tracing::info!("the index of tasks gets checksums");
    let transaction = database.begin_write()?;
    for definition in [TASKS, COMPLETIONS] {
        let mut table = transaction.open_table(definition)?;
        let mut next = 0;
        loop {
            // A piece at a time: a table cannot be changed while it is read.
            let piece: Result<Vec<_>, redb::StorageError> = table
                .range(next..)?
                .take(PIECE)
                .map(|row| row.map(|(seq, row)| (seq.value(), rows::with_checksum(seq.value(), row.value()))))
                .collect();
            let piece = piece?;
            let Some((last, _)) = piece.last() else { break };
            next = last + 1;
            for (seq, row) in &piece {
                table.insert(seq, row.as_slice())?;
            }
        }
    }
    transaction.open_table(META)?.insert(META_FORMAT, u128::from(FORMAT_ONE_FILE))?;
    transaction.commit()?;
    Ok(())
}

/// Rows that are given checksums at once.
const PIECE: usize = 4_096;
