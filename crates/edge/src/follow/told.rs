//! What this node did with a traced purge, for a collector: one span, from when the record was received to when a control plane
//! was told that it is evicted.

use std::collections::VecDeque;

use batoff_delivery::Received;
use batoff_program::traces::{SpanSide, TimeOfDay, TraceSpan, Traces, child_of};
use batoff_types::message::RecordReport;
use batoff_types::{Cursor, Moment, Record, Replica, Seq, TaskId, TraceParent};

use crate::boottime;

/// Traced purges that are under way here, at most. Of further ones nothing is told.
const UNDER_WAY_MAX: usize = 1_024;

/// The traced purges that are under way, in the order of the log.
pub(super) struct TracedPurges {
    traces: Traces,
    under_way: VecDeque<TracedPurge>,
}

struct TracedPurge {
    seq: Seq,
    task: TaskId,
    trace: TraceParent,
    received_at: Moment,
    applied: Option<RecordReport>,
}

impl TracedPurges {
    pub(super) fn new(traces: Traces) -> Self {
        Self { traces, under_way: VecDeque::new() }
    }

    /// The record goes to the applier.
    pub(super) fn handed(&mut self, received: &Received) {
        let Received { record: Record { seq, task, trace: Some(trace), .. }, at } = received else { return };
        if !self.traces.is_on() {
            return;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            return self.traces.lose(1);
        }
        let (seq, task, trace, received_at) = (*seq, *task, *trace, *at);
        self.under_way.push_back(TracedPurge { seq, task, trace, received_at, applied: None });
    }

    /// It is evicted.
    pub(super) fn applied(&mut self, seq: Seq, report: &RecordReport) {
        if let Ok(place) = self.under_way.binary_search_by_key(&seq, |one| one.seq) {
            self.under_way[place].applied = Some(*report);
        }
    }

    /// A control plane is told now that everything through there is evicted.
    pub(super) fn acked(&mut self, replica: Replica, cursor: Cursor) {
        if self.under_way.front().is_none_or(|one| !cursor.covers(one.seq)) {
            return;
        }
        let (now, time) = (boottime(), TimeOfDay::look(boottime));
        while let Some(one) = self.under_way.pop_front_if(|one| cursor.covers(one.seq)) {
            if let Some(report) = one.applied {
                self.traces.record(one.span(&report, replica, now, &time));
            }
        }
    }

    /// Everything was dropped; what was under way is void.
    pub(super) fn reset(&mut self) {
        self.under_way.clear();
    }
}

impl TracedPurge {
    fn span(&self, report: &RecordReport, replica: Replica, acked: Moment, time: &TimeOfDay) -> TraceSpan {
        let in_force = self.received_at + report.in_force_after;
        let evicted = self.received_at + report.evicted_after;
        TraceSpan {
            name: "apply",
            side: SpanSide::Consumer,
            at: child_of(self.trace),
            parent: Some(self.trace.span()),
            began: time.of(self.received_at),
            ended: time.of(acked),
            attributes: vec![
                ("batoff.task", self.task.to_string().into()),
                ("batoff.seq", self.seq.get().into()),
                ("batoff.objects", report.objects.into()),
                // More may still be found, which can be served no more than these.
                ("batoff.objects_final", report.last.into()),
                ("batoff.acked_to", u64::from(replica.0).into()),
            ],
            events: vec![("in force", time.of(in_force)), ("evicted", time.of(evicted))],
            failed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use batoff_program::traces::new_trace;
    use batoff_types::{Body, UnixMillis};

    use super::*;

    fn received(number: u64, trace: Option<TraceParent>) -> Received {
        let record = Record {
            seq: Seq::new(number).unwrap(),
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([7; 16]),
            request_id: "r".into(),
            semantics: 1,
            trace,
            body: Body::Unknown,
        };
        Received { record, at: boottime() }
    }

    fn report(number: u64) -> RecordReport {
        let (in_force_after, evicted_after) = (Duration::from_micros(3), Duration::from_micros(9));
        RecordReport { seq: Seq::new(number).unwrap(), objects: 2, last: true, in_force_after, evicted_after }
    }

    #[test]
    fn a_traced_purge_is_told_once_it_is_acknowledged_and_another_is_not() {
        let (traces, mut spans) = Traces::channel();
        let mut told = TracedPurges::new(traces);
        let trace = new_trace();
        for number in 1..=3 {
            told.handed(&received(number, Some(trace).filter(|_| number != 2)));
            told.applied(Seq::new(number).unwrap(), &report(number));
        }
        told.acked(Replica::ONLY, Cursor::START);
        assert!(spans.try_recv().is_err());
        told.acked(Replica::ONLY, Cursor::new(2));
        let span = spans.try_recv().unwrap();
        assert_eq!((span.at.trace(), span.parent), (trace.trace(), Some(trace.span())));
        let at = |name| span.events.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(span.began < at("in force") && at("in force") < at("evicted"));
        assert!(spans.try_recv().is_err());
        told.acked(Replica(2), Cursor::new(3));
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
    }

    #[test]
    fn nothing_is_kept_of_what_a_reset_made_void_nor_without_a_collector() {
        let (traces, mut spans) = Traces::channel();
        let mut told = TracedPurges::new(traces);
        told.handed(&received(1, Some(new_trace())));
        told.reset();
        told.acked(Replica::ONLY, Cursor::new(1));
        assert!(spans.try_recv().is_err());
        let mut nowhere = TracedPurges::new(Traces::default());
        nowhere.handed(&received(1, Some(new_trace())));
        assert!(nowhere.under_way.is_empty());
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let (traces, _spans) = Traces::channel();
        let mut told = TracedPurges::new(traces);
        for number in 1..=UNDER_WAY_MAX as u64 + 5 {
            told.handed(&received(number, Some(new_trace())));
        }
        assert_eq!(told.under_way.len(), UNDER_WAY_MAX);
    }
}
