//! Files that nobody else on the machine has to read: hostnames, tags and URLs of all customers stand in them. Whatever
//! the umask is that the daemon was started with.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory, and what is missing above it.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens a file for writing, empty.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Takes everybody else's rights to a directory and to the files in it, as an earlier version or another umask left them.
/// Links are not followed.
pub(super) fn tighten(dir: &Path) -> io::Result<()> {
    owners_alone(dir, &fs::metadata(dir)?)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Of the entry itself, not of what a link points at.
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            owners_alone(&entry.path(), &metadata)?;
        }
    }
    Ok(())
}

fn owners_alone(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    tracing::info!(path = %path.display(), mode = format!("{mode:o}"), "readable for others until now; it is not any more");
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
}
