//! What is durable about the tracker beside tasks: terms, nodes, how far they have confirmed, how far tasks are
//! completed. Small records, written when they change or once a second.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Kv, StoreError, Write};
use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, LogId, NodeName, Seq, Term};
use serde::{Deserialize, Serialize};

use crate::store::rows::{all_under, delete, get, put, unreadable};
use crate::tracker::nodes::roll::NodeRow;

const TERM: &str = "term";
const LEASE_MAX: &str = "lease-max-ms";
const THROUGH: &str = "tracker-through";
const NODES: &str = "nodes/";
const CONFIRMED: &str = "confirmed/";

/// The log in whose time the rows of nodes were written.
const ROWS_OF: &str = "tracker-rows-of";

/// The confirmed cursors are kept in so many rows, so that a fleet costs a few writes a second and not one a node.
const CONFIRMED_ROWS: u32 = 32;

#[derive(Serialize, Deserialize)]
struct Row {
    registered: u64,
    policy: Option<String>,
    /// As in [`Parent`](batoff_types::Parent)'s text.
    #[serde(default)]
    parents: Option<Vec<String>>,
    removed: Option<u64>,
}

/// Tasks through `completed` are completed, nodes' records through `nodes` are in their rows, tasks through `sla` are
/// counted for the SLA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::tracker) struct Through {
    pub completed: u64,
    pub nodes: u64,
    #[serde(default)]
    pub sla: u64,
}

/// Whether the rows of nodes were written in the time of this log. In a data folder that was restored from a backup, or
/// copied, they are of another one: older than what its nodes have been told since.
pub(in crate::tracker) async fn are_rows_of(kv: &dyn Kv, log_id: LogId) -> Result<bool, StoreError> {
    let known = kv.get(&Key::from(ROWS_OF)).await?;
    Ok(known.is_some_and(|row| row.value == log_id.to_string().as_bytes()))
}

/// From here on they are.
pub(in crate::tracker) async fn set_rows_of(kv: &dyn Kv, log_id: LogId) -> Result<(), StoreError> {
    put(kv, &Key::from(ROWS_OF), log_id.to_string().into_bytes()).await
}

/// Raises the term, and to `at_least`; the new one is durable when this returns.
pub(in crate::tracker) async fn next_term(kv: &dyn Kv, at_least: Term) -> Result<Term, StoreError> {
    let key = Key::from(TERM);
    loop {
        let (before, expect) = match kv.get(&key).await? {
            Some(row) => (term_of(&row.value)?, Expect::Version(row.version)),
            None => (0, Expect::Absent),
        };
        let next = before.saturating_add(1).max(at_least.0);
        let value = next.to_string().into_bytes().into();
        match kv.cas(&key, expect, Write::Put { value, ttl: None }).await {
            Ok(_) => return Ok(Term(next)),
            Err(CasError::Conflict(_)) => {}
            Err(CasError::Store(error)) => return Err(error),
        }
    }
}

/// Whether no later control plane has started with this log, written in a way that it would have noticed.
pub(in crate::tracker) async fn is_still_ours(kv: &dyn Kv, term: Term) -> Result<bool, StoreError> {
    let key = Key::from(TERM);
    let Some(row) = kv.get(&key).await? else { return Ok(false) };
    if term_of(&row.value)? != term.0 {
        return Ok(false);
    }
    match kv.cas(&key, Expect::Version(row.version), Write::Put { value: row.value, ttl: None }).await {
        Ok(_) => Ok(true),
        Err(CasError::Conflict(_)) => Ok(false),
        Err(CasError::Store(error)) => Err(error),
    }
}

/// The longest lease ever granted; `None` before the first start.
pub(in crate::tracker) async fn lease_max(kv: &dyn Kv) -> Result<Option<Duration>, StoreError> {
    Ok(get(kv, &Key::from(LEASE_MAX), number).await?.map(Duration::from_millis))
}

pub(in crate::tracker) async fn set_lease_max(kv: &dyn Kv, lease: Duration) -> Result<(), StoreError> {
    put(kv, &Key::from(LEASE_MAX), crate::clock::millis(lease).to_string().into_bytes()).await
}

