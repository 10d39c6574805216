//! The one thread that writes.
//!
//! ```text
//!            commit failed                      opened, nothing missing, probe durable
//!  Sound ───────────────────▶ Ailing ──────────────────────────────────────────────────▶ Sound
//!                               │ an acknowledged commit is missing, or the file is damaged
//!                               ▼
//!                            Corrupt   (refuses everything; no way back in this process)
//! ```

mod append;
mod draft;
mod pairs;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::draft::{CommitDraft, Outcome};
use super::committed::Committed;
use super::database;
use super::directory::{Directory, io_error};
use super::fault::{Fault, REOPEN_FIRST_DELAY, unavailable};
use super::measure;
use super::medium::Medium;
use super::open_error::OpenError;
use super::queue::{HeldAnswer, QUEUE_REQUESTS_MAX, Request, RequestQueue, UNKNOWN_RETRY};
use super::shared::Shared;
use super::witness::Witness;
use crate::error::StoreError;
use crate::store::Health;

/// Records after which a group is closed, although more are queued: bounds how long one flush can take.
const GROUP_RECORDS_MAX: usize = 8_192;
/// Bytes after which a group is closed, although more are queued.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long writes are refused at most before the next try. A disk that has room again is noticed within this time.
const REOPEN_LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How often the clock is asked for expired pairs, while there are pairs that expire.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// What the writer needs to open the file again.
pub(super) struct Opener<M> {
    pub(super) medium: M,
    pub(super) directory: Directory,
    pub(super) witness: Witness,
    pub(super) cache_bytes: usize,
}

