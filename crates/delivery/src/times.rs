//! The times that the two-second promise rests on, and which combinations of them break it.

use std::time::Duration;

/// Within this time of becoming durable a purge is completed, whatever strict nodes do; available nodes that cannot be
/// reached by then make it partial.
pub const PURGE_TARGET: Duration = Duration::from_secs(2);

/// What the shells may lose between a deadline and its effect: timers, queues, a renewal that was on its way.
const SLACK: Duration = Duration::from_millis(100);

/// The largest rate error of a clock that can be configured. Quartz is a hundred times better; a clock that is worse
/// than this is broken, and its node should not be strict.
const DRIFT_MAX: f64 = 0.05;

/// The times that the proof rests on. The defaults complete every purge within 1.9 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeaseTimes {
    /// How long a node may serve after the heartbeat that a grant answers.
    pub lease: Duration,
    /// How often nodes send heartbeats.
    pub heartbeat: Duration,
    /// The oldest record that a node may leave unacknowledged and still have its lease renewed.
    pub grace: Duration,
    /// Added to every lease as the control plane counts it.
    pub margin: Duration,
    /// By how much a clock's rate may be wrong, as a fraction (0.01: one percent), on each of the two machines.
    pub drift: f64,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(1000),
            heartbeat: Duration::from_millis(250),
            grace: Duration::from_millis(700),
            margin: Duration::from_millis(50),
            drift: 0.01,
        }
    }
}

/// A combination of times that would break the guarantee; the text names the setting and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidTimes {
    /// Zero, or so short that timers cannot keep it.
    #[error("lease.{setting} is {given:?}: must be at least {least:?}")]
    TooShort {
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        given: Duration,
        /// The least that is accepted.
        least: Duration,
    },
    /// Two lost heartbeats would cost the lease.
    #[error("lease.heartbeat is {heartbeat:?}: must be less than a third of lease.lease, which is {lease:?}")]
    HeartbeatTooSlow {
        /// The heartbeat's interval.
        heartbeat: Duration,
        /// The lease.
        lease: Duration,
    },
    /// Not a rate error that a working clock has.
    #[error("lease.drift is {0}: must be at least 0 and at most 0.05")]
    Drift(f64),
    /// A node that stops acknowledging would hold up a purge for longer than the target.
    #[error(
        "lease.grace + lease.lease x (1 + drift) / (1 - drift) + lease.margin + 100ms is {sum:?}: must be less than \
         2s, or a purge could not be completed in time; shorten lease.grace or lease.lease"
    )]
    BreaksTarget {
        /// What the times add up to.
        sum: Duration,
    },
}

impl LeaseTimes {
    /// Refuses times that break the two-second guarantee or that no timer keeps.
    pub fn validate(&self) -> Result<(), InvalidTimes> {
        let at_least = |setting, given, least| {
            if given < least { Err(InvalidTimes::TooShort { setting, given, least }) } else { Ok(()) }
        };
        // Also refuses NaN.
        if !(0.0..=DRIFT_MAX).contains(&self.drift) {
            return Err(InvalidTimes::Drift(self.drift));
        }
        at_least("lease", self.lease, Duration::from_millis(50))?;
        at_least("heartbeat", self.heartbeat, Duration::from_millis(5))?;
        at_least("grace", self.grace, Duration::from_millis(10))?;
        at_least("margin", self.margin, Duration::from_millis(1))?;
        if self.heartbeat.saturating_mul(3) >= self.lease {
            return Err(InvalidTimes::HeartbeatTooSlow { heartbeat: self.heartbeat, lease: self.lease });
        }
        let sum = self.grace.saturating_add(self.held_for(self.lease)).saturating_add(SLACK);
        if sum >= PURGE_TARGET {
            return Err(InvalidTimes::BreaksTarget { sum });
        }
        Ok(())
    }

    /// For how long the control plane counts a lease of length `lease` as held, from the moment it answered.
    ///
    /// The node's clock may be slow by `drift` and the control plane's fast by as much, so a lease that the node
    /// measures as `lease` may last `lease × (1 + drift) / (1 − drift)` here; `margin` comes on top.
    pub fn held_for(&self, lease: Duration) -> Duration {
        // The bounds of `drift` hold after `validate`; clamped so that nothing panics before it.
        let drift = if self.drift.is_finite() { self.drift.clamp(0.0, 0.5) } else { 0.5 };
        lease.mul_f64((1.0 + drift) / (1.0 - drift)).saturating_add(self.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_defaults_keep_the_two_second_guarantee() {
        let times = LeaseTimes::default();
        assert_eq!(times.validate(), Ok(()));
        assert!(times.grace + times.held_for(times.lease) < ms(1_800));
    }

    #[test]
    fn times_that_break_the_guarantee_are_refused_by_name() {
        let check = |change: fn(&mut LeaseTimes), says: &str| {
            let mut times = LeaseTimes::default();
            change(&mut times);
            let error = times.validate().expect_err(says).to_string();
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        };
        check(|t| t.grace = ms(900), "shorten lease.grace");
        check(|t| t.lease = ms(1_200), "must be less than 2s");
        check(|t| t.margin = ms(200), "must be less than 2s");
        check(|t| t.margin = ms(0), "lease.margin is 0ns");
        check(|t| t.heartbeat = ms(334), "less than a third");
        check(|t| t.heartbeat = ms(0), "lease.heartbeat");
        check(|t| t.lease = ms(0), "lease.lease");
        check(|t| t.drift = -0.1, "lease.drift is -0.1");
        check(|t| t.drift = 0.2, "lease.drift is 0.2");
        check(|t| t.drift = f64::NAN, "lease.drift is NaN");
    }

    #[test]
    fn a_lease_is_held_longer_than_any_allowed_pair_of_clocks_can_stretch_it() {
        for drift in [0.0, 0.001, 0.01, 0.05] {
            let times = LeaseTimes { drift, ..LeaseTimes::default() };
            let stretched = times.lease.as_secs_f64() / (1.0 - drift) * (1.0 + drift);
            assert!(times.held_for(times.lease).as_secs_f64() >= stretched + 0.049);
        }
    }
}
