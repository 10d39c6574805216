//! The thread behind the writer: makes checkpoints and spare segments, and deletes what was trimmed.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::checkpoint::{Checkpoint, CheckpointDraft};
use super::directory::{Directory, flush_directory, io_error};
use super::fault::Fault;
use super::medium::Medium;
use super::open_error::OpenError;
use super::pace::Pace;
use super::segments::{LogSegment, Spare};

/// What the keeper is asked for, one thing after the other.
pub(super) enum Errand {
    /// To make a spare segment of so many bytes.
    Prepare {
        bytes: u64,
    },
    Checkpoint(CheckpointDraft),
    /// To delete these segments, oldest first.
    Discard(Vec<Arc<LogSegment>>),
}

/// What it has done.
pub(super) enum Done {
    Prepared(Result<Spare, Fault>),
    Checkpoint(Result<Checkpoint, Fault>),
}

/// The way to the keeper. It ends when this is dropped.
pub(super) struct KeeperLine {
    pub(super) errands: Sender<Errand>,
    pub(super) done: Receiver<Done>,
}

/// Starts the thread.
pub(super) fn spawn<M: Medium>(medium: M, directory: Directory, pace: Pace) -> Result<KeeperLine, OpenError> {
    let (errands, queue) = mpsc::channel();
    let (reports, done) = mpsc::channel();
    let path = directory.store();
    let keeper =
        StoreKeeper { medium, directory, pace, old: VecDeque::new(), discarded: VecDeque::new(), spares: 0 };
    std::thread::Builder::new()
        .name("purge-keeper".to_owned())
        .spawn(move || keeper.run(&queue, &reports))
        .map_err(|source| io_error("start the keeper of", &path, source))?;
    Ok(KeeperLine { errands, done })
}

struct StoreKeeper<M> {
    medium: M,
    directory: Directory,
    pace: Pace,
    /// Segments that are to be deleted.
    old: VecDeque<Arc<LogSegment>>,
    /// A trimmed segment that can be used again.
    discarded: VecDeque<PathBuf>,
    /// Spares made so far; names them.
    spares: u64,
}

impl<M: Medium> StoreKeeper<M> {
    fn run(mut self, queue: &Receiver<Errand>, reports: &Sender<Done>) {
        for errand in queue {
            let done = match errand {
                Errand::Prepare { bytes } => Done::Prepared(self.prepare(bytes)),
                Errand::Checkpoint(draft) => {
                    let outcome = draft.write(self.directory.path());
                    // The writer may be waiting for the database to be let go of.
                    drop(draft);
                    Done::Checkpoint(outcome)
                }
                Errand::Discard(segments) => {
                    self.old.extend(segments);
                    self.discard();
                    continue;
                }
            };
            if reports.send(done).is_err() {
                return;
            }
        }
    }

    fn prepare(&mut self, bytes: u64) -> Result<Spare, Fault> {
        self.spares += 1;
        let path = self.directory.spare(self.spares);
        if bytes == self.pace.segment_bytes_max
            && let Some(old) = self.discarded.pop_front()
        {
            return Ok(Spare::recycle(&self.directory, &Spare { path: old, bytes }, &path)?);
        }
        Ok(Spare::make(&self.medium, &path, bytes)?)
    }

    /// One after the other, each durably: whatever is found after a power cut has no gap.
    fn discard(&mut self) {
        while let Some(segment) = self.old.front() {
            self.spares += 1;
            let path = self.directory.spare(self.spares);
            let is_kept = self.discarded.is_empty() && segment.head.bytes == self.pace.segment_bytes_max;
            let gone =
                if is_kept { fs::rename(&segment.path, &path) } else { fs::remove_file(&segment.path) };
            if let Err(error) = gone.and_then(|()| flush_directory(self.directory.path())) {
                tracing::warn!(%error, path = %segment.path.display(), "a trimmed part of the log cannot be deleted");
                // The next one will be tried when there is more to delete, or found at the next start.
                return;
            }
            if is_kept {
                self.discarded.push_back(path);
            }
            self.old.pop_front();
        }
    }
}
