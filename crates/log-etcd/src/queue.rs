//! The bounded way to the sequencer: what it may be asked for, and how it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batoff_log::{Appended, CompletionChange, NewRecord, StoreError};
use batoff_types::{TaskId, UnixMillis};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::client::RETRY_AFTER;

/// Requests that may wait for the sequencer. A further one is refused as [`StoreError::Unavailable`].
const QUEUE_REQUESTS_MAX: usize = 8_192;

/// Bytes that may wait for the sequencer. A further request is refused as [`StoreError::Unavailable`].
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a record costs in the queue and in a group beside its payload: keys, ids, the channel of its answer.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 256;

/// When to come back after the queue was full: a few commits later.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(100);

/// What the sequencer is asked for.
pub(crate) enum LogWrite {
    Append { batch: Vec<NewRecord>, waiting: WaitingCaller },
    PutCompletions { rows: Vec<(TaskId, Bytes)>, waiting: WaitingCaller },
    ChangeCompletions { changes: Vec<CompletionChange>, waiting: WaitingCaller },
    ForgetTasks { older_than: UnixMillis, waiting: WaitingCaller },
}

/// Who waits for the answer, and since when.
pub(crate) struct WaitingCaller {
    since: Instant,
    bytes: usize,
    queued_bytes: Arc<AtomicUsize>,
    reply: oneshot::Sender<Result<WriteAnswer, StoreError>>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum WriteAnswer {
    Appended(Vec<Appended>),
    Done,
    Changed(Vec<bool>),
    Forgotten(u64),
}

impl LogWrite {
    pub(crate) fn records(&self) -> usize {
        match self {
            Self::Append { batch, .. } => batch.len(),
            Self::PutCompletions { rows, .. } => rows.len(),
            Self::ChangeCompletions { changes, .. } => changes.len(),
            Self::ForgetTasks { .. } => 1,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.waiting().bytes
    }

    /// Since when somebody waits for it.
    pub(crate) fn since(&self) -> Instant {
        self.waiting().since
    }

    /// Forgetting is decided on what is in the index, so nothing may come before it in the same group.
    pub(crate) fn wants_a_group_of_its_own(&self) -> bool {
        matches!(self, Self::ForgetTasks { .. })
    }

    /// Answers. Whoever asked may have gone; that is no concern of ours.
    pub(crate) fn answer(self, answer: Result<WriteAnswer, StoreError>) {
        let waiting = match self {
            Self::Append { waiting, .. }
            | Self::PutCompletions { waiting, .. }
            | Self::ChangeCompletions { waiting, .. }
            | Self::ForgetTasks { waiting, .. } => waiting,
        };
        waiting.queued_bytes.fetch_sub(waiting.bytes, Ordering::Relaxed);
        let _ = waiting.reply.send(answer);
    }

    fn waiting(&self) -> &WaitingCaller {
        match self {
            Self::Append { waiting, .. }
            | Self::PutCompletions { waiting, .. }
            | Self::ChangeCompletions { waiting, .. }
            | Self::ForgetTasks { waiting, .. } => waiting,
        }
    }
}

/// The way to the sequencer.
#[derive(Clone)]
pub(crate) struct WriteQueue {
    requests: mpsc::Sender<LogWrite>,
    queued_bytes: Arc<AtomicUsize>,
}

impl WriteQueue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<LogWrite>) {
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        (Self { requests, queued_bytes: Arc::default() }, receiver)
    }

    /// Sends a request of so many bytes and waits for its answer. Refuses at once when too much is waiting.
    pub(crate) async fn ask(
        &self,
        bytes: usize,
        request: impl FnOnce(WaitingCaller) -> LogWrite,
    ) -> Result<WriteAnswer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = WaitingCaller {
            since: Instant::now(),
            bytes,
            queued_bytes: Arc::clone(&self.queued_bytes),
            reply,
        };
        let request = request(waiting);
        if before > 0 && before.saturating_add(bytes) > QUEUE_BYTES_MAX {
            request.answer(Err(StoreError::Unavailable { retry_after: QUEUE_FULL_RETRY }));
        } else {
            match self.requests.try_send(request) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(request)) => {
                    request.answer(Err(StoreError::Unavailable { retry_after: QUEUE_FULL_RETRY }));
                }
                Err(mpsc::error::TrySendError::Closed(request)) => {
                    request.answer(Err(StoreError::Unavailable { retry_after: RETRY_AFTER }));
                }
            }
        }
        answer.await.unwrap_or(Err(StoreError::Unknown { retry_after: RETRY_AFTER }))
    }
}
