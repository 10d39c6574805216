//! How far a task is, as its row in the log says.

use std::sync::Arc;

use batoff_types::{Replica, UnixMillis};
use prost::Message;

use super::propagation::{NodeLine, PopLine};
use super::rows::{CountsRow, PopRow, SlowRow};
use super::view::{AwaitedNode, NodeCounts};

/// Names of nodes still to report that are kept with a task that has left memory. With more than these, the task is
/// never shown as final: that is said, rather than guessed.
pub(in crate::tracker) const WAITING_MAX: usize = 64;

/// How far a task is, as it is kept with its row in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tracker) struct TaskProgress {
    /// When it was completed, and after how many milliseconds.
    pub completed: Option<(UnixMillis, u64)>,
    /// Objects made unservable, as far as reported.
    pub objects: u64,
    /// The nodes at completion.
    pub nodes: NodeCounts,
    /// The same by PoP, sorted by name.
    pub pops: Vec<PopLine>,
    /// The nodes that it did not wait for, and the slowest.
    pub slow: Vec<NodeLine>,
    /// Nodes that have not reported all their objects: `fra1/edge-1`.
    pub waiting: Vec<Arc<str>>,
    /// Whether there are more of those than are kept.
    pub waiting_more: bool,
    /// Nodes that it waited for when the target passed.
    pub late: Vec<AwaitedNode>,
    /// Of several control planes the one that wrote this.
    pub by: Option<Replica>,
    /// Whether `completed` tells a time that was not measured from the moment at which it became durable.
    pub approximate: bool,
}

impl TaskProgress {
    /// Whether all nodes have reported.
    pub(in crate::tracker) fn is_final(&self) -> bool {
        self.waiting.is_empty() && !self.waiting_more
    }

    pub(in crate::tracker) fn encode(&self) -> Vec<u8> {
        let row = ProgressRow {
            completed_at: self.completed.map(|(at, _)| at.0),
            propagation_ms: self.completed.map(|(_, took)| took),
            objects: self.objects,
            nodes: Some(self.nodes.into()),
            pops: self.pops.iter().map(PopRow::from).collect(),
            waiting: self.waiting.iter().map(ToString::to_string).collect(),
            waiting_more: self.waiting_more,
            late: self.late.iter().map(LateRow::from).collect(),
            slow: self.slow.iter().map(SlowRow::from).collect(),
            by: self.by.map_or(0, |replica| replica.0.into()),
            approximate: self.approximate,
        };
        row.encode_to_vec()
    }

    pub(in crate::tracker) fn decode(bytes: &[u8]) -> Option<Self> {
        let row = ProgressRow::decode(bytes).ok()?;
        Some(Self {
            completed: row.completed_at.zip(row.propagation_ms).map(|(at, took)| (UnixMillis(at), took)),
            objects: row.objects,
            nodes: row.nodes.unwrap_or_default().into(),
            pops: row.pops.into_iter().map(PopLine::from).collect(),
            waiting: row.waiting.into_iter().map(Into::into).collect(),
            waiting_more: row.waiting_more,
            late: row.late.into_iter().filter_map(AwaitedNode::from_row).collect(),
            slow: row.slow.into_iter().filter_map(SlowRow::into_line).collect(),
            by: u8::try_from(row.by).ok().filter(|by| *by != 0).map(Replica),
            approximate: row.approximate,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ProgressRow {
    #[prost(uint64, optional, tag = "1")]
    completed_at: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    propagation_ms: Option<u64>,
    #[prost(uint64, tag = "3")]
    objects: u64,
    #[prost(message, optional, tag = "4")]
    nodes: Option<CountsRow>,
    #[prost(message, repeated, tag = "5")]
    pops: Vec<PopRow>,
    #[prost(string, repeated, tag = "6")]
    waiting: Vec<String>,
    #[prost(bool, tag = "7")]
    waiting_more: bool,
    #[prost(message, repeated, tag = "8")]
    late: Vec<LateRow>,
    #[prost(message, repeated, tag = "9")]
    slow: Vec<SlowRow>,
    /// 0: the only control plane.
    #[prost(uint32, tag = "10")]
    by: u32,
    #[prost(bool, tag = "11")]
    approximate: bool,
}

/// An [`AwaitedNode`] as it is kept.
#[derive(Clone, PartialEq, Message)]
pub(in crate::tracker) struct LateRow {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    reason: String,
}

impl From<&AwaitedNode> for LateRow {
    fn from(late: &AwaitedNode) -> Self {
        Self { node: late.node.to_string(), reason: late.reason.to_string() }
    }
}

impl AwaitedNode {
    /// `None` for a name that is none.
    pub(in crate::tracker) fn from_row(row: LateRow) -> Option<Self> {
        Some(Self { node: row.node.parse().ok()?, reason: row.reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_back_as_it_was_written() {
        let counts = NodeCounts { total: 3, confirmed: 2, fenced: 1, unreachable: 0 };
        let progress = TaskProgress {
            completed: Some((UnixMillis(1_745_145_600_123), 412)),
            objects: 318,
            nodes: counts,
            pops: vec![PopLine {
                acked_ms: Some(41),
                objects_evicted: 9,
                ..PopLine::new("fra1".into(), counts)
            }],
            slow: Vec::new(),
            waiting: vec!["fra1/edge-1".into()],
            waiting_more: false,
            late: vec![AwaitedNode { node: "fra1/edge-1".parse().unwrap(), reason: "unreachable".into() }],
            by: Some(Replica(2)),
            approximate: true,
        };
        assert_eq!(TaskProgress::decode(&progress.encode()), Some(progress.clone()));
        assert!(!progress.is_final());
        assert!(TaskProgress::decode(&TaskProgress::default().encode()).unwrap().is_final());
        assert_eq!(TaskProgress::decode(b"\xff\xff"), None);
    }
}
