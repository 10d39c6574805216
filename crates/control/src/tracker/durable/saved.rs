//! What is durable about the tracker beside tasks: terms, nodes, how far they have confirmed, how far tasks are
//! completed. Small records, written when they change or once a second.
//!
//! All of them are one replica's own word, and stand under keys of its own ([`Tenure::key`]). Over etcd they are written
//! only while this process has the replica's seat.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Kv, LogState, StoreError, Write};
use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, LogId, NodeName, Replica, Seq, Term, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::seat::Tenure;
use crate::store::rows::{all_under, get, unreadable};
use crate::tracker::nodes::roll::NodeRow;

const TERM: &str = "term";
const LEASE_MAX: &str = "lease-max-ms";
const THROUGH: &str = "tracker-through";
const NODES: &str = "nodes/";

/// Under this prefix, its number and a slash are the rows of each replica but number 1.
const OF_REPLICA: &str = "replica/";

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

/// The rows of one replica.
#[derive(Clone, Copy)]
pub(in crate::tracker) struct OwnRows<'a> {
    kv: &'a dyn Kv,
    tenure: &'a Tenure,
}

impl<'a> OwnRows<'a> {
    pub(in crate::tracker) const fn new(kv: &'a dyn Kv, tenure: &'a Tenure) -> Self {
        Self { kv, tenure }
    }

    async fn put(&self, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
        self.tenure.put(self.kv, &self.tenure.key(name), value).await
    }

    /// Whether the rows of nodes were written in the time of this log. In a data folder that was restored from a backup, or
    /// copied, they are of another one: older than what its nodes have been told since.
    pub(in crate::tracker) async fn are_rows_of(&self, log_id: LogId) -> Result<bool, StoreError> {
        are_rows_of(self.kv, &self.tenure.key(ROWS_OF), log_id).await
    }

    /// From here on they are.
    pub(in crate::tracker) async fn set_rows_of(&self, log_id: LogId) -> Result<(), StoreError> {
        self.put(ROWS_OF, log_id.to_string().into_bytes()).await
    }

    /// Raises the term, and to `at_least`; the new one is durable when this returns. For a control plane without a seat,
    /// whose term comes with it otherwise.
    pub(in crate::tracker) async fn next_term(&self, at_least: Term) -> Result<Term, StoreError> {
        let key = self.tenure.key(TERM);
        loop {
            let (before, expect) = match self.kv.get(&key).await? {
                Some(row) => (term_of(&key, &row.value)?, Expect::Version(row.version)),
                None => (0, Expect::Absent),
            };
            let next = before.saturating_add(1).max(at_least.0);
            let value = next.to_string().into_bytes().into();
            match self.kv.cas(&key, expect, Write::Put { value, ttl: None }).await {
                Ok(_) => return Ok(Term(next)),
                Err(CasError::Conflict(_)) => {}
                Err(CasError::Store(error)) => return Err(error),
            }
        }
    }

    /// Whether no later control plane has started with this log, written in a way that it would have noticed. For one
    /// without a seat.
    pub(in crate::tracker) async fn is_still_ours(&self, term: Term) -> Result<bool, StoreError> {
        let key = self.tenure.key(TERM);
        let Some(row) = self.kv.get(&key).await? else { return Ok(false) };
        if term_of(&key, &row.value)? != term.0 {
            return Ok(false);
        }
        match self
            .kv
            .cas(&key, Expect::Version(row.version), Write::Put { value: row.value, ttl: None })
            .await
        {
            Ok(_) => Ok(true),
            Err(CasError::Conflict(_)) => Ok(false),
            Err(CasError::Store(error)) => Err(error),
        }
    }

    /// The longest lease ever granted; `None` before the first start.
    pub(in crate::tracker) async fn lease_max(&self) -> Result<Option<Duration>, StoreError> {
        Ok(get(self.kv, &self.tenure.key(LEASE_MAX), number).await?.map(Duration::from_millis))
    }

    pub(in crate::tracker) async fn set_lease_max(&self, lease: Duration) -> Result<(), StoreError> {
        self.put(LEASE_MAX, crate::clock::millis(lease).to_string().into_bytes()).await
    }

    pub(in crate::tracker) async fn through(&self) -> Result<Through, StoreError> {
        through_of(self.kv, self.tenure.replica()).await
    }

    pub(in crate::tracker) async fn set_through(&self, through: Through) -> Result<(), StoreError> {
        self.put(THROUGH, json(&through)).await
    }

    /// All nodes' rows, with the cursors last saved for them.
    pub(in crate::tracker) async fn nodes(&self) -> Result<Vec<(NodeName, NodeRow, Cursor)>, StoreError> {
        nodes_of(self.kv, self.tenure.replica()).await
    }

    /// Writes a node's row, or deletes it for `None`.
    pub(in crate::tracker) async fn set_node(
        &self,
        name: &NodeName,
        row: Option<&NodeRow>,
    ) -> Result<(), StoreError> {
        let name = format!("{NODES}{name}");
        match row {
            Some(row) => self.put(&name, encode(row)).await,
            None => self.tenure.delete(self.kv, &self.tenure.key(&name)).await,
        }
    }

