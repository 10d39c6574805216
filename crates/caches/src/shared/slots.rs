//! A lease as files, for caches that can only ask whether a file exists.
//!
//! The lease is cut into slots of a tenth of a second. A slot's file is named by the wall clock and exists from a little
//! before it begins, if the lease covers the whole of it; a cache that does not find the file of *now* does not serve
//! from what it has. So the right to serve ends without anybody's help, whatever has become of the daemon:
//!
//! ```text
//!  slots     |1700.3|1700.4|1700.5|1700.6|1700.7|
//!  files            [  ×   ][  ×   ][  ×   ]          lease until 1700.74, guard 0.1 s
//!  now                   ^ 1700.47: the file 1700.4 is there
//! ```
//!
//! An available node serves without a lease, so its folders hold the file `open` instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_edge::{Fence, boottime};
use batoff_types::Moment;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::folder::Folder;
use self::like::DueSlots;
pub use self::like::{SlotNames, SlotsConfig};

mod folder;
mod like;
#[cfg(test)]
mod tests;

/// The length of a slot.
const SLOT: Duration = Duration::from_millis(100);

/// The most slots that are made ahead. A daemon that is held up for longer lets its cache run out of them, even if the
/// lease is longer; one that is told a longer lease has no more files to remove when a clock is stepped.
const AHEAD_MAX: u64 = 20;

/// Under which name its troubles are counted.
const TROUBLE: &str = "lease";

/// Between two looks at the lease.
const TICK: Duration = Duration::from_millis(25);

/// Between two looks whether the folders are still there: whatever removed one, its cache serves from what it has again
/// within this time.
const REPAIR_EVERY: Duration = Duration::from_secs(1);

/// The difference between the two clocks may change by so much between two looks: slewing and a preempted thread.
/// More is a step of the wall clock.
const STEP_MICROS: i64 = 20_000;

/// Keeps the slots of some folders, in a thread of its own.
#[derive(Debug)]
pub struct Slots {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    config: SlotsConfig,
    fence: Arc<Fence>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folders: BTreeMap<PathBuf, Folder>,
    /// The wall clock minus `CLOCK_BOOTTIME`, as it was last.
    offset: Option<i64>,
    /// When the folders were last looked at.
    looked_at: Moment,
    /// What was last logged as being in the way.
    trouble: Option<String>,
}

impl Slots {
    /// Starts to keep slots in `folders`, which are made where they are missing, and held against a second daemon. What is left there of a predecessor is
    /// removed before this returns. Ends with `stop`.
    pub fn start(
        config: SlotsConfig,
        fence: Arc<Fence>,
        folders: impl IntoIterator<Item = PathBuf>,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { config, fence, state: Mutex::default() });
        for folder in folders {
            shared.add(&folder)?;
        }
        let kept = Arc::clone(&shared);
        let keeper = std::thread::Builder::new().name("slots".to_owned()).spawn(move || {
            while !stop.is_cancelled() {
                kept.tick();
                std::thread::park_timeout(TICK);
            }
        })?;
        Ok(Self { shared, keeper })
    }

    /// Keeps slots in one more folder, which is made when it is missing.
    pub fn add(&self, folder: &Path) -> std::io::Result<()> {
        self.shared.add(folder)?;
        self.keeper.thread().unpark();
        Ok(())
    }

    /// Removes every slot of a folder, and makes none until [`Slots::restore`]: when this returns, a cache that asks
    /// does not find one. `Err` when a file cannot be removed; then it runs out as the others do.
    pub fn withhold(&self, folder: &Path) -> std::io::Result<()> {
        match self.shared.state.lock().folders.get_mut(folder) {
            Some(folder) => folder.withhold(),
            None => Ok(()),
        }
    }

    /// Makes slots in a folder again.
    pub fn restore(&self, folder: &Path) {
        if let Some(folder) = self.shared.state.lock().folders.get_mut(folder) {
            folder.restore();
        }
        self.keeper.thread().unpark();
    }

    /// What is in the way of keeping the slots, for people.
    pub fn trouble(&self) -> Option<String> {
        self.shared.state.lock().trouble.clone()
    }

    /// The lease has changed. When it has ended, its slots are gone when this returns.
    pub fn lease_changed(&self) {
        if self.shared.fence.is_leased() {
            self.keeper.thread().unpark();
        } else {
            self.shared.tick();
        }
    }
}

