//! Is an address free, or whose is it?
//!
//! Which process has a socket stands below `/proc/<pid>/fd`, and that of a unit in a sandbox is shown to root alone. Whose user
//! it is stands in `/proc/net/tcp`, for everybody. So the doctor of the running program's user finds its ports held by that
//! user, while one of that user's runs on the folder, and that is as it should be.

use std::io;
use std::net::{SocketAddr, TcpListener};

use procfs::net::TcpState;
use procfs::process::FDTarget;

use super::folder::{FolderUse, user};
use super::report::{Diagnosis, Severity};

/// Who is to have the addresses.
#[derive(Clone, Copy, Debug)]
pub struct PortOwner<'a> {
    /// The program, as the system names its processes.
    pub program: &'static str,
    /// The one that runs with this configuration, if one does.
    pub running: &'a FolderUse,
}

/// What a socket that listens is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PortHolder {
    /// This process has it.
    Process { pid: i32, name: String },
    /// A process that cannot be looked into, of this user.
    Of(u32),
}

/// Looks at one address, by binding it for a moment if nobody listens there.
pub fn examine(owner: PortOwner, listener: &str, address: SocketAddr, report: &mut Diagnosis) {
    if address.port() == 0 {
        return report.fine("ports", format!("{listener}: any free one"));
    }
    if let Some((inode, uid)) = listening_at(address) {
        let holder = holder(inode).unwrap_or(PortHolder::Of(uid));
        let (severity, by, remedy) = judge(owner, &holder);
        return report.add("ports", severity, format!("{listener}: {address} is held by {by}"), remedy);
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

/// How bad it is, by whom it is held, and what to do.
fn judge(owner: PortOwner, holder: &PortHolder) -> (Severity, String, &'static str) {
    const END: &str = "end it, or give the listener another address";
    let PortOwner { program, running } = owner;
    match holder {
        PortHolder::Process { pid, name } if name == program => match running.is_by(*pid) {
            Some(false) => {
                let by = format!("another {name}, pid {pid}, which does not run with this configuration");
                (Severity::Error, by, END)
            }
            Some(true) | None => (Severity::Fine, format!("{name}, pid {pid}"), ""),
        },
        PortHolder::Process { pid, name } => (Severity::Error, format!("{name}, pid {pid}"), END),
        PortHolder::Of(uid) if running.is_held() && running.user() == Some(*uid) => {
            let pid = running.pid().map_or_else(String::new, |pid| format!(", pid {pid}"));
            let by = format!("{}, as whom the {program} of this configuration runs{pid}", user(*uid));
            (Severity::Fine, by, "")
        }
        PortHolder::Of(uid) => {
            let by = format!("a process of the user {}", user(*uid));
            let remedy = "run this as root to see which; end it, or give the listener another address";
            let may_be_ours = !running.is_held() && !running.is_free();
            (if may_be_ours { Severity::Warning } else { Severity::Error }, by, remedy)
        }
    }
}

/// The socket that listens there, or at all addresses of that port, and whose it is.
fn listening_at(address: SocketAddr) -> Option<(u64, u32)> {
    let entries = procfs::net::tcp().into_iter().flatten().chain(procfs::net::tcp6().into_iter().flatten());
    let mut entries = entries.filter(|entry| entry.state == TcpState::Listen);
    let is_it = |at: SocketAddr| {
        at.port() == address.port()
            && (at.ip().to_canonical() == address.ip().to_canonical()
                || at.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    entries.find(|entry| is_it(entry.local_address)).map(|entry| (entry.inode, entry.uid))
}

/// Which process has that socket, among those that we may look into.
fn holder(inode: u64) -> Option<PortHolder> {
    procfs::process::all_processes().ok()?.flatten().find_map(|process| {
        let has_it = process
            .fd()
            .ok()?
            .flatten()
            .any(|descriptor| matches!(descriptor.target, FDTarget::Socket(found) if found == inode));
        let named = || Some(PortHolder::Process { pid: process.pid, name: process.stat().ok()?.comm });
        has_it.then(named).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_as_it_should_be_when_the_one_that_runs_here_has_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (nobody, here) = (FolderUse::nobodys(), FolderUse::by(Some(own), 977));
        let unknown = FolderUse::default();
        let process = |pid, name: &str| PortHolder::Process { pid, name: name.to_owned() };
        for (running, holder, severity) in [
            (&here, process(own, "batoff-edge"), Severity::Fine),
            (&here, process(1, "batoff-edge"), Severity::Error),
            (&nobody, process(own, "batoff-edge"), Severity::Error),
            (&here, process(own, "nginx"), Severity::Error),
            (&here, PortHolder::Of(977), Severity::Fine),
            (&here, PortHolder::Of(33), Severity::Error),
            (&nobody, PortHolder::Of(977), Severity::Error),
            (&unknown, process(own, "batoff-edge"), Severity::Fine),
            (&unknown, PortHolder::Of(977), Severity::Warning),
        ] {
            let owner = PortOwner { program: "batoff-edge", running };
            let (judged, by, remedy) = judge(owner, &holder);
            assert_eq!(judged, severity, "{by}");
            assert_eq!(remedy.is_empty(), severity == Severity::Fine, "{by}");
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_found_with_its_process_and_its_user() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, uid) = listening_at(listener.local_addr().unwrap()).unwrap();
        assert_eq!(uid, rustix::process::geteuid().as_raw());
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(holder(inode), Some(PortHolder::Process { pid, .. }) if pid == own));
    }
}
