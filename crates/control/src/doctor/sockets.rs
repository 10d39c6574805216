//! Are the addresses free, or whose are they; and are there descriptors for all connections?

use std::io;
use std::net::{SocketAddr, TcpListener};

use procfs::net::TcpState;
use procfs::process::FDTarget;
use rustix::process::{Resource, getrlimit};

use super::report::Diagnosis;
use crate::config::Config;
use crate::server::wanted_connections;

/// The name of our process, as the system has it.
const OURS: &str = "batoff-control";

pub(super) fn examine(config: &Config, report: &mut Diagnosis) {
    let listeners = [
        ("api", config.api.listen),
        ("admin", config.admin.listen),
        ("console", config.console.listen),
        ("grpc", config.grpc.listen),
        ("metrics", config.metrics.listen),
    ];
    for (listener, address) in listeners {
        listen(listener, address, report);
    }
    descriptors(config, report);
}

fn listen(listener: &str, address: SocketAddr, report: &mut Diagnosis) {
    if address.port() == 0 {
        report.fine("ports", format!("{listener}: any free one"));
        return;
    }
    if let Some(inode) = listening_at(address) {
        match holder(inode) {
            Some((pid, name)) if name == OURS => {
                report.fine("ports", format!("{listener}: {address} is held by {name}, pid {pid}"));
            }
            Some((pid, name)) => report.error(
                "ports",
                format!("{listener}: {address} is held by {name}, pid {pid}"),
                "end it, or give the listener another address",
            ),
            None => report.warn(
                "ports",
                format!("{listener}: {address} is held by another user's process"),
                "run it as root to see whose; a control plane that runs holds it itself",
            ),
        }
        return;
    }
    match TcpListener::bind(address) {
        Ok(_) => report.fine("ports", format!("{listener}: {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => report.error(
            "ports",
            format!("{listener}: {address}: {error}"),
            "use a port above 1023, or AmbientCapabilities=CAP_NET_BIND_SERVICE (then run this with it, too)",
        ),
        Err(error) => report.error(
            "ports",
            format!("{listener}: {address}: {error}"),
            "the address must be one of this machine's",
        ),
    }
}

/// The socket that listens there, or at all addresses of that port.
fn listening_at(address: SocketAddr) -> Option<u64> {
    let entries = procfs::net::tcp().into_iter().flatten().chain(procfs::net::tcp6().into_iter().flatten());
    let mut entries = entries.filter(|entry| entry.state == TcpState::Listen);
    let is_it = |at: SocketAddr| {
        at.port() == address.port()
            && (at.ip().to_canonical() == address.ip().to_canonical()
                || at.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    entries.find(|entry| is_it(entry.local_address)).map(|entry| entry.inode)
}

/// Which process has that socket, among those that we may look into.
fn holder(inode: u64) -> Option<(i32, String)> {
    procfs::process::all_processes().ok()?.flatten().find_map(|process| {
        let has_it = process
            .fd()
            .ok()?
            .flatten()
            .any(|descriptor| matches!(descriptor.target, FDTarget::Socket(found) if found == inode));
        has_it.then(|| Some((process.pid, process.stat().ok()?.comm))).flatten()
    })
}

fn descriptors(config: &Config, report: &mut Diagnosis) {
    let wanted: usize = wanted_connections(config).iter().sum();
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < wanted as u64 => report.warn(
            "descriptors",
            format!("{limit} files may be open, and {wanted} connections are configured"),
            "raise LimitNOFILE= of the unit (ulimit -n), or lower limits.node_connections and listeners.connections_max",
        ),
        _ => report.fine("descriptors", format!("enough for {wanted} connections")),
    }
}
