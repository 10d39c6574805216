//! What a start does before anything else: a new term, the nodes as they are known, and the tasks that may be open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{LeaseTimes, Recovered, RecoveredNode, Roster};
use batoff_log::{LogState, ReadError, Store, StoreError};
use batoff_types::{Body, Cursor, Moment, NodeName, Record, Seq, SiteChange, TaskId};

use super::progress::Progress;
use super::roll::{NodeRow, Roll};
use super::saved::{self, Through};
use super::state::State;
use crate::catalog::Catalog;

/// Everything that a start finds.
pub(super) struct Found {
    pub state: State,
    pub through: Through,
    /// Durable now; to be lowered to the configured lease once older leases have run out, if it is longer.
    pub lease_max: Duration,
}

/// Reads what is durable, replays the log after it into the catalog and the roll, and puts open tasks back into memory.
pub(super) async fn recover(
    store: &Arc<dyn Store>,
    catalog: &Catalog,
    log: &LogState,
    times: LeaseTimes,
    now: Moment,
    live_max: usize,
) -> Result<Found, StoreError> {
    let kv = store.kv();
    let term = saved::next_term(kv).await?;
    let known_max = saved::lease_max(kv).await?;
    let lease_max = known_max.unwrap_or_default().max(times.lease);
    if known_max != Some(lease_max) {
        saved::set_lease_max(kv, lease_max).await?;
    }
    let through = saved::through(kv).await?;
    let mut roll = Roll::default();
    for (name, row, confirmed) in saved::nodes(kv).await? {
        roll.restore(name, row, confirmed);
    }
    let tail = log.tail;
    let completed = Cursor::new(through.completed).min(tail);
    let needed = completed.min(Cursor::new(through.nodes)).min(catalog.saved_through());
    let (open, spilled) =
        replay(store, catalog, &mut roll, needed.next().max(log.first), tail, completed, live_max).await?;

    let nodes =
        roll.iter().map(|(name, entry)| recovered_node(name, &entry.row, entry.confirmed, tail)).collect();
    let roster = Roster::new(
        times,
        now,
        Recovered { tail, term, max_lease_granted: known_max.unwrap_or_default(), completed, nodes },
    );
    let mut state = State::new(roster, roll, live_max, spilled.max(completed));
    for (record, known) in open {
        state.restore(&record, known, now);
    }
    Ok(Found { state, through, lease_max })
}

fn recovered_node(name: &NodeName, row: &NodeRow, confirmed: Cursor, tail: Cursor) -> RecoveredNode {
    RecoveredNode {
        name: name.clone(),
        registered: row.registered,
        confirmed: confirmed.min(tail),
        policy: row.policy,
        removed: row.removed.is_some(),
    }
}

async fn replay(
    store: &Arc<dyn Store>,
    catalog: &Catalog,
    roll: &mut Roll,
    from: Seq,
    tail: Cursor,
    completed: Cursor,
    live_max: usize,
) -> Result<(Vec<(Record, Option<Progress>)>, Cursor), StoreError> {
    let mut next = from;
    let mut spilled = Cursor::START;
    let mut open: BTreeMap<Seq, (Record, Option<Progress>)> = BTreeMap::new();
    while next < tail.next() {
        let page =
            match store.log().read(next, batoff_log::READ_RECORDS_MAX, batoff_log::READ_BYTES_MAX).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => page,
                Err(ReadError::Trimmed { first }) if first > next => {
                    next = first;
                    continue;
                }
                Err(ReadError::Store(error)) => return Err(error),
                Err(error) => return Err(StoreError::Corrupt(error.to_string())),
            };
        let mut changes: Vec<(Seq, SiteChange)> = Vec::new();
        for stored in page {
            next = stored.seq.next();
            let record = batoff_wire::decode_record(stored.seq, &stored.body)
                .map_err(|error| StoreError::Corrupt(format!("record {}: {error}", stored.seq)))?;
            match &record.body {
                Body::Site(change) => changes.push((record.seq, change.clone())),
                Body::NodeRegistered(name) => {
                    roll.handle_registered(name, record.seq);
                }
                Body::NodeRemoved(name) => {
                    roll.handle_removed(name, record.seq);
                }
                Body::Purge(_) if !completed.covers(record.seq) => {
                    if let Some(known) = open_progress(store, record.task).await? {
                        open.insert(record.seq, (record, known));
                    }
                    // Older open tasks are resolved from the log when their time comes.
                    if open.len() > live_max
                        && let Some((seq, _)) = open.pop_first()
                    {
                        spilled = Cursor::after(seq);
                    }
                }
                Body::Purge(_) | Body::Unknown => {}
            }
        }
        let through = Cursor::before(next);
        catalog.handle_records(changes.iter().map(|(seq, change)| (*seq, change)), through);
    }
    catalog.handle_records([], tail);
    Ok((open.into_values().collect(), spilled))
}

/// What is known of a task that is not completed; `None` when it is, or is not known at all.
async fn open_progress(store: &Arc<dyn Store>, task: TaskId) -> Result<Option<Option<Progress>>, StoreError> {
    let Some(row) = store.log().find_task(task).await? else { return Ok(None) };
    let known = row.completion.as_deref().and_then(Progress::decode);
    let done = known.as_ref().is_some_and(|known| known.completed.is_some());
    Ok((!done).then_some(known))
}
