//! Whether this process can do its work in the directory, found out at the start and not at the first purge.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, Uid, fchown, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::config::Levels;
use super::files::Files;
use crate::CacheOpenError;

/// What is in the way of the adapter, for people.
pub(super) fn setup(message: impl Into<String>) -> CacheOpenError {
    CacheOpenError::Setup { cache: "nginx", message: message.into() }
}

/// What is in the way and may go away by itself: a disk that is mounted late, or read-only for now.
pub(super) fn temporary(message: impl Into<String>) -> CacheOpenError {
    CacheOpenError::Temporary { cache: "nginx", message: message.into() }
}

/// Looks at the directory as a whole, and tries it.
pub(super) fn check_directory(root: &Path, levels: Levels) -> Result<(), CacheOpenError> {
    let inside = look_at_directory(root, levels)?;
    let files = Files::new(root.to_owned(), levels);
    for folder in [Some(""), inside.as_deref()].into_iter().flatten() {
        probe(&files, folder).map_err(|error| denied(&root.join(folder), &error))?;
    }
    Ok(())
}

/// Looks at the directory without trying it; a folder of the first level, if there is one.
pub(super) fn look_at_directory(root: &Path, levels: Levels) -> Result<Option<String>, CacheOpenError> {
    match fs::metadata(root) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => return Err(setup(format!("{} is no directory", root.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(temporary(format!(
                "{} does not exist. It may be mounted later; otherwise set caches.nginx.path to the directory of \
                 proxy_cache_path, and start nginx once, which makes it",
                root.display()
            )));
        }
        Err(error) => return Err(denied(root, &error)),
    }
    let folders = fs::read_dir(root).map_err(|error| denied(root, &error))?;
    let first = levels.digits().next();
    let mut inside = None;
    for entry in folders {
        let name = entry.map_err(|error| denied(root, &error))?.file_name();
        let name = name.to_string_lossy();
        let is_level =
            name.len() <= 2 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_level {
            continue;
        }
        if first != Some(name.len()) {
            return Err(setup(format!(
                "{} holds a folder {name:?}, which does not fit caches.nginx.levels; set it to the `levels` of \
                 proxy_cache_path",
                root.display()
            )));
        }
        inside = Some(name.into_owned());
    }
    Ok(inside)
}

/// Whether files can be made and removed there. Nobody else can have put anything under the name; nginx takes no notice.
fn probe(files: &Files, folder: &str) -> io::Result<()> {
    let folder = files.folder(folder)?;
    let name = format!("batoff-probe-{:016x}", rand::random::<u64>());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)?);
    Ok(unlinkat(&folder, &name, AtFlags::empty())?)
}

/// What keeps the directory from being used: what an operator must change, or what may pass.
pub(super) fn in_the_way(path: &Path, error: &io::Error) -> CacheOpenError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => setup(error.to_string()),
        // A disk that is full, read-only or failing is mended without this daemon's configuration.
        io::ErrorKind::ReadOnlyFilesystem => temporary(format!(
            "{}: {error}; mount it writable: what is purged is taken out of it",
            path.display()
        )),
        io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported => {
            setup(format!("{}: {error}; its folders must be folders, not links", path.display()))
        }
        _ => temporary(format!("{}: {error}", path.display())),
    }
}

/// Who owns it, who we are, and what to do.
fn denied(path: &Path, error: &io::Error) -> CacheOpenError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return in_the_way(path, error);
    }
    let own = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(path).map(|about| about.uid()).ok();
    let whose = owner.map(|uid| format!("it belongs to {}", user(uid))).unwrap_or_default();
    setup(format!(
        "cannot read, write and remove in {}: {error}; {whose}, and this daemon runs as {}. Run it as nginx's user \
         (`User=` in the unit), or leave it the capabilities CAP_DAC_OVERRIDE and CAP_CHOWN (CAP_DAC_READ_SEARCH is not \
         enough to remove files)",
        path.display(),
        user(own)
    ))
}

fn user(uid: u32) -> String {
    let name = fs::read_to_string("/etc/passwd").ok().and_then(|users| {
        let line = users.lines().find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()))?;
        line.split(':').next().map(str::to_owned)
    });
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

/// Makes every folder that nginx would make as it needs it, so that no file appears in one that is not watched yet.
pub(super) fn make_folders(files: &Files) -> io::Result<()> {
    let about = fs::metadata(files.root())?;
    let owner = (about.uid(), about.gid());
    for folder in files.folders_above().iter().chain(&files.folders()) {
        if folder.is_empty() {
            continue;
        }
        let (above, name) = folder.rsplit_once('/').unwrap_or(("", folder));
        make_folder(&files.folder(above)?, name, owner).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", files.root().join(folder).display()))
        })?;
    }
    Ok(())
}

fn make_folder(above: impl AsFd, name: &str, (owner, group): (u32, u32)) -> io::Result<()> {
    match mkdirat(&above, name, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let own = rustix::process::geteuid();
    if owner == own.as_raw() {
        return Ok(());
    }
    // What is opened, and not what has its name by now, is given away, and only if it is ours.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&above, name, flags, Mode::empty())?;
    if fstat(&made)?.st_uid != own.as_raw() {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(owner), rustix::fs::Gid::from_raw(group));
    let Err(errno) = fchown(&made, Some(owner), Some(group)) else { return Ok(()) };
    // Of no use to nginx, it is not left behind.
    let _ = unlinkat(&above, name, AtFlags::REMOVEDIR);
    Err(match errno {
        Errno::PERM => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "made, and cannot be given to nginx's user: the capability CAP_CHOWN is missing (AmbientCapabilities= and \
                 CapabilityBoundingSet= in the unit); leave it, or run as {}",
                user(owner.as_raw())
            ),
        ),
        errno => errno.into(),
    })
}
