use std::collections::BTreeMap;

use batoff_types::Cursor;

use super::node::Safe;

/// The least of all nodes' safe places, as an ordered multiset: one node's step costs O(log nodes), and mostly less,
/// since nodes that are up to date share a place.
#[derive(Debug, Default)]
pub(super) struct SafePlaces {
    nodes_at: BTreeMap<Cursor, u32>,
}

impl SafePlaces {
    pub(super) fn add(&mut self, safe: Safe) {
        if let Safe::At(cursor) = safe {
            *self.nodes_at.entry(cursor).or_insert(0) += 1;
        }
    }

    pub(super) fn remove(&mut self, safe: Safe) {
        let Safe::At(cursor) = safe else { return };
        let count = self.nodes_at.get_mut(&cursor);
        debug_assert!(count.is_some(), "I1: a node was not counted at {cursor}");
        if let Some(count) = count {
            *count -= 1;
            if *count == 0 {
                self.nodes_at.remove(&cursor);
            }
        }
    }

    /// The least place; the tail when no node holds it back.
    pub(super) fn least(&self, tail: Cursor) -> Cursor {
        self.nodes_at.first_key_value().map_or(tail, |(cursor, _)| tail.min(*cursor))
    }
}
