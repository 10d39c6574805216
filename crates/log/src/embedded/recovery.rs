//! From the files to a store: what the checkpoint holds, and what the log says after it.

use std::path::Path;
use std::sync::Arc;

use batoff_types::{LogId, UnixMillis};
use redb::{Database, ReadableDatabase};

use super::aligned::BLOCK;
use super::checkpoint::{self, CheckpointPlace};
use super::committed::{Committed, CommittedPairs};
use super::database::{self, FoundStore, calm, corrupt, explain};
use super::directory::{Directory, io_error};
use super::fault::Fault;
use super::first_segment::{begin_log, shelf};
use super::keys::{KeyRun, SeenKeys};
use super::layer::TaskLayer;
use super::medium::{Medium, SegmentAccess, SegmentFile};
use super::open_error::OpenError;
use super::pace::Pace;
use super::seal::Seal;
use super::segments::{
    GroupHead, GroupWalk, LogEnd, LogSegment, Onward, SegmentAppender, SegmentHead, SegmentShelf, WalkStep,
};
use super::witness::Testimony;
use super::{migrate, names, replay, sealing, task_index};
use crate::purge_log::LogState;

/// A store that was opened, whole.
pub(super) struct RecoveredStore {
    pub(super) checkpoint: Database,
    /// The last group in it.
    pub(super) checkpointed: u64,
    pub(super) pairs: Database,
    pub(super) committed: Committed,
    pub(super) committed_pairs: CommittedPairs,
    pub(super) shelf: SegmentShelf,
    pub(super) appender: SegmentAppender,
    /// What happened to tasks after the checkpoint.
    pub(super) layer: TaskLayer,
    pub(super) keys: SeenKeys,
}

/// Opens the directory's store, or makes one where there never was any.
pub(super) fn open_or_create<M: Medium>(
    medium: &M,
    directory: &Directory,
    cache_bytes: usize,
    pace: Pace,
    now: UnixMillis,
) -> Result<RecoveredStore, OpenError> {
    if !directory.has_store()? {
        if directory.names_a_log()? {
            return Err(OpenError::Lost { path: directory.store() });
        }
        create(medium, directory, pace)?;
    }
    let path = directory.store();
    let (checkpoint, standing) = open_or_migrate(medium, directory, cache_bytes, now)?;
    let beside = directory.read_log_id()?;
    if beside != Some(standing.at.log_id) {
        return Err(OpenError::Copy { path, stored: standing.at.log_id, beside });
    }
    let (pairs, committed_pairs) =
        database::open_pairs(medium, &directory.pairs(), cache_bytes, standing.lineage)?;
    let mut keys = read_keys(directory, &checkpoint, now)?;
    let ReadLog { committed, shelf, appender, layer } =
        read_log(medium, directory, &standing, now, &mut keys)?;
    calm(&path, || {
        task_index::make_whole(&checkpoint, standing.at.tail).map_err(|fault| explain(fault, "read", &path))
    })?;
    let checkpointed = standing.at.group;
    let recovered = RecoveredStore {
        checkpoint,
        checkpointed,
        pairs,
        committed,
        committed_pairs,
        shelf,
        appender,
        layer,
        keys,
    };
    Ok(recovered)
}

/// What the checkpoint in a directory says, without changing anything there.
pub(super) fn inspect(directory: &Directory) -> Result<Option<LogState>, OpenError> {
    let path = directory.store();
    if !directory.has_store()? {
        return if directory.names_a_log()? { Err(OpenError::Lost { path }) } else { Ok(None) };
    }
    let place = database::inspect(&path)?;
    let beside = directory.read_log_id()?;
    if beside != Some(place.at.log_id) {
        return Err(OpenError::Copy { path, stored: place.at.log_id, beside });
    }
    refuse_moved(directory)?;
    Ok(Some(LogState { log_id: place.at.log_id, first: place.at.first, tail: place.at.tail }))
}

/// Refuses a store whose log goes on in another engine.
fn refuse_moved(directory: &Directory) -> Result<(), OpenError> {
    let path = directory.pairs();
    // A store of an older format has none, and no seal.
    match path.try_exists() {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(source) => return Err(io_error("look for", &path, source)),
    }
    match sealing::read(&path)? {
        Some(Seal { at, cluster }) => Err(OpenError::Moved { path, at, cluster }),
        None => Ok(()),
    }
}

