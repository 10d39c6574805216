//! Which of several control planes counts?

use std::time::Duration;

use batoff_log::Version;
use batoff_types::{Moment, Replica};

/// How long the one who counts may do nothing, although there is something, before another one counts.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);

/// How much longer each waits than the replica before it.
const TAKE_OVER_STEP: Duration = Duration::from_secs(1);

/// Whose turn it is to count.
#[derive(Debug, Default)]
pub(in crate::tracker) struct SlaTurn {
    /// Which write of the row there is, and since when it is the newest although there is more to count.
    pub waits: Option<(Option<Version>, Moment)>,
}

impl SlaTurn {
    /// Whether this replica is to count, when the row is another one's.
    pub(super) fn take_over(&mut self, row: Option<Version>, now: Moment, own: Replica) -> bool {
        let since = match self.waits {
            Some((seen, since)) if seen == row => since,
            _ => {
                self.waits = Some((row, now));
                now
            }
        };
        now.since(since) >= TAKE_OVER_AFTER + TAKE_OVER_STEP * u32::from(own.0)
    }
}
