use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;

use super::bumps::Map;
use super::config::HaproxySection;
use super::process::Process;
use super::socket::Socket;
use crate::shared::glance::{AREA, within};

/// It is asked who it is; no map is touched.
pub(super) async fn examine(section: &HaproxySection, running: &FolderUse, report: &mut Diagnosis) {
    let socket = Socket::new(section.socket.clone());
    let shown = section.socket.display();
    match within(socket.run(&["show info".to_owned()])).await {
        Err(error) => report.error(
            AREA,
            format!("haproxy: nobody answers at {shown}: {error}"),
            "start HAProxy with `stats socket … level admin` there (deploy/haproxy), or correct caches.haproxy.socket; this user \
             must be able to open the socket",
        ),
        Ok(answers) => {
            report.fine(AREA, format!("haproxy: it answers at {shown}"));
            let pid = answers.iter().flat_map(|answer| answer.lines()).find_map(|line| line.strip_prefix("Pid: "));
            sees(pid.and_then(|pid| pid.trim().parse().ok()), section, running, report);
        }
    }
    let every = Map::EVERY.into_iter().chain(Map::OWNED).chain([Map::Lease, Map::Process]);
    let missing: Vec<_> = every.map(Map::file).filter(|file| !section.maps.join(file).is_file()).collect();
    if missing.is_empty() {
        report.fine(AREA, format!("haproxy: its maps are in {}", section.maps.display()));
    } else {
        report.error(
            AREA,
            format!("haproxy: {} lacks the maps {}", section.maps.display(), missing.join(", ")),
            "copy deploy/haproxy's, or correct caches.haproxy.maps; HAProxy does not start without them",
        );
    }
}

/// Whether the daemon can see when a process ends that a reload has left behind.
fn sees(pid: Option<u32>, section: &HaproxySection, running: &FolderUse, report: &mut Diagnosis) {
    let hidden = running.hides_processes();
    let is_seen = pid.is_some_and(|pid| Process::look_at(pid).started.is_some());
    if hidden != Some(true) && (is_seen || hidden == Some(false)) {
        return report.fine(AREA, "haproxy: its processes can be seen");
    }
    let who = if hidden == Some(true) { "from the daemon" } else { "from here" };
    report.warn(
        AREA,
        format!(
            "haproxy: its processes cannot be seen {who}, so purges after a reload wait up to {} s (hard_stop_after_secs)",
            section.hard_stop_after_secs
        ),
        "ProtectProc=default in the daemon's unit (deploy/haproxy/batoff-edge.service.conf), no hidepid= on /proc, and one \
         PID namespace for both",
    );
}
