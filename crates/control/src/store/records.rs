//! The records of the purge log, decoded.
//!
//! A place may have been trimmed, or not be written yet: that is `None`, and mostly no trouble. A record that is there
//! and cannot be decoded is always trouble, for nobody knows what it purges. Each reader does what is safe for it:
//!
//! | reader | with an unreadable record |
//! | --- | --- |
//! | the feed | ends the process: passing over it would leave stale content behind a `completed` |
//! | a start | does not happen |
//! | completions of tasks that have left memory | are not told, and nothing after them is |
//! | a question about a task | is refused |
//! | the record at which a node says it stands | counts as another one: the node drops everything |
//! | a late report of evicted objects | is lost and counted, and its task is never shown as final |

use batoff_log::{PurgeLog, READ_BYTES_MAX, ReadError, StoreError, StoredRecord};
use batoff_types::{Cursor, Record, Seq};
use batoff_wire::{Requester, WireError};

use crate::metrics;

/// A record that is there and cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} of the purge log cannot be read: {error}")]
pub struct UnreadableRecord {
    /// Which.
    pub seq: Seq,
    /// Why.
    pub error: WireError,
}

impl From<UnreadableRecord> for StoreError {
    fn from(unreadable: UnreadableRecord) -> Self {
        Self::Corrupt(unreadable.to_string())
    }
}

/// Why a record was not found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It is there, and cannot be decoded.
    #[error(transparent)]
    Unreadable(#[from] UnreadableRecord),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Unreadable(unreadable) => unreadable.into(),
            RecordError::Store(error) => error,
        }
    }
}

/// What `body`, the record `seq`, says. One that cannot be read is counted and logged here.
pub(crate) fn decode(seq: Seq, body: &[u8]) -> Result<Record, UnreadableRecord> {
    batoff_wire::decode_record(seq, body).map_err(|error| unreadable(seq, error))
}

/// The same, and who asked for it.
pub(crate) fn requested(seq: Seq, body: &[u8]) -> Result<(Record, Option<Requester>), UnreadableRecord> {
    batoff_wire::decode_requested(seq, body).map_err(|error| unreadable(seq, error))
}

fn unreadable(seq: Seq, error: WireError) -> UnreadableRecord {
    metrics::unreadable_record();
    tracing::error!(%seq, %error, "a record of the purge log cannot be read");
    UnreadableRecord { seq, error }
}

/// The record at `seq`; `None` when it was trimmed, or is not written yet.
pub(crate) async fn record_at(log: &dyn PurgeLog, seq: Seq) -> Result<Option<Record>, RecordError> {
    match log.read(seq, 1, 1).await {
        Ok(page) => {
            let stored = page.first().filter(|stored| stored.seq == seq);
            Ok(stored.map(|stored| decode(seq, &stored.body)).transpose()?)
        }
        Err(ReadError::Trimmed { .. } | ReadError::AheadOfLog { .. }) => Ok(None),
        Err(ReadError::Store(error)) => Err(error.into()),
    }
}

/// The records from `from` through `through`, page by page.
pub(crate) fn pages(log: &dyn PurgeLog, from: Seq, through: Cursor) -> LogPages<'_> {
    LogPages { log, next: from, through }
}

/// See [`pages`].
pub(crate) struct LogPages<'a> {
    log: &'a dyn PurgeLog,
    next: Seq,
    through: Cursor,
}

impl LogPages<'_> {
    /// The next records, at least one; `None` after the last. Records that were trimmed are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<StoredRecord>>, StoreError> {
        while self.next < self.through.next() {
            let left = usize::try_from(self.through.get() - self.next.get() + 1).unwrap_or(usize::MAX);
            match self.log.read(self.next, left, READ_BYTES_MAX).await {
                Ok(page) => {
                    let Some(last) = page.last() else { break };
                    self.next = last.seq.next();
                    return Ok(Some(page));
                }
                Err(ReadError::Trimmed { first }) if first > self.next => self.next = first,
                Err(ReadError::Store(error)) => return Err(error),
                // It ended after `through` when that was asked for, and it never goes back.
                Err(error @ (ReadError::Trimmed { .. } | ReadError::AheadOfLog { .. })) => {
                    return Err(StoreError::Corrupt(error.to_string()));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::{NewRecord, Store, system_clock};
    use batoff_types::UnixMillis;

    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    /// A log of ten records that nobody can read.
    async fn ten(dir: &tempfile::TempDir) -> Arc<EmbeddedStore> {
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let noise = |byte: u8| NewRecord {
            body: vec![0xff, byte].into(),
            accepted_at: UnixMillis(0),
            task: None,
            dedupe: Vec::new(),
        };
        store.log().append((0..10).map(noise).collect()).await.unwrap();
        store
    }

    async fn seqs(log: &dyn PurgeLog, from: u64, through: u64) -> Vec<u64> {
        let mut pages = pages(log, seq(from), Cursor::new(through));
        let mut seqs = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            seqs.extend(page.iter().map(|stored| stored.seq.get()));
        }
        seqs
    }

    #[tokio::test]
    async fn a_stretch_ends_where_it_was_asked_to_and_passes_over_what_was_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ten(&dir).await;
        assert_eq!(seqs(store.log(), 3, 6).await, [3, 4, 5, 6]);
        assert_eq!(seqs(store.log(), 7, 6).await, Vec::<u64>::new());
        store.log().trim(seq(5)).await.unwrap();
        assert_eq!(seqs(store.log(), 1, 7).await, [5, 6, 7]);
        assert_eq!(seqs(store.log(), 1, 4).await, Vec::<u64>::new());
        store.close().await;
    }

    #[tokio::test]
    async fn a_log_that_ends_before_what_was_asked_for_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = ten(&dir).await;
        let mut pages = pages(store.log(), seq(12), Cursor::new(20));
        assert!(matches!(pages.next().await, Err(StoreError::Corrupt(_))));
        store.close().await;
    }

    #[tokio::test]
    async fn a_record_that_is_gone_is_none_and_one_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = ten(&dir).await;
        store.log().trim(seq(5)).await.unwrap();
        for absent in [4, 11, 12] {
            assert!(matches!(record_at(store.log(), seq(absent)).await, Ok(None)), "{absent}");
        }
        let error = record_at(store.log(), seq(7)).await.unwrap_err();
        assert!(matches!(&error, RecordError::Unreadable(unreadable) if unreadable.seq == seq(7)));
        assert!(matches!(StoreError::from(error), StoreError::Corrupt(_)));
        store.close().await;
    }
}
