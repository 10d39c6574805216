//! How far nodes are, and what of it may be recorded. There is no other account of it: who wants to know asks here.

use batoff_types::{Cursor, Moment, NodeName};

use super::Roster;
use crate::rules::Rule;

impl Roster {
    /// The furthest that the node ever acknowledged; `None` when it does not count (any more).
    pub fn confirmed(&self, node: &NodeName) -> Option<Cursor> {
        self.node_of(node).map(|node| node.confirmed)
    }

    /// How far each node has confirmed, as far as that may be made durable.
    ///
    /// While a lease of an earlier incarnation may run, only what that one has applied: after a restart of the control
    /// plane the number would be taken for its cache too, and nothing would be known of the hold.
    pub fn confirmed_to_save(&mut self, now: Moment) -> impl Iterator<Item = (&NodeName, Cursor)> {
        self.advance(now);
        let alone = self.rules.in_force(Rule::SavedAlone);
        self.nodes.iter_mut().flatten().map(move |node| {
            if node.holds.is_empty() || !alone {
                node.confirmed_alone = node.confirmed;
            }
            (&node.name, node.confirmed_alone)
        })
    }
}
