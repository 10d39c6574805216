//! A folder that is booted: systemd is its first process, starts what stands in its units, and keeps from them what these say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batoff_tests::PATIENCE;

/// Units of this machine's that have nothing to do on one that has no devices and no network of its own.
const MASKED: [&str; 7] = [
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-remount-fs.service",
];

/// The largest `LimitNOFILE=` of the units.
const WANTED_FILES: u64 = 1_048_576;

/// Mounts what a machine has, and turns into its systemd: the folder, and the group of processes that it has for itself. The
/// folder becomes the root, for in a mere chroot systemd cannot give a unit a view of files of its own.
const BOOT: &str = r#"
set -e
mount --rbind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 none dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mkdir -p oldroot
pivot_root . oldroot
umount -l /oldroot
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --log-target=console
"#;

/// It ends, with all that it has started, when the value is dropped.
pub struct Booted {
    unshare: Child,
    /// Its systemd, as it is called out here.
    pid: u32,
    group: PathBuf,
}

impl Booted {
    /// Only inside [`batoff_tests::isolated`].
    pub fn boot(root: &Path) -> Self {
        // Where this machine's disks are mounted is not this one's affair.
        drop(fs::write(root.join("etc/fstab"), ""));
        for unit in MASKED {
            let path = root.join("etc/systemd/system").join(unit);
            drop(fs::remove_file(&path));
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
        }
        fit_limits(root);
        // Where the first version has the names, the second is beside it.
        let both = Path::new("/sys/fs/cgroup/unified");
        let groups = if both.exists() { both } else { Path::new("/sys/fs/cgroup") };
        let group = groups.join(format!("batoff-test-{}-{}", std::process::id(), name_of(root)));
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        let mut unshare = Command::new("sh");
        let spaces = "unshare --pid --mount --cgroup --uts --ipc --propagation private --fork --kill-child";
        let joins =
            format!("echo $$ >'{}/cgroup.procs' && exec {spaces} bash -c \"$0\" \"$1\"", group.display());
        unshare.args(["-c", &joins, BOOT]).arg(root).stdin(Stdio::null());
        let unshare = unshare.spawn().expect("unshare runs");
        let mut booted = Self { unshare, pid: 0, group };
        booted.await_systemd();
        booted
    }

    fn await_systemd(&mut self) {
        let since = Instant::now();
        let own = self.unshare.id();
        let children = format!("/proc/{own}/task/{own}/children");
        loop {
            let child = fs::read_to_string(&children).unwrap_or_default();
            self.pid = child.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
            if name.trim() == "systemd" {
                let asked = self.inside().args(["systemctl", "is-active", "basic.target"]).output();
                if asked.is_ok_and(|answer| answer.status.success()) {
                    return;
                }
            }
            let ended = self.unshare.try_wait().expect("it can be waited for");
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "systemd does not boot here ({ended:?})");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its files, with what is mounted there.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    /// What runs a command there.
    pub fn inside(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.pid.to_string(), "--pid", "--mount", "--cgroup", "--uts", "--ipc"]);
        nsenter.args(["--root", "--wd", "--"]);
        nsenter
    }

    /// What a unit has said.
    pub fn journal(&self, unit: &str) -> String {
        let said = self.inside().args(["journalctl", "--no-pager", "--unit", unit]).output();
        said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.unshare.kill());
        drop(self.unshare.wait());
        // The kernel ends the rest with its first process; its groups can be removed when all are gone.
        let since = Instant::now();
        while remove_groups(&self.group).is_err() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Nobody in there may have more files open than whoever starts it: where that is less than the units ask for, systemd would
/// not start them at all.
fn fit_limits(root: &Path) {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let Some(most) = most.filter(|most| *most < WANTED_FILES) else { return };
    eprintln!("this machine allows {most} open files; the units' LimitNOFILE= is lowered to that");
    for unit in ["batoff-control", "batoff-edge"] {
        let folder = root.join(format!("etc/systemd/system/{unit}.service.d"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("files.conf"), format!("[Service]\nLimitNOFILE={most}\n")).unwrap();
    }
}

fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The part of a scratch folder's name that is its alone.
fn name_of(root: &Path) -> String {
    root.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect()
}
