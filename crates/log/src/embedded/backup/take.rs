//! Reads a store that runs.

use std::io::Write;
use std::path::Path;

use batoff_types::Seq;
use redb::{ReadableDatabase, ReadableTable};
use ulid::Ulid;

use super::super::checkpoint::{self, CheckpointPlace, MetaNumbers};
use super::super::fault::Fault;
use super::super::keys::KeyRun;
use super::super::layout::{COMPLETIONS, KV, META_KV_VERSION, TASKS};
use super::super::segments::LogFrame;
use super::super::shared::Shared;
use super::chunk::{ChunkKind, ChunkWriter};
use super::error::{BackupError, BackupSummary};

/// How often the files with keys are looked for again, when a checkpoint has replaced them at that very moment.
const TRIES: usize = 5;

/// Writes all that the store in `dir` holds to `out`, while it goes on.
pub(in crate::embedded) fn take(
    shared: &Shared,
    dir: &Path,
    out: &mut dyn Write,
) -> Result<BackupSummary, BackupError> {
    // From here on no part of the log is taken away.
    let _pinned = shared.shelf.pin();
    let opened = shared.opened().ok_or(BackupError::Closing)?;
    // The pairs first: what they say of the log is in the log by then.
    let pairs = opened.pairs.begin_read().map_err(|error| of_store(error.into()))?;
    let (checkpoint, runs) = {
        let mut tries = TRIES;
        loop {
            let checkpoint = opened.checkpoint.begin_read().map_err(|error| of_store(error.into()))?;
            let names = checkpoint::read_run_names(&checkpoint).map_err(of_store)?;
            let now = shared.now();
            let alive = names.into_iter().filter(|name| now < name.expires_at);
            let runs: Result<Vec<_>, _> =
                alive.map(|name| KeyRun::open(dir, name, |_, _, _| {}).map(|run| (name, run))).collect();
            tries -= 1;
            match runs {
                Ok(runs) => break (checkpoint, runs),
                Err(_) if tries > 0 => {}
                Err(fault) => return Err(of_store(fault)),
            }
        }
    };
    let place = CheckpointPlace::read(&checkpoint).map_err(of_store)?;
    let kv_version = MetaNumbers(&pairs).narrow(META_KV_VERSION).map_err(of_store)?;
    let salt = u128::from(Ulid::generate()) as u64;
    let taken_at = shared.now();
    let version = env!("CARGO_PKG_VERSION");
    let mut summary = BackupSummary {
        log_id: place.at.log_id,
        taken_at,
        version: version.to_owned(),
        first: place.at.first,
        tail: place.at.tail,
        records: 0,
        pairs: 0,
        tasks: 0,
        bytes: 0,
    };
    let mut chunks = ChunkWriter::begin(out, salt)?;
    let mut begin = Vec::new();
    begin.extend_from_slice(&salt.to_le_bytes());
    begin.extend_from_slice(&u128::from(place.at.log_id.ulid()).to_le_bytes());
    begin.extend_from_slice(&u128::from_le_bytes(place.at.last_task.to_bytes()).to_le_bytes());
    let (first, tail) = (place.at.first.get(), place.at.tail.get());
    for number in [taken_at.0, place.at.group, first, tail, place.at.high.0, kv_version] {
        begin.extend_from_slice(&number.to_le_bytes());
    }
    chunks.put(ChunkKind::Begin, &[&begin, version.as_bytes()])?;

    let is_wanted = || if shared.is_wanted_back() { Err(BackupError::Closing) } else { Ok(()) };
    let table = pairs.open_table(KV).map_err(|error| of_store(error.into()))?;
    for row in table.iter().map_err(|error| of_store(error.into()))? {
        let (key, row) = row.map_err(|error| of_store(error.into()))?;
        chunks.put_row(ChunkKind::Pairs, key.value(), row.value())?;
        summary.pairs += 1;
        is_wanted()?;
    }
    chunks.end_rows(ChunkKind::Pairs)?;
    for (kind, definition) in [(ChunkKind::Tasks, TASKS), (ChunkKind::Completions, COMPLETIONS)] {
        let table = checkpoint.open_table(definition).map_err(|error| of_store(error.into()))?;
        for row in table.iter().map_err(|error| of_store(error.into()))? {
            let (seq, row) = row.map_err(|error| of_store(error.into()))?;
            chunks.put_row(kind, &seq.value().to_le_bytes(), row.value())?;
            summary.tasks += u64::from(kind == ChunkKind::Tasks);
            is_wanted()?;
        }
        chunks.end_rows(kind)?;
    }
    for (name, run) in runs {
        for row in 0..name.rows {
            let (key, seen) = run.read(row).map_err(of_store)?.ok_or(BackupError::Closing)?;
            chunks.put_row(ChunkKind::Keys, &key, &seen.to_row())?;
        }
        is_wanted()?;
    }
    chunks.end_rows(ChunkKind::Keys)?;
    // The rest is files that nobody has to wait for.
    drop((table, pairs, checkpoint, opened));

    let begin = shared.shelf.oldest().map_err(of_store)?;
    let log = [begin.first_seq, begin.first_group, begin.high.0].map(u64::to_le_bytes).concat();
    chunks.put(ChunkKind::Log, &[&log])?;
    let mut failed = None;
    let walked = shared.shelf.groups(|head, frames| {
        let numbers = [u64::from(head.records), head.first_seq, head.group, head.high.0];
        let numbers = numbers.map(u64::to_le_bytes).concat();
        summary.records += u64::from(head.records);
        summary.first = summary.first.max(trimmed_to(frames).unwrap_or(Seq::FIRST));
        let end = head.first_seq + u64::from(head.records);
        summary.tail = Seq::new(end).map_or(summary.tail, batoff_types::Cursor::before);
        match chunks.put(ChunkKind::Group, &[&numbers, frames]) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    walked.map_err(of_store)?;
    let numbers = [summary.records, summary.pairs, summary.tasks, summary.tail.get()];
    chunks.put(ChunkKind::End, &[&numbers.map(u64::to_le_bytes).concat()])?;
    summary.bytes = chunks.finish()?;
    Ok(summary)
}

/// Where the log begins after a group, if it says so.
fn trimmed_to(mut frames: &[u8]) -> Option<Seq> {
    let mut first = None;
    while let Some((frame, rest)) = LogFrame::read(frames) {
        if let LogFrame::First(seq) = frame {
            first = Some(seq);
        }
        frames = rest;
    }
    first
}

fn of_store(fault: Fault) -> BackupError {
    BackupError::Store(fault.to_string())
}
