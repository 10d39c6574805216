//! What the writer does so that it can go on writing: room for the next group, checkpoints, trimmed segments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::aligned::BLOCK;
use super::super::checkpoint::{Checkpoint, CheckpointDraft, CheckpointPlace};
use super::super::fault::Fault;
use super::super::keeper::{Done, Errand};
use super::super::layer::TaskLayer;
use super::super::medium::Medium;
use super::super::pace::Pace;
use super::super::segments::{GroupHead, Onward, SegmentAppender, Spare};
use super::standby::{Leaving, SpareState, gone};
use super::{WriteFailure, Writer};

/// How long after a spare segment could not be made it is tried again, while there is room in the newest one.
const PREPARE_AGAIN: Duration = Duration::from_secs(5);

impl<M: Medium> Writer<M> {
    /// Hears what the keeper has done, and asks it for what is due.
    pub(super) fn look_after(&mut self) -> Result<(), WriteFailure> {
        while let Ok(done) = self.upkeep.keeper.done.try_recv() {
            self.hear(done)?;
        }
        if self.upkeep.leaving.is_none() && self.is_checkpoint_due() {
            self.begin_checkpoint()?;
        }
        let newest = self.appender.segment().head.bytes;
        let may_ask = match &self.upkeep.spare {
            SpareState::None => true,
            SpareState::NotBefore(time) => *time <= Instant::now(),
            SpareState::Asked | SpareState::Ready(_) => false,
        };
        if may_ask && self.appender.room() < newest / 2 {
            self.upkeep.ask(Errand::Prepare { bytes: self.opener.pace.bytes_after(newest, 0) })?;
            self.upkeep.spare = SpareState::Asked;
        }
        Ok(())
    }

    fn hear(&mut self, done: Done) -> Result<(), Fault> {
        match done {
            Done::Prepared(Ok(spare)) => self.upkeep.spare = SpareState::Ready(spare),
            Done::Prepared(Err(fault)) => {
                tracing::warn!(%fault, "the next part of the purge log could not be prepared");
                self.upkeep.spare = SpareState::NotBefore(Instant::now() + PREPARE_AGAIN);
            }
            Done::Checkpoint(outcome) => {
                self.upkeep.is_writing = false;
                let Checkpoint { group, runs } = outcome?;
                self.upkeep.checkpointed = group;
                self.upkeep.leaving = None;
                self.keys.end_checkpoint(runs);
                self.shared.layers.write().end_checkpoint();
                self.discard_old()?;
            }
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let layers = self.shared.layers.read();
        let layer = &layers.changing;
        let is_large = self.exceeds(layer, 1);
        let keeps_trimmed = self.upkeep.checkpointed < self.committed.group
            && self.shared.shelf.waits_for_checkpoint(self.committed.first);
        is_large || keeps_trimmed
    }

    fn begin_checkpoint(&mut self) -> Result<(), Fault> {
        let layer = self.shared.layers.write().begin_checkpoint();
        let keys = self.keys.begin_checkpoint();
        let standing = CheckpointPlace { lineage: self.shared.shelf.lineage(), at: self.committed };
        self.upkeep.leaving = Some(Leaving { standing, layer, keys });
        self.write_checkpoint()
    }

    /// Asks the keeper to write what is leaving, unless it is doing so.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), Fault> {
        let upkeep = &mut self.upkeep;
        let Some(Leaving { standing, layer, keys }) = upkeep.leaving.as_ref().filter(|_| !upkeep.is_writing)
        else {
            return Ok(());
        };
        let opened = self.shared.opened().ok_or_else(|| Fault::Io("the files are not open".to_owned()))?;
        let next_run = upkeep.next_run.max(self.keys.next_run());
        let draft = CheckpointDraft {
            database: opened.checkpoint,
            standing: *standing,
            layer: Arc::clone(layer),
            keys: Arc::clone(keys),
            next_run,
            alive: self.keys.alive(),
            now: self.shared.now(),
        };
        upkeep.ask(Errand::Checkpoint(draft))?;
        // It writes two runs at most.
        upkeep.next_run = next_run + 2;
        upkeep.is_writing = true;
        Ok(())
    }

    /// Waits while a checkpoint is being written and there is enough for the next one: that bounds memory, and what a
    /// start has to read.
    pub(super) fn wait_for_checkpoint(&mut self) -> Result<(), Fault> {
        while self.upkeep.is_writing && self.is_checkpoint_due_twice() {
            self.hear_next()?;
        }
        Ok(())
    }