/// Refuses a store that lacks what was acknowledged.
pub(super) fn hear(
    testimony: Option<Testimony>,
    directory: &Directory,
    recovered: &RecoveredStore,
) -> Result<(), OpenError> {
    let Some(testimony) = testimony else { return Ok(()) };
    if let Some(detail) = testimony.refutes(&recovered.committed) {
        return Err(corrupt(&recovered.appender.segment().path, detail));
    }
    match testimony.refutes_pairs(recovered.committed.log_id, &recovered.committed_pairs) {
        Some(detail) => Err(corrupt(&directory.pairs(), detail)),
        None => Ok(()),
    }
}

fn create<M: Medium>(medium: &M, directory: &Directory, pace: Pace) -> Result<(), OpenError> {
    let unfinished = directory.unfinished_store();
    let (lineage, log_id) = (database::new_lineage(), database::new_log_id());
    let standing = CheckpointPlace::of_new(lineage, log_id);
    drop(database::create_checkpoint(medium, &unfinished, &standing)?);
    directory.flush()?;
    drop(database::create_pairs(medium, &directory.pairs(), lineage, 0)?);
    begin_log(
        medium,
        directory,
        pace,
        lineage,
        Onward { first_seq: 1, first_group: 1, high: UnixMillis(0) },
    )?;
    directory.write_log_id(log_id)?;
    directory.finish_store(&unfinished)
}

fn open_or_migrate<M: Medium>(
    medium: &M,
    directory: &Directory,
    cache_bytes: usize,
    now: UnixMillis,
) -> Result<(Database, CheckpointPlace), OpenError> {
    let path = directory.store();
    match database::open_store(medium, &path, cache_bytes)? {
        FoundStore::Checkpoint(database, standing) => Ok((database, standing)),
        FoundStore::OneFile(old, format) => {
            calm(&path, || migrate::carry_over(medium, directory, old, format, now))?;
            database::open_checkpoint(medium, &path, cache_bytes)
        }
    }
}

/// Gives the log of a copy another identity.
pub(super) fn adopt<M: Medium>(
    medium: &M,
    directory: &Directory,
    log_id: LogId,
    now: UnixMillis,
) -> Result<(), OpenError> {
    let path = directory.store();
    if !directory.has_store()? {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(io_error("find the copied purge log", &path, source));
    }
    refuse_moved(directory)?;
    let (database, _) = open_or_migrate(medium, directory, database::CACHE_BYTES, now)?;
    database::rename_log(&database, log_id, &path)?;
    directory.write_log_id(log_id)
}

fn read_keys(directory: &Directory, checkpoint: &Database, now: UnixMillis) -> Result<SeenKeys, OpenError> {
    let path = directory.store();
    let names = || {
        let transaction = checkpoint.begin_read().map_err(Fault::from)?;
        checkpoint::read_run_names(&transaction)
    };
    let names = calm(&path, || names().map_err(|fault: Fault| explain(fault, "read", &path)))?;
    let mut keys = SeenKeys::default();
    for name in names.iter().filter(|name| now < name.expires_at) {
        let mut alive = Vec::new();
        let run = KeyRun::open(directory.path(), *name, |row, key, seen| {
            if now < seen.expires_at {
                alive.push((row, key));
            }
        });
        let run = run.map_err(|fault| explain(fault, "read", &name.path(directory.path())))?;
        keys.load(run, alive.into_iter());
    }
    // What an interrupted checkpoint has left.
    for (number, path) in directory.key_runs()? {
        if names.iter().all(|name| name.number != number) {
            directory.remove_if_there(&path)?;
        }
    }
    Ok(keys)
}

struct ReadLog {
    committed: Committed,
    shelf: SegmentShelf,
    appender: SegmentAppender,
    layer: TaskLayer,
}

