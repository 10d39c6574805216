//! What a log consists of when it moves from one engine to another, and whether two engines hold the same.
//!
//! ```text
//!  outline   log id, first, tail · rows of tasks with what became of them · keys of requests that have not expired
//!  parts     pairs, by key … records, by number … end
//! ```
//!
//! The outline lies in memory, as an engine with sockets keeps it there anyway; records and pairs pass by one after the
//! other. Numbers, ids and times stay what they are, so whoever follows the log by a cursor need not notice the move.

use std::collections::BTreeMap;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::kv::Key;
use crate::purge_log::{LogState, StoredRecord, TaskRow};

/// Parts that wait between whoever reads a log and whoever writes it.
const PARTS_WAITING: usize = 32;

/// A pair beside the log, with all that an engine keeps of it but its version, which is each engine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPair {
    /// Its key.
    pub key: Key,
    /// Its value, opaque.
    pub value: Bytes,
    /// When it is forgotten; `None`: never.
    pub expires_at: Option<UnixMillis>,
}

/// A key by which a repeat of an accepted request is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MovedKey {
    /// A hash of the scope and the token with the signature or the idempotency key.
    pub key: [u8; 32],
    /// A hash of the request's body.
    pub body_hash: [u8; 32],
    /// When the request came first.
    pub first_at: UnixMillis,
    /// From when on it is as if it had never been seen.
    pub expires_at: UnixMillis,
    /// The task that a repeat is answered with.
    pub task: TaskId,
}

/// All that must be known of a log before its records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOutline {
    /// Which log, from where to where.
    pub state: LogState,
    /// Rows of tasks, with completions, by the number of their record, trimmed or not.
    pub tasks: BTreeMap<Seq, TaskRow>,
    /// Keys of requests by the number of the record that they were stored with, each time in order.
    pub keys: BTreeMap<Seq, Vec<MovedKey>>,
}

impl LogOutline {
    /// The same without keys that have expired at `now`.
    #[must_use]
    pub fn without_expired(mut self, now: UnixMillis) -> Self {
        self.keys.values_mut().for_each(|keys| keys.retain(|key| now < key.expires_at));
        self.keys.retain(|_, keys| !keys.is_empty());
        self
    }
}

/// What passes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// A pair. They come first, by their keys.
    Pair(MovedPair),
    /// A record from `first` on, in order.
    Record(StoredRecord),
    /// There is nothing more: what ends without it was cut off.
    End,
}

/// Why a log did not move.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It cannot be read to its end.
    #[error("the log cannot be read: {0}")]
    Read(String),
    /// What was written is not what was read.
    #[error("the copy is not the same log: {0}; nothing starts on it, move it again")]
    Differs(String),
}

/// Where the parts of a log are put.
#[derive(Clone, Debug)]
pub struct PartsSender(mpsc::Sender<Result<LogPart, MoveError>>);

/// Where they are taken from. Dropped, it ends whoever puts them.
#[derive(Debug)]
pub struct LogParts {
    waiting: mpsc::Receiver<Result<LogPart, MoveError>>,
    /// Pairs that expire before or at this time are passed over.
    expired_at: Option<UnixMillis>,
}

/// A way from whoever reads a log to whoever writes it.
pub fn parts() -> (PartsSender, LogParts) {
    let (sender, waiting) = mpsc::channel(PARTS_WAITING);
    (PartsSender(sender), LogParts { waiting, expired_at: None })
}

impl PartsSender {
    /// Puts a part; false when nobody takes any.
    pub async fn put(&self, part: Result<LogPart, MoveError>) -> bool {
        self.0.send(part).await.is_ok()
    }

    /// The same, on a thread that may block.
    pub fn put_blocking(&self, part: Result<LogPart, MoveError>) -> bool {
        self.0.blocking_send(part).is_ok()
    }
}

impl LogParts {
    /// The next part.
    ///
    /// # Errors
    /// It cannot be read, or whoever read has ended before the end.
    pub async fn next(&mut self) -> Result<LogPart, MoveError> {
        loop {
            let part = self.waiting.recv().await.unwrap_or_else(|| Err(cut_off()))?;
            if !self.passes_over(&part) {
                return Ok(part);
            }
        }
    }

    /// The same, on a thread that may block.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_blocking(&mut self) -> Result<LogPart, MoveError> {
        loop {
            let part = self.waiting.blocking_recv().unwrap_or_else(|| Err(cut_off()))?;
            if !self.passes_over(&part) {
                return Ok(part);
            }
        }
    }

    /// The same without pairs that have expired at `now`: a store that is open drops them by and by.
    #[must_use]
    pub fn without_expired(self, now: UnixMillis) -> Self {
        Self { expired_at: Some(now), ..self }
    }

    fn passes_over(&self, part: &LogPart) -> bool {
        match (part, self.expired_at) {
            (LogPart::Pair(pair), Some(now)) => pair.expires_at.is_some_and(|at| at <= now),
            _ => false,
        }
    }
}

fn cut_off() -> MoveError {
    MoveError::Read("it ended before its end".to_owned())
}

/// How much there is of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovedCounts {
    /// Records that can be read.
    pub records: u64,
    /// Tasks, those of trimmed records among them.
    pub tasks: u64,
    /// Keys of requests that have not expired.
    pub keys: u64,
    /// Pairs beside the log.
    pub pairs: u64,
}

/// Reads two logs to their ends and compares everything: each record, row, key and pair, not sums of them.
///
/// # Errors
/// One cannot be read, or something differs; it is named.
pub async fn compare(
    (one, mut of_one): (&LogOutline, LogParts),
    (other, mut of_other): (&LogOutline, LogParts),
) -> Result<MovedCounts, MoveError> {
    let differs = |what: String| Err(MoveError::Differs(what));
    if one.state != other.state {
        return differs(format!("one is {:?}, the other {:?}", one.state, other.state));
    }
    if let Some(seq) = first_difference(&one.tasks, &other.tasks) {
        return differs(format!("the task of record {seq}"));
    }
    if let Some(seq) = first_difference(&one.keys, &other.keys) {
        return differs(format!("the keys of record {seq}"));
    }
    let mut counts = MovedCounts {
        tasks: one.tasks.len() as u64,
        keys: one.keys.values().map(|keys| keys.len() as u64).sum(),
        ..MovedCounts::default()
    };
    let mut next = one.state.first;
    loop {
        let (part, twin) = (of_one.next().await?, of_other.next().await?);
        if part != twin {
            return differs(format!("{} and {}", name_of(&part), name_of(&twin)));
        }
        match part {
            LogPart::Pair(_) => counts.pairs += 1,
            LogPart::Record(record) if record.seq == next => {
                next = next.next();
                counts.records += 1;
            }
            LogPart::Record(record) => {
                return differs(format!("record {next} is missing before {}", record.seq));
            }
            LogPart::End if next == one.state.tail.next() => return Ok(counts),
            LogPart::End => return differs(format!("record {next} is missing")),
        }
    }
}

fn first_difference<T: PartialEq>(one: &BTreeMap<Seq, T>, other: &BTreeMap<Seq, T>) -> Option<Seq> {
    let of_one = one.iter().find(|(seq, row)| other.get(seq) != Some(row));
    of_one.map(|(seq, _)| *seq).or_else(|| other.keys().find(|seq| !one.contains_key(seq)).copied())
}

fn name_of(part: &LogPart) -> String {
    match part {
        LogPart::Pair(pair) => format!("pair {:?}", pair.key),
        LogPart::Record(record) => format!("record {}", record.seq),
        LogPart::End => "the end".to_owned(),
    }
}
