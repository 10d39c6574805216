//! How a purge spread: when each PoP and the slowest nodes came how far, and why those were late.
//!
//! | figure | what is counted, in milliseconds since durable |
//! | --- | --- |
//! | `sent` | handed to the node's stream |
//! | `in_force` | nothing that it hit is served there any more; the node says how long ago, so its way back is in it |
//! | `acked` | the acknowledgement was heard: this is what completes it |
//! | `evicted` | the last report was heard: the objects are out of the caches, too |
//! | `fenced` | the node's last lease had certainly run out, so that the purge need not wait for it |
//!
//! In memory it is what [`marks`](super::marks) keeps. With the task's row are kept the PoPs, the slowest node, further
//! ones that needed a quarter of the target, and some that were fenced. The figures are 6 bytes a PoP beside the 16 that
//! were there before, and 23 a node; a test holds that. A PoP of a row that was written before there were marks has `acked` alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_types::{Moment, NodeName, SiteId, TaskId, UnixMillis};

use super::cause::LateCause;
use super::view::{NodeCounts, PopView, TaskState};

/// Fenced nodes that are kept of one task.
pub(in crate::tracker) const FENCED_MAX: usize = 4;

/// How a purge spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Which.
    pub task: TaskId,
    /// Whose.
    pub site: SiteId,
    /// How far it is.
    pub state: TaskState,
    /// Zero of all figures: when it was durable; of a purge that was open when the control plane started, that start.
    pub durable_at: UnixMillis,
    /// Milliseconds until no node could serve it; `None` while one may.
    pub completed_ms: Option<u64>,
    /// Milliseconds until now, while it is not completed.
    pub elapsed_ms: Option<u64>,
    /// PoP by PoP, the slowest first.
    pub pops: Vec<PopLine>,
    /// The nodes that it waits for, those that it did not wait for, and the slowest ones, in this order: the slowest first.
    pub late: Vec<NodeLine>,
}

/// A purge's way in one PoP. Figures are of the last of its nodes where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopLine {
    /// The PoP.
    pub pop: Arc<str>,
    /// Its nodes.
    pub nodes: NodeCounts,
    /// When the first of its nodes was handed it.
    pub sent_ms: Option<u64>,
    /// When the last of them was.
    pub sent_last_ms: Option<u64>,
    /// When it was in force, at the latest.
    pub in_force_ms: Option<u64>,
    /// When it was acknowledged.
    pub acked_ms: Option<u64>,
    /// When all had reported that the objects are gone, as far as they have.
    pub evicted_ms: Option<u64>,
    /// When the last of those that count as fenced did so.
    pub fenced_ms: Option<u64>,
    /// Objects made unservable there, as far as reported.
    pub objects_evicted: u64,
}

/// A purge's way on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// Which.
    pub node: NodeName,
    /// When it was handed to its stream.
    pub sent_ms: Option<u64>,
    /// When it was in force, at the latest.
    pub in_force_ms: Option<u64>,
    /// When it was acknowledged.
    pub acked_ms: Option<u64>,
    /// When the node had reported that the objects are gone.
    pub evicted_ms: Option<u64>,
    /// When it counted as fenced.
    pub fenced_ms: Option<u64>,
    /// What took the most time, or still does.
    pub cause: LateCause,
    /// What a cache said that was in the way meanwhile; empty when none was.
    pub detail: Arc<str>,
}

/// The nodes that tasks completed together did not wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tracker) struct Fences {
    /// Some of them.
    pub nodes: Vec<FencedLine>,
    /// Since when the last of them in each PoP has no lease.
    pub by_pop: BTreeMap<Arc<str>, Moment>,
}

/// A node without a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct FencedLine {
    pub node: NodeName,
    pub since: Moment,
    pub sent: Option<Moment>,
    pub cause: LateCause,
    pub detail: Arc<str>,
}

impl NodeLine {
    /// A node of which nothing but this is known.
    pub(in crate::tracker) fn new(node: NodeName, cause: LateCause, detail: Arc<str>) -> Self {
        Self {
            node,
            sent_ms: None,
            in_force_ms: None,
            acked_ms: None,
            evicted_ms: None,
            fenced_ms: None,
            cause,
            detail,
        }
    }

    /// Until when the task waited for it, or did not wait for it any more.
    pub fn until_ms(&self) -> Option<u64> {
        self.fenced_ms.or(self.acked_ms)
    }
}

impl PopLine {
    /// When the PoP was done with it; `None` while it is not.
    pub fn until_ms(&self) -> Option<u64> {
        let NodeCounts { total, confirmed, fenced, .. } = self.nodes;
        (confirmed + fenced >= total).then(|| self.acked_ms.max(self.fenced_ms).unwrap_or_default())
    }

    /// Of which nothing but its nodes is known.
    pub(in crate::tracker) fn new(pop: Arc<str>, nodes: NodeCounts) -> Self {
        Self {
            pop,
            nodes,
            sent_ms: None,
            sent_last_ms: None,
            in_force_ms: None,
            acked_ms: None,
            evicted_ms: None,
            fenced_ms: None,
            objects_evicted: 0,
        }
    }
}

impl From<PopLine> for PopView {
    fn from(line: PopLine) -> Self {
        Self {
            pop: line.pop,
            nodes: line.nodes,
            slowest_ms: line.acked_ms,
            objects_evicted: line.objects_evicted,
        }
    }
}

/// The slowest first: what is not done at all before everything else.
pub(in crate::tracker) fn sort(pops: &mut [PopLine], nodes: &mut [NodeLine]) {
    let last = |until: Option<u64>| until.unwrap_or(u64::MAX);
    pops.sort_by(|a, b| last(b.until_ms()).cmp(&last(a.until_ms())).then_with(|| a.pop.cmp(&b.pop)));
    nodes.sort_by(|a, b| last(b.until_ms()).cmp(&last(a.until_ms())).then_with(|| a.node.cmp(&b.node)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_comes_before_what_was_slow() {
        let pop = |name: &str, confirmed, acked_ms| PopLine {
            acked_ms,
            ..PopLine::new(name.into(), NodeCounts { total: 2, confirmed, ..NodeCounts::default() })
        };
        let mut pops = [pop("ams1", 2, Some(40)), pop("fra1", 1, Some(9)), pop("waw1", 2, Some(900))];
        sort(&mut pops, &mut []);
        assert_eq!(pops.map(|pop| pop.pop.to_string()), ["fra1", "waw1", "ams1"]);
    }
}
