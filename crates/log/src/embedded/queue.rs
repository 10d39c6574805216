//! The bounded way to the writer: what it may be asked for, and how it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::fault::unavailable;
use super::shared::Shared;
use crate::error::StoreError;
use crate::kv::{Expect, Guard, GuardedError, Key, Version, Write};
use crate::purge_log::{Appended, CompletionChange, Dedupe, NewRecord};

/// Requests that may wait for the writer. A further one is refused as [`StoreError::Unavailable`].
pub(super) const QUEUE_REQUESTS_MAX: usize = 8_192;

/// Bytes that may wait for the writer. A further request is refused as [`StoreError::Unavailable`].
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a record costs in the queue beside its payload: keys, ids, the channel of its answer.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 256;

/// When to come back after the queue was full: a few commits later.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(100);

/// When to repeat a request whose outcome is not known.
pub(super) const UNKNOWN_RETRY: Duration = Duration::from_millis(200);

pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, StoreError>>;

/// How far a bounded piece of forgetting came.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForgottenPiece {
    pub(super) forgotten: u64,
    /// Where the next piece begins; `None` when there is nothing more to forget.
    pub(super) next: Option<u64>,
}

/// What the writer is asked for.
pub(super) enum Request {
    Append {
        batch: Vec<NewRecord>,
        bytes: usize,
        reply: ReplyTo<Vec<Appended>>,
    },
    Recognise {
        keys: Vec<Dedupe>,
        reply: ReplyTo<Option<Appended>>,
    },
    Trim {
        keep_from: Seq,
        reply: ReplyTo<Seq>,
    },
    PutCompletions {
        rows: Vec<(TaskId, Bytes)>,
        bytes: usize,
        reply: ReplyTo<()>,
    },
    ChangeCompletions {
        changes: Vec<CompletionChange>,
        bytes: usize,
        reply: ReplyTo<Vec<bool>>,
    },
    ForgetTasks {
        older_than: UnixMillis,
        from: u64,
        reply: ReplyTo<ForgottenPiece>,
    },
    Cas {
        key: Key,
        expect: Expect,
        write: Write,
        guard: Option<Guard>,
        reply: ReplyTo<Result<Version, GuardedError>>,
    },
    /// A read of this opening of the file failed: open it again.
    Mend {
        opening: u64,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

impl Request {
    pub(super) fn records(&self) -> usize {
        match self {
            Self::Append { batch, .. } => batch.len(),
            _ => 1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. }
            | Self::PutCompletions { bytes, .. }
            | Self::ChangeCompletions { bytes, .. } => *bytes,
            Self::Cas { key, write: Write::Put { value, .. }, .. } => key.as_bytes().len() + value.len(),
            _ => 0,
        }
    }

    /// Answers a request that was not carried out. Whoever asked may have gone: that is no concern of ours, here and
    /// in [`HeldAnswer`].
    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Append { reply, .. } => drop(reply.send(Err(error))),
            Self::Recognise { reply, .. } => drop(reply.send(Err(error))),
            Self::Trim { reply, .. } => drop(reply.send(Err(error))),
            Self::PutCompletions { reply, .. } => drop(reply.send(Err(error))),
            Self::ChangeCompletions { reply, .. } => drop(reply.send(Err(error))),
            Self::ForgetTasks { reply, .. } => drop(reply.send(Err(error))),
            Self::Cas { reply, .. } => drop(reply.send(Err(error))),
            Self::Mend { .. } => {}
            Self::Close { reply } => drop(reply.send(())),
        }
    }
}

/// The answer to a request that was carried out and is not yet durable.
pub(super) struct HeldAnswer(Box<dyn FnOnce(Result<(), StoreError>) + Send>);

impl HeldAnswer {
    pub(super) fn new<T: Send + 'static>(reply: ReplyTo<T>, value: T) -> Self {
        Self(Box::new(move |outcome| drop(reply.send(outcome.map(|()| value)))))
    }

    /// For a request that made its group fail.
    pub(super) fn of_failed<T: Send + 'static>(reply: ReplyTo<T>) -> Self {
        Self(Box::new(move |outcome| {
            let error = outcome.err().unwrap_or(StoreError::Unknown { retry_after: UNKNOWN_RETRY });
            drop(reply.send(Err(error)));
        }))
    }

    /// It is durable, or failed so.
    pub(super) fn give(self, outcome: Result<(), StoreError>) {
        (self.0)(outcome);
    }
}

/// The way to the writer.
#[derive(Clone)]
pub(super) struct RequestQueue {
    pub(super) requests: SyncSender<Request>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) shared: Arc<Shared>,
}

impl RequestQueue {
    /// Sends a request and waits for its answer.
    pub(super) async fn ask<T>(&self, request: impl FnOnce(ReplyTo<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply))?;
        answer.await.unwrap_or(Err(StoreError::Unknown { retry_after: UNKNOWN_RETRY }))
    }

    /// Sends a request unless the queue is full; never waits.
    pub(super) fn send(&self, request: Request) -> Result<(), StoreError> {
        self.shared.check_running()?;
        let bytes = request.bytes();
        let waiting = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if waiting.saturating_add(bytes) > QUEUE_BYTES_MAX && waiting > 0 {
            Err(StoreError::Unavailable { retry_after: QUEUE_FULL_RETRY })
        } else {
            self.requests.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Unavailable { retry_after: QUEUE_FULL_RETRY },
                TrySendError::Disconnected(_) => unavailable(),
            })
        };
        if sent.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }

    /// Says that a read of this opening of the file failed. The next read that fails repeats it if this one is lost.
    pub(super) fn mend(&self, opening: u64) {
        let _ = self.send(Request::Mend { opening });
    }
}
