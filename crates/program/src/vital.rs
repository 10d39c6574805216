//! Tasks that a process cannot do without.
//!
//! A task that has panicked is missing from then on, and whatever waits for it waits for ever, while everything around it
//! looks well: an answer that never comes, a purge that no node is told of. So the process ends, with an exit code that
//! makes its supervisor start it again; begun anew from what is durable, nothing is missed.

use tokio_util::sync::CancellationToken;

/// Says when one of the vital tasks has ended, though nobody asked it to.
#[derive(Clone, Debug, Default)]
pub struct Vital {
    failed: CancellationToken,
}

impl Vital {
    /// With no tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The task, watched: when it returns, panics or is dropped before `stop` is cancelled, the process must end.
    pub fn watch<F: Future>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        task: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let watch = VitalGuard { name, stop: stop.clone(), vital: self.clone() };
        async move {
            let outcome = task.await;
            drop(watch);
            outcome
        }
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
