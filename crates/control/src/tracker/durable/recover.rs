//! What a start does before anything else: a new term, the nodes as they are known, and the tasks that may be open.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{LeaseTimes, PURGE_TARGET, Recovered, RecoveredNode, Roster};
use batoff_log::{LogState, Store, StoreError, TaskRow};
use batoff_types::{Body, Cursor, Moment, NodeName, Record, Seq, SiteChange, Term, UnixMillis};

use super::learn::learn;
use super::saved::{OwnRows, Through};
use crate::catalog::Catalog;
use crate::seat::Tenure;
use crate::store::records::{decode, pages};
use crate::tracker::nodes::roll::Roll;
use crate::tracker::replicas;
use crate::tracker::replicas::quorum::Quorum;
use crate::tracker::replicas::several::Several;
use crate::tracker::sla::ledger::{Judged, Recount, SlaLedger};
use crate::tracker::state::State;
use crate::tracker::tasks::memory::Tasks;
use crate::tracker::tasks::progress::TaskProgress;

/// Everything that a start finds.
pub(in crate::tracker) struct Recovery {
    pub state: State,
    pub through: Through,
    /// Durable now; to be lowered to the configured lease once older leases have run out, if it is longer.
    pub lease_max: Duration,
}

/// Reads what is durable, replays the log after it into the catalog and the roll, and puts open tasks back into memory.
pub(in crate::tracker) async fn recover(
    (store, tenure): (&Arc<dyn Store>, &Tenure),
    catalog: &Catalog,
    log: &LogState,
    times: LeaseTimes,
    several: Option<Several>,
    (now, wall): (Moment, UnixMillis),
    live_max: usize,
) -> Result<Recovery, StoreError> {
    let own = OwnRows::new(store.kv(), tenure);
    let rows = own.nodes().await?;
    let is_restored = !rows.is_empty() && !own.are_rows_of(log.log_id).await?;
    if is_restored {
        tracing::warn!(
            log_id = %log.log_id, nodes = rows.len(),
            "what is recorded of nodes is of another log: each counts as one that may serve until it connects, and purges stay partial until then"
        );
    }
    // Nodes believe no term that is lower than one they have seen, and the backup does not know what they have seen. No log
    // has had so many starts.
    let term = match tenure.term() {
        Some(term) => term,
        None => own.next_term(if is_restored { Term(wall.0) } else { Term(0) }).await?,
    };
    // A longer lease than the backup knows of may have been granted since; but never one that breaks the target.
    let known_max = if is_restored { Some(PURGE_TARGET) } else { own.lease_max().await? };
    let lease_max = known_max.unwrap_or_default().max(times.lease);
    if is_restored || known_max != Some(lease_max) {
        own.set_lease_max(lease_max).await?;
    }
    let through = own.through().await?;
    let mut roll = Roll::default();
    // For the roster, which keeps them from then on.
    let mut confirmed: HashMap<NodeName, Cursor> = HashMap::with_capacity(rows.len());
    for (name, mut row, cursor) in rows {
        if is_restored {
            // A node that has turned available since would be counted as one that stops without a lease.
            (row.policy, row.parents) = (None, None);
            own.set_node(&name, Some(&row)).await?;
        }
        confirmed.insert(name.clone(), cursor.min(log.tail));
        roll.restore(name, row);
    }
    // Last: a start that ends before this does all of it again.
    if is_restored || !own.are_rows_of(log.log_id).await? {
        own.set_rows_of(log.log_id).await?;
    }
    let tail = log.tail;
    let completed = Cursor::new(through.completed).min(tail);
    let counted = Cursor::new(through.sla).min(completed);
    let mut seen = Cursor::new(through.nodes);
    if tenure.has_seat() && seen.next() < log.first {
        seen = learn(&mut roll, store.kv(), tenure.replica(), seen, log).await?;
    }
    let known = seen.min(catalog.saved_through());
    let from = counted.min(known).next().max(log.first);
    let replayed =
        replay(store, catalog, &mut roll, ReplayRange { from, tail, counted, completed, live_max }).await?;
    // Another replica may have trimmed meanwhile what was to be read; it has looked at the rows of before.
    if tenure.has_seat() && store.log().state().await?.first > known.next().max(log.first) {
        return Err(StoreError::Unavailable { retry_after: TRIMMED_RETRY });
    }

    let nodes = roll
        .rows()
        .map(|(name, row)| RecoveredNode {
            name: name.clone(),
            registered: row.registered,
            confirmed: confirmed.remove(name).unwrap_or(Cursor::START),
            policy: row.policy,
            parents: row.parents.clone(),
            removed: row.removed.is_some(),
        })
        .collect();
    let alone = several.is_none();
    let quorum = match several {
        None => Quorum::alone(tail, completed),
        Some(Several { own, first, .. }) => {
            let seen = Cursor::new(through.nodes);
            let sets = replicas::recover::sets(store.as_ref(), &first, seen, log).await?;
            replicas::recover::quorum(store.kv(), now, own, sets, (tail, completed)).await?
        }
    };
    // What all together have completed is no word of this one's.
    let own_word = if alone { completed } else { Cursor::START };
    let max_lease_granted = known_max.unwrap_or_default();
    let roster =
        Roster::new(times, now, Recovered { tail, term, max_lease_granted, completed: own_word, nodes });
    let overdue_from = if alone { roster.watermark() } else { completed };
    let tasks = Tasks::new(live_max, replayed.spilled.max(completed), overdue_from);
    let ledger = if alone { replayed.ledger } else { SlaLedger::shared() };
    let mut state = State::new(roster, quorum, roll, ledger, tasks);
    for (record, known) in replayed.open {
        state.restore(&record, known, now);
    }
    Ok(Recovery { state, through, lease_max })
}