pub(in crate::tracker) async fn through(kv: &dyn Kv) -> Result<Through, StoreError> {
    let read = |value: &[u8]| serde_json::from_slice(value).map_err(|_| "it is no such JSON");
    Ok(get(kv, &Key::from(THROUGH), read).await?.unwrap_or_default())
}

pub(in crate::tracker) async fn set_through(kv: &dyn Kv, through: Through) -> Result<(), StoreError> {
    put(kv, &Key::from(THROUGH), json(&through)).await
}

/// All nodes' rows, with the cursors last saved for them.
pub(in crate::tracker) async fn nodes(kv: &dyn Kv) -> Result<Vec<(NodeName, NodeRow, Cursor)>, StoreError> {
    let rows = all_under(kv, CONFIRMED, |_, value| {
        serde_json::from_slice::<BTreeMap<String, u64>>(value).map_err(|_| "it is no map of cursors")
    });
    let confirmed: HashMap<String, u64> = rows.await?.into_iter().flatten().collect();
    let nodes = all_under(kv, NODES, |name, value| {
        let name = name.parse::<NodeName>().map_err(|_| "its key names no node")?;
        let row = decode(value).ok_or("it is no row of a node")?;
        let cursor = confirmed.get(&name.to_string()).copied().unwrap_or_default();
        Ok((name, row, Cursor::new(cursor)))
    });
    nodes.await
}

/// Writes a node's row, or deletes it for `None`.
pub(in crate::tracker) async fn set_node(
    kv: &dyn Kv,
    name: &NodeName,
    row: Option<&NodeRow>,
) -> Result<(), StoreError> {
    let key = Key::from(format!("{NODES}{name}"));
    match row {
        Some(row) => put(kv, &key, encode(row)).await,
        None => delete(kv, &key).await,
    }
}

/// Writes the rows of confirmed cursors that differ from `saved`, which is what was written last.
pub(in crate::tracker) async fn set_confirmed(
    kv: &dyn Kv,
    nodes: &[(NodeName, Cursor)],
    saved: &mut BTreeMap<u32, BTreeMap<String, u64>>,
) -> Result<(), StoreError> {
    let mut rows: BTreeMap<u32, BTreeMap<String, u64>> = BTreeMap::new();
    for (name, cursor) in nodes {
        let name = name.to_string();
        rows.entry(crc32fast::hash(name.as_bytes()) % CONFIRMED_ROWS).or_default().insert(name, cursor.get());
    }
    for (number, row) in rows {
        if saved.get(&number) != Some(&row) {
            put(kv, &Key::from(format!("{CONFIRMED}{number:02}")), json(&row)).await?;
            saved.insert(number, row);
        }
    }
    Ok(())
}

fn encode(row: &NodeRow) -> Vec<u8> {
    let policy = row.policy.map(|policy| match policy {
        LeasePolicy::Serve => "serve",
        LeasePolicy::Revalidate => "revalidate",
    });
    json(&Row {
        registered: row.registered.get(),
        policy: policy.map(str::to_owned),
        parents: row.parents.as_ref().map(|parents| parents.iter().map(ToString::to_string).collect()),
        removed: row.removed.map(Seq::get),
    })
}

fn decode(bytes: &[u8]) -> Option<NodeRow> {
    let row: Row = serde_json::from_slice(bytes).ok()?;
    let policy = match row.policy.as_deref() {
        None => None,
        Some("revalidate") => Some(LeasePolicy::Revalidate),
        // An unknown policy counts as the one that promises less.
        Some(_) => Some(LeasePolicy::Serve),
    };
    let removed = match row.removed {
        Some(seq) => Some(Seq::new(seq)?),
        None => None,
    };
    let parents = match row.parents {
        Some(parents) => Some(parents.iter().map(|parent| parent.parse()).collect::<Result<_, _>>().ok()?),
        None => None,
    };
    Some(NodeRow { registered: Seq::new(row.registered)?, policy, parents, removed })
}

fn json(row: &impl Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "rows are structs and maps of strings and numbers, which have a JSON form"
    )]
    serde_json::to_vec(row).expect("a struct of strings and numbers")
}

fn number(bytes: &[u8]) -> Result<u64, &'static str> {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or("it is no number")
}

fn term_of(value: &[u8]) -> Result<u64, StoreError> {
    number(value).map_err(|why| unreadable(&Key::from(TERM), why))
}
