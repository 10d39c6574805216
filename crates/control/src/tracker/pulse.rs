//! How many purges were accepted lately: a count a second, of the last minute.

use batoff_types::Moment;

/// Seconds that are told of.
pub const PULSE_SECONDS: usize = 60;

/// One more than is told of, for the second that is not over yet.
const KEPT: usize = PULSE_SECONDS + 1;

/// Purges accepted in each of the last seconds, of this process.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The second that the newest count is of, since the clock's origin.
    newest: u64,
    /// By seconds, modulo their number.
    counts: [u32; KEPT],
}

impl Default for Pulse {
    fn default() -> Self {
        Self { newest: 0, counts: [0; KEPT] }
    }
}

impl Pulse {
    /// A purge was accepted.
    pub(super) fn handle_accepted(&mut self, now: Moment) {
        self.turn_to(now);
        let count = &mut self.counts[place(self.newest)];
        *count = count.saturating_add(1);
    }

    /// The last [`PULSE_SECONDS`] seconds that are over, the oldest first.
    pub(super) fn seconds(&mut self, now: Moment) -> Vec<u32> {
        self.turn_to(now);
        (1..KEPT as u64).rev().map(|ago| self.counts[place(self.newest + KEPT as u64 - ago)]).collect()
    }

    fn turn_to(&mut self, now: Moment) {
        let second = second_of(now);
        let passed = second.saturating_sub(self.newest).min(KEPT as u64);
        for step in 0..passed {
            self.counts[place(second - step)] = 0;
        }
        self.newest = self.newest.max(second);
    }
}

const fn second_of(now: Moment) -> u64 {
    now.as_micros() / 1_000_000
}

const fn place(second: u64) -> usize {
    (second % KEPT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::from_micros(second * 1_000_000 + 7)
    }

    #[test]
    fn seconds_that_are_over_are_told_and_older_ones_forgotten() {
        let mut pulse = Pulse::default();
        for second in [0, 0, 1, 3, 3, 3] {
            pulse.handle_accepted(at(second));
        }
        let told = pulse.seconds(at(4));
        assert_eq!(told.len(), PULSE_SECONDS);
        assert_eq!(told[PULSE_SECONDS - 4..], [2, 1, 0, 3]);
        assert_eq!(pulse.seconds(at(63))[..4], [3, 0, 0, 0]);
        assert_eq!(pulse.seconds(at(64)).iter().sum::<u32>(), 0);
        pulse.handle_accepted(at(1_000));
        assert_eq!(pulse.seconds(at(1_001)).last(), Some(&1));
        assert_eq!(pulse.seconds(at(9_999)).iter().sum::<u32>(), 0);
    }
}
