//! A token bucket in whole numbers, and how it describes itself.

use std::time::Duration;

use batoff_types::Moment;

/// Microseconds in the minute that rates are given for.
const MINUTE_MICROS: u64 = 60_000_000;

/// How much a bucket holds, and how fast it fills.
///
/// Levels are kept in parts of a token, [`Rate::PARTS`] each, so that refilling is exact at every rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens it holds, at least 1.
    pub burst: u32,
    /// Tokens that flow in a minute, at least 1.
    pub per_minute: u32,
}

impl Rate {
    const PARTS: u64 = MINUTE_MICROS;

    const fn capacity(self) -> u64 {
        self.burst as u64 * Self::PARTS
    }

    /// Tokens that flow in a minute flow in `MINUTE_MICROS` microseconds: one part a token a microsecond.
    const fn inflow(self, micros: u64) -> u64 {
        micros.saturating_mul(self.per_minute as u64)
    }

    const fn time_for(self, parts: u64) -> Duration {
        Duration::from_micros(parts.div_ceil(self.per_minute as u64))
    }
}

/// One bucket, full at the start.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    missing: u64,
    at: Moment,
}

impl Bucket {
    /// A full one.
    pub const fn full(now: Moment) -> Self {
        Self { missing: 0, at: now }
    }

    /// One of which so many parts of a token are missing, as last refilled at `at`.
    pub const fn of_parts(missing: u64, at: Moment) -> Self {
        Self { missing, at }
    }

    /// Parts of a token that are missing, and when it was refilled last.
    pub const fn parts(&self) -> (u64, Moment) {
        (self.missing, self.at)
    }

    /// Lets flow in what came since the last look.
    pub fn refill(&mut self, rate: Rate, now: Moment) {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.missing = self.missing.min(rate.capacity()).saturating_sub(rate.inflow(micros));
        self.at = self.at.max(now);
    }

    /// How long until `tokens` are there; zero when they are. Looks at the bucket as last refilled.
    pub fn wait_for(&self, rate: Rate, tokens: u32) -> Duration {
        let needed = self.missing.saturating_add(u64::from(tokens) * Rate::PARTS);
        rate.time_for(needed.saturating_sub(rate.capacity()))
    }

    /// Takes tokens that [`Bucket::wait_for`] said are there.
    pub fn take(&mut self, tokens: u32) {
        self.missing = self.missing.saturating_add(u64::from(tokens) * Rate::PARTS);
    }

    /// Gives tokens back that were taken in vain.
    pub fn give_back(&mut self, tokens: u32) {
        self.missing = self.missing.saturating_sub(u64::from(tokens) * Rate::PARTS);
    }

    /// Whole tokens that are there.
    pub fn remaining(&self, rate: Rate) -> u32 {
        let left = rate.capacity().saturating_sub(self.missing) / Rate::PARTS;
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// How long until it is full again.
    pub fn until_full(&self, rate: Rate) -> Duration {
        rate.time_for(self.missing.min(rate.capacity()))
    }

    /// Whether nothing was taken for so long that it is certainly full, at any rate that fills its burst within a minute
    /// ([`Rate::per_minute`] at least [`Rate::burst`]). Such a bucket need not be remembered.
    pub fn rested(&self, now: Moment) -> bool {
        self.missing == 0 || now.since(self.at) > Duration::from_micros(MINUTE_MICROS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 60, per_minute: 60 };

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1_000)
    }

    #[test]
    fn one_token_a_second_flows_in_and_never_more_than_the_burst() {
        let mut bucket = Bucket::full(at(0));
        assert_eq!(bucket.wait_for(RATE, 60), Duration::ZERO);
        bucket.take(60);
        assert_eq!(bucket.wait_for(RATE, 1), Duration::from_secs(1));
        bucket.refill(RATE, at(999));
        assert_eq!((bucket.remaining(RATE), bucket.wait_for(RATE, 1)), (0, Duration::from_millis(1)));
        bucket.refill(RATE, at(1_000));
        assert_eq!((bucket.remaining(RATE), bucket.wait_for(RATE, 1)), (1, Duration::ZERO));
        assert_eq!(bucket.until_full(RATE), Duration::from_secs(59));
        bucket.refill(RATE, at(3_600_000));
        assert_eq!(bucket.remaining(RATE), 60);
        assert!(bucket.rested(at(3_600_000)));
    }

    #[test]
    fn many_small_refills_give_as_much_as_one() {
        let rate = Rate { burst: 7, per_minute: 7 };
        let mut often = Bucket::full(at(0));
        often.take(7);
        let mut once = often;
        for millis in 1..=20_000 {
            often.refill(rate, at(millis));
        }
        once.refill(rate, at(20_000));
        assert_eq!(often.until_full(rate), once.until_full(rate));
        assert_eq!(often.remaining(rate), 2);
    }

    #[test]
    fn a_smaller_rate_takes_hold_of_a_bucket_that_is_in_use() {
        let mut bucket = Bucket::full(at(0));
        bucket.take(60);
        let smaller = Rate { burst: 10, per_minute: 10 };
        bucket.refill(smaller, at(0));
        assert_eq!(bucket.until_full(smaller), Duration::from_secs(60));
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let rate = Rate { burst: u32::MAX, per_minute: u32::MAX };
        let mut bucket = Bucket::full(at(0));
        bucket.take(u32::MAX);
        bucket.refill(rate, Moment::from_micros(u64::MAX));
        assert_eq!(bucket.remaining(rate), u32::MAX);
    }
}
