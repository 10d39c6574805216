//! The Unix socket: whoever may open it may register objects, so its permissions are the access control.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use crate::CacheOpenError;

const MODE: u32 = 0o660;

/// Where group names are looked up. Groups of a directory service are given by number.
const GROUPS: &str = "/etc/group";

/// Listens at `path`, in place of a socket that a daemon before has left there.
///
/// It is made under another name and given its permissions before it is renamed, so that nobody can open it too early,
/// and a cache finds either the old or the new one.
pub async fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, CacheOpenError> {
    let refused = |what: &str, error: io::Error| {
        setup(format!(
            "cannot {what} {}: {error}; its directory must exist and belong to this user ([caches.local] socket)",
            path.display()
        ))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(setup(format!(
                "{} is not a socket; remove it, or choose another [caches.local] socket",
                path.display()
            )));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(setup(format!(
                "another process listens at {}; is a daemon running already?",
                path.display()
            )));
        }
        Ok(_) | Err(_) => {}
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // Left by a process of the same id that died right here.
    drop(fs::remove_file(&new));
    let listener = UnixListener::bind(&new).map_err(|error| refused("make the socket", error))?;
    let ready = restrict(&new, MODE, group).and_then(|()| fs::rename(&new, path));
    if let Err(error) = ready {
        drop(fs::remove_file(&new));
        return Err(refused("prepare the socket", error));
    }
    Ok(listener)
}

/// Gives a file its mode and group, in an order in which it is never open to more than it should.
pub fn restrict(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
        chown(path, None, Some(group)).map_err(|error| {
            let why = format!("group {group}: {error}; the daemon must be a member of it, or root");
            io::Error::new(error.kind(), why)
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The number of a group.
pub fn group_id(group: &str) -> Result<u32, CacheOpenError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
        .next()
        .ok_or_else(|| {
            setup(format!(
                "there is no group {group:?} in {GROUPS}; make it, or give its number ([caches.local] group)"
            ))
        })
}

/// An error that the operator has to mend.
pub fn setup(message: String) -> CacheOpenError {
    CacheOpenError::Setup { cache: "local", message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.sock");
        drop(listen(&path, None).await.unwrap());
        assert!(path.exists(), "a dead daemon leaves its socket");
        let listener = listen(&path, None).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let refused = listen(&path, None).await.unwrap_err().to_string();
        assert!(refused.contains("another process listens"), "{refused}");
        drop(listener);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(listen(&file, None).await.unwrap_err().to_string().contains("is not a socket"));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let nowhere = dir.path().join("none/local.sock");
        assert!(listen(&nowhere, None).await.unwrap_err().to_string().contains("its directory must exist"));
    }

    #[test]
    fn a_group_is_a_name_or_a_number() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("1234").unwrap(), 1234);
        assert!(group_id("no-such-group").unwrap_err().to_string().contains("no-such-group"));
    }
}
