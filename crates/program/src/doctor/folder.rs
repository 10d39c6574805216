//! Folders and files that one program has for itself: who may read them, and which process has a folder now.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use procfs::process::Process;
use procfs::{LockKind, LockType};

use super::report::Diagnosis;

/// Whether a folder is its user's alone. `holds`: what others could read in it.
pub fn alone(area: &'static str, dir: &Path, holds: &str, report: &mut Diagnosis) {
    let Ok(meta) = fs::metadata(dir) else { return };
    if meta.permissions().mode() & 0o077 == 0 {
        report.fine(area, format!("{} is its user's alone", dir.display()));
    } else {
        let found = format!("{} is open to others", dir.display());
        report.warn(area, found, format!("chmod 700: {holds} stand in it (a start does it, too)"));
    }
}

/// Whether a key that everybody may read has to be another one. `who`: whom it proves its owner to be.
pub fn key(area: &'static str, of: &str, path: &Path, who: &str, report: &mut Diagnosis) {
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0) {
        report.error(
            area,
            format!("{of}{} may be read by everyone", path.display()),
            format!("chmod 600 (or 640), and issue another one: whoever has read it can be {who}"),
        );
    }
}

/// A file, whatever it is called.
type FileId = (u64, u64);

/// Which process has a folder to itself, as the kernel's list of locks tells it, which everybody may read: each program holds
/// a lock on a file in its folder for as long as it runs. Nothing is locked to find that out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderUse {
    /// Whether the list could be read.
    is_known: bool,
    /// Files of the folder that somebody has locked for writing.
    locked: Vec<FileId>,
    /// Who has; `None` for a lock that is an open file's and no process's, or of a process in another namespace.
    pid: Option<i32>,
    /// As whom it runs; of a process that cannot be seen, whose the locked file is.
    user: Option<u32>,
}

impl FolderUse {
    /// Looks at the folder.
    pub fn of(dir: &Path) -> Self {
        let mut found = Self::default();
        let Ok(locks) = procfs::locks() else { return found };
        found.is_known = true;
        for meta in
            fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok())
        {
            let device = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
            let of_file = locks.iter().filter(|lock| {
                !matches!(lock.lock_type, LockType::Posix)
                    && matches!(lock.kind, LockKind::Write)
                    && (lock.inode, (lock.devmaj, lock.devmin)) == (meta.ino(), device)
            });
            // A store holds locks of both kinds, and only one of them names its process.
            let pids: Vec<Option<i32>> = of_file.map(|lock| lock.pid.filter(|pid| *pid > 0)).collect();
            if !pids.is_empty() {
                found.locked.push((meta.dev(), meta.ino()));
                found.pid = found.pid.or(pids.into_iter().flatten().next());
                found.user = found.user.or(Some(meta.uid()));
            }
        }
        let process = found.pid.and_then(|pid| Process::new(pid).ok()?.status().ok());
        found.user = process.map(|status| status.euid).or(found.user);
        found
    }

    /// Whether somebody has it.
    pub fn is_held(&self) -> bool {
        !self.locked.is_empty()
    }

    /// Which process, if that is known.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// As which user it runs.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// Whether the processes of other users are hidden from the one that has it; `None` when that cannot be told.
    pub fn hides_processes(&self) -> Option<bool> {
        if self.user == Some(0) {
            return Some(false);
        }
        let mounts = Process::new(self.pid?).ok()?.mountinfo().ok()?;
        let proc = mounts.into_iter().rfind(|mount| mount.mount_point == Path::new("/proc"))?;
        let hidden = proc.super_options.get("hidepid").and_then(Option::as_deref);
        Some(hidden.is_some_and(|hidden| !matches!(hidden, "0" | "off")))
    }

    /// Whether nobody has it, for certain.
    pub fn is_free(&self) -> bool {
        self.is_known && self.locked.is_empty()
    }

    /// Whether it is that process; `None` when neither the lock nor the files that it has open say so.
    pub(super) fn is_by(&self, pid: i32) -> Option<bool> {
        if !self.is_known {
            return None;
        }
        if let Some(own) = self.pid {
            return Some(own == pid);
        }
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut ids =
            open.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|meta| (meta.dev(), meta.ino()));
        Some(ids.any(|id| self.locked.contains(&id)))
    }

    #[cfg(test)]
    pub(super) fn by(pid: Option<i32>, user: u32) -> Self {
        Self { is_known: true, locked: vec![(0, 0)], pid, user: Some(user) }
    }

    #[cfg(test)]
    pub(super) fn nobodys() -> Self {
        Self { is_known: true, ..Self::default() }
    }
}

/// A user's name, or its number.
pub fn user(uid: u32) -> String {
    let name = fs::read_to_string("/etc/passwd").ok().and_then(|users| {
        let line = users.lines().find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()))?;
        line.split(':').next().map(str::to_owned)
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_folder_is_held_by_whoever_has_a_file_in_it_locked() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("lock")).unwrap();
        assert!(FolderUse::of(dir.path()).is_free());
        file.lock().unwrap();
        let held = FolderUse::of(dir.path());
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(held.is_held() && held.pid() == Some(own), "{held:?}");
        assert_eq!(held.user(), Some(rustix::process::geteuid().as_raw()));
        assert_eq!((held.is_by(own), held.is_by(1)), (Some(true), Some(false)));
        // As of a lock that is an open file's: the process is known by the file.
        let of_file = FolderUse { pid: None, ..held };
        assert_eq!(of_file.is_by(own), Some(true));
        file.unlock().unwrap();
        assert!(FolderUse::of(dir.path()).is_free());
    }

    #[test]
    fn a_folder_and_a_key_that_others_may_read_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "").unwrap();
        for (mode, folder, secret) in
            [(0o700, Severity::Fine, Severity::Fine), (0o755, Severity::Warning, Severity::Error)]
        {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let (mut of_folder, mut of_key) = (Diagnosis::default(), Diagnosis::default());
            alone("data", dir.path(), "purges", &mut of_folder);
            key("certificates", "", &path, "this node", &mut of_key);
            assert_eq!((of_folder.severity, of_key.severity), (folder, secret), "{of_folder}{of_key}");
        }
    }
}
