//! What a node needs of its clock, its disk and its limits.

use std::time::Duration;

use batoff_program::descriptors::FILES;
use batoff_program::doctor::disk::DiskNeeds;
use batoff_program::monitor;

use crate::config::EdgeConfig;
use crate::local;

/// What goes by the clock.
pub(super) const CLOCK: &str =
    "certificates, and times in logs, go by it; leases and purges go by no time of day";

/// The state is replaced as a whole: its rules may be 64 MB, and stand there twice for a moment. No purge waits for that; a
/// start, a reset and the first lease of a control plane's term do.
pub(super) const DISK: DiskNeeds = DiskNeeds {
    folder: "the state folder",
    made_by: "[state] dir must be a folder that this user can make or write to",
    room_little: 1 << 30,
    room_none: 160 << 20,
    room_remedy: "free space: a node that cannot store its state drops its caches after the next start",
    flush_slow: Duration::from_millis(250),
    flush_too_slow: Duration::from_secs(2),
    flush_remedy: "a start, a reset and the first lease wait for one: use a local disk",
    volatile_remedy: "put it on a disk: after a reboot the node stands nowhere, and drops its caches",
};

pub(super) const DESCRIPTORS_REMEDY: &str = "raise LimitNOFILE= of the unit (ulimit -n)";

/// Files that may be open: those that every process has, who asks for figures, and caches at the local API.
pub(super) fn descriptors(config: &EdgeConfig) -> (usize, &'static str) {
    let of_program = FILES + monitor::CONNECTIONS_MAX;
    match config.caches.local {
        Some(_) => {
            (of_program + local::CONNECTIONS_MAX, "its own, those who ask for figures, and the local API")
        }
        None => (of_program, "its own, and those who ask for figures"),
    }
}
