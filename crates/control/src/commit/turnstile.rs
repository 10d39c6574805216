//! How many submissions are being made durable at one time, and who waits for how long before it is refused.
//!
//! What is in the log's hands cannot be taken back: whether it will be durable is unknown until it is. So no more goes in than
//! comes out again soon, and the rest waits here, in order, where it can still be refused with certainty. How much that is
//! depends on the log, its disk and the machine; it is found by trying: more while appends come back in time, less as soon as
//! they do not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::Moment;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::metrics;

/// An append that takes longer says that too many are under way.
const APPEND_TARGET: Duration = Duration::from_millis(250);

/// Who has waited longest may have waited so long; then nobody joins the queue, and is refused at once.
const STANDING_MAX: Duration = Duration::from_millis(300);

/// Who has waited for so long is refused. With what comes before, it stays below a second.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How many wait at one time at most. Each holds its request in memory.
const WAITING_MAX: usize = 16_384;

/// However slow the log is, so many go in at one time: a group commit takes no longer for them than for one.
const UNDER_WAY_MIN: usize = 16;

/// Where the search for the right number begins.
const UNDER_WAY_FIRST: usize = 256;

/// At most so often the log says that submissions are refused.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Turnstile {
    queue: Mutex<TurnQueue>,
    clock: Clock,
    most: usize,
}

/// More came than can be made durable in time. Nothing was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overloaded;

struct TurnQueue {
    under_way: usize,
    /// How many may be under way now.
    room: usize,
    cut_at: Option<Moment>,
    waiters: VecDeque<Waiter>,
    next: u64,
    said_at: Option<Moment>,
    unsaid: u64,
}

struct Waiter {
    number: u64,
    since: Moment,
    call: oneshot::Sender<Pass>,
}

/// One submission that is under way, until it is dropped.
pub(super) struct Pass {
    /// `None` once it counts no longer.
    turnstile: Option<Arc<Turnstile>>,
    since: Moment,
}

impl Turnstile {
    /// At most `most` under way at one time.
    pub(super) fn new(most: usize, clock: Clock) -> Arc<Self> {
        let queue = TurnQueue {
            under_way: 0,
            room: UNDER_WAY_FIRST.min(most),
            cut_at: None,
            waiters: VecDeque::new(),
            next: 0,
            said_at: None,
            unsaid: 0,
        };
        Arc::new(Self { queue: Mutex::new(queue), clock, most })
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// The queue stands, or its turn has not come in time.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Pass, Overloaded> {
        let (number, mut called) = {
            let now = self.clock.now();
            let mut queue = self.queue.lock();
            // Clients that went away wait no longer.
            while queue.waiters.front().is_some_and(|waiter| waiter.call.is_closed()) {
                queue.waiters.pop_front();
            }
            if queue.waiters.is_empty() && queue.under_way < queue.room {
                queue.under_way += 1;
                return Ok(self.pass(now));
            }
            let stands = queue.waiters.front().is_some_and(|first| now.since(first.since) >= STANDING_MAX);
            if stands || queue.waiters.len() >= WAITING_MAX {
                return Err(queue.refuse(now));
            }
            let number = queue.next;
            queue.next += 1;
            let (call, called) = oneshot::channel();
            queue.waiters.push_back(Waiter { number, since: now, call });
            (number, called)
        };
        if let Ok(Ok(pass)) = tokio::time::timeout(WAIT_MAX, &mut called).await {
            return Ok(pass);
        }
        let now = self.clock.now();
        {
            let mut queue = self.queue.lock();
            if let Ok(place) = queue.waiters.binary_search_by_key(&number, |waiter| waiter.number) {
                queue.waiters.remove(place);
                return Err(queue.refuse(now));
            }
        }
        // Called in the very last moment.
        called.await.map_err(|_| Overloaded)
    }

    fn pass(self: &Arc<Self>, since: Moment) -> Pass {
        Pass { turnstile: Some(Arc::clone(self)), since }
    }

    fn leave(self: &Arc<Self>, since: Moment) {
        let now = self.clock.now();
        {
            let mut queue = self.queue.lock();
            queue.adapt(now, now.since(since), self.most);
            queue.under_way -= 1;
        }
        self.call(now);
    }

