//! The two clocks of the process, and how times are written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Moment, UnixMillis};
use tokio::time::Instant;

/// The process's two clocks: a monotonic one for everything that the proof rests on, and the wall clock for people,
/// signatures and retention.
///
/// The monotonic clock may stand still while the machine is suspended. That is the safe side here: leases granted to
/// nodes then end *earlier* on the nodes (which count suspended time) than we believe.
#[derive(Clone)]
pub struct Clock {
    origin: Instant,
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { origin: Instant::now(), wall: batoff_log::system_clock() }
    }

    /// The machine's monotonic clock beside a wall clock of the caller's, for tests.
    pub fn with_wall(wall: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self { origin: Instant::now(), wall: Arc::new(wall) }
    }

    /// Now, on the monotonic clock; the origin is the process's start.
    pub fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
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
