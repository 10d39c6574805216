//! Files that are replaced as a whole: after a crash the old one stands there or the new one, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces the file `name` in `folder`: written beside it, flushed, renamed, the folder flushed. Durable when this
/// returns, and readable by its owner alone.
///
/// # Errors
/// What stands there then is the old file or the new one, whole.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    match fs::remove_file(&beside) {
        // A crash has left it, perhaps readable for others.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    // The name is the folder's: without this a power cut could bring the old file back.
    flush(folder)
}

/// Makes durable which names are in a folder, and what they lead to.
///
/// # Errors
/// The disk's.
pub fn flush(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "state", b"one, and longer").unwrap();
        // What a crash has left.
        fs::write(folder.path().join("state.new"), "half of somethi").unwrap();
        replace(folder.path(), "state", b"two").unwrap();
        assert_eq!(fs::read(folder.path().join("state")).unwrap(), b"two");
        assert!(!folder.path().join("state.new").exists());
        let mode = fs::metadata(folder.path().join("state")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