/// Reads the heads of all segments, and all groups of those that the checkpoint has not taken over entirely.
fn read_log<M: Medium>(
    medium: &M,
    directory: &Directory,
    standing: &CheckpointPlace,
    now: UnixMillis,
    keys: &mut SeenKeys,
) -> Result<ReadLog, OpenError> {
    let segments = read_heads(medium, directory, standing)?;
    let Some(newest) = segments.last() else {
        return Err(corrupt(&directory.store(), "no segment of its log (log-….seg) lies beside it"));
    };
    let mut committed = standing.at;
    let mut layer = TaskLayer::default();
    let mut apply = |segment: &LogSegment, head: &GroupHead, at: u64, frames: &[u8]| {
        if head.group <= standing.at.group {
            return Ok(());
        }
        replay::apply(head, frames, now, &mut committed, &mut layer, keys)
            .map_err(|detail| corrupt(&segment.path, format!("at byte {at}: {detail}")))
    };
    let from = segments
        .partition_point(|segment| segment.head.first_group <= standing.at.group + 1)
        .saturating_sub(1);
    for pair in segments[from..].windows(2) {
        read_sealed(medium, &pair[0], pair[1].head.first_group, &mut apply)?;
    }
    let mut appender = SegmentAppender::resume(medium, Arc::clone(newest), BLOCK as u64)
        .map_err(|source| io_error("open", &newest.path, source))?;
    let failed = |source| io_error("read", &newest.path, source);
    let end = appender.examine(failed, |head, at, frames| {
        newest.note(head, at);
        apply(newest, head, at, frames)
    })?;
    match end {
        LogEnd::At(at) => appender.go_on_at(at),
        LogEnd::Damaged { at, behind } => return Err(damaged_before(&newest.path, at, behind)),
    }
    // Before anybody is told what was found: a process that was killed may have left it in the page cache.
    appender.flush().map_err(|source| io_error("flush", &newest.path, source))?;
    if newest.last_group() < standing.at.group {
        let detail = format!(
            "it ends with group {}, but {} holds what follows from group {}",
            newest.last_group(),
            directory.store().display(),
            standing.at.group
        );
        return Err(corrupt(&newest.path, detail));
    }
    // A trim that no checkpoint has taken over yet counts as well, so this is known only now.
    if let Some(oldest) = segments.first().filter(|oldest| oldest.head.first_seq > committed.first.get()) {
        return Err(missing_before(directory, oldest));
    }
    let shelf = shelf(medium, standing.lineage, segments);
    Ok(ReadLog { committed, shelf, appender, layer })
}

fn damaged_before(path: &Path, at: u64, behind: u64) -> OpenError {
    corrupt(path, format!("at byte {at}: no group begins there, although one follows at byte {behind}"))
}

/// The segments that there are, without gaps.
fn read_heads<M: Medium>(
    medium: &M,
    directory: &Directory,
    standing: &CheckpointPlace,
) -> Result<Vec<Arc<LogSegment>>, OpenError> {
    let mut segments: Vec<Arc<LogSegment>> = Vec::new();
    for (number, path) in directory.segments()? {
        let head = read_head(medium, &path)?;
        if head.lineage != standing.lineage {
            return Err(corrupt(&path, "it belongs to another store than the files beside it"));
        }
        if head.number != number {
            return Err(corrupt(&path, format!("it is segment {} of the log", head.number)));
        }
        if let Some(before) = segments.last() {
            if before.head.number + 1 != number {
                let missing = directory.path().join(names::segment(before.head.number + 1));
                return Err(corrupt(&missing, "it is missing"));
            }
            before.seal(head.first_group - 1);
        }
        segments.push(Arc::new(LogSegment::new(head, path)));
    }
    if let Some(oldest) = segments.first().filter(|oldest| oldest.head.first_group > standing.at.group + 1) {
        return Err(missing_before(directory, oldest));
    }
    Ok(segments)
}

fn missing_before(directory: &Directory, oldest: &LogSegment) -> OpenError {
    corrupt(&directory.path().join(names::segment(oldest.head.number - 1)), "it is missing")
}

fn read_head<M: Medium>(medium: &M, path: &Path) -> Result<SegmentHead, OpenError> {
    let read = || {
        let file = medium.open_segment(path, SegmentAccess::Read)?;
        let bytes = file.len()?;
        let mut block = vec![0; BLOCK];
        if bytes >= BLOCK as u64 {
            file.read(0, &mut block)?;
        }
        Ok((block, bytes))
    };
    let (block, bytes) = read().map_err(|source| io_error("read", path, source))?;
    let head = SegmentHead::read(&block)
        .ok_or_else(|| corrupt(path, "at byte 0: its head does not match its checksum"))?;
    if head.bytes != bytes {
        return Err(corrupt(
            path,
            format!("at byte {bytes}: it ends there, and should have {} bytes", head.bytes),
        ));
    }
    Ok(head)
}

/// Reads a segment that is complete: its last group comes right before `end`.
fn read_sealed<M: Medium>(
    medium: &M,
    segment: &LogSegment,
    end: u64,
    apply: &mut impl FnMut(&LogSegment, &GroupHead, u64, &[u8]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let failed = |source| io_error("read", &segment.path, source);
    let file = medium.open_segment(&segment.path, SegmentAccess::Read).map_err(failed)?;
    let file: &dyn SegmentFile = &*file;
    let mut walk = GroupWalk::whole(file, segment.head);
    while walk.group() < end {
        let group = walk.group();
        match walk.step().map_err(failed)? {
            WalkStep::Group { head, at, frames } => {
                segment.learn(&head, at);
                apply(segment, &head, at, frames)?;
            }
            WalkStep::NoGroup { at } => {
                return Err(corrupt(
                    &segment.path,
                    format!("at byte {at}: what stands there is not group {group}"),
                ));
            }
        }
    }
    Ok(())
}
