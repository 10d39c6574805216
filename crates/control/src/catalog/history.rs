//! Every change of a site, so that the table of hostnames can be built again as it was at any place where a node stands.

use std::collections::BTreeMap;

use batoff_log::{CasError, Expect, Key, Kv, StoreError, Write};
use batoff_types::{Cursor, Seq, SiteChange, SiteId, SiteLimits, SiteTable};

use super::row;
use crate::store::rows;

/// Under this prefix are the changes: `sites/<seq, 20 digits>`.
const CHANGES: &str = "sites/";

/// How far the log had been read when the changes were saved.
const THROUGH: &str = "sites-through";

/// Every change of a site that some table may still be built from: all that the log retains, and of each site the last
/// one before. A change never takes a name from another site that has not given it up in a change of its own, which is
/// what makes leaving out superseded changes right.
#[derive(Debug, Default)]
pub(super) struct SiteHistory {
    changes: BTreeMap<Seq, SiteChange>,
    table: SiteTable,
    limits: BTreeMap<SiteId, SiteLimits>,
    saved_through: Cursor,
}

impl SiteHistory {
    pub(super) async fn load(kv: &dyn Kv) -> Result<Self, StoreError> {
        // The place before the changes: others write the changes first.
        let saved_through = rows::get(kv, &Key::from(THROUGH), read_place).await?.unwrap_or_default();
        let mut history = Self { saved_through, ..Self::default() };
        for (seq, change) in rows::all_under(kv, CHANGES, read_change).await? {
            history.push(seq, change);
        }
        Ok(history)
    }

    /// Takes over a change; one that is known already changes nothing.
    pub(super) fn push(&mut self, seq: Seq, change: SiteChange) {
        if self.changes.contains_key(&seq) {
            return;
        }
        self.table.apply(&change);
        match change.hostnames {
            Some(_) => self.limits.insert(change.site.clone(), change.limits),
            None => self.limits.remove(&change.site),
        };
        self.changes.insert(seq, change);
    }

    pub(super) fn table(&self) -> &SiteTable {
        &self.table
    }

    pub(super) fn limits(&self, site: &SiteId) -> SiteLimits {
        self.limits.get(site).copied().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn table_at(&self, cursor: Cursor) -> SiteTable {
        if self.changes.last_key_value().is_none_or(|(seq, _)| cursor.covers(*seq)) {
            return self.table.clone();
        }
        let mut table = SiteTable::default();
        for change in self.changes.range(..cursor.next()).map(|(_, change)| change) {
            table.apply(change);
        }
        table
    }

    pub(super) fn saved_through(&self) -> Cursor {
        self.saved_through
    }

    pub(super) fn unsaved(&self, through: Cursor) -> Vec<(Seq, SiteChange)> {
        self.changes
            .range(self.saved_through.next()..through.next())
            .map(|(seq, change)| (*seq, change.clone()))
            .collect()
    }

    pub(super) fn mark_saved(&mut self, through: Cursor) {
        self.saved_through = self.saved_through.max(through);
    }

    /// Saved changes before `first` after which the same site changed again before `first`, and removals before it.
    pub(super) fn superseded(&self, first: Seq) -> Vec<Seq> {
        let end = first.min(self.saved_through.next());
        let mut latest: BTreeMap<&SiteId, Seq> = BTreeMap::new();
        let mut gone = Vec::new();
        for (seq, change) in self.changes.range(..end) {
            gone.extend(latest.insert(&change.site, *seq));
        }
        gone.extend(latest.into_values().filter(|seq| self.changes[seq].hostnames.is_none()));
        gone.sort_unstable();
        gone
    }

    pub(super) fn remove(&mut self, seq: Seq) {
        self.changes.remove(&seq);
    }
}

/// Writes changes first and the place last: what lies after the place is read from the log again.
pub(super) async fn save(
    kv: &dyn Kv,
    changes: &[(Seq, SiteChange)],
    through: Cursor,
) -> Result<(), StoreError> {
    for (seq, change) in changes {
        rows::put(kv, &key_of(*seq), row::encode_change(change)).await?;
    }
    rows::put(kv, &Key::from(THROUGH), encode_place(through)).await
}

/// The same where others save as well. What they have saved is not saved again, and the place never goes back: the log may
/// be trimmed up to it.
pub(super) async fn save_beside_others(
    kv: &dyn Kv,
    changes: &[(Seq, SiteChange)],
    through: Cursor,
) -> Result<(), StoreError> {
    let key = Key::from(THROUGH);
    loop {
        let row = kv.get(&key).await?;
        let saved = match &row {
            Some(row) => read_place(&row.value).map_err(|why| rows::unreadable(&key, why))?,
            None => Cursor::default(),
        };
        if saved >= through {
            return Ok(());
        }
        for (seq, change) in changes.iter().filter(|(seq, _)| !saved.covers(*seq)) {
            rows::put(kv, &key_of(*seq), row::encode_change(change)).await?;
        }
        let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
        let write = Write::Put { value: encode_place(through).into(), ttl: None };
        match kv.cas(&key, expect, write).await {
            Ok(_) => return Ok(()),
            Err(CasError::Conflict(_)) => {}
            Err(CasError::Store(error)) => return Err(error),
        }
    }
}

pub(super) async fn forget(kv: &dyn Kv, seq: Seq) -> Result<(), StoreError> {
    rows::delete(kv, &key_of(seq)).await
}

fn read_change(seq: &str, row: &[u8]) -> Result<(Seq, SiteChange), &'static str> {
    let seq = seq.parse().ok().and_then(Seq::new).ok_or("its key is no number of a record")?;
    Ok((seq, row::decode_change(row).ok_or("is not the JSON of a change of a site")?))
}

