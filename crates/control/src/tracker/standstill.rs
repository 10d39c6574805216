//! Did this process stand still a moment ago?
//!
//! A process that was stopped (a frozen machine, a debugger, a host without a core to spare) wakes with a clock that has
//! gone on and with everything that it was told meanwhile still unread. One of several control planes must read that before
//! it calls a purge late: the others have completed it long ago.
//!
//! It is given time to read, not time to pass: what is due is judged once the process has run for a second since, in one
//! piece or in many. So one that stands still again and again judges, too, after twenty of its wakings at the latest.

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::Moment;

/// Time is told every 10 ms. So long without a step is no busy core.
const STANDSTILL: Duration = Duration::from_millis(500);

/// How long what came meanwhile may take to be read.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// What a standstill counts as time in which the process ran, for it took a step at its end. Else one that takes a step and
/// stands still would never have run.
const STEP: Duration = Duration::from_millis(50);

/// Standstills that are remembered. With so many since, the process has run long enough.
const REMEMBERED: usize = (CATCHING_UP.as_millis() / STEP.as_millis()) as usize;

/// A time without a step.
#[derive(Clone, Copy, Debug)]
struct Slept {
    from: Moment,
    until: Moment,
}

/// The steps of a process, as far as they tell whether it stood still.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    last: Option<Moment>,
    /// The last [`REMEMBERED`], oldest first.
    slept: VecDeque<Slept>,
}

impl Standstill {
    /// A step is taken.
    pub(super) fn handle_step(&mut self, now: Moment) {
        if let Some(from) = self.last.filter(|last| now.since(*last) >= STANDSTILL) {
            if self.slept.len() == REMEMBERED {
                self.slept.pop_front();
            }
            self.slept.push_back(Slept { from, until: now });
        }
        self.last = Some(now);
    }

    /// Whether it stood still so short a time ago that what it was told meanwhile may be unread.
    pub(super) fn is_catching_up(&self, now: Moment) -> bool {
        self.slept.back().is_some_and(|slept| now.since(slept.until) < CATCHING_UP)
    }

    /// The last step before the standstill that it is catching up after; `None` when it is not.
    pub(super) fn stood_since(&self, now: Moment) -> Option<Moment> {
        self.slept.back().filter(|_| self.is_catching_up(now)).map(|slept| slept.from)
    }

    /// Whether it has run for so long since `due` that what others have told until then is read.
    pub(super) fn has_read(&self, due: Moment, now: Moment) -> bool {
        let since = self.slept.iter().filter(|slept| slept.until > due);
        let stood: Duration =
            since.map(|slept| slept.until.since(slept.from.max(due)).saturating_sub(STEP)).sum();
        !self.is_catching_up(now) || now.since(due).saturating_sub(stood) >= CATCHING_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_process_that_stood_still_catches_up_for_a_while() {
        let mut standstill = Standstill::default();
        for ms in [5_000, 5_010, 5_400] {
            standstill.handle_step(at(ms));
            assert!(!standstill.is_catching_up(at(ms)), "{ms}");
            assert!(standstill.has_read(at(ms), at(ms)));
        }
        standstill.handle_step(at(8_000));
        assert!(standstill.is_catching_up(at(8_000)));
        assert_eq!(standstill.stood_since(at(8_000)), Some(at(5_400)));
        standstill.handle_step(at(8_400));
        assert!(standstill.is_catching_up(at(8_999)));
        assert!(!standstill.has_read(at(6_000), at(8_949)), "50 ms of its standstill count");
        assert!(standstill.has_read(at(6_000), at(8_950)));
        assert!(!standstill.is_catching_up(at(9_000)));
        assert_eq!(standstill.stood_since(at(9_000)), None);
    }

    /// When what was due at 1 s is judged by a process that runs for `runs` and stands still for `stands`, in turn.
    fn judged_at(runs: u64, stands: u64) -> u64 {
        let mut standstill = Standstill::default();
        let mut now = 1_000;
        for _ in 0..1_000 {
            for step in (0..=runs).step_by(10) {
                standstill.handle_step(at(now + step));
                if now > 1_000 && standstill.has_read(at(1_000), at(now + step)) {
                    return now + step;
                }
            }
            now += runs + stands;
        }
        panic!("it never judges");
    }

    #[test]
    fn one_that_stands_still_again_and_again_judges_once_it_has_run_for_a_second_in_all() {
        // 900 ms, a standstill that counts 50, and 50 more.
        assert_eq!(judged_at(900, 600), 1_000 + 900 + 600 + 50);
        // In ten turns of 100 ms and 50 ms of a standstill less what is left over.
        assert_eq!(judged_at(100, 500), 1_000 + 6 * 600 + 100);
        // A step, and nothing else: twenty wakings.
        assert_eq!(judged_at(0, 500), 1_000 + 20 * 500);
        assert_eq!(judged_at(0, 30_000), 1_000 + 20 * 30_000);
    }

    #[test]
    fn a_long_standstill_gives_no_less_time_to_read_what_became_due_in_it() {
        let mut standstill = Standstill::default();
        for step in (0..=950).step_by(10) {
            standstill.handle_step(at(20_000 + step));
        }
        standstill.handle_step(at(30_000));
        for step in (0..=940).step_by(10) {
            standstill.handle_step(at(30_000 + step));
            assert!(!standstill.has_read(at(25_000), at(30_000 + step)), "{step}");
        }
        assert!(standstill.has_read(at(25_000), at(30_950)));
    }
}
