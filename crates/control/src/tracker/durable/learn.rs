//! What a replica takes from another one's rows when its own do not reach back to where the log begins.
//!
//! Only what the log has said, in records that were trimmed: which nodes were registered, and which removed. What nodes have
//! said of themselves, and how far they are, each replica has to hear itself: until then such a node counts as one that may
//! serve, and has confirmed nothing.

use batoff_log::{Kv, LogState, StoreError};
use batoff_types::{Cursor, Replica};

use super::saved::{nodes_of, through_of};
use crate::seat::PLACES;
use crate::store::rows::all_under;
use crate::tracker::nodes::roll::Roll;

/// Takes in what another replica's rows say, and returns the place through which the log need not be read for the sake of
/// nodes. `seen` is that of the own rows, which end before the log begins.
pub(super) async fn learn(
    roll: &mut Roll,
    kv: &dyn Kv,
    own: Replica,
    seen: Cursor,
    log: &LogState,
) -> Result<Cursor, StoreError> {
    let mut best: Option<(Cursor, Replica)> = None;
    for replica in others(kv, own).await? {
        // Before the rows: they were written before it said so.
        let through = Cursor::new(through_of(kv, replica).await?.nodes);
        best = best.max(Some((through, replica)));
    }
    let Some((through, replica)) = best.filter(|(through, _)| through.next() >= log.first) else {
        return Err(StoreError::Corrupt(format!(
            "its records before {} were trimmed, and no replica has recorded which nodes were registered in those after {seen}",
            log.first
        )));
    };
    let mut learned = 0;
    for (name, row, _) in nodes_of(kv, replica).await? {
        // What came later is read from the log.
        if !log.tail.covers(row.registered) {
            continue;
        }
        let is_news = roll.handle_registered(&name, row.registered);
        let removed = row.removed.filter(|removed| log.tail.covers(*removed));
        let is_gone = removed.is_some_and(|removed| roll.handle_removed(&name, removed));
        learned += usize::from(is_news || is_gone);
    }
    tracing::info!(from = replica.0, %through, learned, "took over which nodes were registered before the log begins");
    Ok(through.min(log.tail))
}

/// All replicas that have ever said where they are, and the one that need not.
async fn others(kv: &dyn Kv, own: Replica) -> Result<Vec<Replica>, StoreError> {
    let read = |id: &str, _: &[u8]| id.parse().map(Replica).map_err(|_| "its key is no number of a replica");
    let mut all = all_under(kv, PLACES, read).await?;
    all.push(Replica::ONLY);
    all.sort_unstable();
    all.dedup();
    all.retain(|replica| *replica != own);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::{NewRecord, Store, system_clock};
    use batoff_types::message::LeasePolicy;
    use batoff_types::{NodeName, Seq, UnixMillis};

    use super::*;
    use crate::seat::Tenure;
    use crate::tracker::durable::saved::{OwnRows, Through};
    use crate::tracker::nodes::roll::{Membership, NodeRow};

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn name(node: &str) -> NodeName {
        format!("fra1/{node}").parse().unwrap()
    }

    #[tokio::test]
    async fn what_the_trimmed_log_said_of_nodes_is_taken_over_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let record = |n: u8| NewRecord {
            body: vec![n].into(),
            accepted_at: UnixMillis(0),
            task: None,
            dedupe: Vec::new(),
        };
        store.log().append((0..12).map(record).collect()).await.unwrap();
        store.log().trim(seq(8)).await.unwrap();
        let log = store.log().state().await.unwrap();

        let first = Tenure::alone();
        let rows = OwnRows::new(store.kv(), &first);
        let policy = Some(LeasePolicy::Revalidate);
        for (node, registered, removed) in
            [("there", 2, None), ("gone", 3, Some(6)), ("going", 4, Some(13)), ("later", 13, None)]
        {
            let row = NodeRow {
                registered: seq(registered),
                policy,
                parents: Some(Vec::new()),
                removed: removed.map(seq),
            };
            rows.set_node(&name(node), Some(&row)).await.unwrap();
        }
        let through = |nodes| Through { nodes, ..Through::default() };
        let learn = async |roll: &mut Roll| learn(roll, store.kv(), Replica(2), Cursor::START, &log).await;

        rows.set_through(through(6)).await.unwrap();
        assert!(learn(&mut Roll::default()).await.is_err(), "nobody has read record 7");

        rows.set_through(through(7)).await.unwrap();
        let mut roll = Roll::default();
        assert_eq!(learn(&mut roll).await, Ok(Cursor::new(7)));
        let membership = |node| roll.membership(&name(node));
        assert_eq!(
            ["there", "gone", "going", "later"].map(membership),
            [Membership::Registered, Membership::Blocked, Membership::Registered, Membership::Unknown]
        );
        let row = roll.row(&name("there")).unwrap();
        assert_eq!((row.registered, row.policy, &row.parents), (seq(2), None, &None));
        store.close().await;
    }
}
