//! From a failure back to a sound store, or to one that refuses.

use std::sync::Arc;

use super::super::checkpoint::CheckpointPlace;
use super::super::committed::CommittedPairs;
use super::super::database;
use super::super::fault::Fault;
use super::super::medium::Medium;
use super::super::open_error::OpenError;
use super::super::queue::UNKNOWN_RETRY;
use super::super::replay;
use super::super::segments::{GROUP_HEAD, GroupHead, LogEnd, SegmentAppender};
use super::draft::DraftedGroup;
use super::pairs::{PROBE_BYTES, PairsDraft};
use super::{Condition, DoubtfulWrite, WriteFailure, Writer};
use crate::error::StoreError;
use crate::store::Health;

/// What the disk holds after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    /// What was acknowledged, and nothing else.
    Acknowledged,
    /// What was in doubt as well.
    OneMore,
}

/// A group that was read.
struct ReadGroup {
    head: GroupHead,
    at: u64,
    frames: Vec<u8>,
}

impl<M: Medium> Writer<M> {
    /// Stops accepting writes, and finds out from the disk what became of what failed: what to answer it.
    pub(super) fn fail(&mut self, failure: WriteFailure) -> StoreError {
        let WriteFailure { fault, in_doubt } = failure;
        tracing::error!(%fault, ?in_doubt, "the purge log could not be written");
        self.in_doubt = in_doubt.or(self.in_doubt);
        self.ail(fault.clone());
        if let Fault::Damaged(detail) = fault {
            return self.condemn(detail);
        }
        match self.reopen() {
            Ok(OnDisk::Acknowledged) => fault.certain(),
            Ok(OnDisk::OneMore) => StoreError::Unknown { retry_after: UNKNOWN_RETRY },
            Err(fatal @ StoreError::Corrupt(_)) => fatal,
            Err(_) if in_doubt.is_some() => StoreError::Unknown { retry_after: UNKNOWN_RETRY },
            Err(_) => fault.certain(),
        }
    }

    fn ail(&mut self, fault: Fault) {
        self.failures += 1;
        let (now, reason) = (self.shared.now(), fault.to_string());
        self.shared.health.send_modify(|health| {
            let since = match health {
                Health::Degraded { since, .. } => *since,
                Health::Ok | Health::Stopped { .. } | Health::Down { .. } => now,
            };
            *health = Health::Degraded { since, reason };
        });
        self.condition = Condition::Ailing(fault);
    }

    fn condemn(&mut self, detail: String) -> StoreError {
        tracing::error!(detail, "the purge log is damaged; it refuses everything until it has been restored");
        self.shared.become_corrupt(detail.clone());
        self.condition = Condition::Corrupt(detail.clone());
        StoreError::Corrupt(detail)
    }

    /// Opens the files again and compares what they hold with what was acknowledged.
    fn reopen(&mut self) -> Result<OnDisk, StoreError> {
        self.await_keeper();
        // Readers need not make room for a try that is bound to fail.
        if self.only_read && self.opener.medium.open(&self.opener.directory.pairs()).is_err() {
            return Err(StoreError::Unavailable { retry_after: self.delay() });
        }
        self.only_read = false;
        self.shared.let_go();
        let directory = &self.opener.directory;
        let (medium, cache_bytes, lineage) =
            (&self.opener.medium, self.opener.cache_bytes / 2, self.shared.shelf.lineage());
        let opened =
            database::open_checkpoint(medium, &directory.store(), cache_bytes).and_then(|checkpoint| {
                Ok((checkpoint, database::open_pairs(medium, &directory.pairs(), cache_bytes, lineage)?))
            });
        let ((checkpoint, standing), (pairs, found)) = match opened {
            Ok(opened) => opened,
            Err(error @ (OpenError::Io { .. } | OpenError::Locked { .. })) => {
                return Err(self.stay_closed(&error));
            }
            Err(error) => return Err(self.condemn(error.to_string())),
        };
        let of_pairs = match self.compare(&standing, &found) {
            Ok(verdict) => verdict,
            Err(detail) => return Err(self.condemn(detail)),
        };
        let of_log = match self.reopen_log() {
            Ok(verdict) => verdict,
            Err(Fault::Damaged(detail)) => return Err(self.condemn(detail)),
            Err(fault) => {
                tracing::warn!(%fault, "the purge log could not be opened again");
                drop((checkpoint, pairs));
                self.open_to_read();
                return Err(StoreError::Unavailable { retry_after: self.delay() });
            }
        };
        self.opening += 1;
        self.in_doubt = None;
        self.committed_pairs = found;
        self.shared.put_opened(checkpoint, pairs, self.opening, &self.committed);
        Ok(if of_log == OnDisk::OneMore { of_log } else { of_pairs })
    }

    fn stay_closed(&mut self, error: &OpenError) -> StoreError {
        tracing::warn!(%error, "the purge log could not be opened again");
        self.open_to_read();
        StoreError::Unavailable { retry_after: self.delay() }
    }

