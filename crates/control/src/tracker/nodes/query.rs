//! Questions about nodes, and the names that are let in again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::NodeState;
use batoff_log::{Key, StoreError};
use batoff_types::message::{LeasePolicy, Parents};
use batoff_types::{Cursor, NodeName, Seq, SiteId, UnixMillis};

use super::roll::NodeEntry;
use super::status::{NodeStatus, RemoveRefused, TagOverflow, TroubleView};
use crate::clock::millis;
use crate::store::rows;
use crate::tracker::Tracker;

/// The row by which all control planes beside a log know that a removed name was let in again: the record that had removed
/// it. A later removal counts all the same.
fn admitted_key(node: &NodeName) -> Key {
    Key::from(format!("admitted/{node}"))
}

impl Tracker {
    /// All nodes, removed ones that are still blocked included, by name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let wall = self.clock.wall();
        let mut state = self.state.lock();
        let now = self.clock.now();
        let names: Vec<NodeName> = state.roll.iter().map(|(name, _)| name.clone()).collect();
        let mut paths: HashMap<NodeName, Parents> =
            names.into_iter().filter_map(|name| Some((name.clone(), state.parents_now(&name)?))).collect();
        let state = &*state;
        let mut status = |(name, entry): (&NodeName, &NodeEntry)| {
            let view = state.roster.node(now, name);
            let view = view.as_ref();
            NodeStatus {
                node: name.clone(),
                removed: entry.row.removed.is_some(),
                state: view.map_or(NodeState::Away, |view| view.state),
                policy: entry.row.policy,
                connected: view.is_some_and(|view| view.connected),
                instance: view.and_then(|view| view.instance),
                cursor: view.map(|view| view.confirmed).or(entry.left_at).unwrap_or(Cursor::START),
                lag_records: view.map_or(0, |view| view.lag_records),
                lag: view.map_or(Duration::ZERO, |view| view.lag),
                lease_remaining: view.map_or(Duration::ZERO, |view| view.lease_remaining),
                lease_over: view
                    .and_then(|view| view.lease_over)
                    .map(|over| UnixMillis(wall.0.saturating_sub(millis(now.since(over))))),
                certificate_until: entry.certificate_until,
                concern: view.filter(|view| !view.removing).and_then(|view| state.lateness(now, wall, view)),
                refusal: view.and_then(|view| view.refusal).map(|refusal| refusal.as_str()),
                heard_at: entry.heard_at,
                index_size: entry.index_size,
                version: entry.said.as_ref().map(|said| said.version.clone()).unwrap_or_default(),
                semantics: entry.said.as_ref().map(|said| said.semantics),
                caches: entry.said.as_ref().map(|said| said.caches.clone()).unwrap_or_default(),
                troubles: entry
                    .troubles
                    .iter()
                    .map(|(cache, trouble)| TroubleView {
                        cache: cache.clone(),
                        message: trouble.message.clone(),
                        stuck: trouble.stuck,
                        since: trouble.since,
                    })
                    .collect(),
                parents: entry.row.parents.clone().unwrap_or_default(),
                path: paths.remove(name),
            }
        };
        state.roll.iter().map(&mut status).collect()
    }

    /// Objects with too many tags or malformed ones, by site, over the nodes that count.
    pub fn tag_overflows(&self) -> HashMap<SiteId, TagOverflow> {
        let mut sums: HashMap<SiteId, TagOverflow> = HashMap::new();
        for (_, entry) in self.state.lock().roll.iter().filter(|(_, entry)| entry.index.is_some()) {
            for (site, met) in &entry.overflowed {
                met.add_to(sums.entry(site.clone()).or_default());
            }
        }
        sums
    }

    /// The same of one site.
    pub fn tag_overflow(&self, site: &SiteId) -> TagOverflow {
        let mut sum = TagOverflow::default();
        for (_, entry) in self.state.lock().roll.iter().filter(|(_, entry)| entry.index.is_some()) {
            if let Some(met) = entry.overflowed.get(site) {
                met.add_to(&mut sum);
            }
        }
        sum
    }

    /// Whether the node may be removed now. An available node that is behind is removed only by force: it may go on
    /// serving what was purged, and nobody would be told.
    pub fn may_remove(&self, node: &NodeName, force: bool) -> Result<(), RemoveRefused> {
        let state = self.state.lock();
        let entry =
            state.roll.get(node).filter(|entry| entry.row.removed.is_none()).ok_or(RemoveRefused::Unknown)?;
        let strict = entry.row.policy == Some(LeasePolicy::Revalidate);
        let behind = state.roster.confirmed(node).is_none_or(|confirmed| confirmed < state.roster.tail());
        if !force && !strict && behind {
            return Err(RemoveRefused::Unconfirmed);
        }
        Ok(())
    }

    /// Lets a removed name connect, and be registered, again: here at once, and at every other control plane beside the log
    /// as soon as it connects there. False when it is not blocked.
    pub async fn admit(self: &Arc<Self>, node: &NodeName) -> Result<bool, StoreError> {
        let Some(removed) = self.removed_at(node) else { return Ok(false) };
        rows::put(self.store.kv(), &admitted_key(node), rows::json(&removed.get())).await?;
        if !self.state.lock().roll.unblock(node) {
            return Ok(false);
        }
        self.save_node(node).await?;
        Ok(true)
    }

    /// Whether a name that is blocked here was let in again at another control plane, since it was removed last. Then it
    /// is not blocked here either any more.
    pub async fn is_admitted(self: &Arc<Self>, node: &NodeName) -> Result<bool, StoreError> {
        let Some(removed) = self.removed_at(node) else { return Ok(true) };
        let key = admitted_key(node);
        let read = |row: &[u8]| serde_json::from_slice::<u64>(row).map_err(|_| "it is no number in JSON");
        let admitted = rows::get(self.store.kv(), &key, read).await?;
        if admitted.is_none_or(|admitted| admitted < removed.get()) {
            return Ok(false);
        }
        if self.state.lock().roll.unblock(node) {
            self.save_node(node).await?;
            tracing::info!(%node, "node admitted again at another control plane");
        }
        Ok(true)
    }

    fn removed_at(&self, node: &NodeName) -> Option<Seq> {
        self.state.lock().roll.row(node)?.removed
    }
}
