//! What nginx may serve from its cache: under the lease, and only what has met the rules.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::gate::ScanGate;
use crate::shared::slots::Slots;

/// The node's lease as files, withheld while something in the directory may not be registered.
pub(super) struct Permit {
    slots: Slots,
    folder: PathBuf,
    gate: Arc<ScanGate>,
    /// Whether nginx serves only what is registered. Otherwise purges are acknowledged only after a scan.
    waits_for_scan: bool,
    settling: Mutex<()>,
}

impl Permit {
    pub(super) fn new(slots: Slots, folder: PathBuf, gate: Arc<ScanGate>, waits_for_scan: bool) -> Self {
        let permit = Self { slots, folder, gate, waits_for_scan, settling: Mutex::default() };
        permit.settle();
        permit
    }

    pub(super) const fn waits_for_scan(&self) -> bool {
        self.waits_for_scan
    }

    /// The gate may have opened or closed. When this returns, nothing is allowed that it forbids.
    pub(super) fn settle(&self) {
        let _one_at_a_time = self.settling.lock();
        if !self.waits_for_scan || self.gate.is_open() {
            self.slots.restore(&self.folder);
        } else if let Err(error) = self.slots.withhold(&self.folder) {
            tracing::error!(%error, "nginx cannot be told to stop serving; it does when its slots run out");
        }
    }

    /// What keeps the lease from being told to nginx.
    pub(super) fn trouble(&self) -> Option<String> {
        self.slots.trouble()
    }

    /// The lease was renewed or lost.
    pub(super) fn lease_changed(&self) {
        self.slots.lease_changed();
    }
}
