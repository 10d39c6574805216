//! What became of one purge, as spans of OpenTelemetry: to a collector, if one is configured.
//!
//! ```text
//!  whoever did something ── Traces::record ─▶ queue ─▶ Exporter, a task of its own ── OTLP over gRPC ─▶ collector
//!                                              │ full            │ away, or it refuses
//!                                              └── lost, and counted ──┘
//! ```
//!
//! A span is made when what it tells is over, of times that were kept; so what is not traced costs a comparison, and nothing
//! that is under way ever waits for a collector. Recording one never waits and never fails: the queue has room for
//! [`QUEUE_SPANS`], and what comes beyond is lost.
//!
//! | module | answers |
//! | --- | --- |
//! | `section` | What may an operator set? `[traces]` |
//! | `export` | How do spans reach the collector? (feature `traces`) |
//! | `way` | Where is it, who vouches for it, and which token does it want? (feature `traces`) |

#[cfg(feature = "traces")]
mod export;
mod section;
#[cfg(feature = "traces")]
mod way;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_types::{Moment, TraceParent};
use tokio::sync::mpsc;

#[cfg(feature = "traces")]
pub use self::export::{Exporter, FAREWELL_MAX};
pub use self::section::{NO_ENDPOINT, TracesSection};

/// Spans that wait for the collector, at most: a few megabytes. Further ones are lost.
pub const QUEUE_SPANS: usize = 4_096;

/// Where spans are recorded. Cheap to clone; the default is nowhere.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    queue: Option<mpsc::Sender<TraceSpan>>,
}

/// Something that was done, from when to when, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSpan {
    /// What, in a word or two.
    pub name: &'static str,
    /// On which side of a line it stands.
    pub side: SpanSide,
    /// Its trace, and its own id.
    pub at: TraceParent,
    /// The span that it is a part of; none: it is the first of its trace.
    pub parent: Option<[u8; 8]>,
    /// In nanoseconds of Unix time.
    pub began: u64,
    /// The same.
    pub ended: u64,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// What happened in between, and when.
    pub events: Vec<(&'static str, u64)>,
    /// Why it came to nothing, if it did.
    pub failed: Option<String>,
}

/// On which side of a line a span stands, as OpenTelemetry has it (`SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanSide {
    /// Within one process.
    Internal,
    /// It answers a request.
    Server,
    /// It takes in what another has put out, later.
    Consumer,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<u64> for SpanValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for SpanValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<String> for SpanValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Traces {
    /// Somewhere, and its other end.
    pub fn channel() -> (Self, mpsc::Receiver<TraceSpan>) {
        let (queue, spans) = mpsc::channel(QUEUE_SPANS);
        (Self { queue: Some(queue) }, spans)
    }

    /// Whether there is a collector. If not, no span need be made.
    pub const fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands it to the collector's queue. Never waits; when the queue is full the span is lost, and counted.
    pub fn record(&self, span: TraceSpan) {
        if let Some(queue) = &self.queue
            && queue.try_send(span).is_err()
        {
            self.lose(1);
        }
    }

    /// Spans that could not be made, for too much is under way.
    pub fn lose(&self, spans: u64) {
        lost(LossReason::Queue, spans);
    }
}

/// An id for a new span: random, never all zeros.
pub fn new_span_id() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// A new trace, and its first span.
pub fn new_trace() -> TraceParent {
    loop {
        if let Some(trace) = TraceParent::new(rand::random(), new_span_id()) {
            return trace;
        }
    }
}

/// The span with this id in the same trace.
pub fn child_of(parent: TraceParent) -> TraceParent {
    loop {
        if let Some(child) = parent.with_span(new_span_id()) {
            return child;
        }
    }
}

/// What time of day a moment of a monotonic clock was, by the wall clock of now. Spans of two machines fit together as well as
/// their wall clocks do.
#[derive(Clone, Copy, Debug)]
pub struct TimeOfDay {
    now: Moment,
    wall: Duration,
}

/// A look at both clocks that took longer is made again: the process was held up in between.
const LOOK_MAX: Duration = Duration::from_micros(100);

/// So often at most.
const LOOKS_MAX: usize = 3;

impl TimeOfDay {
    /// Looks at both clocks; `now` reads the monotonic one.
    pub fn look(now: impl Fn() -> Moment) -> Self {
        let mut before = now();
        for look in 1.. {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let after = now();
            if after.since(before) <= LOOK_MAX || look == LOOKS_MAX {
                return Self { now: after, wall };
            }
            before = after;
        }
        Self { now: before, wall: Duration::ZERO }
    }

    /// In nanoseconds of Unix time.
    pub fn of(&self, moment: Moment) -> u64 {
        let wall = if moment > self.now {
            self.wall.saturating_add(moment.since(self.now))
        } else {
            self.wall.saturating_sub(self.now.since(moment))
        };
        u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Why a span did not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LossReason {
    /// Too many wait.
    Queue,
    /// The collector was away for too long.
    #[cfg(feature = "traces")]
    Away,
    /// The collector did not want it.
    #[cfg(feature = "traces")]
    Refused,
}

impl LossReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            #[cfg(feature = "traces")]
            Self::Away => "away",
            #[cfg(feature = "traces")]
            Self::Refused => "refused",
        }
    }
}

const LOST: &str = "batoff_trace_spans_lost_total";

fn lost(why: LossReason, spans: u64) {
    metrics::counter!(LOST, "reason" => why.as_str()).increment(spans);
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn span(name: &'static str) -> TraceSpan {
        TraceSpan {
            name,
            side: SpanSide::Internal,
            at: new_trace(),
            parent: None,
            began: 1,
            ended: 2,
            attributes: Vec::new(),
            events: Vec::new(),
            failed: None,
        }
    }

    #[test]
    fn a_queue_that_nobody_empties_takes_no_more_than_it_has_room_for() {
        let (traces, mut spans) = Traces::channel();
        for _ in 0..QUEUE_SPANS + 10 {
            traces.record(span("purge"));
        }
        let mut kept = 0;
        while spans.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, QUEUE_SPANS);
        Traces::default().record(span("nowhere"));
    }

    #[test]
    fn a_child_is_in_its_parents_trace() {
        let parent = new_trace();
        let child = child_of(parent);
        assert_eq!(child.trace(), parent.trace());
        assert_ne!(child.span(), parent.span());
    }

    #[test]
    fn moments_have_times_of_day_as_far_apart_as_they_are() {
        let at = |micros| Moment::from_micros(micros);
        let now = TimeOfDay::look(|| at(5_000_000));
        assert_eq!(now.of(at(5_000_000)) - now.of(at(2_000_000)), 3_000_000_000);
        assert_eq!(now.of(at(6_000_000)) - now.of(at(5_000_000)), 1_000_000_000);
    }
}
