//! Which purges are traced, and what is told of the request of one.
//!
//! Nobody is looked at before his signature has been accepted, so that a stranger has nothing traced. After that the lot
//! decides, and not the caller's ids: whoever chooses ids could choose those that win. A caller's `traceparent` says of which
//! trace a purge is a part; its flag has a say only within `traces.callers_per_minute`.
//!
//! ```text
//!  caller's span, if it sent one
//!    purge                    the request, until the answer leaves
//!      verify                 token, size, signature, scope
//!      parse                  media type, JSON, query
//!      admit                  items, quota, the guard max_objects, its turn
//!      append                 until it is durable
//!      stream, apply, completed      by the tracker and the nodes: their parent stands in the record
//! ```

use batoff_program::traces::{SpanSide, SpanValue, TimeOfDay, TraceSpan, Traces, child_of, new_trace};
use batoff_types::{CallersTrace, Moment, SiteId, TraceParent};
use http::HeaderMap;
use parking_lot::Mutex;

use super::bucket::{Bucket, Rate};
use super::problem::Problem;
use crate::clock::Clock;
use crate::commit::Accepted;
use crate::service::Services;

/// The field in which a caller says of which trace his request is a part (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Decides which purges are traced.
pub struct Sampler {
    traces: Traces,
    clock: Clock,
    ratio: f64,
    /// What callers may have traced; `None`: nothing.
    callers: Option<(Rate, Mutex<Bucket>)>,
}

