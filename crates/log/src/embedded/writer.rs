//! The one thread that writes.
//!
//! ```text
//!            a write failed                       opened, nothing missing, probe durable
//!  Sound ───────────────────▶ Ailing ──────────────────────────────────────────────────▶ Sound
//!                               │ something acknowledged is missing, or a file is damaged
//!                               ▼
//!                            Corrupt   (refuses everything; no way back in this process)
//! ```
//!
//! | part | does |
//! | --- | --- |
//! | `draft`, `append`, `tasks` | decide what a group says |
//! | `pairs` | the transaction beside the log |
//! | `upkeep` | room for the next group, checkpoints, trimmed segments |
//! | `repair` | from a failure back to a sound store, or to one that refuses |

mod append;
mod draft;
mod pairs;
mod repair;
mod standby;
mod tasks;
mod upkeep;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::draft::{DraftedGroup, GroupDraft};
use self::pairs::{PairsDraft, PairsOutcome};
use self::standby::Upkeep;
use super::aligned::AlignedBytes;
use super::committed::{Committed, CommittedPairs};
use super::directory::{Directory, io_error};
use super::fault::{Fault, REOPEN_FIRST_DELAY, unavailable};
use super::keeper;
use super::keys::SeenKeys;
use super::measure;
use super::medium::Medium;
use super::open_error::OpenError;
use super::pace::Pace;
use super::queue::{HeldAnswer, QUEUE_REQUESTS_MAX, Request, RequestQueue};
use super::segments::{GroupHead, SegmentAppender};
use super::shared::Shared;
use super::witness::Witness;
use crate::error::StoreError;

/// Records after which a group is closed, although more are queued: bounds how long one flush can take.
const GROUP_RECORDS_MAX: usize = 8_192;
/// Bytes after which a group is closed, although more are queued.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long writes are refused at most before the next try. A disk that has room again is noticed within this time.
const REOPEN_LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How often the clock is asked for expired pairs, while there are pairs that expire.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// What the writer needs to open the files again.
pub(super) struct Opener<M> {
    pub(super) medium: M,
    pub(super) directory: Directory,
    pub(super) witness: Witness,
    pub(super) cache_bytes: usize,
    pub(super) pace: Pace,
}

/// Where the writer begins.
pub(super) struct Beginning {
    pub(super) committed: Committed,
    pub(super) committed_pairs: CommittedPairs,
    pub(super) appender: SegmentAppender,
    pub(super) keys: SeenKeys,
    /// The last group that the checkpoint holds.
    pub(super) checkpointed: u64,
}

/// Starts the writer's thread, and the one behind it.
pub(super) fn spawn<M: Medium>(
    opener: Opener<M>,
    shared: Arc<Shared>,
    beginning: Beginning,
) -> Result<RequestQueue, OpenError> {
    let (sender, requests) = mpsc::sync_channel(QUEUE_REQUESTS_MAX);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let queue = RequestQueue {
        requests: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        shared: Arc::clone(&shared),
    };
    let path = opener.directory.store();
    let keeper = keeper::spawn(opener.medium.clone(), opener.directory.clone(), opener.pace)?;
    let Beginning { committed, committed_pairs, appender, keys, checkpointed } = beginning;
    let writer = Writer {
        opener,
        shared: Arc::clone(&shared),
        requests,
        queued_bytes,
        committed,
        committed_pairs,
        appender,
        buffer: AlignedBytes::default(),
        keys,
        upkeep: Upkeep::new(keeper, checkpointed),
        condition: Condition::Sound,
        in_doubt: None,
        failures: 0,
        opening: 0,
        only_read: false,
        closing: None,
        is_testified: true,
    };
    let run = move || {
        if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            shared.become_stopped();
        }
    };
    std::thread::Builder::new()
        .name("purge-log".to_owned())
        .spawn(run)
        .map_err(|source| io_error("start the writer of", &path, source))?;
    Ok(queue)
}

