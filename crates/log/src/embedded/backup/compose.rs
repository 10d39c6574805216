//! A backup of a log that is in another engine: a store that is made of it goes on where that log ends.

use std::io::Write;

use batoff_types::{Cursor, Seq, TaskId, UnixMillis};
use ulid::Ulid;

use super::super::aligned::AlignedBytes;
use super::super::rows::{self, NEVER, Pair, SeenKey};
use super::super::segments::{put_completions, put_record};
use super::chunk::{ChunkKind, ChunkWriter};
use super::error::{BackupError, BackupSummary};
use crate::moving::{LogOutline, LogPart, LogParts, MovedKey};
use crate::purge_log::{StoredRecord, TaskRow};

/// A group is ended once its frames have so many bytes.
const GROUP_BYTES: usize = 256 * 1024;

/// Writes a backup of the log of this outline, whose pairs and records come as `parts`. Blocks.
///
/// The checkpoint in it stands right before the first record: rows and keys of trimmed records lie in it, those of the
/// others with their records, as a start finds them after a crash.
///
/// # Errors
/// The log cannot be read to its end, or `out` cannot be written to.
pub fn compose_backup(
    out: &mut dyn Write,
    outline: &LogOutline,
    mut parts: LogParts,
    taken_at: UnixMillis,
) -> Result<BackupSummary, BackupError> {
    let first = outline.state.first;
    let salt = u128::from(Ulid::generate()) as u64;
    let version = env!("CARGO_PKG_VERSION");
    let mut chunks = ChunkWriter::begin(out, salt)?;
    let last_task = outline.tasks.range(..first).map(|(_, row)| row.task).max();
    let last_task = last_task.unwrap_or(TaskId::from_bytes([0; 16]));
    let mut begin = Vec::new();
    begin.extend_from_slice(&salt.to_le_bytes());
    begin.extend_from_slice(&u128::from(outline.state.log_id.ulid()).to_le_bytes());
    begin.extend_from_slice(&u128::from_le_bytes(last_task.to_bytes()).to_le_bytes());
    let (no_group, no_high) = (0, 0);
    for number in [taken_at.0, no_group, first.get(), first.get() - 1, no_high, VERSION_OF_PAIRS] {
        begin.extend_from_slice(&number.to_le_bytes());
    }
    chunks.put(ChunkKind::Begin, &[&begin, version.as_bytes()])?;

    let (mut pairs, mut tasks) = (0, 0);
    let mut next = parts.next_blocking().map_err(unread)?;
    while let LogPart::Pair(pair) = next {
        let expires = pair.expires_at.map_or(NEVER, |at| at.0);
        let row = Pair { version: VERSION_OF_PAIRS, expires, value: pair.value }.to_row();
        chunks.put_row(ChunkKind::Pairs, pair.key.as_bytes(), &row)?;
        pairs += 1;
        next = parts.next_blocking().map_err(unread)?;
    }
    chunks.end_rows(ChunkKind::Pairs)?;
    for (seq, row) in outline.tasks.range(..first) {
        let bytes = rows::task(seq.get(), &row.site, row.task, row.accepted_at, &row.meta);
        chunks.put_row(ChunkKind::Tasks, &seq.get().to_le_bytes(), &bytes)?;
        tasks += 1;
    }
    chunks.end_rows(ChunkKind::Tasks)?;
    for (seq, row) in outline.tasks.range(..first) {
        if let Some(completion) = &row.completion {
            let bytes = rows::completion(seq.get(), completion);
            chunks.put_row(ChunkKind::Completions, &seq.get().to_le_bytes(), &bytes)?;
        }
    }
    chunks.end_rows(ChunkKind::Completions)?;
    for (seq, keys) in outline.keys.range(..first) {
        for key in keys {
            chunks.put_row(ChunkKind::Keys, &key.key, &seen(*seq, key).to_row())?;
        }
    }
    chunks.end_rows(ChunkKind::Keys)?;

    let (first_group, no_high) = (1_u64, 0);
    chunks.put(ChunkKind::Log, &[&[first.get(), first_group, no_high].map(u64::to_le_bytes).concat()])?;
    let mut groups = GroupsToWrite::beginning(first);
    loop {
        match next {
            LogPart::Record(record) => {
                let (task, keys) = (outline.tasks.get(&record.seq), outline.keys.get(&record.seq));
                groups.add(&mut chunks, &record, task, keys.map_or(&[], Vec::as_slice))?;
            }
            LogPart::End => break,
            LogPart::Pair(pair) => return Err(unread(format!("pair {:?} comes after records", pair.key))),
        }
        next = parts.next_blocking().map_err(unread)?;
    }
    groups.end(&mut chunks)?;
    let tail = Cursor::new(groups.next - 1);
    if tail != outline.state.tail {
        return Err(unread(format!("it ends with record {tail} instead of {}", outline.state.tail)));
    }
    let records = groups.next - first.get();
    let numbers = [records, pairs, tasks, tail.get()];
    chunks.put(ChunkKind::End, &[&numbers.map(u64::to_le_bytes).concat()])?;
    let bytes = chunks.finish()?;
    let (log_id, version) = (outline.state.log_id, version.to_owned());
    Ok(BackupSummary { log_id, taken_at, version, first, tail, records, pairs, tasks, bytes })
}

