//! Reads a backup from its first byte to its last, and tells whoever makes something of it what it holds.

use std::path::Path;

use batoff_types::{Cursor, LogId, Seq, TaskId, UnixMillis};
use ulid::Ulid;

use super::super::committed::Committed;
use super::super::keys::SeenKeys;
use super::super::layer::TaskLayer;
use super::super::replay;
use super::super::rows::{self, Pair, SeenKey};
use super::super::segments::{GroupHead, Onward};
use super::chunk::{ChunkKind, ChunkReader, Fields};
use super::error::{BackupError, BackupSummary};

/// What a backup holds, in the order in which it comes.
pub(super) enum BackupPart<'p> {
    /// Where its checkpoint stands, and the version of the last pair.
    Begin { at: Committed, kv_version: u64 },
    /// A pair beside the log.
    Pair { key: &'p [u8], row: &'p [u8], expires: u64 },
    /// A task.
    Task { seq: u64, row: &'p [u8] },
    /// What became of one.
    Completion { seq: u64, row: &'p [u8] },
    /// The key of an accepted request.
    Key { key: [u8; 32], seen: SeenKey },
    /// How the log begins.
    Log(Onward),
    /// A group of the log.
    Group { head: GroupHead, frames: &'p [u8] },
}

/// Reads all of a backup: every checksum, that the records follow one another, and that there are as many as it says.
///
/// # Errors
/// It is not whole; the file and the byte are named.
pub fn verify_backup(path: &Path) -> Result<BackupSummary, BackupError> {
    read_backup(path, |_| Ok(()))
}

/// The same, telling `each` of all parts.
pub(super) fn read_backup(
    path: &Path,
    mut each: impl FnMut(BackupPart<'_>) -> Result<(), BackupError>,
) -> Result<BackupSummary, BackupError> {
    let mut chunks = ChunkReader::open(path)?;
    let mut reading = None;
    let mut last = ChunkKind::Begin;
    loop {
        let chunk = chunks.next()?;
        let (kind, at) = (chunk.kind, chunk.at);
        let outcome = match (kind, &mut reading) {
            (ChunkKind::Begin, None) => {
                let begun = ReadSoFar::begin(chunk.content);
                let told = begun
                    .as_ref()
                    .map(|begun| BackupPart::Begin { at: begun.checkpoint, kv_version: begun.kv_version });
                let told = told.map(&mut each).transpose()?;
                reading = begun;
                told.ok_or_else(|| "its beginning cannot be read".to_owned())
            }
            (ChunkKind::Begin, Some(_)) | (_, None) => Err("it begins twice".to_owned()),
            (ChunkKind::End, Some(reading)) => reading.end(chunk.content),
            (kind, Some(reading)) if kind >= last => reading.take(kind, chunk.content, &mut each)?,
            (_, Some(_)) => Err("what stands there belongs before".to_owned()),
        };
        if let Err(detail) = outcome {
            return Err(chunks.altered(at, detail));
        }
        last = kind;
        if kind == ChunkKind::End {
            break;
        }
    }
    let bytes = chunks.end()?;
    let Some(reading) = reading else { return Err(BackupError::Foreign(path.to_owned())) };
    Ok(BackupSummary { bytes, ..reading.summary })
}

/// What was read so far.
struct ReadSoFar {
    summary: BackupSummary,
    checkpoint: Committed,
    kv_version: u64,
    /// Where the log has come to; `None` before it begins.
    walked: Option<Committed>,
    /// Of no use here: none is remembered.
    keys: SeenKeys,
}

impl ReadSoFar {
    fn begin(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        let _salt = fields.number()?;
        let log_id = LogId::from_ulid(Ulid::from(fields.wide()?));
        let last_task = TaskId::from_bytes(fields.wide()?.to_le_bytes());
        let taken_at = UnixMillis(fields.number()?);
        let group = fields.number()?;
        let first = Seq::new(fields.number()?)?;
        let tail = Cursor::new(fields.number()?);
        let high = UnixMillis(fields.number()?);
        let kv_version = fields.number()?;
        let version = std::str::from_utf8(fields.rest()).ok()?.to_owned();
        let checkpoint = Committed { log_id, group, first, tail, high, last_task };
        let summary = BackupSummary {
            log_id,
            taken_at,
            version,
            first,
            tail,
            records: 0,
            pairs: 0,
            tasks: 0,
            bytes: 0,
        };
        Some(Self { summary, checkpoint, kv_version, walked: None, keys: SeenKeys::default() })
    }

    /// The inner error says what is wrong with the chunk, the outer one comes from `each`.
    fn take(
        &mut self,
        kind: ChunkKind,
        content: &[u8],
        each: &mut impl FnMut(BackupPart<'_>) -> Result<(), BackupError>,
    ) -> Result<Result<(), String>, BackupError> {
        match kind {
            ChunkKind::Log => {
                let Some(onward) = onward(content) else { return Ok(Err("it cannot be read".to_owned())) };
                self.walked = Some(Committed {
                    group: onward.first_group - 1,
                    tail: Cursor::new(onward.first_seq - 1),
                    high: onward.high,
                    ..self.checkpoint
                });
                each(BackupPart::Log(onward))?;
                Ok(Ok(()))
            }
            ChunkKind::Group => self.take_group(content, each),
            _ => {
                for row in super::chunk::rows(content) {
                    let part = row.ok_or_else(|| "its rows cannot be read".to_owned());
                    match part.and_then(|(key, row)| self.part(kind, key, row)) {
                        Ok(part) => each(part)?,
                        Err(detail) => return Ok(Err(detail)),
                    }
                }
                Ok(Ok(()))
            }
        }
    }

    fn part<'p>(&mut self, kind: ChunkKind, key: &'p [u8], row: &'p [u8]) -> Result<BackupPart<'p>, String> {
        let number = || <[u8; 8]>::try_from(key).map(u64::from_le_bytes).map_err(|_| "no number".to_owned());
        match kind {
            ChunkKind::Pairs => {
                self.summary.pairs += 1;
                let pair = Pair::from_row(row).map_err(|fault| fault.to_string())?;
                Ok(BackupPart::Pair { key, row, expires: pair.expires })
            }
            ChunkKind::Tasks => {
                self.summary.tasks += 1;
                let seq = number()?;
                rows::read_task(seq, row).map_err(|fault| fault.to_string())?;
                Ok(BackupPart::Task { seq, row })
            }
            ChunkKind::Completions => {
                let seq = number()?;
                rows::read_completion(seq, row).map_err(|fault| fault.to_string())?;
                Ok(BackupPart::Completion { seq, row })
            }
            _ => match (key.try_into(), row.try_into()) {
                (Ok(key), Ok(row)) => Ok(BackupPart::Key { key, seen: SeenKey::from_row(row) }),
                _ => Err("a key has another length".to_owned()),
            },
        }
    }

    fn take_group(
        &mut self,
        content: &[u8],
        each: &mut impl FnMut(BackupPart<'_>) -> Result<(), BackupError>,
    ) -> Result<Result<(), String>, BackupError> {
        let Some((head, frames)) = group(content) else { return Ok(Err("it cannot be read".to_owned())) };
        let Some(walked) = &mut self.walked else { return Ok(Err("the log has not begun".to_owned())) };
        let before = walked.tail;
        // What follows for tasks and keys the store that is made of it finds out by itself.
        let (never, mut layer) = (UnixMillis(u64::MAX), TaskLayer::default());
        if let Err(detail) = replay::apply(&head, frames, never, walked, &mut layer, &mut self.keys) {
            return Ok(Err(detail));
        }
        let records = walked.tail.get() - before.get();
        if records != u64::from(head.records) {
            return Ok(Err(format!(
                "group {} has {records} records, and should have {}",
                head.group, head.records
            )));
        }
        self.summary.records += records;
        self.summary.tail = walked.tail;
        each(BackupPart::Group { head, frames })?;
        Ok(Ok(()))
    }

    fn end(&mut self, content: &[u8]) -> Result<(), String> {
        let mut fields = Fields(content);
        let mut number = || fields.number().ok_or_else(|| "its end cannot be read".to_owned());
        let said = [number()?, number()?, number()?, number()?];
        let Some(walked) = &self.walked else { return Err("it has no log".to_owned()) };
        if walked.group < self.checkpoint.group || walked.tail < self.checkpoint.tail {
            return Err("its log ends before its checkpoint".to_owned());
        }
        let BackupSummary { records, pairs, tasks, tail, .. } = &self.summary;
        let found = [*records, *pairs, *tasks, tail.get()];
        if said != found {
            return Err(format!("it should hold {said:?} (records, pairs, tasks, tail) and holds {found:?}"));
        }
        self.summary.first = walked.first.max(self.summary.first);
        Ok(())
    }
}

fn onward(content: &[u8]) -> Option<Onward> {
    let mut fields = Fields(content);
    let onward = Onward {
        first_seq: fields.number()?,
        first_group: fields.number()?,
        high: UnixMillis(fields.number()?),
    };
    (onward.first_seq > 0 && onward.first_group > 0).then_some(onward)
}

fn group(content: &[u8]) -> Option<(GroupHead, &[u8])> {
    let mut fields = Fields(content);
    let records = u32::try_from(fields.number()?).ok()?;
    let (first_seq, group) = (fields.number()?, fields.number()?);
    let high = UnixMillis(fields.number()?);
    let frames = fields.rest();
    let bytes = u32::try_from(frames.len()).ok()?;
    Some((GroupHead { bytes, records, first_seq, group, segment: 0, high }, frames))
}
