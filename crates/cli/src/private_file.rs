use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use batoff_program::durable;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Only its owner: 0600.
    Owner,
    /// Everyone: 0644.
    Everyone,
}

/// Creates a file that must not exist yet; readable as `readers` say from its first moment on.
pub fn create_new(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everyone => 0o644,
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    write_all(file, content)
}

/// Replaces a file by one that only its owner may read: the old one or the new one is there, never half of one.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    let (folder, name) = parts.ok_or(io::ErrorKind::InvalidFilename)?;
    // Of a name alone the folder is the present one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    durable::replace(folder, name, content)
}

fn write_all(mut file: File, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_new(&path, b"one", Readers::Owner).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            create_new(&path, b"two", Readers::Owner).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        replace(&path, b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