/// The request of a traced purge. What is known of it is told when it is dropped, be it because the client went away.
pub struct RequestTrace {
    traces: Traces,
    clock: Clock,
    at: TraceParent,
    parent: Option<[u8; 8]>,
    began: Moment,
    /// The steps so far, each with its end.
    steps: Vec<(&'static str, Moment)>,
    attributes: Vec<(&'static str, SpanValue)>,
    failed: Option<String>,
}

impl Sampler {
    /// As configured.
    pub fn new(services: &Services) -> Self {
        let config = &services.config.traces;
        let rate = Some(config.callers_per_minute()).filter(|callers| *callers > 0).map(|callers| {
            let rate = Rate { burst: callers.div_ceil(60), per_minute: callers };
            (rate, Mutex::new(Bucket::full(services.clock.now())))
        });
        Self {
            traces: services.traces.clone(),
            clock: services.clock.clone(),
            ratio: config.ratio(),
            callers: rate,
        }
    }

    /// When a request came; `None` when nothing is traced.
    pub fn begin(&self) -> Option<Moment> {
        self.traces.is_on().then(|| self.clock.now())
    }

    /// The request that came then, and may purge, if it is to be traced.
    pub fn sample(&self, began: Option<Moment>, headers: &HeaderMap) -> Option<RequestTrace> {
        let began = began?;
        let caller = caller_of(headers);
        let is_chosen = rand::random::<f64>() < self.ratio
            || caller.is_some_and(|caller| caller.is_sampled) && self.take_of_callers();
        is_chosen.then(|| RequestTrace {
            traces: self.traces.clone(),
            clock: self.clock.clone(),
            at: caller.map_or_else(new_trace, |caller| child_of(caller.parent)),
            parent: caller.map(|caller| caller.parent.span()),
            began,
            steps: Vec::with_capacity(4),
            attributes: Vec::new(),
            failed: None,
        })
    }

    fn take_of_callers(&self) -> bool {
        let Some((rate, bucket)) = &self.callers else { return false };
        let now = self.clock.now();
        let mut bucket = bucket.lock();
        bucket.refill(*rate, now);
        let is_there = bucket.wait_for(*rate, 1).is_zero();
        if is_there {
            bucket.take(1);
        }
        is_there
    }
}

/// What a caller says, once; what is malformed, or said twice, says nothing.
fn caller_of(headers: &HeaderMap) -> Option<CallersTrace> {
    let mut fields = headers.get_all(TRACEPARENT).iter();
    let field = fields.next().filter(|_| fields.next().is_none())?;
    field.to_str().ok()?.parse().ok()
}

impl RequestTrace {
    /// What the record says of it.
    pub const fn at(&self) -> TraceParent {
        self.at
    }

    /// A step has ended.
    pub fn step(&mut self, name: &'static str) {
        self.steps.push((name, self.clock.now()));
    }

    /// Whose objects, by which request.
    pub fn asked(&mut self, site: &SiteId, request_id: &str) {
        self.attributes.push(("batoff.site", site.as_str().into()));
        self.attributes.push(("batoff.request_id", request_id.into()));
    }

    /// It is durable.
    pub fn accepted(&mut self, accepted: &Accepted) {
        self.attributes.push(("batoff.task", accepted.task.to_string().into()));
        self.attributes.push(("batoff.seq", accepted.seq.get().into()));
        self.attributes.push(("batoff.items", (accepted.items_total as u64).into()));
        if accepted.replayed {
            // What nodes did stands in the trace of the first one.
            self.attributes.push(("batoff.replayed", true.into()));
        }
    }

    /// It was refused.
    pub fn refused(&mut self, problem: &Problem) {
        self.attributes.push(("error.type", problem.code.as_str().into()));
        self.failed = Some(problem.code.as_str().to_owned());
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        let now = self.clock.now();
        let time = TimeOfDay::look(|| self.clock.now());
        let mut began = self.began;
        for (name, ended) in std::mem::take(&mut self.steps) {
            self.traces.record(TraceSpan {
                name,
                side: SpanSide::Internal,
                at: child_of(self.at),
                parent: Some(self.at.span()),
                began: time.of(began),
                ended: time.of(ended),
                attributes: Vec::new(),
                events: Vec::new(),
                failed: None,
            });
            began = ended;
        }
        self.traces.record(TraceSpan {
            name: "purge",
            side: SpanSide::Server,
            at: self.at,
            parent: self.parent,
            began: time.of(self.began),
            ended: time.of(now),
            attributes: std::mem::take(&mut self.attributes),
            events: Vec::new(),
            failed: self.failed.take(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sampler(ratio: f64, callers_per_minute: u32) -> (Sampler, tokio::sync::mpsc::Receiver<TraceSpan>) {
        let (traces, spans) = Traces::channel();
        let clock = Clock::system();
        let rate =
            Rate { burst: callers_per_minute.div_ceil(60).max(1), per_minute: callers_per_minute.max(1) };
        let bucket = Mutex::new(Bucket::full(clock.now()));
        let callers = (callers_per_minute > 0).then_some((rate, bucket));
        (Sampler { traces, clock, ratio, callers }, spans)
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (http::HeaderName::from_static(TRACEPARENT), line.parse().unwrap())).collect()
    }

    #[test]
    fn the_lot_decides_and_a_caller_has_no_say_unless_he_is_given_one() {
        let (none, _spans) = sampler(0.0, 0);
        assert!((0..100).all(|_| none.sample(none.begin(), &headers(&[CALLER])).is_none()));
        let (all, _spans) = sampler(1.0, 0);
        assert!(all.sample(all.begin(), &headers(&[])).is_some());
        let unsampled = CALLER.replace("-01", "-00");
        assert!(all.sample(all.begin(), &headers(&[&unsampled])).is_some());
        let (half, _spans) = sampler(0.5, 0);
        let chosen = (0..1_000).filter(|_| half.sample(half.begin(), &headers(&[])).is_some()).count();
        // Ten standard deviations.
        assert!((342..658).contains(&chosen), "{chosen}");
    }

    #[test]
    fn callers_have_no_more_traced_than_they_may() {
        let (given, _spans) = sampler(0.0, 120);
        let chosen = (0..50).filter(|_| given.sample(given.begin(), &headers(&[CALLER])).is_some()).count();
        // Two at once, and whatever flows in meanwhile.
        assert!((2..20).contains(&chosen), "{chosen}");
        let unsampled = CALLER.replace("-01", "-00");
        assert!(given.sample(given.begin(), &headers(&[&unsampled])).is_none());
    }

    #[test]
    fn a_purge_is_a_part_of_its_callers_trace_if_that_is_said_once_and_well() {
        let (all, _spans) = sampler(1.0, 0);
        let trace = |lines: &[&str]| all.sample(all.begin(), &headers(lines)).unwrap();
        let of_caller = trace(&[CALLER]);
        assert_eq!(of_caller.at.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(of_caller.parent, Some([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        for lines in [&[CALLER, CALLER][..], &["00-zz"], &[]] {
            assert_eq!(trace(lines).parent, None, "{lines:?}");
        }
    }

    #[test]
    fn a_request_that_ends_early_is_told_as_far_as_it_came() {
        let (all, mut spans) = sampler(1.0, 0);
        let mut request = all.sample(all.begin(), &headers(&[])).unwrap();
        let at = request.at();
        request.step("verify");
        request.step("parse");
        drop(request);
        let told: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        assert_eq!(told.iter().map(|span| span.name).collect::<Vec<_>>(), ["verify", "parse", "purge"]);
        assert!(told[..2].iter().all(|span| span.parent == Some(at.span()) && span.at.trace() == at.trace()));
        assert_eq!((told[2].at, told[2].began, told[0].ended), (at, told[0].began, told[1].began));
    }
}
