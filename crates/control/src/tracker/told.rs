//! What a collector is told of a traced purge: how it came to the nodes, and when it was completed.

use std::sync::Arc;

use batoff_program::traces::{SpanSide, TimeOfDay, TraceSpan, Traces, child_of};
use batoff_types::Moment;

use super::tasks::live::{Finished, Handed};
use crate::clock::{Clock, millis};

/// From when the record was known here until the first stream was handed it.
pub(super) fn handed(traces: &Traces, clock: &Clock, handed: &[Handed]) {
    if handed.is_empty() || !traces.is_on() {
        return;
    }
    let (now, time) = (clock.now(), time_of(clock));
    for Handed { seq, task, trace, durable_at } in handed {
        traces.record(TraceSpan {
            name: "stream",
            side: SpanSide::Internal,
            at: child_of(*trace),
            parent: Some(trace.span()),
            began: time.of(*durable_at),
            ended: time.of(now),
            attributes: vec![("batoff.task", task.to_string().into()), ("batoff.seq", seq.get().into())],
            events: Vec::new(),
            failed: None,
        });
    }
}

/// From when the purge was accepted (in whole milliseconds, as its record has it) until it could be told that it is completed.
pub(super) fn completed(traces: &Traces, clock: &Clock, finished: &[Finished]) {
    if !traces.is_on() || finished.iter().all(|one| one.trace.is_none()) {
        return;
    }
    let (now, time) = (clock.now(), time_of(clock));
    for Finished { task, slowest, trace } in finished {
        let Some(trace) = trace else { continue };
        let mut attributes = vec![
            ("batoff.task", task.task.to_string().into()),
            ("batoff.seq", task.seq.get().into()),
            ("batoff.nodes", u64::from(task.nodes.total).into()),
            ("batoff.nodes_fenced", u64::from(task.nodes.fenced).into()),
            ("batoff.objects", task.objects_evicted.into()),
        ];
        if let Some(propagation) = task.propagation_ms {
            attributes.push(("batoff.propagation_ms", propagation.into()));
        }
        if let Some((node, after)) = slowest {
            attributes.push(("batoff.slowest", Arc::clone(node).to_string().into()));
            attributes.push(("batoff.slowest_ms", millis(*after).into()));
        }
        traces.record(TraceSpan {
            name: "completed",
            side: SpanSide::Internal,
            at: child_of(*trace),
            parent: Some(trace.span()),
            began: task.started_at.0.saturating_mul(1_000_000),
            ended: time.of(now),
            attributes,
            events: Vec::new(),
            failed: None,
        });
    }
}

fn time_of(clock: &Clock) -> TimeOfDay {
    TimeOfDay::look(|| -> Moment { clock.now() })
}
