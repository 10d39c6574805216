//! What a control plane needs of its clock, its disk, its addresses and its limits.

use std::time::Duration;

use batoff_program::doctor::disk::DiskNeeds;
use batoff_program::doctor::folder::FolderUse;
use batoff_program::doctor::ports::PortOwner;
use batoff_program::doctor::{Diagnosis, limits, ports};

use crate::config::Config;
use crate::server::wanted_connections;

/// What goes by the clock.
pub(super) const CLOCK: &str = "signed requests are refused by its difference to the customers', certificates by their times; leases go by no time of day";

/// A purge is durable after one flush, of the two seconds that it has.
pub(super) const DISK: DiskNeeds = DiskNeeds {
    folder: "the data folder",
    made_by: "make the data folder with `batoff-control init`",
    room_little: 8 << 30,
    room_none: 256 << 20,
    room_remedy: "free space, or lower retention.log_bytes and retention.audit_bytes: a full disk accepts no purge",
    flush_slow: Duration::from_millis(20),
    flush_too_slow: Duration::from_millis(250),
    flush_remedy: "each purge waits for one: use a local SSD, with a write cache that survives a power cut",
    volatile_remedy: "put the data folder on a disk: what was accepted must outlive a power cut",
};

pub(super) fn sockets(config: &Config, running: &FolderUse, report: &mut Diagnosis) {
    let listeners = [
        ("api", config.api.listen),
        ("admin", config.admin.listen),
        ("console", config.console.listen),
        ("grpc", config.grpc.listen),
        ("metrics", config.metrics.listen),
    ];
    let owner = PortOwner { program: "batoff-control", running };
    for (listener, address) in listeners {
        ports::examine(owner, listener, address, report);
    }
    limits::descriptors(
        running,
        wanted_connections(config).iter().sum(),
        "the connections that are configured",
        "raise LimitNOFILE= of the unit (ulimit -n), or lower limits.node_connections and listeners.connections_max",
        report,
    );
}