/// Whether writes are accepted; see the picture above.
enum Condition {
    Sound,
    Ailing(Fault),
    Corrupt(String),
}

/// What was being written when something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DoubtfulWrite {
    Group,
    Pairs,
}

/// A write that did not succeed.
struct WriteFailure {
    fault: Fault,
    /// What the disk may hold all the same, because its flush had begun.
    in_doubt: Option<DoubtfulWrite>,
}

impl<E: Into<Fault>> From<E> for WriteFailure {
    fn from(error: E) -> Self {
        Self { fault: error.into(), in_doubt: None }
    }
}

struct Closing {
    reply: Option<oneshot::Sender<()>>,
}

struct Writer<M> {
    opener: Opener<M>,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    queued_bytes: Arc<AtomicUsize>,
    /// What the last acknowledged group left.
    committed: Committed,
    /// What the last acknowledged transaction beside the log left.
    committed_pairs: CommittedPairs,
    appender: SegmentAppender,
    buffer: AlignedBytes,
    keys: SeenKeys,
    upkeep: Upkeep,
    condition: Condition,
    /// What has failed in its flush since the files were opened.
    in_doubt: Option<DoubtfulWrite>,
    /// Since the last group that became durable.
    failures: u32,
    opening: u64,
    /// Whether the databases are open for readers only, because the disk takes no writes.
    only_read: bool,
    closing: Option<Closing>,
    /// Whether the last note of what was acknowledged could be written.
    is_testified: bool,
}

impl<M: Medium> Writer<M> {
    fn run(mut self) {
        while self.closing.is_none() {
            match &self.condition {
                Condition::Sound => {
                    let group = self.take_group();
                    self.commit(group);
                }
                Condition::Ailing(fault) => {
                    let refusal = fault.certain();
                    self.refuse_for(self.delay(), &refusal);
                    if self.closing.is_none() {
                        self.heal();
                    }
                }
                Condition::Corrupt(detail) => {
                    let refusal = StoreError::Corrupt(detail.clone());
                    self.refuse_for(REOPEN_LONGEST_DELAY, &refusal);
                }
            }
        }
        self.close();
    }

