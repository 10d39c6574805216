use std::time::Duration;

use tokio::time::Instant;

/// How long replicas that have met are polite to one another.
const POLITE_FOR: Duration = Duration::from_millis(500);

/// How long politeness makes a group wait at most.
const POLITENESS_MAX: Duration = Duration::from_millis(100);

/// When the next group is sent.
///
/// Of replicas that append as fast as they can, the one next to etcd's leader would win every race, and the others' appends
/// would wait for whole seconds. So a winner that has met others lately leaves them a moment, the shorter the more races
/// its last group had lost. Alone, nobody waits.
#[derive(Default)]
pub(super) struct Politeness {
    /// What a transaction takes, smoothed.
    round_trip: Duration,
    last_lost: Option<Instant>,
    /// Races that the present group has lost.
    lost: u32,
    has_won: bool,
}

impl Politeness {
    pub(super) fn begin(&mut self) {
        self.lost = 0;
        self.has_won = false;
    }

    pub(super) fn won(&mut self, took: Duration) {
        self.has_won = true;
        self.round_trip = if self.round_trip.is_zero() { took } else { (self.round_trip * 7 + took) / 8 };
    }

    pub(super) fn lost(&mut self) {
        self.lost += 1;
        self.last_lost = Some(Instant::now());
    }

    /// How long to wait before the next group is collected.
    pub(super) fn politeness(&self) -> Duration {
        let has_met = self.last_lost.is_some_and(|at| at.elapsed() < POLITE_FOR);
        if !has_met || !self.has_won {
            return Duration::ZERO;
        }
        let share = rand::random_range(1.0..3.0) / f64::from(1 + self.lost);
        self.round_trip.mul_f64(share).min(POLITENESS_MAX)
    }
}