/// Starts the writer's thread.
pub(super) fn spawn<M: Medium>(
    opener: Opener<M>,
    shared: Arc<Shared>,
    committed: Committed,
) -> Result<RequestQueue, OpenError> {
    let (sender, requests) = mpsc::sync_channel(QUEUE_REQUESTS_MAX);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let queue = RequestQueue {
        requests: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        shared: Arc::clone(&shared),
    };
    let path = opener.directory.store();
    let writer = Writer {
        opener,
        shared: Arc::clone(&shared),
        requests,
        queued_bytes,
        committed,
        condition: Condition::Sound,
        in_doubt: false,
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

/// A commit that did not succeed.
struct CommitFailure {
    fault: Fault,
    /// Whether the flush had begun, so that the disk may hold the commit all the same.
    in_doubt: bool,
}

impl<E: Into<Fault>> From<E> for CommitFailure {
    fn from(error: E) -> Self {
        Self { fault: error.into(), in_doubt: false }
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
    /// What the last acknowledged commit left.
    committed: Committed,
    condition: Condition,
    /// Whether a flush has failed since the file was opened.
    in_doubt: bool,
    /// Since the last group that became durable.
    failures: u32,
    opening: u64,
    /// Whether the file is open for readers only, because the disk takes no writes.
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
        let received = match self.committed.kv_expiry {
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

    /// Makes a group durable and answers it, or fails.
    fn commit(&mut self, group: Vec<Request>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut requests = group.into_iter();
        let outcome = match self.carry_out(&mut requests, &mut answers) {
            Ok(None) => Ok(()),
            Ok(Some(Outcome { committed, records, changes })) => {
                self.committed = committed;
                self.failures = 0;
                self.testify();
                // State and feeds first: who has its answer must find its record.
                self.shared.publish(&self.committed, records, changes);
                Ok(())
            }
            Err(failure) => {
                let not_begun = failure.fault.certain();
                let verdict = self.fail(failure);
                requests.for_each(|request| request.refuse(not_begun.clone()));
                Err(verdict)
            }
        };
        answers.into_iter().for_each(|answer| answer.give(outcome.clone()));
    }

    /// Before anybody hears that the group is durable. A failure loses no record: only damage may go unnoticed.
    fn testify(&mut self) {
        match self.opener.witness.write(&self.committed) {
            Ok(()) => self.is_testified = true,
            Err(error) if self.is_testified => {
                self.is_testified = false;
                tracing::warn!(%error, "cannot note what was acknowledged; damage to the log's end may go unnoticed");
            }
            Err(_) => {}
        }
    }

    /// `None` when the requests changed nothing, so that there was nothing to flush.
    fn carry_out(
        &self,
        requests: &mut impl Iterator<Item = Request>,
        answers: &mut Vec<HeldAnswer>,
    ) -> Result<Option<Outcome>, CommitFailure> {
        let started = Instant::now();
        let opened = self.shared.opened().ok_or_else(|| Fault::Io("the file is not open".to_owned()))?;
        let transaction = opened.database.begin_write()?;
        let mut draft = CommitDraft::new(&transaction, self.committed.clone(), self.shared.now());
        draft.expire_pairs()?;
        for request in requests {
            match request {
                Request::Mend { opening } if opening != self.opening => {}
                Request::Mend { .. } => return Err(Fault::Io("a read failed".to_owned()).into()),
                request => draft.carry_out(request, answers)?,
            }
        }
        let Some(outcome) = draft.finish()? else {
            transaction.abort()?;
            return Ok(None);
        };
        transaction.commit().map_err(|error| CommitFailure { fault: error.into(), in_doubt: true })?;
        measure::committed(started.elapsed(), outcome.records.len());
        Ok(Some(outcome))
    }

    /// Stops accepting writes, and finds out from the disk what became of the group that failed: what to answer it.
    fn fail(&mut self, failure: CommitFailure) -> StoreError {
        let CommitFailure { fault, in_doubt } = failure;
        tracing::error!(%fault, in_doubt, "the purge log could not be written");
        self.in_doubt = in_doubt;
        self.ail(fault.clone());
        if let Fault::Damaged(detail) = fault {
            return self.condemn(detail);
        }
        match self.reopen() {
            Ok(OnDisk::Acknowledged) => fault.certain(),
            Ok(OnDisk::OneMore) => StoreError::Unknown { retry_after: UNKNOWN_RETRY },
            Err(fatal @ StoreError::Corrupt(_)) => fatal,
            Err(_) if in_doubt => StoreError::Unknown { retry_after: UNKNOWN_RETRY },
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

    /// Opens the file again and compares what it holds with what was acknowledged.
    fn reopen(&mut self) -> Result<OnDisk, StoreError> {
        let path = self.opener.directory.store();
        // Readers need not make room for a try that is bound to fail.
        if self.only_read && self.opener.medium.open(&path).is_err() {
            return Err(StoreError::Unavailable { retry_after: self.delay() });
        }
        self.only_read = false;
        self.shared.let_go();
        let Opener { medium, cache_bytes, .. } = &self.opener;
        let (database, found) = match database::open(medium, &path, *cache_bytes) {
            Ok(opened) => opened,
            Err(error @ (OpenError::Io { .. } | OpenError::Locked { .. })) => {
                tracing::warn!(%error, "the purge log could not be opened again");
                self.open_to_read();
                return Err(StoreError::Unavailable { retry_after: self.delay() });
            }
            Err(error) => return Err(self.condemn(error.to_string())),
        };
        let verdict = match compare(&self.committed, &found, self.in_doubt) {
            Ok(verdict) => verdict,
            Err(detail) => return Err(self.condemn(detail)),
        };
        self.opening += 1;
        self.in_doubt = false;
        self.committed = found;
        self.shared.put_opened(database, self.opening, &self.committed);
        Ok(verdict)
    }

    /// Lets readers go on as long as the disk can be read, if it holds what was acknowledged and nothing else: a commit
    /// in doubt may yet be lost.
    fn open_to_read(&mut self) {
        let opened = database::open_to_read(&self.opener.directory.store(), self.opener.cache_bytes);
        match opened {
            Ok((database, found))
                if matches!(compare(&self.committed, &found, false), Ok(OnDisk::Acknowledged)) =>
            {
                self.opening += 1;
                self.only_read = true;
                self.shared.put_opened(database, self.opening, &self.committed);
                tracing::warn!("the purge log can be read, and not written");
            }
            Ok(_) => tracing::warn!("the purge log is not read while its last commit is in doubt"),
            Err(error) => tracing::warn!(%error, "the purge log cannot be read either"),
        }
    }

    /// Tries to get from ailing to sound.
    fn heal(&mut self) {
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

    /// Whether a commit reaches the disk.
    fn probe(&mut self, needs_room: bool) -> Result<(), CommitFailure> {
        let passes: &[Option<usize>] = if needs_room { &[Some(draft::PROBE_BYTES), None] } else { &[None] };
        for ballast in passes {
            let opened = self.shared.opened().ok_or_else(|| Fault::Io("the file is not open".to_owned()))?;
            let transaction = opened.database.begin_write()?;
            let mut draft = CommitDraft::new(&transaction, self.committed.clone(), self.shared.now());
            draft.probe(*ballast)?;
            let outcome = draft.finish()?;
            transaction.commit().map_err(|error| CommitFailure { fault: error.into(), in_doubt: true })?;
            if let Some(outcome) = outcome {
                self.committed = outcome.committed;
            }
        }
        Ok(())
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
        self.shared.become_closed();
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

/// What the disk holds after a failure.
enum OnDisk {
    /// What was acknowledged, and nothing else.
    Acknowledged,
    /// The commit whose flush failed as well.
    OneMore,
}

fn compare(acknowledged: &Committed, found: &Committed, in_doubt: bool) -> Result<OnDisk, String> {
    let is_ours = found.log_id == acknowledged.log_id;
    if is_ours && found.commit == acknowledged.commit && found.tail == acknowledged.tail {
        return Ok(OnDisk::Acknowledged);
    }
    let is_one_more =
        in_doubt && is_ours && found.commit == acknowledged.commit + 1 && found.tail >= acknowledged.tail;
    if is_one_more {
        return Ok(OnDisk::OneMore);
    }
    Err(format!(
        "record {} and commit {} of log {} were acknowledged, but the disk holds record {} and commit {} of log {}",
        acknowledged.tail, acknowledged.commit, acknowledged.log_id, found.tail, found.commit, found.log_id
    ))
}
