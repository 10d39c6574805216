//! When a task came how far on nodes and PoPs, in a few bytes each.
//!
//! A figure is milliseconds since the task was durable. It is counted by the control plane's clock alone: what a node says
//! is how long ago something happened there, and that is taken off the moment at which it was heard.

use std::time::Duration;

use batoff_types::message::RecordReport;

use crate::clock::millis;
use crate::tracker::nodes::roll::NodeIndex;

/// The slowest nodes that are kept of one task.
pub(in crate::tracker) const SLOW_NODES_MAX: usize = 8;

/// Milliseconds since a task was durable, in two bytes: exact below 4,096, above it at most 1/2,048 too low, at most 37 hours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::tracker) struct WayMark(u16);

impl WayMark {
    /// Not known, or not so yet.
    pub(in crate::tracker) const NONE: Self = Self(u16::MAX);

    const MANTISSA_BITS: u32 = 12;

    pub(in crate::tracker) fn of(after: Duration) -> Self {
        Self::of_millis(millis(after))
    }

    pub(in crate::tracker) fn of_millis(millis: u64) -> Self {
        let shift = (u64::BITS - millis.leading_zeros()).saturating_sub(Self::MANTISSA_BITS);
        let greatest = u16::MAX - 1;
        if shift > u32::from(greatest >> Self::MANTISSA_BITS) {
            return Self(greatest);
        }
        // Of 4 and of 12 bits.
        Self(((shift << Self::MANTISSA_BITS) as u16 | (millis >> shift) as u16).min(greatest))
    }

    pub(in crate::tracker) fn millis(self) -> Option<u64> {
        let mantissa = u64::from(self.0 & ((1 << Self::MANTISSA_BITS) - 1));
        (self != Self::NONE).then_some(mantissa << (self.0 >> Self::MANTISSA_BITS))
    }

    /// The later of two, of which one may not be known.
    fn later(self, other: Self) -> Self {
        if self.millis() < other.millis() { other } else { self }
    }

    /// The earlier of two, of which one may not be known.
    fn earlier(self, other: Self) -> Self {
        match (self.millis(), other.millis()) {
            (Some(this), Some(that)) if that < this => other,
            (None, _) => other,
            (Some(_), _) => self,
        }
    }
}

impl std::fmt::Debug for WayMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.millis())
    }
}

impl Default for WayMark {
    fn default() -> Self {
        Self::NONE
    }
}

/// What one PoP has done with a task: 24 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tracker) struct PopProgress {
    pub objects: u64,
    /// Milliseconds from durable until the slowest node so far had confirmed, plus one; 0 as long as none has.
    slowest: u32,
    /// When the first of its nodes that have confirmed was handed it.
    pub sent_first: WayMark,
    /// When the last of them was.
    pub sent_last: WayMark,
    /// When it was in force on the last of its nodes that have reported.
    pub in_force: WayMark,
    /// When the last of the reports came that leave nothing to report.
    pub evicted: WayMark,
}

impl PopProgress {
    pub(in crate::tracker) fn handle_confirmed(&mut self, sent: WayMark, after: Duration) {
        let slowest = u32::try_from(millis(after)).unwrap_or(u32::MAX).saturating_add(1);
        self.slowest = self.slowest.max(slowest);
        self.sent_first = self.sent_first.earlier(sent);
        self.sent_last = self.sent_last.later(sent);
    }

    pub(in crate::tracker) fn handle_report(&mut self, report: &RecordReport, after: Duration) {
        self.objects = self.objects.saturating_add(report.objects);
        self.in_force = self.in_force.later(in_force(report, after));
        if report.last {
            self.evicted = self.evicted.later(WayMark::of(after));
        }
    }

    pub(in crate::tracker) fn slowest_ms(&self) -> Option<u64> {
        self.slowest.checked_sub(1).map(u64::from)
    }
}

/// When it was in force at the latest: as long before its report was heard as the node needed from there to the report. The
/// report's way lies in between, so it was a little earlier.
fn in_force(report: &RecordReport, heard_after: Duration) -> WayMark {
    let since = report.evicted_after.saturating_sub(report.in_force_after);
    WayMark::of(heard_after.saturating_sub(since))
}

/// What one node has done with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct NodeProgress {
    pub node: NodeIndex,
    /// When it was handed to the node's stream.
    pub sent: WayMark,
    /// When it was in force there.
    pub in_force: WayMark,
    /// When it was acknowledged.
    pub acked: WayMark,
    /// When the last report on it came.
    pub evicted: WayMark,
}