    fn is_checkpoint_due_twice(&self) -> bool {
        let layers = self.shared.layers.read();
        self.exceeds(&layers.changing, 2)
    }

    /// Whether there is enough for so many checkpoints.
    fn exceeds(&self, layer: &TaskLayer, times: usize) -> bool {
        let Pace { checkpoint_rows, checkpoint_bytes, .. } = self.opener.pace;
        layer.rows() >= times * checkpoint_rows
            || layer.bytes() >= times * checkpoint_bytes
            || self.keys.fresh() >= times * 2 * checkpoint_rows
    }

    /// Waits until the keeper has done something.
    fn hear_next(&mut self) -> Result<(), Fault> {
        let done = self.upkeep.keeper.done.recv().map_err(|_| gone())?;
        self.hear(done)
    }

    /// Waits until nothing is left of the checkpoint that was begun, if there is one.
    pub(super) fn finish_checkpoint(&mut self) -> Result<(), Fault> {
        self.write_checkpoint()?;
        while self.upkeep.is_writing {
            self.hear_next()?;
        }
        Ok(())
    }

    /// Waits until the keeper has no use of the databases any more; how its checkpoint ended is found out again.
    pub(super) fn await_keeper(&mut self) {
        while self.upkeep.is_writing {
            match self.upkeep.keeper.done.recv() {
                Ok(Done::Checkpoint(_)) | Err(_) => self.upkeep.is_writing = false,
                // Cannot fail: only a checkpoint does.
                Ok(prepared) => drop(self.hear(prepared)),
            }
        }
    }

    /// So that the next start has nothing to read. A failure leaves it as much as a crash would.
    pub(super) fn last_checkpoint(&mut self) {
        let finish = |writer: &mut Self| -> Result<(), Fault> {
            writer.finish_checkpoint()?;
            if writer.upkeep.checkpointed < writer.committed.group {
                writer.begin_checkpoint()?;
                writer.finish_checkpoint()?;
            }
            Ok(())
        };
        if let Err(fault) = finish(self) {
            tracing::warn!(%fault, "the last checkpoint of the purge log was not made; the next start takes longer");
        }
    }

    /// Lets the keeper delete segments that hold nothing that is needed any more.
    fn discard_old(&mut self) -> Result<(), Fault> {
        let old = self.shared.shelf.take_old(self.committed.first, self.upkeep.checkpointed);
        if old.is_empty() { Ok(()) } else { self.upkeep.ask(Errand::Discard(old)) }
    }

    /// Goes on to the next segment if the newest has no room for the frames in the buffer.
    pub(super) fn make_room(&mut self, head: &GroupHead) -> Result<(), Fault> {
        let span = self.buffer.len().next_multiple_of(BLOCK);
        if self.appender.room() >= span as u64 {
            return Ok(());
        }
        let spare = self.take_spare(span)?;
        let onward = Onward {
            first_seq: head.first_seq,
            first_group: head.group,
            // As it was before this group.
            high: self.committed.high,
        };
        let Self { opener, shared, .. } = self;
        self.appender =
            SegmentAppender::begin(&opener.medium, &opener.directory, &shared.shelf, spare, onward)?;
        Ok(())
    }

    /// A spare with room for a group of `span` bytes; waits until it is made.
    pub(super) fn take_spare(&mut self, span: usize) -> Result<Spare, Fault> {
        loop {
            match std::mem::replace(&mut self.upkeep.spare, SpareState::None) {
                SpareState::Ready(spare) if spare.bytes >= (span + BLOCK) as u64 => return Ok(spare),
                SpareState::Asked => {
                    self.upkeep.spare = SpareState::Asked;
                    match self.upkeep.keeper.done.recv().map_err(|_| gone())? {
                        Done::Prepared(Err(fault)) => {
                            self.upkeep.spare = SpareState::None;
                            return Err(fault);
                        }
                        done => self.hear(done)?,
                    }
                }
                other => {
                    if let SpareState::Ready(spare) = other {
                        // Too small for this group. What cannot be removed the next start removes.
                        let _ = std::fs::remove_file(spare.path);
                    }
                    let bytes = self.opener.pace.bytes_after(self.appender.segment().head.bytes, span);
                    self.upkeep.ask(Errand::Prepare { bytes })?;
                    self.upkeep.spare = SpareState::Asked;
                }
            }
        }
    }

    /// Makes sure that there is room for the next segment: a full disk must have got that much before writes are accepted.
    pub(super) fn keep_spare(&mut self) -> Result<(), Fault> {
        let spare = self.take_spare(0)?;
        self.upkeep.spare = SpareState::Ready(spare);
        Ok(())
    }
}
