//! Has the disk room, is it quick enough, and does it keep what it is given?

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::report::Diagnosis;

/// Flushes that are measured.
const FLUSHES: usize = 16;

/// What a program needs of the disk that its folder lies on, and what helps where it is not so.
#[derive(Clone, Copy, Debug)]
pub struct DiskNeeds {
    /// The folder, as it is called.
    pub folder: &'static str,
    /// What makes it.
    pub made_by: &'static str,
    /// Bytes of which less is a warning, when they are less than a tenth of all, too.
    pub room_little: u64,
    /// Bytes of which less is an error.
    pub room_none: u64,
    /// What to do then.
    pub room_remedy: &'static str,
    /// A flush that takes longer is a warning.
    pub flush_slow: Duration,
    /// One that takes longer than this is an error.
    pub flush_too_slow: Duration,
    /// What to do then.
    pub flush_remedy: &'static str,
    /// Why it should not lie in memory.
    pub volatile_remedy: &'static str,
}

/// File systems that keep nothing after a power cut, or on which a flush may mean little.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"];

/// Looks at the disk below `dir`, and writes 16 blocks to a file that never has a name.
pub fn examine(dir: &Path, needs: &DiskNeeds, report: &mut Diagnosis) {
    match rustix::fs::statvfs(dir) {
        Ok(found) => {
            let bytes = found.f_bavail.saturating_mul(found.f_frsize);
            room(bytes, found.f_bavail, found.f_blocks, needs, report);
        }
        Err(error) => return report.error("disk", format!("{}: {error}", dir.display()), needs.made_by),
    }
    mount(dir, needs, report);
    match flush_times(dir) {
        Ok(times) => flushes(times, needs, report),
        Err(error) => report.warn(
            "disk",
            format!("how long a flush takes cannot be measured: {error}"),
            "run it as the user that the program runs as",
        ),
    }
}

fn room(bytes: u64, blocks: u64, all: u64, needs: &DiskNeeds, report: &mut Diagnosis) {
    let found = format!("{} MiB are free", bytes >> 20);
    if bytes < needs.room_none {
        report.error("disk", found, needs.room_remedy);
    } else if bytes < needs.room_little && blocks < all / 10 {
        report.warn("disk", found, needs.room_remedy);
    } else {
        report.fine("disk", found);
    }
}

fn flushes(mut times: [Duration; FLUSHES], needs: &DiskNeeds, report: &mut Diagnosis) {
    times.sort_unstable();
    let (median, longest) = (times[FLUSHES / 2], times[FLUSHES - 1]);
    let found = format!(
        "a flush takes {:.1} ms, the longest of {FLUSHES} {:.1} ms",
        median.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3
    );
    if median > needs.flush_too_slow {
        report.error("disk", found, needs.flush_remedy);
    } else if median > needs.flush_slow {
        report.warn("disk", found, needs.flush_remedy);
    } else {
        report.fine("disk", found);
    }
}

/// How long it takes to make a block durable, in a file that never has a name.
fn flush_times(dir: &Path) -> io::Result<[Duration; FLUSHES]> {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let file: File = OpenOptions::new().write(true).custom_flags(flags).mode(0o600).open(dir)?;
    let mut times = [Duration::ZERO; FLUSHES];
    for (block, time) in (0..).zip(&mut times) {
        let begun = Instant::now();
        file.write_all_at(&[1; 4_096], block * 4_096)?;
        file.sync_data()?;
        *time = begun.elapsed();
    }
    Ok(times)
}

fn mount(dir: &Path, needs: &DiskNeeds, report: &mut Diagnosis) {
    let Ok(dir) = dir.canonicalize() else { return };
    let Ok(mounts) = procfs::process::Process::myself().and_then(|me| me.mountinfo()) else { return };
    let mounts = mounts.into_iter().filter(|mount| dir.starts_with(&mount.mount_point));
    // The last of those at one place lies over the others.
    let Some(mount) = mounts.max_by_key(|mount| mount.mount_point.as_os_str().len()) else { return };
    let options = mount.mount_options.keys().chain(mount.super_options.keys()).map(String::as_str);
    let is_read_only = options.clone().any(|option| option == "ro");
    let is_unsafe = options.clone().any(|option| matches!(option, "nobarrier" | "barrier=0"))
        || mount.super_options.get("barrier").and_then(Option::as_deref) == Some("0");
    judge(&mount.fs_type, is_read_only, is_unsafe, needs, report);
}

fn judge(fs_type: &str, is_read_only: bool, is_unsafe: bool, needs: &DiskNeeds, report: &mut Diagnosis) {
    if is_read_only {
        let remedy = "mount it for writing; the log of the kernel says whether it was the disk's fault";
        report.error("disk", format!("the file system ({fs_type}) is read-only"), remedy);
    } else if VOLATILE.contains(&fs_type) {
        report.warn("disk", format!("{} lies in memory ({fs_type})", needs.folder), needs.volatile_remedy);
    } else if REMOTE.contains(&fs_type) {
        let remedy =
            "use a local disk: what a flush means, and that one process has it, is the server's to keep";
        report.warn("disk", format!("{} lies on another machine ({fs_type})", needs.folder), remedy);
    } else if is_unsafe {
        let remedy = "mount it with barriers, unless the disk's cache survives a power cut";
        report.warn("disk", format!("the file system ({fs_type}) is mounted without barriers"), remedy);
    } else {
        report.fine("disk", format!("the file system is {fs_type}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    const NEEDS: DiskNeeds = DiskNeeds {
        folder: "the folder",
        made_by: "make it",
        room_little: 1_000,
        room_none: 100,
        room_remedy: "free space",
        flush_slow: Duration::from_millis(20),
        flush_too_slow: Duration::from_millis(250),
        flush_remedy: "use an SSD",
        volatile_remedy: "use a disk",
    };

    fn found(look: impl FnOnce(&mut Diagnosis)) -> Severity {
        let mut report = Diagnosis::default();
        look(&mut report);
        report.severity
    }

    #[test]
    fn room_and_flushes_are_measured_by_what_is_needed() {
        for (bytes, all, severity) in [
            (99, 100, Severity::Error),
            (999, 100_000, Severity::Warning),
            (999, 2_000, Severity::Fine),
            (1_000, 100_000, Severity::Fine),
        ] {
            assert_eq!(found(|report| room(bytes, bytes, all, &NEEDS, report)), severity, "{bytes} of {all}");
        }
        for (millis, severity) in [(20, Severity::Fine), (21, Severity::Warning), (251, Severity::Error)] {
            let times = [Duration::from_millis(millis); FLUSHES];
            assert_eq!(found(|report| flushes(times, &NEEDS, report)), severity, "{millis} ms");
        }
    }

    #[test]
    fn what_forgets_or_lies_elsewhere_is_no_disk() {
        for (fs_type, read_only, is_unsafe, severity) in [
            ("ext4", false, false, Severity::Fine),
            ("ext4", true, false, Severity::Error),
            ("ext4", false, true, Severity::Warning),
            ("tmpfs", false, false, Severity::Warning),
            ("nfs4", false, false, Severity::Warning),
        ] {
            let judged = found(|report| judge(fs_type, read_only, is_unsafe, &NEEDS, report));
            assert_eq!(judged, severity, "{fs_type}");
        }
    }
}
