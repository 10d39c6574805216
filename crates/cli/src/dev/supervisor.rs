//! Keeps the programs of `batoff dev` running, and ends them in order.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::child::{KILLED, Program, RunningChild};
use crate::output::note;

/// A dead program is started again after this long.
const RESTART_PAUSE: Duration = Duration::from_millis(300);

/// The pause grows up to this while a program dies as soon as it runs: it will not be well by itself.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A program that ran at least so long was well.
const WELL_AFTER: Duration = Duration::from_secs(2);

/// Programs that end together.
#[derive(Debug)]
pub struct Fleet {
    keep: bool,
    stop: CancellationToken,
    lost: CancellationToken,
    watched: TaskTracker,
    patience: Duration,
}

impl Fleet {
    /// No program yet. Each one gets `patience` to drain when the fleet is stopped; `lost` is cancelled when one dies
    /// and is not to be kept.
    pub fn new(keep: bool, patience: Duration, lost: CancellationToken) -> Self {
        Self { keep, stop: CancellationToken::new(), lost, watched: TaskTracker::new(), patience }
    }

    /// Takes a running program over. `program` is how it is started again, so its configuration must name the addresses
    /// that it has now.
    pub fn watch(&self, child: RunningChild, program: Program) {
        let (keep, patience) = (self.keep, self.patience);
        let (stop, lost) = (self.stop.clone(), self.lost.clone());
        self.watched.spawn(async move {
            let mut child = child;
            let mut pause = RESTART_PAUSE;
            loop {
                let begun = Instant::now();
                let how = tokio::select! {
                    () = stop.cancelled() => return child.stop(patience).await,
                    how = child.ended() => how,
                };
                note(&format!("{} (process {}) {how}", program.name, child.pid()));
                if !keep {
                    // What somebody killed had no last words.
                    if !how.starts_with(KILLED) {
                        note(&program.last_lines());
                    }
                    return lost.cancel();
                }
                if begun.elapsed() >= WELL_AFTER {
                    pause = RESTART_PAUSE;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    again = start_again(&program, &mut pause) => child = again,
                }
            }
        });
    }

    /// Ends all of them: asked first, killed when their patience is over.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.watched.close();
        self.watched.wait().await;
    }
}

async fn start_again(program: &Program, pause: &mut Duration) -> RunningChild {
    loop {
        sleep(*pause).await;
        *pause = (*pause * 2).min(RESTART_PAUSE_MAX);
        match program.start().await {
            Ok(child) => {
                note(&format!("{} started again (process {})", program.name, child.pid()));
                return child;
            }
            Err(failure) => note(&format!("{} could not be started again: {failure}", program.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::child::tests::program;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_kept_program_is_started_again_when_it_dies() {
        let (folder, program) = program("echo run >> \"$0.runs\"; echo '{}'; read -r x");
        let runs = folder.path().join("program.runs");
        let lost = CancellationToken::new();
        let fleet = Fleet::new(true, PATIENCE, lost.clone());
        let child = program.start().await.unwrap();
        let first = i32::try_from(child.pid()).unwrap();
        fleet.watch(child, program);
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(first).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        while std::fs::read_to_string(&runs).unwrap().lines().count() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        fleet.stop().await;
        assert!(!lost.is_cancelled());
    }

    #[tokio::test]
    async fn one_that_is_not_kept_is_reported_as_lost() {
        let (_folder, program) = program("echo '{}'; exit 70");
        let lost = CancellationToken::new();
        let fleet = Fleet::new(false, PATIENCE, lost.clone());
        fleet.watch(program.start().await.unwrap(), program);
        lost.cancelled().await;
        fleet.stop().await;
    }
}
