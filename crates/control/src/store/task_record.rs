//! A task's record, as its row in the log keeps it.

use batoff_log::{RECORD_BYTES_MAX, Store, StoreError, TaskRow};
use batoff_types::{Body, Purge, Record};
use bytes::Bytes;

use super::records;

/// Rows that have left the log's retention still say what was purged, so a row holds the record once more. A record
/// over this many bytes (hundreds of very long URLs) does not fit twice: its row says only that, and its items can be
/// shown as long as the log has it.
const META_BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// What a task's row is to hold beside the record `body`.
pub(crate) fn meta_of(body: &Bytes) -> Bytes {
    if body.len() < META_BYTES_MAX { body.clone() } else { Bytes::new() }
}

/// The record of a task and the purge in it; `None` when neither the row nor the log has it any more.
pub(crate) async fn of_row(store: &dyn Store, row: &TaskRow) -> Result<Option<(Record, Purge)>, StoreError> {
    let record = if row.meta.is_empty() {
        records::record_at(store.log(), row.seq).await?
    } else {
        Some(records::decode(row.seq, &row.meta)?)
    };
    Ok(record.and_then(|record| match &record.body {
        Body::Purge(purge) => {
            let purge = purge.clone();
            Some((record, purge))
        }
        _ => None,
    }))
}
