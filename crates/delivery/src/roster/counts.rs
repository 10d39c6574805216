//! How many nodes stand how with one record, and which of them it waits for: for people, who see a purge on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_types::{Cursor, Moment, NodeName, Seq};

use super::node::Node;
use super::{FencedNode, LateNode, Lateness, NodeCounts, NodeState, NodeView, Roster};
use crate::PURGE_TARGET;

/// What a node is to one record.
enum Stance {
    Confirmed,
    Fenced,
    Late(Lateness),
}

impl Node {
    /// `None` when the node was registered after the record: it started empty.
    fn standing_at(&self, seq: Seq, tail: Cursor) -> Option<Stance> {
        if self.registered.covers(seq) {
            return None;
        }
        let has_no_lease = matches!(self.state, NodeState::Away | NodeState::Joining);
        Some(if self.confirmed_by_all().covers(seq) {
            Stance::Confirmed
        } else if self.confirmed.covers(seq) {
            Stance::Late(Lateness::Held)
        } else if self.is_strict()
            && has_no_lease
            && self.floor_at(tail).covers(seq)
            && self.holds.iter().all(|hold| hold.safe.covers(seq))
        {
            Stance::Fenced
        } else if self.is_unreachable() {
            Stance::Late(Lateness::Unreachable)
        } else if self.connection.is_none() {
            Stance::Late(Lateness::LeaseRuns)
        } else {
            Stance::Late(Lateness::Lagging)
        })
    }
}

impl Node {
    /// When the last of its leases had certainly run out, of whichever incarnation.
    fn lease_over(&self) -> Moment {
        self.holds.iter().map(|hold| hold.until).fold(self.until, Moment::max)
    }
}

impl NodeCounts {
    fn add(&mut self, standing: &Stance) {
        self.total += 1;
        match standing {
            Stance::Confirmed => self.confirmed += 1,
            Stance::Fenced => self.fenced += 1,
            Stance::Late(Lateness::Unreachable) => self.unreachable += 1,
            Stance::Late(Lateness::LeaseRuns | Lateness::Lagging | Lateness::Held) => {}
        }
    }
}

impl Roster {
    /// How all nodes stand with a record. Costs a look at each node.
    pub fn counts_at(&self, seq: Seq) -> NodeCounts {
        let mut counts = NodeCounts::default();
        for standing in self.all().filter_map(|node| node.standing_at(seq, self.durable.tail())) {
            counts.add(&standing);
        }
        counts
    }

    /// The same by PoP.
    pub fn counts_by_pop(&self, seq: Seq) -> BTreeMap<&str, NodeCounts> {
        let mut pops = BTreeMap::<&str, NodeCounts>::new();
        for node in self.all() {
            if let Some(standing) = node.standing_at(seq, self.durable.tail()) {
                pops.entry(node.name.pop()).or_default().add(&standing);
            }
        }
        pops
    }

    /// The nodes that a record waits for, and why. Costs a look at each node.
    pub fn late_at(&self, seq: Seq) -> Vec<LateNode> {
        let late = |node: &Node| match node.standing_at(seq, self.durable.tail())? {
            Stance::Late(why) => Some(LateNode { node: node.name.clone(), why }),
            Stance::Confirmed | Stance::Fenced => None,
        };
        self.all().filter_map(late).collect()
    }

    /// The nodes that count as fenced for a record. Costs a look at each node.
    pub fn fenced_at(&self, seq: Seq) -> Vec<FencedNode> {
        let fenced = |node: &Node| match node.standing_at(seq, self.durable.tail())? {
            Stance::Fenced => Some(FencedNode { node: node.name.clone(), since: node.lease_over() }),
            Stance::Confirmed | Stance::Late(_) => None,
        };
        self.all().filter_map(fenced).collect()
    }

    /// Whether a purge is `partial`: not completed within [`PURGE_TARGET`] of becoming durable, because an available
    /// node cannot be reached. Costs a look at each node, unless the purge is completed or young.
    pub fn is_partial(&self, now: Moment, seq: Seq) -> bool {
        !self.watermark.covers(seq)
            && now.since(self.durable.at(seq)) >= PURGE_TARGET
            && self.all().any(|node| {
                matches!(
                    node.standing_at(seq, self.durable.tail()),
                    Some(Stance::Late(Lateness::Unreachable))
                )
            })
    }

    /// One node.
    pub fn node(&self, now: Moment, name: &NodeName) -> Option<NodeView> {
        let index = *self.by_name.get(name)?;
        self.nodes.get(index)?.as_ref().map(|node| self.view(now, node))
    }

    /// All nodes, in no order.
    pub fn nodes(&self, now: Moment) -> impl Iterator<Item = NodeView> {
        self.all().map(move |node| self.view(now, node))
    }

    /// How many nodes there are, with those that are being removed.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no node. Then the watermark follows the tail.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many nodes are in each state, in the order of [`NodeState::ALL`].
    pub fn count_by_state(&self) -> [(NodeState, usize); 4] {
        NodeState::ALL.map(|state| (state, self.all().filter(|node| node.state == state).count()))
    }

    /// What every node has acknowledged, strict or not, with a lease or without: records before it are needed by none.
    /// The tail when there is no node.
    pub fn confirmed_by_all(&self) -> Cursor {
        self.all().map(|node| node.confirmed).min().unwrap_or(self.durable.tail())
    }

    fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    fn view(&self, now: Moment, node: &Node) -> NodeView {
        let leased = matches!(node.state, NodeState::Leased | NodeState::Unknown);
        let tail = self.durable.tail();
        // Between two streams the node's cursor is the furthest it said.
        let reached = if node.connection.is_some() { node.cursor } else { node.confirmed };
        NodeView {
            name: node.name.clone(),
            registered: node.registered,
            state: node.state,
            policy: node.policy,
            connected: node.connection.is_some(),
            instance: node.instance,
            cursor: node.cursor,
            confirmed: node.confirmed,
            floor: node.floor_at(tail),
            lag_records: tail.get().saturating_sub(reached.get()),
            lag: self.durable.oldest_after(reached).map_or(Duration::ZERO, |at| now.since(at)),
            lease_remaining: if leased { node.until.since(now) } else { Duration::ZERO },
            lease_over: (!leased).then(|| node.lease_over()),
            refusal: node.refusal,
            held: !node.holds.is_empty(),
            removing: node.removal.is_some(),
        }
    }
}
