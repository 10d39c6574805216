//! What the log says next, told to everyone who needs it, in the right order.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{ReadError, Store, StoredRecord};
use batoff_types::{Body, Cursor, Record};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::hub::Hub;
use crate::store::records::{UnreadableRecord, decode};
use crate::tracker::Tracker;

/// How long to wait before the log is followed anew after it failed.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Follows the log and tells every record to catalog, tracker and hub, in that order: whose a hostname is must be known
/// before a purge is checked against it, and the tracker must know a record before any node can acknowledge it.
pub struct Feed {
    /// Where the records come from.
    pub store: Arc<dyn Store>,
    /// Told first.
    pub catalog: Arc<Catalog>,
    /// Told second.
    pub tracker: Arc<Tracker>,
    /// Told last; it wakes the streams.
    pub hub: Arc<Hub>,
}

/// The log cannot be followed any further; the process must not go on as if it could.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A record cannot be read. Skipping it would leave stale content behind a `completed`.
    #[error(transparent)]
    Unreadable(#[from] UnreadableRecord),
    /// Records are gone that were not told yet.
    #[error("the purge log does not continue where it was followed to: {0}")]
    Gap(ReadError),
}

impl Feed {
    /// Follows from `from` on until `stopping` is cancelled.
    pub async fn run(self, from: Cursor, stopping: CancellationToken) -> Result<(), FeedError> {
        let mut place = from;
        loop {
            let mut tail = self.store.log().tail(place.next());
            loop {
                let item = tokio::select! {
                    item = tail.next() => item,
                    () = stopping.cancelled() => return Ok(()),
                };
                match item {
                    Some(Ok(records)) => place = self.tell(place, &records)?,
                    Some(Err(ReadError::Store(error))) => {
                        tracing::error!(%error, "the purge log cannot be followed; trying again");
                        break;
                    }
                    Some(Err(gone)) => return Err(FeedError::Gap(gone)),
                    None => break,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                () = stopping.cancelled() => return Ok(()),
            }
        }
    }

    fn tell(&self, place: Cursor, stored: &[StoredRecord]) -> Result<Cursor, FeedError> {
        let mut records: Vec<Record> = Vec::with_capacity(stored.len());
        for (expected, one) in (place.get() + 1..).zip(stored) {
            debug_assert_eq!(one.seq.get(), expected, "I3: the log has a gap");
            records.push(decode(one.seq, &one.body)?);
        }
        let through = records.last().map_or(place, |record| Cursor::after(record.seq));
        let changes = records.iter().filter_map(|record| match &record.body {
            Body::Site(change) => Some((record.seq, change)),
            _ => None,
        });
        self.catalog.handle_records(changes, through);
        self.tracker.handle_records(&records);
        self.hub.push(stored.iter().map(|one| one.body.clone()));
        Ok(through)
    }
}
