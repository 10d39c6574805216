//! Did this process stand still a moment ago?
//!
//! A process that was stopped (a frozen machine, a debugger, a host without a core to spare) wakes with a clock that has
//! gone on and with everything that it was told meanwhile still unread. One of several control planes must read that before
//! it calls a purge late: the others have completed it long ago.

use std::time::Duration;

use batoff_types::Moment;

/// Time is told every 10 ms. So long without a step is no busy core.
const STANDSTILL: Duration = Duration::from_millis(500);

/// How long what came meanwhile may take to be read.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// The steps of a process, as far as they tell whether it stood still.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    last: Option<Moment>,
    woke: Option<Moment>,
}

impl Standstill {
    /// A step is taken.
    pub(super) fn handle_step(&mut self, now: Moment) {
        if self.last.is_some_and(|last| now.since(last) >= STANDSTILL) {
            self.woke = Some(now);
        }
        self.last = Some(now);
    }

    /// Whether it stood still so short a time ago that what it was told meanwhile may be unread.
    pub(super) fn is_catching_up(&self, now: Moment) -> bool {
        self.woke.is_some_and(|woke| now.since(woke) < CATCHING_UP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stood_still_catches_up_for_a_while() {
        let mut standstill = Standstill::default();
        let at = |ms| Moment::ZERO + Duration::from_millis(ms);
        for ms in [5_000, 5_010, 5_400] {
            standstill.handle_step(at(ms));
            assert!(!standstill.is_catching_up(at(ms)), "{ms}");
        }
        standstill.handle_step(at(8_000));
        assert!(standstill.is_catching_up(at(8_000)));
        standstill.handle_step(at(8_400));
        assert!(standstill.is_catching_up(at(8_999)));
        assert!(!standstill.is_catching_up(at(9_000)));
    }
}
