//! Whether everything in the directory is registered.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::trust::Trust;

/// Passes over the directory, numbered: asked for by whoever finds that something may have been missed, done by the
/// scanner.
#[derive(Debug)]
pub(super) struct ScanGate {
    passes: watch::Sender<Passes>,
    /// Why the last pass failed, if it did.
    failure: Mutex<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passes {
    /// The last one that was asked for. 0: not even the first, which waits for a reset.
    pub(super) wanted: u64,
    pub(super) done: u64,
    pub(super) trust: Trust,
}

impl Passes {
    pub(super) const fn are_done(&self) -> bool {
        self.wanted > 0 && self.done == self.wanted
    }
}

impl Default for ScanGate {
    fn default() -> Self {
        Self {
            passes: watch::Sender::new(Passes { wanted: 0, done: 0, trust: Trust::Restarted }),
            failure: Mutex::default(),
        }
    }
}

impl ScanGate {
    /// Something may have been missed. A pass that is under way begins anew.
    pub(super) fn ask(&self, trust: Trust) {
        self.passes.send_modify(|passes| {
            // A pass that something small began anew goes on believing what it did.
            if passes.wanted == passes.done || trust != Trust::Running {
                passes.trust = trust;
            }
            passes.wanted += 1;
        });
    }

    /// Pass `number` is over; what was asked for meanwhile is not.
    pub(super) fn done(&self, number: u64) {
        *self.failure.lock() = None;
        self.passes.send_modify(|passes| passes.done = passes.done.max(number));
    }

    /// A pass failed; it is tried again.
    pub(super) fn failed(&self, why: String) {
        *self.failure.lock() = Some(why);
    }

    /// Why the directory cannot be read, as far as that is known.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether this pass is still the last that was asked for.
    pub(super) fn is_wanted(&self, number: u64) -> bool {
        self.passes.borrow().wanted == number
    }

    pub(super) fn is_open(&self) -> bool {
        self.passes.borrow().are_done()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Passes> {
        self.passes.subscribe()
    }
}