/// The nodes that acknowledged a task last, the slowest at the end. Acknowledgements come in the order of time, so
/// whoever comes next is slower than all before. 8 times 12 bytes.
#[derive(Clone, Debug, Default)]
pub(in crate::tracker) struct SlowNodes(Vec<NodeProgress>);

impl SlowNodes {
    pub(in crate::tracker) fn handle_confirmed(&mut self, node: NodeIndex, sent: WayMark, after: Duration) {
        self.handle_gone(node);
        if self.0.len() == SLOW_NODES_MAX {
            self.0.remove(0);
        }
        let (in_force, evicted) = (WayMark::NONE, WayMark::NONE);
        self.0.push(NodeProgress { node, sent, in_force, acked: WayMark::of(after), evicted });
    }

    pub(in crate::tracker) fn handle_report(
        &mut self,
        node: NodeIndex,
        report: &RecordReport,
        after: Duration,
    ) {
        let Some(known) = self.0.iter_mut().rev().find(|known| known.node == node) else { return };
        // Later reports are of objects that are still being removed, and come when the rule was long in force.
        if known.in_force == WayMark::NONE {
            known.in_force = in_force(report, after).earlier(known.acked);
        }
        if report.last {
            known.evicted = known.evicted.later(WayMark::of(after));
        }
    }

    /// The number may be another node's from now on.
    pub(in crate::tracker) fn handle_gone(&mut self, node: NodeIndex) {
        self.0.retain(|known| known.node != node);
    }

    /// The slowest first.
    pub(in crate::tracker) fn iter(&self) -> impl Iterator<Item = &NodeProgress> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn report(in_force: u64, evicted: u64, last: bool) -> RecordReport {
        RecordReport {
            seq: batoff_types::Seq::FIRST,
            objects: 1,
            last,
            in_force_after: ms(in_force),
            evicted_after: ms(evicted),
        }
    }

    #[test]
    fn a_mark_is_exact_where_it_matters_and_never_far_off() {
        for millis in (0..4_096).chain([4_097, 10_001, 600_123, 86_400_000]) {
            let told = WayMark::of_millis(millis).millis().unwrap();
            assert!(told <= millis && millis - told <= millis / 2_048, "{millis} {told}");
            assert!(millis >= 4_096 || told == millis);
            assert_eq!(WayMark::of_millis(told), WayMark::of_millis(millis));
        }
        let longest = WayMark::of_millis(u64::MAX);
        assert!(longest != WayMark::NONE && longest.millis() > Some(36 * 3_600_000));
        assert_eq!(WayMark::NONE.millis(), None);
    }

    #[test]
    fn a_pop_is_as_slow_as_its_slowest_node() {
        let mut pop = PopProgress::default();
        assert_eq!((pop.slowest_ms(), pop.sent_first), (None, WayMark::NONE));
        pop.handle_confirmed(WayMark::of_millis(3), ms(40));
        pop.handle_confirmed(WayMark::NONE, ms(45));
        pop.handle_confirmed(WayMark::of_millis(1), ms(60));
        pop.handle_report(&report(2, 12, true), ms(60));
        pop.handle_report(&report(2, 2, false), ms(30));
        assert_eq!(pop.slowest_ms(), Some(60));
        assert_eq!(
            [pop.sent_first, pop.sent_last, pop.in_force, pop.evicted].map(WayMark::millis),
            [1, 3, 50, 60].map(Some)
        );
    }

    #[test]
    fn the_slowest_nodes_are_kept_and_what_they_report_later() {
        let node = |number: usize| NodeIndex::for_test(number as u32);
        let mut slow = SlowNodes::default();
        for number in 0..=SLOW_NODES_MAX {
            slow.handle_confirmed(node(number), WayMark::of_millis(1), ms(10 * number as u64));
        }
        slow.handle_report(node(0), &report(1, 1, true), ms(100));
        slow.handle_report(node(8), &report(1, 31, false), ms(80));
        slow.handle_report(node(8), &report(1, 900, true), ms(1_000));
        assert_eq!(
            slow.iter().map(|known| known.node).collect::<Vec<_>>(),
            (1..=8).rev().map(node).collect::<Vec<_>>()
        );
        let slowest = slow.iter().next().unwrap();
        assert_eq!(
            [slowest.sent, slowest.in_force, slowest.acked, slowest.evicted].map(WayMark::millis),
            [1, 50, 80, 1_000].map(Some)
        );
        slow.handle_gone(node(8));
        assert_eq!(slow.iter().next().unwrap().node, node(7));
    }

    #[test]
    fn what_is_kept_of_each_live_task_is_small() {
        assert_eq!(size_of::<PopProgress>(), 24);
        assert_eq!(size_of::<NodeProgress>(), 12);
    }
}