    /// The next requests to carry out together: waits for one, then takes what else is there.
    fn take_group(&mut self) -> Vec<Request> {
        let mut group = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut next = self.wait_for_request();
        while let Some(request) = next {
            records += request.records();
            bytes += request.bytes();
            if let Request::Close { reply } = request {
                self.closing = Some(Closing { reply: Some(reply) });
                break;
            }
            group.push(request);
            if records >= GROUP_RECORDS_MAX || bytes >= GROUP_BYTES_MAX {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        self.queued_bytes.fetch_sub(group.iter().map(Request::bytes).sum(), Ordering::Relaxed);
        if self.shared.is_abandoned() && self.closing.is_none() {
            self.closing = Some(Closing { reply: None });
        }
        group
    }

    /// `None` when it is time to look for expired pairs, or nobody can ask any more.
    fn wait_for_request(&mut self) -> Option<Request> {
        let received = match self.committed_pairs.expiry {
            None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(expiry) => {
                let until = Duration::from_millis(expiry.0.saturating_sub(self.shared.now().0));
                self.requests.recv_timeout(until.clamp(Duration::from_millis(1), EXPIRY_INTERVAL))
            }
        };
        match received {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.closing = Some(Closing { reply: None });
                None
            }
        }
    }

    /// Makes a group durable and answers it, or fails; then what is to be written beside the log.
    fn commit(&mut self, requests: Vec<Request>) {
        let (swaps, requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| matches!(request, Request::Cas { .. }));
        if !requests.is_empty() && !self.commit_group(requests) {
            let refusal = self.refusal();
            swaps.into_iter().for_each(|request| request.refuse(refusal.clone()));
            return;
        }
        let is_expiry = self.committed_pairs.expiry.is_some_and(|expiry| expiry <= self.shared.now());
        if (!swaps.is_empty() || is_expiry) && !self.commit_pairs(swaps) {
            return;
        }
        if let Err(failure) = self.look_after() {
            // Nobody waits for this verdict: everything that was asked for is durable.
            drop(self.fail(failure));
        }
    }

    /// Whether the group is durable.
    fn commit_group(&mut self, requests: Vec<Request>) -> bool {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter();
        match self.write_group(&mut requests, &mut answers) {
            Ok(group) => {
                if let Some(group) = group {
                    self.take_over(group);
                }
                answers.into_iter().for_each(|answer| answer.give(Ok(())));
                true
            }
            Err(failure) => {
                let not_begun = failure.fault.certain();
                let verdict = self.fail(failure);
                requests.for_each(|request| request.refuse(not_begun.clone()));
                answers.into_iter().for_each(|answer| answer.give(Err(verdict.clone())));
                false
            }
        }
    }

    /// `None` when the requests changed nothing, so that there was nothing to flush.
    fn write_group(
        &mut self,
        requests: &mut impl Iterator<Item = Request>,
        answers: &mut Vec<HeldAnswer>,
    ) -> Result<Option<DraftedGroup>, WriteFailure> {
        let started = Instant::now();
        self.wait_for_checkpoint()?;
        let shared = Arc::clone(&self.shared);
        let opened = shared.opened().ok_or_else(|| Fault::Io("the files are not open".to_owned()))?;
        let now = shared.now();
        self.keys.expire(now);
        let drafted = {
            let layers = shared.layers.read();
            let (buffer, committed) = (&mut self.buffer, self.committed);
            let mut draft = GroupDraft::new(buffer, &layers, &self.keys, &opened.checkpoint, committed, now);
            for request in requests {
                match request {
                    Request::Mend { opening } if opening != self.opening => {}
                    Request::Mend { .. } => return Err(Fault::Io("a read failed".to_owned()).into()),
                    request => draft.carry_out(request, answers)?,
                }
            }
            draft.finish()
        };
        let Some((head, group)) = drafted else { return Ok(None) };
        self.write_durably(head)?;
        measure::committed(started.elapsed(), group.records.len());
        Ok(Some(group))
    }

    /// Writes the frames in the buffer, in this segment or the next.
    fn write_durably(&mut self, head: GroupHead) -> Result<(), WriteFailure> {
        self.make_room(&head)?;
        self.appender
            .append(head, &mut self.buffer)
            .map_err(|error| WriteFailure { fault: error.into(), in_doubt: Some(DoubtfulWrite::Group) })
    }

    /// What follows from a durable group, in memory. State and feeds first: who has its answer must find its record.
    fn take_over(&mut self, group: DraftedGroup) {
        let DraftedGroup { committed, records, tasks, keys, completions, forgotten, .. } = group;
        self.committed = committed;
        self.failures = 0;
        self.testify();
        keys.into_iter().for_each(|(key, seen)| self.keys.remember(key, seen));
        if !(tasks.is_empty() && completions.is_empty() && forgotten.is_empty()) {
            let mut layers = self.shared.layers.write();
            let layer = &mut layers.changing;
            tasks.into_iter().for_each(|row| layer.add(row));
            completions.into_iter().for_each(|(seq, completion)| layer.complete(seq, completion));
            forgotten.into_iter().for_each(|seq| layer.forget(seq));
        }
        self.shared.publish(&self.committed, records);
    }

    /// Before anybody hears that something is durable. A failure loses no record: only damage may go unnoticed.
    fn testify(&mut self) {
        match self.opener.witness.write(&self.committed, &self.committed_pairs) {
            Ok(()) => self.is_testified = true,
            Err(error) if self.is_testified => {
                self.is_testified = false;
                tracing::warn!(%error, "cannot note what was acknowledged; damage to the log's end may go unnoticed");
            }
            Err(_) => {}
        }
    }

    /// Whether the transaction beside the log is durable.
    fn commit_pairs(&mut self, swaps: Vec<Request>) -> bool {
        let mut answers = Vec::with_capacity(swaps.len());
        let mut swaps = swaps.into_iter();
        match self.write_pairs(&mut swaps, &mut answers) {
            Ok(outcome) => {
                if let Some(PairsOutcome { committed, changes }) = outcome {
                    self.committed_pairs = committed;
                    self.failures = 0;
                    self.testify();
                    self.shared.publish_pairs(self.committed_pairs.commit, changes);
                }
                answers.into_iter().for_each(|answer| answer.give(Ok(())));
                true
            }
            Err(failure) => {
                let not_begun = failure.fault.certain();
                let verdict = self.fail(failure);
                swaps.for_each(|request| request.refuse(not_begun.clone()));
                answers.into_iter().for_each(|answer| answer.give(Err(verdict.clone())));
                false
            }
        }
    }

    fn write_pairs(
        &self,
        swaps: &mut impl Iterator<Item = Request>,
        answers: &mut Vec<HeldAnswer>,
    ) -> Result<Option<PairsOutcome>, WriteFailure> {
        let opened = self.shared.opened().ok_or_else(|| Fault::Io("the files are not open".to_owned()))?;
        let transaction = opened.pairs.begin_write()?;
        let mut draft = PairsDraft::new(&transaction, self.committed_pairs.clone(), self.shared.now())?;
        draft.expire()?;
        for request in swaps {
            let Request::Cas { key, expect, write, guard, reply } = request else { continue };
            match draft.cas(key, expect, write, guard.as_ref()) {
                Ok(value) => answers.push(HeldAnswer::new(reply, value)),
                Err(fault) => {
                    answers.push(HeldAnswer::of_failed(reply));
                    return Err(fault.into());
                }
            }
        }
        let Some(outcome) = draft.finish()? else {
            transaction.abort()?;
            return Ok(None);
        };
        transaction
            .commit()
            .map_err(|error| WriteFailure { fault: error.into(), in_doubt: Some(DoubtfulWrite::Pairs) })?;
        Ok(Some(outcome))
    }

    fn refusal(&self) -> StoreError {
        match &self.condition {
            Condition::Sound => unavailable(),
            Condition::Ailing(fault) => fault.certain(),
            Condition::Corrupt(detail) => StoreError::Corrupt(detail.clone()),
        }
    }

    fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        REOPEN_LONGEST_DELAY.min(REOPEN_FIRST_DELAY * 2u32.pow(doublings))
    }

