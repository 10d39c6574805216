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

/// A purge is durable after one flush, of the two seconds that it has.
const FLUSH_SLOW: Duration = Duration::from_millis(20);
const FLUSH_TOO_SLOW: Duration = Duration::from_millis(250);

/// Room of which less is a warning, or an error, in bytes.
const ROOM_LITTLE: u64 = 8 << 30;
const ROOM_NONE: u64 = 256 << 20;

/// File systems that keep nothing after a power cut, or on which a flush may mean little.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"];

pub(super) fn examine(dir: &Path, report: &mut Diagnosis) {
    match rustix::fs::statvfs(dir) {
        Ok(found) => {
            room(found.f_bavail.saturating_mul(found.f_frsize), found.f_bavail, found.f_blocks, report)
        }
        Err(error) => {
            report.error(
                "disk",
                format!("{}: {error}", dir.display()),
                "make the data folder with `batoff-control init`",
            );
            return;
        }
    }
    mount(dir, report);
    match flush_times(dir) {
        Ok(times) => flushes(times, report),
        Err(error) => report.warn(
            "disk",
            format!("how long a flush takes cannot be measured: {error}"),
            "run it as the control plane's user",
        ),
    }
}

pub(super) fn room(bytes: u64, blocks: u64, all: u64, report: &mut Diagnosis) {
    let found = format!("{} MiB are free", bytes >> 20);
    let remedy =
        "free space, or lower retention.log_bytes and retention.audit_bytes: a full disk accepts no purge";
    if bytes < ROOM_NONE {
        report.error("disk", found, remedy);
    } else if bytes < ROOM_LITTLE && blocks < all / 10 {
        report.warn("disk", found, remedy);
    } else {
        report.fine("disk", found);
    }
}

pub(super) fn flushes(mut times: [Duration; FLUSHES], report: &mut Diagnosis) {
    times.sort_unstable();
    let (median, longest) = (times[FLUSHES / 2], times[FLUSHES - 1]);
    let found = format!(
        "a flush takes {:.1} ms, the longest of {FLUSHES} {:.1} ms",
        median.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3
    );
    let remedy = "each purge waits for one: use a local SSD, with a write cache that survives a power cut";
    if median > FLUSH_TOO_SLOW {
        report.error("disk", found, remedy);
    } else if median > FLUSH_SLOW {
        report.warn("disk", found, remedy);
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

fn mount(dir: &Path, report: &mut Diagnosis) {
    let Ok(dir) = dir.canonicalize() else { return };
    let Ok(mounts) = procfs::process::Process::myself().and_then(|me| me.mountinfo()) else { return };
    let mounts = mounts.into_iter().filter(|mount| dir.starts_with(&mount.mount_point));
    // The last of those at one place lies over the others.
    let Some(mount) = mounts.max_by_key(|mount| mount.mount_point.as_os_str().len()) else { return };
    let options = mount.mount_options.keys().chain(mount.super_options.keys()).map(String::as_str);
    let is_read_only = options.clone().any(|option| option == "ro");
    let is_unsafe = options.clone().any(|option| matches!(option, "nobarrier" | "barrier=0"))
        || mount.super_options.get("barrier").and_then(Option::as_deref) == Some("0");
    judge(&mount.fs_type, is_read_only, is_unsafe, report);
}

pub(super) fn judge(fs_type: &str, is_read_only: bool, is_unsafe: bool, report: &mut Diagnosis) {
    if is_read_only {
        let remedy = "mount it for writing; the log of the kernel says whether it was the disk's fault";
        report.error("disk", format!("the file system ({fs_type}) is read-only"), remedy);
    } else if VOLATILE.contains(&fs_type) {
        let remedy = "put the data folder on a disk: what was accepted must outlive a power cut";
        report.warn("disk", format!("the data folder lies in memory ({fs_type})"), remedy);
    } else if REMOTE.contains(&fs_type) {
        let remedy = "use a local disk: what a flush means, and that one process has the store, is the server's to keep";
        report.warn("disk", format!("the data folder lies on another machine ({fs_type})"), remedy);
    } else if is_unsafe {
        let remedy = "mount it with barriers, unless the disk's cache survives a power cut";
        report.warn("disk", format!("the file system ({fs_type}) is mounted without barriers"), remedy);
    } else {
        report.fine("disk", format!("the file system is {fs_type}"));
    }
}
