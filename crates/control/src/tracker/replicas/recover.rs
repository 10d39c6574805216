//! What a start finds of several control planes.

use batoff_delivery::{SetHistory, Statements};
use batoff_log::{Kv, LogState, Store, StoreError};
use batoff_types::{Body, Cursor, Moment, Replica, ReplicaSet};

use super::quorum::Quorum;
use super::rows;
use crate::store::records::{decode, pages};

/// The sets of replicas through the log's tail, `first` being that of a new log: those that somebody has saved, and those in the records after `seen`,
/// through which this replica has saved what it saw.
pub(in crate::tracker) async fn sets(
    store: &dyn Store,
    first: &ReplicaSet,
    seen: Cursor,
    log: &LogState,
) -> Result<SetHistory, StoreError> {
    let mut later = Vec::new();
    let mut pages = pages(store.log(), seen.next().max(log.first), log.tail);
    while let Some(page) = pages.next().await? {
        for stored in page {
            let record = decode(stored.seq, &stored.body)?;
            if let Body::ReplicaSet(set) = record.body {
                later.push((record.seq, set));
            }
        }
    }
    // Afterwards: what was trimmed meanwhile was saved before.
    let mut sets = rows::sets(store.kv(), first).await?;
    later.into_iter().for_each(|(seq, set)| sets.handle_set(seq, set));
    Ok(sets)
}

/// What is known of completions now, with the log known through `tail`. What became of tasks through `stored` is in their rows.
pub(in crate::tracker) async fn quorum(
    kv: &dyn Kv,
    now: Moment,
    own: Replica,
    sets: SetHistory,
    (tail, stored): (Cursor, Cursor),
) -> Result<Quorum, StoreError> {
    let row = rows::done(kv).await?.map(|(row, _)| row);
    let done = row.as_ref().map(|row| Cursor::new(row.through)).unwrap_or_default();
    let mut quorum = Quorum::among(own, Statements::new(sets, tail, Cursor::START), stored.min(done));
    if let Some(row) = row {
        quorum.handle_done(now, &row, false);
    }
    Ok(quorum)
}
