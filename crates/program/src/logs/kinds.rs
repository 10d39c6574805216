//! One bucket a kind of line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one kind at once.
pub const KIND_BURST: u32 = 100;

/// Lines of one kind a second, after that.
pub const KIND_PER_SECOND: u32 = 10;

/// The same for lines that name a task.
pub const STORY_BURST: u32 = 20_000;

/// The same for lines that name a task.
pub const STORY_PER_SECOND: u32 = 5_000;

/// The kinds of lines that were written so far. There are as many as places in the code.
#[derive(Clone, Default)]
pub(super) struct Kinds(Arc<Mutex<HashMap<Identifier, Bucket>>>);

struct Bucket {
    kind: &'static Metadata<'static>,
    burst: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
    left_out: u64,
}

/// Lines of one kind that nobody has read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) target: &'static str,
    pub(super) line: u32,
    pub(super) lines: u64,
}

impl Kinds {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn take(&self, kind: &'static Metadata<'static>, now: Instant) -> bool {
        let mut kinds = self.0.lock();
        let bucket = kinds.entry(kind.callsite()).or_insert_with(|| Bucket::new(kind, now));
        bucket.take(now)
    }

    /// What was left out since this was asked last.
    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        let mut kinds = self.0.lock();
        let told = |bucket: &mut Bucket| {
            let lines = std::mem::take(&mut bucket.left_out);
            let (target, line) = (bucket.kind.target(), bucket.kind.line().unwrap_or_default());
            (lines > 0).then_some(LeftOut { target, line, lines })
        };
        kinds.values_mut().filter_map(told).collect()
    }
}

impl<S> Filter<S> for Kinds {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.take(event.metadata(), Instant::now())
    }
}

impl Bucket {
    fn new(kind: &'static Metadata<'static>, now: Instant) -> Self {
        let is_story = kind.fields().field("task").is_some();
        let (burst, per_second) =
            if is_story { (STORY_BURST, STORY_PER_SECOND) } else { (KIND_BURST, KIND_PER_SECOND) };
        let burst = f64::from(burst);
        Self { kind, burst, per_second: f64::from(per_second), tokens: burst, at: now, left_out: 0 }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = since.mul_add(self.per_second, self.tokens).min(self.burst);
        self.at = now;
        if self.tokens < 1.0 {
            self.left_out += 1;
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kind_has_its_burst_and_then_its_rate_and_what_is_left_out_is_counted() {
        let kind = {
            use tracing::Callsite;
            use tracing::callsite::DefaultCallsite;
            use tracing::field::FieldSet;
            use tracing::metadata::Kind;
            static SITE: DefaultCallsite = DefaultCallsite::new(&META);
            static META: Metadata<'static> = Metadata::new(
                "kind",
                "target",
                tracing::Level::WARN,
                None,
                Some(7),
                None,
                FieldSet::new(&[], Identifier(&SITE)),
                Kind::EVENT,
            );
            SITE.metadata()
        };
        let (kinds, start) = (Kinds::new(), Instant::now());
        let taken = |at: Duration| (0..1_000).filter(|_| kinds.take(kind, start + at)).count();
        assert_eq!(taken(Duration::ZERO), KIND_BURST as usize);
        assert_eq!(taken(Duration::from_secs(1)), KIND_PER_SECOND as usize);
        let lines = 2_000 - u64::from(KIND_BURST + KIND_PER_SECOND);
        assert_eq!(kinds.left_out(), [LeftOut { target: "target", line: 7, lines }]);
        assert_eq!(kinds.left_out(), []);
    }
}