    /// Answers whatever comes with `refusal` for as long as `time`.
    fn refuse_for(&mut self, time: Duration, refusal: &StoreError) {
        let until = Instant::now() + time;
        while self.closing.is_none() {
            let remaining = until.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(remaining) {
                Ok(Request::Close { reply }) => self.closing = Some(Closing { reply: Some(reply) }),
                Ok(request) => {
                    self.queued_bytes.fetch_sub(request.bytes(), Ordering::Relaxed);
                    request.refuse(later(refusal, remaining));
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => self.closing = Some(Closing { reply: None }),
            }
            if self.shared.is_abandoned() {
                self.closing = Some(Closing { reply: None });
            }
        }
    }

    fn close(mut self) {
        if matches!(self.condition, Condition::Sound) {
            self.last_checkpoint();
        }
        self.shared.become_closed();
        // The thread behind ends, and lets go of what it has.
        drop(self.upkeep);
        self.shared.let_go();
        while let Ok(request) = self.requests.try_recv() {
            request.refuse(unavailable());
        }
        if let Some(reply) = self.closing.take().and_then(|closing| closing.reply) {
            let _ = reply.send(());
        }
    }
}

/// The refusal, with a time to come back at which it may have ended.
fn later(refusal: &StoreError, remaining: Duration) -> StoreError {
    match refusal {
        StoreError::Unavailable { .. } => {
            StoreError::Unavailable { retry_after: remaining.max(REOPEN_FIRST_DELAY) }
        }
        other => other.clone(),
    }
}
