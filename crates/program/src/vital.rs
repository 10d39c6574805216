//! Tasks that a process cannot do without.
//!
//! A task that has panicked is missing from then on, and whatever waits for it waits for ever, while everything around it
//! looks well: an answer that never comes, a purge that no node is told of. So the process ends, with an exit code that
//! makes its supervisor start it again; begun anew from what is durable, nothing is missed.
//!
//! A task that hangs in a step (on a lock that nobody gives back, in a loop without an end) has not ended, and does as little
//! as one that has: [`Vital::stuck`] names it, for whoever tells the supervisor that all is well. One that waits for a disk
//! on a thread of its own is between two steps: whether the disk answers is the store's to say.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Says when one of the vital tasks has ended, though nobody asked it to.
#[derive(Clone, Debug)]
pub struct Vital {
    failed: CancellationToken,
    origin: Instant,
    tasks: Arc<Mutex<Vec<Weak<InStep>>>>,
}

/// The step that a task is taking.
#[derive(Debug)]
struct InStep {
    name: &'static str,
    /// When it began, in milliseconds after `origin` and one; 0 between two steps.
    since: AtomicU64,
}

impl Default for Vital {
    fn default() -> Self {
        Self::new()
    }
}

impl Vital {
    /// With no tasks yet.
    pub fn new() -> Self {
        Self { failed: CancellationToken::new(), origin: Instant::now(), tasks: Arc::default() }
    }

    /// The task, watched: when it returns, panics or is dropped before `stop` is cancelled, the process must end.
    pub fn watch<F: Future>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        task: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let watch = VitalGuard { name, stop: stop.clone(), vital: self.clone() };
        let step = Arc::new(InStep { name, since: AtomicU64::new(0) });
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| task.strong_count() > 0);
        tasks.push(Arc::downgrade(&step));
        drop(tasks);
        async move {
            let mut task = pin!(task);
            let outcome = poll_fn(|context| {
                step.since.store(watch.vital.elapsed() + 1, Ordering::Relaxed);
                let polled = task.as_mut().poll(context);
                step.since.store(0, Ordering::Relaxed);
                polled
            });
            let outcome = outcome.await;
            drop(watch);
            outcome
        }
    }

    /// The tasks that have been in one step, from one `await` to the next, for longer than `patience`.
    pub fn stuck(&self, patience: Duration) -> Vec<&'static str> {
        let (now, patience) = (self.elapsed(), u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let is_stuck = |step: &Arc<InStep>| match step.since.load(Ordering::Relaxed) {
            0 => false,
            since => now.saturating_sub(since - 1) > patience,
        };
        self.tasks.lock().iter().filter_map(Weak::upgrade).filter(is_stuck).map(|step| step.name).collect()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// For a thread, or for a state that must never be left half changed: when this is dropped by a panic, the process
    /// must end.
    pub fn unharmed(&self, name: &'static str) -> Unharmed<'_> {
        Unharmed { name, vital: self }
    }

    /// The process must end, because of `why`.
    pub fn fail(&self, name: &'static str, why: &str) {
        if !self.failed.is_cancelled() {
            tracing::error!(part = name, why, "a vital part of this process has failed; stopping");
            self.failed.cancel();
        }
    }

    /// Waits until the process must end; for ever, when all is well.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Whether the process must end.
    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }
}

struct VitalGuard {
    name: &'static str,
    stop: CancellationToken,
    vital: Vital,
}

impl Drop for VitalGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.vital.fail(self.name, "it panicked; the message stands above");
        } else if !self.stop.is_cancelled() {
            self.vital.fail(self.name, "it ended, though nobody asked it to");
        }
    }
}

/// See [`Vital::unharmed`].
#[derive(Debug)]
pub struct Unharmed<'a> {
    name: &'static str,
    vital: &'a Vital,
}

impl Drop for Unharmed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.vital.fail(self.name, "a panic left it half changed; the message stands above");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_or_returns_early_fails_the_process() {
        for panics in [true, false] {
            let (vital, stop) = (Vital::new(), CancellationToken::new());
            let task = tokio::spawn(vital.watch("task", &stop, async move {
                assert!(!panics, "a defect");
            }));
            vital.failed().await;
            assert_eq!(task.await.is_err(), panics);
        }
    }

    #[tokio::test]
    async fn a_vital_task_that_was_asked_to_end_fails_nothing() {
        let (vital, stop) = (Vital::new(), CancellationToken::new());
        let waiting = stop.clone();
        let task = tokio::spawn(vital.watch("task", &stop, async move { waiting.cancelled().await }));
        stop.cancel();
        task.await.unwrap();
        assert!(!vital.has_failed());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_vital_task_that_hangs_in_a_step_is_named_and_one_that_waits_is_not() {
        let (vital, stop) = (Vital::new(), CancellationToken::new());
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let hanging = vital.watch("hangs", &stop, async move { _ = hangs.recv() });
        let waiting = stop.clone();
        let waits = tokio::spawn(vital.watch("waits", &stop, async move { waiting.cancelled().await }));
        let thread = std::thread::spawn(move || run_here(hanging));
        while vital.stuck(Duration::from_millis(5)).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(vital.stuck(Duration::from_millis(5)), ["hangs"]);
        assert!(vital.stuck(Duration::from_secs(3600)).is_empty());
        stop.cancel();
        release.send(()).unwrap();
        thread.join().unwrap();
        waits.await.unwrap();
        assert!(vital.stuck(Duration::ZERO).is_empty());
    }

    /// Runs a future on this thread, which it may hold up.
    fn run_here(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
    }

    #[test]
    fn a_state_that_a_panic_left_half_changed_fails_the_process() {
        let vital = Vital::new();
        drop(vital.unharmed("state"));
        assert!(!vital.has_failed());
        let change = std::panic::AssertUnwindSafe(|| {
            let _whole = vital.unharmed("state");
            panic!("a defect");
        });
        assert!(std::panic::catch_unwind(change).is_err());
        assert!(vital.has_failed());
    }
}
