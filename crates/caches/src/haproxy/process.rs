//! The processes of one HAProxy: the one that answers at the socket, and those that a reload has left behind.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use batoff_types::Moment;

use super::charge::Allowance;

/// Where the kernel shows processes.
const PROC: &str = "/proc";

/// Which process it is, as far as it can be seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// In the kernel's ticks since boot; `None` when it cannot be seen: a container of its own, or a hidden `/proc`.
    pub(super) started: Option<u64>,
    /// The kernel's boot_id.
    pub(super) boot: String,
}

/// How it stands with a process that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Runs,
    Ended,
    /// It cannot be seen from here.
    Unknown,
}

impl Process {
    /// The process that says this number of itself.
    pub(super) fn look_at(pid: u32) -> Self {
        let started = match stat(Path::new(PROC), pid) {
            Ok(Stat { name, started, .. }) if name == "haproxy" => Some(started),
            _ => None,
        };
        Self { pid, started, boot: boot_id() }
    }

    /// One that nobody has seen and that may be there.
    pub(super) fn unseen() -> Self {
        Self { pid: 0, started: None, boot: boot_id() }
    }

    pub(super) fn life(&self) -> Life {
        self.life_in(Path::new(PROC))
    }

    fn life_in(&self, proc: &Path) -> Life {
        if self.boot != boot_id() {
            return Life::Ended;
        }
        let Some(started) = self.started else { return Life::Unknown };
        match stat(proc, self.pid) {
            Ok(now) if now.started == started && !now.is_dead => Life::Runs,
            Ok(_) => Life::Ended,
            // Of other users' processes a hidden `/proc` (a unit's `ProtectProc=`) shows none, not even the first of all. The
            // daemon before this one may have seen what this one cannot.
            Err(error) if error.kind() == io::ErrorKind::NotFound && proc.join("1").exists() => Life::Ended,
            Err(_) => Life::Unknown,
        }
    }

    /// Whether its command line says that it took over from others (`-sf`, `-st`, and so it says in master-worker mode
    /// after a reload). One that cannot be read may have.
    pub(super) fn may_have_predecessors(&self) -> bool {
        match fs::read(format!("/proc/{}/cmdline", self.pid)) {
            Ok(line) if self.started.is_some() => {
                line.split(|&byte| byte == 0).any(|word| matches!(word, b"-sf" | b"-st" | b"-x"))
            }
            _ => true,
        }
    }
}

struct Stat {
    name: String,
    is_dead: bool,
    started: u64,
}

fn stat(proc: &Path, pid: u32) -> io::Result<Stat> {
    let text = fs::read(proc.join(pid.to_string()).join("stat"))?;
    // `12 (haproxy) S 1 …`: the name may hold anything; the 22nd word is when it was started.
    let text = String::from_utf8_lossy(&text);
    let parsed = || {
        let (_, rest) = text.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let mut words = rest.split_ascii_whitespace();
        let is_dead = matches!(words.next()?, "Z" | "X");
        Some(Stat { name: name.to_owned(), is_dead, started: words.nth(18)?.parse().ok()? })
    };
    parsed().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// One that a newer process has taken over from. It gets no purges any more, and may still serve what it holds to
/// connections that it has.
#[derive(Clone, Debug)]
pub(super) struct Predecessor {
    pub(super) process: Process,
    /// Until when it was told that it may.
    pub(super) told: Allowance,
    /// When its successor was seen first.
    pub(super) noticed: Moment,
}

impl Predecessor {
    /// Whether it may still serve what was purged; `hard_stop`: how long one lives whose end cannot be seen.
    pub(super) fn may_serve(&self, now: Moment, wall_millis: u64, hard_stop: Duration) -> bool {
        let life = match self.process.life() {
            Life::Unknown if now.since(self.noticed) > hard_stop => Life::Ended,
            life => life,
        };
        life != Life::Ended && !self.told.is_over(now, wall_millis)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use batoff_edge::boottime;

    fn of(pid: u32) -> Process {
        Process { pid, started: Some(stat(Path::new(PROC), pid).unwrap().started), boot: boot_id() }
    }

    #[test]
    fn an_old_process_is_waited_for_until_it_ends_or_has_no_lease() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = of(child.id());
        let (now, hard_stop) = (boottime(), Duration::from_secs(10));
        let mut old = Predecessor { process, told: Allowance::Open, noticed: now };
        assert!(old.may_serve(now + Duration::from_secs(60), 0, hard_stop), "seen to run on");
        let until = now + Duration::from_secs(1);
        old.told = Allowance::Until { until, wall_millis: 5_000 };
        assert!(old.may_serve(now, 9_000, hard_stop) && old.may_serve(until, 4_999, hard_stop));
        assert!(!old.may_serve(until, 5_000, hard_stop), "its lease is over on both clocks");
        old.told = Allowance::Open;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!old.may_serve(now, 0, hard_stop), "it has ended");
    }

    #[test]
    fn one_that_cannot_be_seen_is_waited_for_as_long_as_it_may_live() {
        let process = Process { pid: 1, started: None, boot: boot_id() };
        let now = boottime();
        let old = Predecessor { process, told: Allowance::Open, noticed: now };
        assert!(old.may_serve(now + Duration::from_secs(9), 0, Duration::from_secs(10)));
        assert!(!old.may_serve(now + Duration::from_secs(11), 0, Duration::from_secs(10)));
    }

    #[test]
    fn one_that_was_seen_has_not_ended_because_it_is_hidden_now() {
        let proc = tempfile::tempdir().unwrap();
        let process = Process { pid: 4_711, started: Some(1), boot: boot_id() };
        assert_eq!(process.life_in(proc.path()), Life::Unknown, "other users' processes are hidden");
        fs::create_dir(proc.path().join("1")).unwrap();
        assert_eq!(process.life_in(proc.path()), Life::Ended);
    }

    #[test]
    fn another_boot_has_left_no_process_behind() {
        let process = Process { pid: std::process::id(), started: None, boot: "another".into() };
        assert_eq!(process.life(), Life::Ended);
    }
}
