//! Whether this process can do its work in the directory, found out at the start and not at the first purge.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::Levels;
use super::files::Files;
use crate::caches::CacheOpenError;

/// The file that is made to see whether files can be made and removed. nginx takes no notice of it.
const PROBE: &str = "batoff-probe";

/// What is in the way of the adapter, for people.
pub(super) fn setup(message: impl Into<String>) -> CacheOpenError {
    CacheOpenError::Setup { cache: "nginx", message: message.into() }
}

/// Looks at the directory as a whole.
pub(super) fn check_directory(root: &Path, levels: Levels) -> Result<(), CacheOpenError> {
    let about = match fs::metadata(root) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => return Err(setup(format!("{} is no directory", root.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(setup(format!(
                "{} does not exist; set caches.nginx.path to the directory of proxy_cache_path, and start nginx once, \
                 which makes it",
                root.display()
            )));
        }
        Err(error) => return Err(denied(root, &error)),
    };
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
        inside = Some(root.join(name.as_ref()));
    }
    for folder in [Some(root), inside.as_deref()].into_iter().flatten() {
        probe(folder).map_err(|error| denied(folder, &error))?;
    }
    let _ = about;
    Ok(())
}

fn probe(folder: &Path) -> io::Result<()> {
    fs::read_dir(folder)?;
    let file = folder.join(PROBE);
    fs::write(&file, b"")?;
    fs::remove_file(&file)
}

/// Who owns it, who we are, and what to do.
fn denied(path: &Path, error: &io::Error) -> CacheOpenError {
    let own = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(path).map(|about| about.uid()).ok();
    let whose = owner.map(|uid| format!("it belongs to {}", user(uid))).unwrap_or_default();
    if error.kind() != io::ErrorKind::PermissionDenied {
        return setup(format!("{}: {error}", path.display()));
    }
    setup(format!(
        "cannot read, write and remove in {}: {error}; {whose}, and this daemon runs as {}. Run it as nginx's user \
         (`User=` in the unit), or leave it the capability CAP_DAC_OVERRIDE (CAP_DAC_READ_SEARCH is not enough to remove \
         files)",
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
    let (owner, group) = (about.uid(), about.gid());
    for folder in files.folders() {
        if folder.is_dir() {
            continue;
        }
        let mut missing = Vec::new();
        let mut at = folder.as_path();
        while at != files.root() && !at.is_dir() {
            missing.push(at.to_owned());
            let Some(above) = at.parent() else { break };
            at = above;
        }
        for folder in missing.iter().rev() {
            match fs::DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            if owner != rustix::process::geteuid().as_raw() {
                std::os::unix::fs::chown(folder, Some(owner), Some(group))?;
            }
        }
    }
    Ok(())
}
