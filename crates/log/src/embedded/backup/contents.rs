//! What a backup comes to once its log is applied to its checkpoint, for whoever makes a log in another engine of it.
//!
//! A log moves by way of a backup because a backup is one consistent file of everything that says of itself whether it is
//! whole, and can be read twice: once for the outline, and once for the records that refer to it.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use batoff_types::{Seq, UnixMillis};
use bytes::Bytes;

use super::super::rows::{self, NEVER, Pair, SeenKey};
use super::super::segments::LogFrame;
use super::error::{BackupError, BackupSummary};
use super::verify::{BackupPart, read_backup};
use crate::kv::Key;
use crate::moving::{LogOutline, LogPart, LogParts, MoveError, MovedKey, MovedPair, PartsSender, parts};
use crate::purge_log::{LogState, StoredRecord, TaskRow};

/// A backup that was read to its end.
#[derive(Debug)]
pub struct BackupContents {
    path: PathBuf,
    summary: BackupSummary,
    outline: LogOutline,
}

impl BackupContents {
    /// Reads all of the backup at `path`. Keys that have expired at `now` are not in its outline. Blocks.
    ///
    /// # Errors
    /// It is not whole; the file and the byte are named.
    pub fn read(path: &Path, now: UnixMillis) -> Result<Self, BackupError> {
        let mut fold = Fold::default();
        let summary = read_backup(path, |part| fold.take(part).map_err(|detail| damaged(path, detail)))?;
        let state = LogState { log_id: summary.log_id, first: summary.first, tail: summary.tail };
        let mut keys: BTreeMap<Seq, Vec<MovedKey>> = BTreeMap::new();
        for (key, seen) in fold.keys.into_iter().filter(|(_, seen)| now < seen.expires_at) {
            let seq = Seq::new(seen.seq).ok_or_else(|| damaged(path, "a key of record 0".to_owned()))?;
            keys.entry(seq).or_default().push(MovedKey {
                key,
                body_hash: seen.body_hash,
                first_at: seen.first_at,
                expires_at: seen.expires_at,
                task: seen.task,
            });
        }
        keys.values_mut().for_each(|keys| keys.sort_unstable());
        let outline = LogOutline { state, tasks: fold.tasks, keys };
        Ok(Self { path: path.to_owned(), summary, outline })
    }

    /// What it says of itself.
    pub fn summary(&self) -> &BackupSummary {
        &self.summary
    }

    /// All that is known before the records.
    pub fn outline(&self) -> &LogOutline {
        &self.outline
    }

    /// Its pairs and records, from the file once more. Needs a tokio runtime.
    pub fn parts(&self) -> LogParts {
        let (sender, parts) = parts();
        let (path, first) = (self.path.clone(), self.outline.state.first);
        tokio::task::spawn_blocking(move || send(&path, first, &sender));
        parts
    }
}

fn damaged(path: &Path, detail: String) -> BackupError {
    BackupError::Altered { path: path.to_owned(), at: 0, detail }
}

fn send(path: &Path, first: Seq, sender: &PartsSender) {
    let put = |part| if sender.put_blocking(Ok(part)) { Ok(()) } else { Err(BackupError::Closing) };
    let read = read_backup(path, |part| match part {
        BackupPart::Pair { key, row, .. } => {
            put(LogPart::Pair(pair(key, row).map_err(|detail| damaged(path, detail))?))
        }
        BackupPart::Group { head, frames } => {
            let mut seq = head.first_seq;
            each_frame(frames, |frame| {
                if let LogFrame::Record { accepted_at, body, .. } = frame {
                    let this = Seq::new(seq).ok_or("a record 0")?;
                    seq += 1;
                    // Those before share a segment with later ones.
                    if this >= first {
                        let body = Bytes::copy_from_slice(body);
                        return Ok(put(LogPart::Record(StoredRecord { seq: this, accepted_at, body })));
                    }
                }
                Ok(Ok(()))
            })
            .map_err(|detail| damaged(path, detail))?
        }
        _ => Ok(()),
    });
    let last = match read {
        Ok(_) => Ok(LogPart::End),
        // Nobody listens.
        Err(BackupError::Closing) => return,
        Err(error) => Err(MoveError::Read(error.to_string())),
    };
    sender.put_blocking(last);
}

