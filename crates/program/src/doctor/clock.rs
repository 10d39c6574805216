//! Is the clock right? Three witnesses: what was written before, the kernel, and other machines.
//!
//! A wrong clock spoils what is judged by the time of day: certificates, signed requests, retention, times in logs. Leases
//! and `completed` go by none.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::report::{Diagnosis, Severity};
use super::timex::{self, KernelClock};
use crate::certificates::{span, unix_now};

/// A file that was written so long after now was written before the clock was set back.
const STEP_MIN: Duration = Duration::from_secs(2);

/// 2026-01-01: no build of ours is older.
const CLOCK_MIN: u64 = 1_767_225_600;

/// A clock that is kept right, and may be off by more than this, is kept badly.
const ERROR_MAX: Duration = Duration::from_secs(1);

/// Less difference to another machine's clock is none: `Date` has whole seconds, and may be one old.
const DIFFERENCE_MIN: Duration = Duration::from_secs(2);

/// Where the clients of NTP say that they run.
const RUN: &str = "/run";

/// Looks at what this machine knows of its clock. `dir`: where the program writes. `matters`: what goes by the clock.
pub fn examine(dir: &Path, matters: &str, report: &mut Diagnosis) {
    if unix_now() < CLOCK_MIN {
        return report.error("clock", "it says that it is before 2026", format!("set it (NTP): {matters}"));
    }
    let written = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
        let at = entry.metadata().ok()?.modified().ok()?;
        Some((at.duration_since(SystemTime::now()).ok()?, entry.path()))
    });
    match written.max() {
        Some((ahead, path)) if ahead > STEP_MIN => report.warn(
            "clock",
            format!("{} was written {} from now", path.display(), span(ahead.as_secs())),
            format!("the clock was set back, or was ahead before: set it (NTP); {matters}"),
        ),
        _ => report.fine("clock", "not before anything that was written"),
    }
    judge(timex::ask(), ClockKeeper::find(Path::new(RUN)), matters, report);
}

/// Who keeps the clock right, as far as it leaves signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockKeeper {
    /// systemd-timesyncd, which has had the time since the start of the machine.
    Timesyncd,
    /// systemd-timesyncd, which has not.
    TimesyncdWaits,
    /// chrony, which tells the kernel only if it is told to.
    Chrony,
    /// Nobody whom we know.
    Unknown,
}

impl ClockKeeper {
    fn find(run: &Path) -> Self {
        let timesync = run.join("systemd/timesync");
        if run.join("chrony").is_dir() {
            Self::Chrony
        } else if timesync.join("synchronized").exists() {
            Self::Timesyncd
        } else if timesync.is_dir() {
            Self::TimesyncdWaits
        } else {
            Self::Unknown
        }
    }
}

fn judge(kernel: io::Result<KernelClock>, keeper: ClockKeeper, matters: &str, report: &mut Diagnosis) {
    let kernel = match kernel {
        Ok(kernel) => kernel,
        // A sandbox (`ProtectClock=`) forbids the question with the answer.
        Err(_) if keeper == ClockKeeper::Timesyncd => {
            return report.fine("clock", "systemd-timesyncd has the time (the kernel may not be asked)");
        }
        Err(error) => {
            return report.warn(
                "clock",
                format!("the kernel cannot be asked whether it is kept right: {error}"),
                "run this outside of the unit's or the container's sandbox",
            );
        }
    };
    if kernel.is_synchronised {
        let (at_most, about) = (kernel.error_max.as_millis(), kernel.error_estimated.as_micros());
        let found = format!("kept right, by {at_most} ms at most (about {about} µs)");
        if kernel.error_max > ERROR_MAX {
            let remedy = format!(
                "its NTP client has heard nothing for long, or from far away: see its log; {matters}"
            );
            return report.warn("clock", found, remedy);
        }
        return report.fine("clock", found);
    }
    match keeper {
        ClockKeeper::Chrony => report.warn(
            "clock",
            "chrony runs, and the kernel does not know its clock to be synchronised",
            "see `chronyc tracking`; with `rtcsync` in chrony.conf the kernel knows it, too",
        ),
        ClockKeeper::TimesyncdWaits | ClockKeeper::Timesyncd => report.warn(
            "clock",
            "systemd-timesyncd runs, and the kernel does not know its clock to be synchronised",
            "see `timedatectl timesync-status`",
        ),
        ClockKeeper::Unknown => report.warn(
            "clock",
            "nothing keeps it right: the kernel calls it unsynchronised",
            format!("run an NTP client, such as systemd-timesyncd or chrony; {matters}"),
        ),
    }
}

/// What another machine said of its clock, and when.
#[derive(Clone, Debug)]
pub struct PeerTime {
    /// The `Date` of an HTTP answer, as it came.
    pub date: String,
    /// When it was asked, by this clock.
    pub asked: SystemTime,
    /// When it had answered.
    pub answered: SystemTime,
}