fn read_place(row: &[u8]) -> Result<Cursor, &'static str> {
    let place = std::str::from_utf8(row).ok().and_then(|text| text.parse().ok());
    place.map(Cursor::new).ok_or("is no number")
}

fn encode_place(place: Cursor) -> Vec<u8> {
    place.get().to_string().into_bytes()
}

fn key_of(seq: Seq) -> Key {
    Key::from(format!("{CHANGES}{:020}", seq.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(site: &str, hostnames: Option<&[&str]>) -> SiteChange {
        SiteChange {
            site: site.parse().unwrap(),
            hostnames: hostnames.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        }
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn history() -> SiteHistory {
        let mut history = SiteHistory::default();
        history.push(seq(1), change("a", Some(&["one.test", "two.test"])));
        history.push(seq(4), change("a", Some(&["one.test"])));
        history.push(seq(5), change("b", Some(&["two.test"])));
        history.push(seq(8), change("b", None));
        history.push(seq(9), change("a", Some(&["one.test", "two.test"])));
        history.mark_saved(Cursor::new(9));
        history
    }

    #[test]
    fn the_table_of_every_retained_place_is_known() {
        let history = history();
        let owner =
            |cursor: u64| history.table_at(Cursor::new(cursor)).owner("two.test").map(ToString::to_string);
        for (cursor, expected) in
            [(0, None), (1, Some("a")), (3, Some("a")), (4, None), (5, Some("b")), (8, None), (9, Some("a"))]
        {
            assert_eq!(owner(cursor).as_deref(), expected, "at {cursor}");
        }
    }

    #[test]
    fn forgetting_superseded_changes_leaves_every_retained_table_as_it_was() {
        let whole = history();
        for first in 1..=10 {
            let mut history = history();
            for gone in history.superseded(seq(first)) {
                history.remove(gone);
            }
            for cursor in first - 1..=9 {
                assert_eq!(
                    history.table_at(Cursor::new(cursor)),
                    whole.table_at(Cursor::new(cursor)),
                    "{first} {cursor}"
                );
            }
        }
    }
}
