//! The two clocks of the process, and how times are written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Moment, UnixMillis};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The process's two clocks: a monotonic one for everything that the proof rests on, and the wall clock for people,
/// signatures and retention.
///
/// The machine's monotonic clock is `CLOCK_BOOTTIME`, which runs on while it is suspended. A process that slept must know so
/// when it wakes: its seat may have run out meanwhile, and another process may act in its place.
#[derive(Clone)]
pub struct Clock {
    origin: MonotonicOrigin,
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

/// Where the monotonic clock begins, and which one it is.
#[derive(Clone, Copy)]
enum MonotonicOrigin {
    /// On `CLOCK_BOOTTIME`.
    Boot(Duration),
    /// On the clock of tokio, which tests move.
    Tokio(Instant),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { origin: MonotonicOrigin::Boot(since_boot()), wall: batoff_log::system_clock() }
    }

    /// The monotonic clock of tokio, which may be a virtual one, beside a wall clock of the caller's, for tests.
    pub fn with_wall(wall: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self { origin: MonotonicOrigin::Tokio(Instant::now()), wall: Arc::new(wall) }
    }

    /// Now, on the monotonic clock; the origin is the process's start.
    pub fn now(&self) -> Moment {
        let elapsed = match self.origin {
            MonotonicOrigin::Boot(origin) => since_boot().saturating_sub(origin),
            MonotonicOrigin::Tokio(origin) => origin.elapsed(),
        };
        Moment::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// Now, on the wall clock.
    pub fn wall(&self) -> UnixMillis {
        (self.wall)()
    }

    /// The wall clock as a function, as the store takes it.
    pub fn wall_fn(&self) -> Arc<dyn Fn() -> UnixMillis + Send + Sync> {
        Arc::clone(&self.wall)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish_non_exhaustive()
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Whole milliseconds, as they are counted and written.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As the APIs write times: RFC 3339, UTC, whole seconds. A time beyond the year 9999 is told as the last second before.
pub fn rfc3339(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    format!("{:.0}", jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_of_utc() {
        assert_eq!(rfc3339(UnixMillis(1_776_672_751_999)), "2026-04-20T08:12:31Z");
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00Z");
        assert!(rfc3339(UnixMillis(u64::MAX)).starts_with("9999-12-3"));
    }
}
