//! What whoever started the program hears of it, as `sd_notify(3)` has it: `Type=notify` and `WatchdogSec=` in a unit.
//!
//! | told | when |
//! | --- | --- |
//! | `READY=1` | the program does its job: its data is read, its listeners are bound |
//! | `STATUS=…` | what `/readyz` answers, when that changes |
//! | `RELOADING=1`, `READY=1` | certificates are read again |
//! | `STOPPING=1` | it drains |
//! | `WATCHDOG=1` | three times in `WatchdogSec=`, as long as every runtime takes its turns and no vital task hangs |
//!
//! A process whose vital part hangs looks well from outside: its sockets accept, its health page answers. What it cannot do is
//! to say that all is well: then nothing is said, systemd ends the process, and starts it again. Who is started by hand, or by
//! another supervisor, has no `NOTIFY_SOCKET`: then nothing here does anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Handle;

use crate::monitored::Monitored;
use crate::vital::Vital;

/// How often `STATUS=` is looked at where there is no watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many times in `WatchdogSec=` it is said that all is well.
const TIMES: u32 = 3;

/// Tells the supervisor. See the module.
#[derive(Debug)]
pub struct Supervisor(());

impl Supervisor {
    /// The program does its job, on the present runtime and `others`. From now on a thread of its own says whether it still
    /// does.
    pub fn ready(vital: Vital, others: &[Handle], monitored: Arc<dyn Monitored>) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(());
        }
        let runtimes = std::iter::once(Handle::current()).chain(others.iter().cloned());
        let watchdog = sd_notify::watchdog_enabled();
        let mut watch = Watchdog {
            vital,
            patience: watchdog.map_or(Duration::MAX, |time| time / 2),
            turns: runtimes.map(RuntimeTurn::new).collect(),
            stuck: Vec::new(),
        };
        tell(&[NotifyState::Ready]);
        let every = watchdog.map_or(LOOK_EVERY, |time| time / TIMES);
        let thread = std::thread::Builder::new().name("supervisor".to_owned());
        let started = thread.spawn(move || {
            let mut told = None;
            loop {
                let status = monitored.ready().err().unwrap_or_else(|| "ready".to_owned());
                if told.as_ref() != Some(&status) {
                    tell(&[NotifyState::Status(&status.replace('\n', " "))]);
                    told = Some(status);
                }
                if watch.all_is_well() && watchdog.is_some() {
                    tell(&[NotifyState::Watchdog]);
                }
                std::thread::sleep(every);
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "the supervisor will not hear of this process; it starts it again for that");
        }
        Self(())
    }

    /// Runs `reload`, and says so.
    pub fn reloading(&self, reload: impl FnOnce()) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        reload();
        tell(&[NotifyState::Ready]);
    }

    /// It drains; what still runs may take its time.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// A line that cannot be told is worth a line of ours: the supervisor takes silence for a fault.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}

/// Whether everything moves.
struct Watchdog {
    vital: Vital,
    /// For one step of a task, and for a runtime's turn.
    patience: Duration,
    turns: Vec<RuntimeTurn>,
    /// What did not move at the last look.
    stuck: Vec<&'static str>,
}

impl Watchdog {
    fn all_is_well(&mut self) -> bool {
        let now = Instant::now();
        let mut stuck = self.vital.stuck(self.patience);
        for turn in &mut self.turns {
            if !turn.is_in_time(now, self.patience) {
                stuck.push("a runtime");
            }
        }
        if stuck != self.stuck {
            if stuck.is_empty() {
                tracing::warn!(parts = ?self.stuck, "what hung goes on");
            } else {
                tracing::error!(parts = ?stuck, patience = ?self.patience, "a vital part hangs; the supervisor is not told that all is well");
            }
        }
        self.stuck = stuck;
        self.stuck.is_empty()
    }
}

/// A task that a runtime is given at each look, and has to get round to.
struct RuntimeTurn {
    runtime: Handle,
    taken: Arc<AtomicBool>,
    asked: Instant,
}

impl RuntimeTurn {
    fn new(runtime: Handle) -> Self {
        Self { runtime, taken: Arc::new(AtomicBool::new(true)), asked: Instant::now() }
    }

    fn is_in_time(&mut self, now: Instant, patience: Duration) -> bool {
        if self.taken.swap(false, Ordering::Relaxed) {
            self.asked = now;
            let taken = Arc::clone(&self.taken);
            self.runtime.spawn(async move { taken.store(true, Ordering::Relaxed) });
            return true;
        }
        now.saturating_duration_since(self.asked) <= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_takes_no_turns_is_noticed_and_one_that_does_is_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut watch = Watchdog {
            vital: Vital::new(),
            patience: Duration::from_millis(20),
            turns: vec![RuntimeTurn::new(runtime.handle().clone())],
            stuck: Vec::new(),
        };
        assert!(watch.all_is_well());
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { _ = held.recv() });
        while watch.all_is_well() {
            std::thread::sleep(Duration::from_millis(1));
        }
        release.send(()).unwrap();
        while !watch.all_is_well() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