/// When to start again, after records were trimmed that were to be read.
const TRIMMED_RETRY: Duration = Duration::from_secs(1);

struct ReplayRange {
    from: Seq,
    tail: Cursor,
    /// Tasks through here are counted for the SLA.
    counted: Cursor,
    /// Tasks through here are completed.
    completed: Cursor,
    live_max: usize,
}

struct Replayed {
    open: Vec<(Record, Option<TaskProgress>)>,
    /// Some open tasks through here found no room in memory.
    spilled: Cursor,
    ledger: SlaLedger,
}

async fn replay(
    store: &Arc<dyn Store>,
    catalog: &Catalog,
    roll: &mut Roll,
    ReplayRange { from, tail, counted, completed, live_max }: ReplayRange,
) -> Result<Replayed, StoreError> {
    let mut spilled = Cursor::START;
    let mut recount = Recount::default();
    let mut open: BTreeMap<Seq, (Record, Option<TaskProgress>)> = BTreeMap::new();
    let mut pages = pages(store.log(), from, tail);
    while let Some(page) = pages.next().await? {
        let mut through = Cursor::START;
        let mut changes: Vec<(Seq, SiteChange)> = Vec::new();
        for stored in page {
            through = Cursor::after(stored.seq);
            let record = decode(stored.seq, &stored.body)?;
            match &record.body {
                Body::Site(change) => changes.push((record.seq, change.clone())),
                Body::NodeRegistered(name) => {
                    roll.handle_registered(name, record.seq);
                }
                Body::NodeRemoved(name) => {
                    roll.handle_removed(name, record.seq);
                }
                Body::Purge(purge) if !counted.covers(record.seq) => {
                    let Some(row) = store.log().find_task(record.task).await? else { continue };
                    let known = row.completion.as_deref().and_then(TaskProgress::decode);
                    let done = known.as_ref().and_then(|known| done(&row, known));
                    recount
                        .handle(store.kv(), &purge.site, record.seq, row.accepted_at, done.as_ref())
                        .await?;
                    if done.is_some() || completed.covers(record.seq) {
                        continue;
                    }
                    open.insert(record.seq, (record, known));
                    // Older open tasks are resolved from the log when their time comes.
                    if open.len() > live_max
                        && let Some((seq, _)) = open.pop_first()
                    {
                        spilled = Cursor::after(seq);
                    }
                }
                Body::Purge(_) | Body::ReplicaSet(_) | Body::Unknown => {}
            }
        }
        catalog.handle_records(changes.iter().map(|(seq, change)| (*seq, change)), through);
    }
    catalog.handle_records([], tail);
    Ok(Replayed { open: open.into_values().collect(), spilled, ledger: recount.finish() })
}

fn done(row: &TaskRow, known: &TaskProgress) -> Option<Judged> {
    let (_, took) = known.completed?;
    Some(Judged::new(row, Duration::from_millis(took), known.late.clone(), &known.slow))
}