impl Shared {
    fn add(&self, path: &Path) -> std::io::Result<()> {
        let mut folder = Folder::open(path, &self.config)?;
        let wanted = self.wanted(&self.clocks());
        folder.bring_in_line(&wanted)?;
        self.state.lock().folders.insert(path.to_owned(), folder);
        Ok(())
    }

    fn tick(&self) {
        let mut state = self.state.lock();
        let mut now = self.clocks();
        // A thread that was preempted between the two clocks looks like a step; looking again tells.
        let stepped = |now: &Clocks, last: Option<i64>| {
            last.is_some_and(|last| (now.offset() - last).abs() > STEP_MICROS)
        };
        for _ in 0..3 {
            if stepped(&now, state.offset) {
                now = self.clocks();
            }
        }
        let step = stepped(&now, state.offset);
        state.offset = Some(now.offset());
        let wanted = self.wanted(&now);
        let now_boot = boottime();
        let looks = now_boot.since(state.looked_at) >= REPAIR_EVERY;
        if looks {
            state.looked_at = now_boot;
        }
        let mut trouble = None;
        for (path, folder) in &mut state.folders {
            // Slots of the old time would outlive the lease in the new.
            let cleared = if step { folder.clear() } else { Ok(()) };
            let repaired = cleared.and_then(|()| if looks { folder.repair() } else { Ok(false) });
            if matches!(repaired, Ok(true)) {
                tracing::warn!(folder = %path.display(), "the folder of the cache's slots was gone; it was made anew");
            }
            if let Err(error) = repaired.and_then(|_| folder.bring_in_line(&wanted)) {
                trouble = Some(format!("{}: {error}", path.display()));
            }
        }
        if step {
            tracing::warn!("the wall clock was stepped; the cache's slots begin anew");
        }
        if trouble != state.trouble {
            batoff_edge::metrics::trouble(TROUBLE, trouble.is_some());
            match &trouble {
                Some(trouble) => {
                    tracing::error!(%trouble, "the cache's slots cannot be kept; it stops serving from what it has")
                }
                None => tracing::info!("the cache's slots are kept again"),
            }
            state.trouble = trouble;
        }
    }

    fn clocks(&self) -> Clocks {
        // The wall clock first: what passes between the two readings then makes the lease shorter, never longer.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = boottime();
        Clocks { wall: micros(wall), boot: i64::try_from(boot.as_micros()).unwrap_or(i64::MAX) }
    }

    fn wanted(&self, now: &Clocks) -> DueSlots {
        let until = i64::try_from(self.fence.until().as_micros()).unwrap_or(i64::MAX);
        DueSlots {
            slots: slots(now, until, micros(self.config.guard)),
            open: self.fence.serves_without_lease(),
        }
    }
}

/// Both clocks in microseconds.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall: i64,
    boot: i64,
}

impl Clocks {
    const fn offset(&self) -> i64 {
        self.wall - self.boot
    }
}

/// The slots from now on that a lease until `until` covers as a whole.
fn slots(now: &Clocks, until: i64, guard: i64) -> std::ops::Range<u64> {
    let slot = micros(SLOT);
    let first = now.wall / slot;
    let end = until.saturating_sub(guard).saturating_add(now.offset()) / slot;
    let first = u64::try_from(first).unwrap_or(0);
    let end = u64::try_from(end).unwrap_or(0);
    first..end.clamp(first, first + AHEAD_MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
