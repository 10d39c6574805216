//! When are the streams woken? Not for each record, but in rounds, whose spacing follows the load.
//!
//! To wake a stream costs some ten microseconds whatever it sends, a further record in the same message less than one. While
//! the streams' threads have time, a record leaves at once. When they have not, records wait for the next round, and travel
//! together: the busier the threads, the further apart the rounds. A round waits for no stream: one that is slow or stuck
//! finds more when it comes back, and the others notice nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::own_threads;

/// The furthest that two rounds are apart. It is part of every delivery under load, and small beside the two seconds.
const APART_MAX: Duration = Duration::from_millis(50);

/// Up to this share of their time the streams' threads are left to it: nobody waits for them.
const IDLE_SHARE: f64 = 0.25;

/// From this share on, rounds are as far apart as they ever are.
const FULL_SHARE: f64 = 0.75;

/// Over how long a share is taken, at least: a single round must not look like a load.
const SAMPLE: Duration = Duration::from_millis(25);

/// How much a new share counts beside what was known. Small enough that rounds which were moved apart, and so made the threads
/// idle, are not moved together again at once.
const WEIGHT: f64 = 0.25;

/// How far apart rounds are to be, from how busy the streams' threads are.
#[derive(Debug, Default)]
struct Pacer {
    /// When a share was last taken, and how long the threads had been busy by then.
    taken: Option<(Duration, Duration)>,
    share: f64,
}

impl Pacer {
    /// At `now`, a time since any fixed moment, `threads` threads have been busy for `busy` in all.
    fn apart(&mut self, now: Duration, busy: Duration, threads: usize) -> Duration {
        match self.taken {
            None => self.taken = Some((now, busy)),
            Some((at, before)) if now.saturating_sub(at) >= SAMPLE => {
                let time = now.saturating_sub(at).as_secs_f64() * threads.max(1) as f64;
                let share = (busy.saturating_sub(before).as_secs_f64() / time).min(1.0);
                // After a silence nothing that was known before counts.
                let samples = now.saturating_sub(at).as_secs_f64() / SAMPLE.as_secs_f64();
                self.share += (share - self.share) * (WEIGHT * samples).min(1.0);
                self.taken = Some((now, busy));
            }
            Some(_) => {}
        }
        APART_MAX.mul_f64(((self.share - IDLE_SHARE) / (FULL_SHARE - IDLE_SHARE)).clamp(0.0, 1.0))
    }
}

/// Begins a round whenever the tail has moved and the last round is long enough ago, until `stopping`. `threads` are those
/// of the streams; without any, every record is a round.
pub(crate) async fn run(hub: Arc<Hub>, threads: Vec<Handle>, stopping: CancellationToken) {
    let (mut tail, started) = (hub.watch_tail(), Instant::now());
    // What came before we listened counts, too.
    tail.mark_changed();
    let (mut pacer, mut last) = (Pacer::default(), None::<Instant>);
    // The hub lives as long as we do, so a change is never an error.
    while let Some(Ok(())) = stopping.run_until_cancelled(tail.changed()).await {
        let apart = pacer.apart(started.elapsed(), own_threads::busy(&threads), threads.len());
        if let Some(at) = last.map(|last| last + apart).filter(|at| *at > Instant::now())
            && stopping.run_until_cancelled(tokio::time::sleep_until(at)).await.is_none()
        {
            return;
        }
        last = Some(Instant::now());
        tail.mark_unchanged();
        hub.begin_round();
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::Cursor;
    use bytes::Bytes;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How far apart rounds are after a second in which a round kept two threads busy for `each` and records came all the
    /// time.
    fn settled(each: Duration) -> Duration {
        let (mut pacer, mut now, mut busy) = (Pacer::default(), Duration::ZERO, Duration::ZERO);
        let mut apart = Duration::ZERO;
        while now < Duration::from_secs(1) {
            apart = pacer.apart(now, busy, 2);
            busy += each;
            now += apart.max(10 * MS).max(each / 2);
        }
        apart
    }

    #[test]
    fn rounds_are_as_far_apart_as_the_load_asks_for() {
        assert_eq!(settled(MS / 10), Duration::ZERO, "cores that are idle gather nothing");
        let (some, more) = (settled(10 * MS), settled(30 * MS));
        assert!(some > 5 * MS && some < more && more < APART_MAX, "{some:?} {more:?}");
        assert!(settled(200 * MS) == APART_MAX);
    }

    #[test]
    fn a_load_that_is_over_is_forgotten_by_the_next_record() {
        let mut pacer = Pacer::default();
        for turn in 0..40 {
            pacer.apart(MS * 25 * turn, MS * 50 * turn, 2);
        }
        assert_eq!(pacer.apart(MS * 1_000, MS * 2_000, 2), APART_MAX);
        assert_eq!(pacer.apart(MS * 3_000, MS * 2_001, 2), Duration::ZERO);
    }

    #[tokio::test]
    async fn what_comes_while_a_round_waits_travels_with_it() {
        let hub = Hub::new(Cursor::START, 100, 10_000);
        let stopping = CancellationToken::new();
        let mut rounds = hub.subscribe();
        let running = tokio::spawn(run(Arc::clone(&hub), Vec::new(), stopping.clone()));
        for count in [1, 3] {
            hub.push((0..count).map(|_| Bytes::from_static(b"record")));
            assert!(hub.round() < hub.tail(), "streams are not woken by a record, but by a round");
            rounds.changed().await.unwrap();
            assert_eq!(*rounds.borrow_and_update(), hub.tail());
        }
        stopping.cancel();
        running.await.unwrap();
    }
}
