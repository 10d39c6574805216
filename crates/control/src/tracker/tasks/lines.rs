//! A task in memory, PoP by PoP and node by node, as its row keeps it and a question is answered.

use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::PURGE_TARGET;

use super::cause::LateCause;
use super::live::LiveTask;
use super::marks::WayMark;
use super::propagation::{FENCED_MAX, FencedLine, Fences, NodeLine, PopLine};
use super::view::NodeCounts;
use crate::clock::millis;
use crate::tracker::nodes::roll::Roll;

/// Nodes beside the slowest are kept only if they needed so much of the target.
const SLOW_FROM: Duration = Duration::from_millis(PURGE_TARGET.as_millis() as u64 / 4);

impl LiveTask {
    /// PoP by PoP, with the nodes as `by_pop` says, sorted by name.
    pub(in crate::tracker) fn pop_lines(
        &self,
        by_pop: &[(Arc<str>, NodeCounts)],
        fences: &Fences,
        roll: &Roll,
    ) -> Vec<PopLine> {
        let line = |(pop, nodes): &(Arc<str>, NodeCounts)| {
            let done = roll.pop(pop).and_then(|index| self.pops.get(&index)).copied().unwrap_or_default();
            let acked_ms = done.slowest_ms();
            PopLine {
                pop: Arc::clone(pop),
                nodes: *nodes,
                sent_ms: done.sent_first.millis(),
                sent_last_ms: done.sent_last.millis(),
                // Each node acknowledges what is in force.
                in_force_ms: done.in_force.millis().map(|at| acked_ms.map_or(at, |acked| at.min(acked))),
                acked_ms,
                evicted_ms: done.evicted.millis(),
                fenced_ms: fences.by_pop.get(pop).map(|since| millis(since.since(self.durable_at))),
                objects_evicted: done.objects,
            }
        };
        by_pop.iter().map(line).collect()
    }

    /// The nodes that it did not wait for, and those that it waited for longest: the slowest first.
    pub(in crate::tracker) fn slow_lines(&self, fences: &Fences, roll: &Roll) -> Vec<NodeLine> {
        let fenced = fences.nodes.iter().take(FENCED_MAX).map(|fence| self.fenced_line(fence));
        let slow_from = WayMark::of(SLOW_FROM).millis();
        let slow = self.slow.iter().enumerate();
        let slow = slow.take_while(|(place, slow)| *place == 0 || slow.acked.millis() >= slow_from);
        let slow = slow.filter_map(|(_, slow)| {
            let node = roll.node(slow.node)?.clone();
            let detail = roll.trouble_since(&node, self.durable_at);
            let cause = LateCause::of_way(
                slow.sent.millis(),
                slow.in_force.millis(),
                slow.acked.millis(),
                detail.is_some(),
            );
            let detail = detail.filter(|_| cause == LateCause::CacheTrouble).unwrap_or_default();
            Some(NodeLine {
                sent_ms: slow.sent.millis(),
                in_force_ms: slow.in_force.millis(),
                acked_ms: slow.acked.millis(),
                evicted_ms: slow.evicted.millis(),
                ..NodeLine::new(node, cause, detail)
            })
        });
        fenced.chain(slow).collect()
    }

    fn fenced_line(&self, fence: &FencedLine) -> NodeLine {
        NodeLine {
            sent_ms: fence.sent.map(|at| millis(at.since(self.durable_at))),
            fenced_ms: Some(millis(fence.since.since(self.durable_at))),
            ..NodeLine::new(fence.node.clone(), fence.cause, Arc::clone(&fence.detail))
        }
    }
}