/// Versions only tell the writes of one key apart, and each has had one.
const VERSION_OF_PAIRS: u64 = 1;

fn unread(error: impl std::fmt::Display) -> BackupError {
    BackupError::Store(error.to_string())
}

fn seen(seq: Seq, key: &MovedKey) -> SeenKey {
    SeenKey {
        seq: seq.get(),
        task: key.task,
        body_hash: key.body_hash,
        first_at: key.first_at,
        expires_at: key.expires_at,
    }
}

/// Records on their way into groups.
struct GroupsToWrite {
    group: u64,
    /// The number of the group's first record, and of the next one.
    first: u64,
    next: u64,
    high: UnixMillis,
    frames: AlignedBytes,
}

impl GroupsToWrite {
    fn beginning(first: Seq) -> Self {
        let mut frames = AlignedBytes::default();
        frames.clear();
        Self { group: 1, first: first.get(), next: first.get(), high: UnixMillis(0), frames }
    }

    fn add(
        &mut self,
        chunks: &mut ChunkWriter<'_>,
        record: &StoredRecord,
        task: Option<&TaskRow>,
        keys: &[MovedKey],
    ) -> Result<(), BackupError> {
        if record.seq.get() != self.next {
            return Err(unread(format!("record {} comes where {} should", record.seq, self.next)));
        }
        let keys: Vec<_> = keys.iter().map(|key| (key.key, seen(record.seq, key))).collect();
        let row = task.map(|row| (&row.site, row.task, row.meta.as_ref()));
        put_record(&mut self.frames, record.accepted_at, &record.body, row, &keys);
        if let Some(completion) = task.and_then(|row| row.completion.as_ref()) {
            put_completions(&mut self.frames, [(record.seq.get(), completion.as_ref())].into_iter());
        }
        self.high = self.high.max(record.accepted_at);
        self.next += 1;
        if self.frames.len() >= GROUP_BYTES { self.end(chunks) } else { Ok(()) }
    }

    fn end(&mut self, chunks: &mut ChunkWriter<'_>) -> Result<(), BackupError> {
        if self.next == self.first {
            return Ok(());
        }
        let numbers = [self.next - self.first, self.first, self.group, self.high.0];
        chunks.put(ChunkKind::Group, &[&numbers.map(u64::to_le_bytes).concat(), self.frames.as_slice()])?;
        self.group += 1;
        self.first = self.next;
        self.frames.clear();
        Ok(())
    }
}