    /// Reads the newest segment as the disk has it now. A group in doubt that is there is made durable, and then it counts.
    fn reopen_log(&mut self) -> Result<OnDisk, Fault> {
        let segment = Arc::clone(self.appender.segment());
        let mut appender = SegmentAppender::resume(&self.opener.medium, Arc::clone(&segment), 0)?;
        let (mut last, mut beyond) = (segment.head.first_group - 1, Vec::new());
        let end = appender.examine(Fault::from, |head, at, frames| {
            last = head.group;
            if head.group > self.committed.group {
                beyond.push(ReadGroup { head: *head, at, frames: frames.to_vec() });
            }
            Ok::<_, Fault>(())
        })?;
        let at = match end {
            LogEnd::At(at) => at,
            LogEnd::Damaged { at, .. } => return Err(segment.damage(at, last + 1)),
        };
        let in_doubt = usize::from(self.in_doubt == Some(DoubtfulWrite::Group));
        if last < self.committed.group || beyond.len() > in_doubt {
            return Err(Fault::Damaged(format!(
                "{}: group {} with record {} was acknowledged, but the disk ends with group {last}",
                segment.path.display(),
                self.committed.group,
                self.committed.tail
            )));
        }
        appender.go_on_at(at);
        appender.flush()?;
        self.appender = appender;
        let Some(ReadGroup { head, at, frames }) = beyond.pop() else { return Ok(OnDisk::Acknowledged) };
        let mut layers = self.shared.layers.write();
        let now = self.shared.now();
        replay::apply(&head, &frames, now, &mut self.committed, &mut layers.changing, &mut self.keys)
            .map_err(|detail| Fault::Damaged(format!("{} at byte {at}: {detail}", segment.path.display())))?;
        drop(layers);
        segment.note(&head, at);
        self.testify();
        Ok(OnDisk::OneMore)
    }

    /// Lets readers go on as long as the disk can be read, if it holds what was acknowledged and nothing else: what is in
    /// doubt may yet be lost.
    fn open_to_read(&mut self) {
        let Writer { opener, shared, .. } = self;
        let lineage = shared.shelf.lineage();
        match database::open_to_read(&opener.directory, opener.cache_bytes / 2, lineage) {
            Ok((checkpoint, standing, pairs, found)) => {
                let in_doubt = self.in_doubt.take_if(|written| *written == DoubtfulWrite::Pairs);
                let verdict = self.compare(&standing, &found);
                self.in_doubt = self.in_doubt.or(in_doubt);
                if verdict != Ok(OnDisk::Acknowledged) {
                    tracing::warn!("the purge log is not read while its last commit is in doubt");
                    return;
                }
                self.opening += 1;
                self.only_read = true;
                self.shared.put_opened(checkpoint, pairs, self.opening, &self.committed);
                tracing::warn!("the purge log can be read, and not written");
            }
            Err(error) => tracing::warn!(%error, "the purge log cannot be read either"),
        }
    }

    /// What the databases hold, beside what was acknowledged.
    fn compare(&self, standing: &CheckpointPlace, pairs: &CommittedPairs) -> Result<OnDisk, String> {
        if standing.at.log_id != self.committed.log_id || !self.upkeep.knows_checkpoint(standing.at.group) {
            return Err(format!(
                "group {} of log {} was acknowledged in its checkpoint, but the disk holds group {} of log {}",
                self.upkeep.checkpointed, self.committed.log_id, standing.at.group, standing.at.log_id
            ));
        }
        let acknowledged = self.committed_pairs.commit;
        if pairs.commit == acknowledged {
            return Ok(OnDisk::Acknowledged);
        }
        if self.in_doubt == Some(DoubtfulWrite::Pairs) && pairs.commit == acknowledged + 1 {
            return Ok(OnDisk::OneMore);
        }
        Err(format!(
            "commit {acknowledged} of the small records was acknowledged, but the disk holds commit {}",
            pairs.commit
        ))
    }

    /// Tries to get from ailing to sound.
    pub(super) fn heal(&mut self) {
        if (self.only_read || self.shared.opened().is_none()) && self.reopen().is_err() {
            self.failures += 1;
            return;
        }
        let Condition::Ailing(fault) = &self.condition else { return };
        let needs_room = *fault == Fault::Full;
        match self.probe(needs_room) {
            Ok(()) => {
                tracing::info!("the purge log can be written again");
                self.condition = Condition::Sound;
                self.shared.health.send_replace(Health::Ok);
            }
            // The verdict has nobody waiting for it.
            Err(failure) => drop(self.fail(failure)),
        }
    }

    /// Whether what is written reaches the disk: a group that says nothing, a pair that is there for a moment, and the
    /// checkpoint that was begun.
    fn probe(&mut self, needs_room: bool) -> Result<(), WriteFailure> {
        if needs_room {
            self.keep_spare()?;
        }
        self.probe_log()?;
        let passes: &[Option<usize>] = if needs_room { &[Some(PROBE_BYTES), None] } else { &[None] };
        for ballast in passes {
            self.probe_pairs(*ballast)?;
        }
        self.finish_checkpoint()?;
        Ok(())
    }

    fn probe_log(&mut self) -> Result<(), WriteFailure> {
        self.buffer.clear();
        self.buffer.resize(GROUP_HEAD);
        let mut committed = self.committed;
        committed.group += 1;
        let head = GroupHead {
            bytes: 0,
            records: 0,
            first_seq: committed.tail.next().get(),
            group: committed.group,
            segment: 0,
            high: committed.high,
        };
        self.write_durably(head)?;
        let failures = self.failures;
        self.take_over(DraftedGroup::of_nothing(committed));
        // Not before all of the store is sound.
        self.failures = failures;
        Ok(())
    }

    fn probe_pairs(&mut self, ballast: Option<usize>) -> Result<(), WriteFailure> {
        let opened = self.shared.opened().ok_or_else(|| Fault::Io("the files are not open".to_owned()))?;
        let transaction = opened.pairs.begin_write()?;
        let mut draft = PairsDraft::new(&transaction, self.committed_pairs.clone(), self.shared.now())?;
        draft.probe(ballast)?;
        let outcome = draft.finish()?;
        transaction
            .commit()
            .map_err(|error| WriteFailure { fault: error.into(), in_doubt: Some(DoubtfulWrite::Pairs) })?;
        if let Some(outcome) = outcome {
            self.committed_pairs = outcome.committed;
        }
        Ok(())
    }
}