/// Compares this clock with that of `peer`. Beyond `refused_beyond` a difference is an error: requests are refused by it.
pub fn compare(
    peer: &str,
    said: &PeerTime,
    refused_beyond: Option<Duration>,
    matters: &str,
    report: &mut Diagnosis,
) {
    let Ok(date) = httpdate::parse_http_date(&said.date) else {
        return report.fine("clock", format!("{peer} tells no time"));
    };
    let (ahead, by) = difference(date, said);
    if by < DIFFERENCE_MIN {
        return report.fine("clock", format!("as that of {peer}, to a second or two"));
    }
    let refused = refused_beyond.is_some_and(|limit| by > limit);
    let severity = if refused { Severity::Error } else { Severity::Warning };
    let which = if ahead { "ahead of" } else { "behind" };
    let found = format!("{} {which} that of {peer}", span(by.as_secs()));
    report.add("clock", severity, found, format!("set whichever is wrong (NTP): {matters}"));
}

/// Whether this clock is ahead, and by how much at least: its own time at the answer lies between `asked` and `answered`, the
/// other's in the second that it names.
fn difference(date: SystemTime, said: &PeerTime) -> (bool, Duration) {
    let ahead = said.asked.duration_since(date).unwrap_or_default().saturating_sub(Duration::from_secs(1));
    let behind = date.duration_since(said.answered).unwrap_or_default();
    if ahead > Duration::ZERO { (true, ahead) } else { (false, behind) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const MATTERS: &str = "certificates go by it";

    fn judged(kernel: io::Result<KernelClock>, keeper: ClockKeeper) -> (Severity, String) {
        let mut report = Diagnosis::default();
        judge(kernel, keeper, MATTERS, &mut report);
        (report.severity, report.to_string())
    }

    #[test]
    fn the_kernels_word_counts_and_each_keeper_has_a_remedy_of_its_own() {
        let kernel = |is_synchronised, error_max| {
            Ok(KernelClock { is_synchronised, error_max, error_estimated: Duration::from_micros(7) })
        };
        let (kept, lost) = (Duration::from_millis(20), Duration::from_secs(16));
        for (answer, keeper, severity, words) in [
            (kernel(true, kept), ClockKeeper::Unknown, Severity::Fine, "20 ms at most (about 7 µs)"),
            (kernel(true, Duration::from_secs(3)), ClockKeeper::Chrony, Severity::Warning, "heard nothing"),
            (kernel(false, lost), ClockKeeper::Chrony, Severity::Warning, "rtcsync"),
            (kernel(false, lost), ClockKeeper::TimesyncdWaits, Severity::Warning, "timesync-status"),
            (kernel(false, lost), ClockKeeper::Unknown, Severity::Warning, MATTERS),
            (
                Err(io::ErrorKind::PermissionDenied.into()),
                ClockKeeper::Timesyncd,
                Severity::Fine,
                "has the time",
            ),
            (Err(io::ErrorKind::PermissionDenied.into()), ClockKeeper::Unknown, Severity::Warning, "sandbox"),
        ] {
            let (found, text) = judged(answer, keeper);
            assert!(found == severity && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn keepers_are_known_by_what_they_leave() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(ClockKeeper::find(run.path()), ClockKeeper::Unknown);
        fs::create_dir_all(run.path().join("systemd/timesync")).unwrap();
        assert_eq!(ClockKeeper::find(run.path()), ClockKeeper::TimesyncdWaits);
        fs::write(run.path().join("systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(ClockKeeper::find(run.path()), ClockKeeper::Timesyncd);
        fs::create_dir(run.path().join("chrony")).unwrap();
        assert_eq!(ClockKeeper::find(run.path()), ClockKeeper::Chrony);
    }

    #[test]
    fn another_clock_is_compared_within_what_its_date_can_tell() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let compared = |asked, answered, limit: Option<u64>| {
            let said = PeerTime { date: date.to_owned(), asked: at(asked), answered: at(answered) };
            let mut report = Diagnosis::default();
            compare("cp1", &said, limit.map(Duration::from_secs), MATTERS, &mut report);
            (report.severity, report.findings[0].found.clone())
        };
        let theirs = 784_111_777;
        assert_eq!(compared(theirs, theirs + 1, Some(300)).0, Severity::Fine);
        assert_eq!(compared(theirs - 3, theirs + 3, Some(300)).0, Severity::Fine, "a slow answer");
        assert_eq!(compared(theirs + 2, theirs + 2, Some(300)).0, Severity::Fine);
        let ahead = compared(theirs + 121, theirs + 121, Some(300));
        assert_eq!(ahead, (Severity::Warning, "2 min ahead of that of cp1".to_owned()));
        let behind = compared(theirs - 301, theirs - 301, Some(300));
        assert_eq!(behind, (Severity::Error, "5 min 1 s behind that of cp1".to_owned()));
        assert_eq!(compared(theirs - 301, theirs - 301, None).0, Severity::Warning);
    }
}
