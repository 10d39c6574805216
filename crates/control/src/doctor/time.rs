//! Is the clock right, as far as this machine alone can tell?

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use batoff_program::certificates::{span, unix_now};

use super::report::Diagnosis;

/// A file that was written so long after now was written before the clock was set back.
const STEP_MIN: Duration = Duration::from_secs(2);

/// 2026-01-01: no build of ours is older.
const CLOCK_MIN: u64 = 1_767_225_600;

/// Where systemd's own client of NTP says that it runs, and that it has the time.
const TIMESYNC: &str = "/run/systemd/timesync";

pub(super) fn examine(dir: &Path, report: &mut Diagnosis) {
    if unix_now() < CLOCK_MIN {
        report.error(
            "clock",
            "it says that it is before 2026",
            "set it (NTP): certificates, signatures and retention go by it",
        );
        return;
    }
    let written = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
        let at = entry.metadata().ok()?.modified().ok()?;
        Some((at.duration_since(SystemTime::now()).ok()?, entry.path()))
    });
    match written.max() {
        Some((ahead, path)) if ahead > STEP_MIN => report.warn(
            "clock",
            format!("{} was written {} from now", path.display(), span(ahead.as_secs())),
            "the clock was set back, or was ahead before: set it (NTP); signed requests and retention go by it",
        ),
        _ => report.fine("clock", "not before anything that was written"),
    }
    if Path::new(TIMESYNC).is_dir() && !Path::new(TIMESYNC).join("synchronized").exists() {
        report.warn(
            "clock",
            "systemd-timesyncd runs and has no time yet",
            "see `timedatectl timesync-status`",
        );
    }
}
