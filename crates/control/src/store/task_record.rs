//! A task's record, as its row in the log keeps it.

use batoff_log::{RECORD_BYTES_MAX, ReadError, Store, StoreError, TaskRow};
use batoff_types::{Body, Purge, Record};
use bytes::Bytes;

/// Rows that have left the log's retention still say what was purged, so a row holds the record once more. A record
/// over this many bytes (hundreds of very long URLs) does not fit twice: its row says only that, and its items can be
/// shown as long as the log has it.
const META_BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// What a task's row is to hold beside the record `body`.
pub fn meta_of(body: &Bytes) -> Bytes {
    if body.len() < META_BYTES_MAX { body.clone() } else { Bytes::new() }
}

/// The record of a task and the purge in it; `None` when neither the row nor the log has it any more.
pub async fn of_row(store: &dyn Store, row: &TaskRow) -> Result<Option<(Record, Purge)>, StoreError> {
    let read;
    let bytes = if row.meta.is_empty() {
        read = match store.log().read(row.seq, 1, 1).await {
            Ok(page) => page.into_iter().next().map(|stored| stored.body).unwrap_or_default(),
            Err(ReadError::Trimmed { .. } | ReadError::AheadOfLog { .. }) => return Ok(None),
            Err(ReadError::Store(error)) => return Err(error),
        };
        &read
    } else {
        &row.meta
    };
    let record = batoff_wire::decode_record(row.seq, bytes)
        .map_err(|error| StoreError::Corrupt(format!("task {}: {error}", row.task)))?;
    Ok(match &record.body {
        Body::Purge(purge) => {
            let purge = purge.clone();
            Some((record, purge))
        }
        _ => None,
    })
}
