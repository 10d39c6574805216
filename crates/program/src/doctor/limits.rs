//! How many files may be open: of the process that runs, else of one that is started as this one was.

use procfs::process::{LimitValue, Process};
use rustix::process::{Resource, getrlimit};

use super::folder::FolderUse;
use super::report::Diagnosis;

/// Compares the limit with what is `wanted`; `of` says what for.
pub fn descriptors(running: &FolderUse, wanted: usize, of: &str, remedy: &str, report: &mut Diagnosis) {
    let (limit, whose) = match running.pid().and_then(of_process) {
        Some(limit) => (limit, "the running one"),
        None => (getrlimit(Resource::Nofile).maximum, "one that is started from here"),
    };
    match limit {
        Some(limit) if limit < wanted as u64 => report.warn(
            "descriptors",
            format!("{limit} files may be open of {whose}, and {wanted} are wanted: {of}"),
            remedy.to_owned(),
        ),
        _ => report.fine("descriptors", format!("enough for {wanted}: {of}")),
    }
}

/// Each program raises its limit as far as it may.
fn of_process(pid: i32) -> Option<Option<u64>> {
    match Process::new(pid).ok()?.limits().ok()?.max_open_files.hard_limit {
        LimitValue::Unlimited => Some(None),
        LimitValue::Value(limit) => Some(Some(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn the_limit_of_the_running_process_counts() {
        let own = i32::try_from(std::process::id()).unwrap();
        let running = FolderUse::by(Some(own), 0);
        let mut report = Diagnosis::default();
        descriptors(&running, 8, "connections", "raise it", &mut report);
        assert_eq!(report.severity, Severity::Fine, "{report}");
        let limit = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX - 1, |limit| limit as usize);
        descriptors(&running, limit.saturating_add(1), "connections", "raise it", &mut report);
        assert_eq!(report.severity, if limit < usize::MAX - 1 { Severity::Warning } else { Severity::Fine });
    }
}