    /// Lets in whoever there is room for.
    fn call(self: &Arc<Self>, now: Moment) {
        loop {
            let waiter = {
                let mut queue = self.queue.lock();
                if queue.under_way >= queue.room {
                    return;
                }
                let Some(waiter) = queue.waiters.pop_front() else { return };
                queue.under_way += 1;
                waiter
            };
            if let Err(mut pass) = waiter.call.send(self.pass(now)) {
                // Its client has gone. Nothing was under way, so nothing is learnt.
                pass.turnstile = None;
                self.queue.lock().under_way -= 1;
            }
        }
    }
}

impl TurnQueue {
    /// An append took so long: more may be under way, or fewer. One by one up, by half down, as TCP shares a line.
    fn adapt(&mut self, now: Moment, took: Duration, most: usize) {
        if took > APPEND_TARGET {
            // All that were under way together are late together: that says it once.
            if self.cut_at.is_none_or(|at| now.since(at) >= APPEND_TARGET) {
                self.cut_at = Some(now);
                self.room = (self.room / 2).max(UNDER_WAY_MIN).min(most);
            }
        } else if self.under_way >= self.room {
            self.room = (self.room + 1).min(most);
        }
    }

    fn refuse(&mut self, now: Moment) -> Overloaded {
        metrics::submission_shed();
        self.unsaid += 1;
        if self.said_at.is_none_or(|at| now.since(at) >= SAY_EVERY) {
            tracing::warn!(
                refused = std::mem::take(&mut self.unsaid),
                waiting = self.waiters.len(),
                under_way = self.under_way,
                "overloaded: submissions are refused, because more come than can be made durable in time"
            );
            self.said_at = Some(now);
        }
        Overloaded
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(turnstile) = self.turnstile.take() {
            turnstile.leave(self.since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turnstile(most: usize) -> Arc<Turnstile> {
        Turnstile::new(most, Clock::system())
    }

    #[tokio::test]
    async fn who_waits_is_let_in_as_others_leave() {
        let turnstile = turnstile(1);
        let first = turnstile.enter().await.ok();
        let mut second = Box::pin(turnstile.enter());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(turnstile.queue.lock().under_way, 0);
    }

    #[tokio::test]
    async fn who_cannot_be_let_in_is_refused_and_leaves_nothing_behind() {
        let turnstile = turnstile(1);
        let _first = turnstile.enter().await.ok();
        assert_eq!(turnstile.enter().await.err(), Some(Overloaded));
        let queue = turnstile.queue.lock();
        assert_eq!((queue.waiters.len(), queue.under_way), (0, 1));
    }

    #[tokio::test]
    async fn a_place_of_a_client_that_went_away_goes_to_the_next() {
        let turnstile = turnstile(1);
        let first = turnstile.enter().await.ok();
        let mut gone = Box::pin(turnstile.enter());
        assert!(futures_util::poll!(&mut gone).is_pending());
        let mut next = Box::pin(turnstile.enter());
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(first);
        // Called, and gone before it has heard of it.
        drop(gone);
        assert!(next.await.is_ok());
        assert_eq!(turnstile.queue.lock().under_way, 0);
    }

    #[test]
    fn fewer_are_let_in_while_the_log_is_slow_and_more_again_when_it_is_not() {
        let turnstile = turnstile(4_096);
        let mut queue = turnstile.queue.lock();
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        for turn in 0..20 {
            queue.adapt(at(turn * 300), APPEND_TARGET * 2, 4_096);
        }
        assert_eq!(queue.room, UNDER_WAY_MIN);
        queue.under_way = usize::MAX;
        for _ in 0..10_000 {
            queue.adapt(at(10_000), APPEND_TARGET / 2, 4_096);
        }
        assert_eq!(queue.room, 4_096);
    }

    #[test]
    fn appends_that_are_late_together_count_once() {
        let turnstile = turnstile(4_096);
        let mut queue = turnstile.queue.lock();
        for _ in 0..256 {
            queue.adapt(Moment::from_micros(1), APPEND_TARGET * 2, 4_096);
        }
        assert_eq!(queue.room, UNDER_WAY_FIRST / 2);
    }
}
