//! Keeps the state on disk near what is in memory, without ever being waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_index::Index;
use batoff_types::message::Position;
use tokio::sync::watch;

use crate::state_dir::{KnownReplicas, StateDir, Stored};

/// Writes are at least this far apart. What a crash in between loses is replayed by the control plane.
const WRITES_APART: Duration = Duration::from_millis(50);

/// A write may take up to this share of the time (one part in so many), so that many rules or a slow disk do not turn the
/// daemon into a writer of state; the consequence is a longer replay after a crash.
const IDLE_FACTOR: u32 = 10;

/// Whatever a write costs, the next one begins within this time.
const WRITES_APART_MAX: Duration = Duration::from_secs(10);

/// What is to be stored beside the index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) position: Option<Position>,
    pub(crate) known: Arc<KnownReplicas>,
}

impl Wanted {
    fn is(&self, other: &Self) -> bool {
        self.position == other.position && self.known == other.known
    }
}

/// Stores what is wanted whenever it changes, and tells which terms are durable. Ends, with a last write, when the sender
/// of `wanted` is dropped.
pub(crate) async fn run<L: Clone + Send + Sync + 'static>(
    index: Arc<Index<L>>,
    state: Arc<StateDir>,
    mut wanted: watch::Receiver<Wanted>,
    durable: watch::Sender<Arc<KnownReplicas>>,
) {
    let mut failing = false;
    let mut written = wanted.borrow().clone();
    loop {
        let open = wanted.changed().await.is_ok();
        let want = wanted.borrow_and_update().clone();
        if want.is(&written) && !failing {
            if open {
                continue;
            }
            return;
        }
        let began = Instant::now();
        let (index, state) = (Arc::clone(&index), Arc::clone(&state));
        let (position, known) = (want.position, KnownReplicas::clone(&want.known));
        let outcome =
            tokio::task::spawn_blocking(move || state.save(&Stored::of(position, known, index.snapshot())));
        match outcome.await {
            Ok(Ok(())) => {
                if failing {
                    tracing::info!("the state can be stored again");
                }
                failing = false;
                durable.send_replace(Arc::clone(&want.known));
                written = want;
            }
            Ok(Err(error)) => report(&mut failing, &error.to_string()),
            Err(error) => report(&mut failing, &error.to_string()),
        }
        if !open {
            return;
        }
        let pause = (began.elapsed() * IDLE_FACTOR).clamp(WRITES_APART, WRITES_APART_MAX);
        // The end must not wait for the pause.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = closed(&wanted) => {}
        }
        if failing {
            wanted.mark_changed();
        }
    }
}

async fn closed(wanted: &watch::Receiver<Wanted>) {
    while wanted.has_changed().is_ok() {
        tokio::time::sleep(WRITES_APART).await;
    }
}

fn report(failing: &mut bool, error: &str) {
    if !*failing {
        tracing::error!(%error, "the state cannot be stored; a restart would replay from where it was stored last");
    }
    *failing = true;
}
