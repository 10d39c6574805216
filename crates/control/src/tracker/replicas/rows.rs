//! The small records of several control planes, and what they tell one another.
//!
//! | key | says |
//! | --- | --- |
//! | `replicas/first` | which replicas count until a record of the log says otherwise |
//! | `replicas/done` | through where all is completed; only ever raised |
//! | `replicas/sets` | the sets that any replica knows of, for a start after the log was trimmed |

use std::collections::BTreeMap;

use batoff_delivery::SetHistory;
use batoff_log::{CasError, Expect, Key, Kv, StoreError, Version, Write};
use batoff_types::{Cursor, Replica, ReplicaSet};
use serde::{Deserialize, Serialize};

use super::settings::SettingMarks;
use crate::store::rows;

/// Through where all is completed.
pub(in crate::tracker) const DONE: &str = "replicas/done";

/// Which replicas count until a record of the log says otherwise.
pub(in crate::tracker) const FIRST: &str = "replicas/first";

/// What is known of sets.
const SETS: &str = "replicas/sets";

/// Every purge through `through` is completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::tracker) struct DoneRow {
    /// What it said before.
    pub after: u64,
    pub through: u64,
    /// When it was raised, in milliseconds since 1970.
    pub at: u64,
    /// The replica that raised it …
    pub by: u8,
    /// … and the run of its process: the one that writes down what became of the tasks between the two.
    pub process: String,
}

impl DoneRow {
    pub(in crate::tracker) fn read(row: &[u8]) -> Result<Self, &'static str> {
        serde_json::from_slice(row).map_err(|_| "it is no JSON of what is done")
    }
}

/// What a replica says of itself in passing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::tracker) struct StatementRow {
    pub replica: u8,
    /// Its watermark; absent while its seat is not known to be its own.
    #[serde(default)]
    pub through: Option<u64>,
    /// Through where it knows the log.
    pub tail: u64,
    pub term: u64,
    /// Of its program.
    pub version: String,
    /// Of strict nodes: how many there are, and how many of them hold its leases.
    #[serde(default)]
    pub strict: u32,
    #[serde(default)]
    pub leased: u32,
    /// Nodes that have not told it what they do without a lease: each counts as one that serves on.
    #[serde(default)]
    pub untold: u32,
    /// Rises each time that it is said.
    pub beat: u64,
    /// The settings that all must have alike; told once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingMarks>,
    /// What its clock showed then, in milliseconds since 1970; 0 of one that did not say so.
    #[serde(default)]
    pub at: u64,
}

/// That what is done cannot be read; it is logged.
pub(in crate::tracker) fn unreadable_done(why: &str) -> StoreError {
    rows::unreadable(&Key::from(DONE), why)
}

/// The row, and which write it stems from.
pub(in crate::tracker) async fn done(kv: &dyn Kv) -> Result<Option<(DoneRow, Version)>, StoreError> {
    let key = Key::from(DONE);
    let Some(row) = kv.get(&key).await? else { return Ok(None) };
    let done = DoneRow::read(&row.value).map_err(|why| rows::unreadable(&key, why))?;
    Ok(Some((done, row.version)))
}

#[derive(Serialize, Deserialize)]
struct SetRow {
    from: u64,
    members: Vec<u8>,
}

/// The sets that are known to somebody; `None` before any was saved.
async fn saved_sets(kv: &dyn Kv) -> Result<Option<(SetHistory, Version)>, StoreError> {
    let key = Key::from(SETS);
    let Some(row) = kv.get(&key).await? else { return Ok(None) };
    let sets = read_sets(&row.value).map_err(|why| rows::unreadable(&key, why))?;
    Ok(Some((sets, row.version)))
}

fn read_sets(row: &[u8]) -> Result<SetHistory, &'static str> {
    let saved: Vec<SetRow> = serde_json::from_slice(row).map_err(|_| "it is no JSON of sets")?;
    let mut saved = saved.into_iter().map(|set| {
        let members = ReplicaSet::new(set.members.into_iter().map(Replica));
        Ok::<_, &'static str>((Cursor::new(set.from), members.map_err(|_| "it is no set of replicas")?))
    });
    let (from, first) = saved.next().ok_or("it names no set")??;
    let mut sets = SetHistory::new(from, first);
    for set in saved {
        let (from, set) = set?;
        sets.handle_set(from.last().ok_or("a later set has no record")?, set);
    }
    Ok(sets)
}

/// The sets as they are known at a start, before the log is read; `first` if there was none before.
pub(in crate::tracker) async fn sets(kv: &dyn Kv, first: &ReplicaSet) -> Result<SetHistory, StoreError> {
    if let Some((sets, _)) = saved_sets(kv).await? {
        return Ok(sets);
    }
    let key = Key::from(FIRST);
    let members: Vec<u8> = first.members().iter().map(|replica| replica.0).collect();
    let write = Write::Put { value: rows::json(&members).into(), ttl: None };
    let row = match kv.cas(&key, Expect::Absent, write).await {
        Ok(_) => return Ok(SetHistory::new(Cursor::START, first.clone())),
        Err(CasError::Conflict(row)) => row,
        Err(CasError::Store(error)) => return Err(error),
    };
    let unreadable = |why| rows::unreadable(&key, why);
    let row = row.ok_or_else(|| unreadable("it comes and goes"))?;
    let members: Vec<u8> =
        serde_json::from_slice(&row.value).map_err(|_| unreadable("it is no JSON of numbers"))?;
    let set = ReplicaSet::new(members.into_iter().map(Replica));
    Ok(SetHistory::new(Cursor::START, set.map_err(|_| unreadable("it is no set of replicas"))?))
}

/// Saves what this replica knows of sets beside what others have saved; what was replaced before `done` is forgotten. To
/// be done before anybody trims the records that say so: whoever starts later finds them nowhere else.
pub(in crate::tracker) async fn save_sets(
    kv: &dyn Kv,
    known: &SetHistory,
    done: Cursor,
) -> Result<(), StoreError> {
    loop {
        let saved = saved_sets(kv).await?;
        let mut all: BTreeMap<Cursor, ReplicaSet> =
            known.iter().map(|(from, set)| (from, set.clone())).collect();
        if let Some((saved, _)) = &saved {
            all.extend(saved.iter().map(|(from, set)| (from, set.clone())));
        }
        let mut all = all.into_iter();
        let Some((from, first)) = all.next() else { return Ok(()) };
        let mut merged = SetHistory::new(from, first);
        for (from, set) in all {
            if let Some(seq) = from.last() {
                merged.handle_set(seq, set);
            }
        }
        merged.forget_before(done);
        let expect = match saved {
            Some((saved, _)) if saved == merged => return Ok(()),
            Some((_, version)) => Expect::Version(version),
            None => Expect::Absent,
        };
        let row = |(from, set): (Cursor, &ReplicaSet)| SetRow {
            from: from.get(),
            members: set.members().iter().map(|replica| replica.0).collect(),
        };
        let value = rows::json(&merged.iter().map(row).collect::<Vec<_>>()).into();
        match kv.cas(&Key::from(SETS), expect, Write::Put { value, ttl: None }).await {
            Ok(_) => return Ok(()),
            Err(CasError::Conflict(_)) => {}
            Err(CasError::Store(error)) => return Err(error),
        }
    }
}