fn pair(key: &[u8], row: &[u8]) -> Result<MovedPair, String> {
    let Pair { expires, value, .. } = Pair::from_row(row).map_err(|fault| fault.to_string())?;
    let expires_at = (expires != NEVER).then_some(UnixMillis(expires));
    Ok(MovedPair { key: Key::new(key.to_vec()), value, expires_at })
}

/// Tells `each` of the frames of a group, until it fails.
fn each_frame<E>(
    mut frames: &[u8],
    mut each: impl FnMut(LogFrame<'_>) -> Result<Result<(), E>, &'static str>,
) -> Result<Result<(), E>, String> {
    while !frames.is_empty() {
        let (frame, rest) = LogFrame::read(frames).ok_or("a group that cannot be read")?;
        frames = rest;
        if let Err(error) = each(frame)? {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// The checkpoint, to which the groups after it are applied.
#[derive(Default)]
struct Fold {
    /// The last group of the checkpoint.
    checkpointed: u64,
    tasks: BTreeMap<Seq, TaskRow>,
    keys: HashMap<[u8; 32], SeenKey>,
}

impl Fold {
    fn take(&mut self, part: BackupPart<'_>) -> Result<(), String> {
        match part {
            BackupPart::Begin { at, .. } => self.checkpointed = at.group,
            BackupPart::Task { seq, row } => {
                let row = rows::read_task(seq, row).map_err(|fault| fault.to_string())?;
                self.tasks.insert(row.seq, row);
            }
            BackupPart::Completion { seq, row } => {
                let completion = rows::read_completion(seq, row).map_err(|fault| fault.to_string())?;
                self.complete(seq, completion);
            }
            BackupPart::Key { key, seen } => self.remember(key, seen),
            BackupPart::Group { head, frames } if head.group > self.checkpointed => {
                let mut seq = head.first_seq;
                let Ok(()) = each_frame::<Infallible>(frames, |frame| {
                    self.apply(frame, &mut seq)?;
                    Ok(Ok(()))
                })?;
            }
            BackupPart::Pair { .. } | BackupPart::Log(_) | BackupPart::Group { .. } => {}
        }
        Ok(())
    }

    fn apply(&mut self, frame: LogFrame<'_>, seq: &mut u64) -> Result<(), &'static str> {
        match frame {
            LogFrame::Record { accepted_at, task, keys, .. } => {
                let this = Seq::new(*seq).ok_or("a record 0")?;
                *seq += 1;
                if let Some(task) = task {
                    let meta = Bytes::copy_from_slice(task.meta);
                    let (site, task) = (task.site, task.task);
                    self.tasks
                        .insert(this, TaskRow { site, task, seq: this, accepted_at, meta, completion: None });
                }
                keys.into_iter().for_each(|stored| self.remember(stored.key, stored.seen));
            }
            LogFrame::Completions(rows) => {
                for (seq, completion) in rows {
                    self.complete(seq, Bytes::copy_from_slice(completion));
                }
            }
            LogFrame::Forgotten(seqs) => {
                for seq in seqs.into_iter().filter_map(Seq::new) {
                    self.tasks.remove(&seq);
                }
            }
            // The summary has it.
            LogFrame::First(_) => {}
        }
        Ok(())
    }

    fn complete(&mut self, seq: u64, completion: Bytes) {
        if let Some(row) = Seq::new(seq).and_then(|seq| self.tasks.get_mut(&seq)) {
            row.completion = Some(completion);
        }
    }

    /// A key that expired and came once more is there twice: the later one holds.
    fn remember(&mut self, key: [u8; 32], seen: SeenKey) {
        let kept = self.keys.entry(key).or_insert(seen);
        if kept.expires_at < seen.expires_at {
            *kept = seen;
        }
    }
}
