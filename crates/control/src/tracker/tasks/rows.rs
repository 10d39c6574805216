//! The parts of a task's row: its nodes, its PoPs, its slowest nodes. Fields are added and never change their meaning, for
//! rows are read for 30 days, by whichever version is there then.

use batoff_types::NodeName;
use prost::Message;

use super::cause::LateCause;
use super::propagation::{NodeLine, PopLine};
use super::view::NodeCounts;

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CountsRow {
    #[prost(uint32, tag = "1")]
    total: u32,
    #[prost(uint32, tag = "2")]
    confirmed: u32,
    #[prost(uint32, tag = "3")]
    fenced: u32,
    #[prost(uint32, tag = "4")]
    unreachable: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PopRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    nodes: Option<CountsRow>,
    #[prost(uint64, optional, tag = "3")]
    slowest_ms: Option<u64>,
    #[prost(uint64, tag = "4")]
    objects: u64,
    /// First sent, last sent, in force, evicted, fenced: see [`packed`].
    #[prost(uint64, repeated, tag = "5")]
    marks: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SlowRow {
    #[prost(string, tag = "1")]
    node: String,
    /// Sent, in force, acknowledged, evicted, fenced: see [`packed`].
    #[prost(uint64, repeated, tag = "2")]
    marks: Vec<u64>,
    #[prost(uint32, tag = "3")]
    cause: u32,
    #[prost(string, tag = "4")]
    detail: String,
}

/// Figures with 0 for what is not known, and one more than it is for what is; nothing for those at the end that are not.
fn packed<const N: usize>(figures: [Option<u64>; N]) -> Vec<u64> {
    let known = figures.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    figures.iter().take(known).map(|figure| figure.map_or(0, |ms| ms.saturating_add(1))).collect()
}

fn unpacked<const N: usize>(marks: &[u64]) -> [Option<u64>; N] {
    std::array::from_fn(|place| marks.get(place).and_then(|mark| mark.checked_sub(1)))
}

impl From<&PopLine> for PopRow {
    fn from(line: &PopLine) -> Self {
        Self {
            name: line.pop.to_string(),
            nodes: Some(line.nodes.into()),
            slowest_ms: line.acked_ms,
            objects: line.objects_evicted,
            marks: packed([
                line.sent_ms,
                line.sent_last_ms,
                line.in_force_ms,
                line.evicted_ms,
                line.fenced_ms,
            ]),
        }
    }
}

impl From<PopRow> for PopLine {
    fn from(row: PopRow) -> Self {
        let [sent_ms, sent_last_ms, in_force_ms, evicted_ms, fenced_ms] = unpacked(&row.marks);
        Self {
            pop: row.name.into(),
            nodes: row.nodes.unwrap_or_default().into(),
            sent_ms,
            sent_last_ms,
            in_force_ms,
            acked_ms: row.slowest_ms,
            evicted_ms,
            fenced_ms,
            objects_evicted: row.objects,
        }
    }
}

impl From<&NodeLine> for SlowRow {
    fn from(line: &NodeLine) -> Self {
        let marks = packed([line.sent_ms, line.in_force_ms, line.acked_ms, line.evicted_ms, line.fenced_ms]);
        Self {
            node: line.node.to_string(),
            marks,
            cause: line.cause.number(),
            detail: line.detail.to_string(),
        }
    }
}

impl SlowRow {
    /// `None` for a name that is none.
    pub(super) fn into_line(self) -> Option<NodeLine> {
        let [sent_ms, in_force_ms, acked_ms, evicted_ms, fenced_ms] = unpacked(&self.marks);
        let node = self.node.parse::<NodeName>().ok()?;
        let cause = LateCause::from_number(self.cause);
        Some(NodeLine {
            sent_ms,
            in_force_ms,
            acked_ms,
            evicted_ms,
            fenced_ms,
            ..NodeLine::new(node, cause, self.detail.into())
        })
    }
}

impl From<NodeCounts> for CountsRow {
    fn from(counts: NodeCounts) -> Self {
        let NodeCounts { total, confirmed, fenced, unreachable } = counts;
        Self { total, confirmed, fenced, unreachable }
    }
}

impl From<CountsRow> for NodeCounts {
    fn from(row: CountsRow) -> Self {
        let CountsRow { total, confirmed, fenced, unreachable } = row;
        Self { total, confirmed, fenced, unreachable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(name: &str) -> PopLine {
        PopLine {
            sent_ms: Some(0),
            sent_last_ms: Some(3),
            in_force_ms: Some(38),
            acked_ms: Some(41),
            evicted_ms: Some(90),
            objects_evicted: 9,
            ..PopLine::new(name.into(), NodeCounts { total: 12, confirmed: 12, ..NodeCounts::default() })
        }
    }

    fn node(cause: LateCause) -> NodeLine {
        NodeLine {
            sent_ms: Some(1),
            in_force_ms: Some(40),
            acked_ms: Some(1_400),
            ..NodeLine::new("waw1/edge-2".parse().unwrap(), cause, "".into())
        }
    }

    #[test]
    fn pops_and_nodes_are_read_back_as_they_were_written() {
        let fenced = NodeLine { acked_ms: None, fenced_ms: Some(0), ..node(LateCause::NoConnection) };
        for line in [node(LateCause::CacheBusy), fenced] {
            assert_eq!(SlowRow::from(&line).into_line(), Some(line));
        }
        let nothing = PopLine::new("ams1".into(), NodeCounts::default());
        for line in [pop("fra1"), PopLine { fenced_ms: Some(1_050), ..pop("fra1") }, nothing] {
            assert_eq!(PopLine::from(PopRow::from(&line)), line);
        }
    }

    /// Field by field, as the first version wrote it.
    #[test]
    fn rows_that_were_written_before_there_were_marks_are_read() {
        let old = b"\x0a\x04fra1\x12\x04\x08\x03\x10\x03\x18\x29\x20\x09";
        let line = PopLine::from(PopRow::decode(old.as_slice()).unwrap());
        let nodes = NodeCounts { total: 3, confirmed: 3, ..NodeCounts::default() };
        assert_eq!(
            line,
            PopLine { acked_ms: Some(41), objects_evicted: 9, ..PopLine::new("fra1".into(), nodes) }
        );
    }

    #[test]
    fn a_task_grows_by_so_many_bytes() {
        let row = PopRow::from(&pop("fra1"));
        let before = PopRow { marks: Vec::new(), ..row.clone() };
        // Four figures, two bytes around them.
        assert_eq!((row.encoded_len(), before.encoded_len()), (22, 16));
        assert_eq!(SlowRow::from(&node(LateCause::CacheBusy)).encoded_len(), 21);
    }
}