    /// Writes the rows of confirmed cursors that differ from `saved`, which is what was written last.
    pub(in crate::tracker) async fn set_confirmed(
        &self,
        nodes: &[(NodeName, Cursor)],
        saved: &mut BTreeMap<u32, BTreeMap<String, u64>>,
    ) -> Result<(), StoreError> {
        let mut rows: BTreeMap<u32, BTreeMap<String, u64>> = BTreeMap::new();
        for (name, cursor) in nodes {
            let name = name.to_string();
            let row = rows.entry(crc32fast::hash(name.as_bytes()) % CONFIRMED_ROWS).or_default();
            row.insert(name, cursor.get());
        }
        for (number, row) in rows {
            if saved.get(&number) != Some(&row) {
                self.put(&format!("{CONFIRMED}{number:02}"), json(&row)).await?;
                saved.insert(number, row);
            }
        }
        Ok(())
    }
}

/// A term that is higher than any which this replica had without a seat, or before the copy was made of what is in the
/// store now. Nodes believe no term that is lower than one they have seen, and a copy does not know what they have seen;
/// but no log has had so many starts as it is old in milliseconds.
pub async fn least_term(
    kv: &dyn Kv,
    replica: Replica,
    log: &LogState,
    wall: UnixMillis,
) -> Result<Term, StoreError> {
    let key = |name: &str| Key::from(format!("{}{name}", Tenure::prefix(replica)));
    if log.tail != Cursor::START && !are_rows_of(kv, &key(ROWS_OF), log.log_id).await? {
        return Ok(Term(wall.0));
    }
    let key = key(TERM);
    let before = kv.get(&key).await?.map(|row| term_of(&key, &row.value)).transpose()?;
    Ok(Term(before.unwrap_or_default().saturating_add(1)))
}

/// Leaves the term that came with the seat where a control plane without one looks for its predecessor's: nodes have seen
/// it, and obey no lower one.
pub async fn leave_term(kv: &dyn Kv, tenure: &Tenure, term: Term) -> Result<(), StoreError> {
    tenure.put(kv, &tenure.key(TERM), term.0.to_string().into_bytes()).await
}

async fn are_rows_of(kv: &dyn Kv, key: &Key, log_id: LogId) -> Result<bool, StoreError> {
    let known = kv.get(key).await?;
    Ok(known.is_some_and(|row| row.value == log_id.to_string().as_bytes()))
}

pub(in crate::tracker::durable) async fn through_of(
    kv: &dyn Kv,
    replica: Replica,
) -> Result<Through, StoreError> {
    let read = |value: &[u8]| serde_json::from_slice(value).map_err(|_| "it is no such JSON");
    let key = Key::from(format!("{}{THROUGH}", Tenure::prefix(replica)));
    Ok(get(kv, &key, read).await?.unwrap_or_default())
}

/// How far each control plane that shares the store has saved what the log says of nodes, of those that ever did.
pub(crate) async fn saved_places(kv: &dyn Kv) -> Result<Vec<(Replica, Cursor)>, StoreError> {
    let read = |value: &[u8]| serde_json::from_slice::<Through>(value).map_err(|_| "it is no such JSON");
    let place = |through: Option<Through>| through.map(|through| Cursor::new(through.nodes));
    let only = place(get(kv, &Key::from(THROUGH), read).await?);
    let mut places: Vec<_> = only.map(|place| (Replica::ONLY, place)).into_iter().collect();
    let (prefix, mut after) = (Key::from(OF_REPLICA), None);
    // From one control plane's rows to the next one's, not through all that each has.
    while let Some((key, _)) = kv.scan(&prefix, after.as_ref(), 1).await?.into_iter().next() {
        let digits = std::str::from_utf8(&key.as_bytes()[OF_REPLICA.len()..]).ok();
        let number: u8 = digits
            .and_then(|rest| rest.split_once('/')?.0.parse().ok())
            .ok_or_else(|| unreadable(&key, "its key names no replica"))?;
        let row = get(kv, &Key::from(format!("{OF_REPLICA}{number}/{THROUGH}")), read).await?;
        places.extend(place(row).map(|place| (Replica(number), place)));
        // The character after the slash.
        after = Some(Key::from(format!("{OF_REPLICA}{number}0")));
    }
    Ok(places)
}

pub(in crate::tracker::durable) async fn nodes_of(
    kv: &dyn Kv,
    replica: Replica,
) -> Result<Vec<(NodeName, NodeRow, Cursor)>, StoreError> {
    let own = |name: &str| format!("{}{name}", Tenure::prefix(replica));
    let (confirmed, nodes) = (own(CONFIRMED), own(NODES));
    let rows = all_under(kv, &confirmed, |_, value| {
        serde_json::from_slice::<BTreeMap<String, u64>>(value).map_err(|_| "it is no map of cursors")
    });
    let confirmed: HashMap<String, u64> = rows.await?.into_iter().flatten().collect();
    let nodes = all_under(kv, &nodes, |name, value| {
        let name = name.parse::<NodeName>().map_err(|_| "its key names no node")?;
        let row = decode(value).ok_or("it is no row of a node")?;
        let cursor = confirmed.get(&name.to_string()).copied().unwrap_or_default();
        Ok((name, row, Cursor::new(cursor)))
    });
    nodes.await
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

fn term_of(key: &Key, value: &[u8]) -> Result<u64, StoreError> {
    number(value).map_err(|why| unreadable(key, why))
}
