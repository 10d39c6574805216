//! The folder in which `batoff dev` keeps keys, certificates, configurations, states and logs.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use batoff_types::NodeName;
use serde::{Deserialize, Serialize};

use crate::certs::{Authority, CertFiles, Holder};
use crate::exit::Failure;
use crate::private_file;

/// Throw-away certificates are made anew at each start, so they need not last.
const CERT_DAYS: u32 = 30;

/// What `batoff-control init` makes, for all replicas.
const SECRETS: [&str; 2] = ["master.key", "admin.token"];

/// Where `dev` keeps everything. A temporary folder goes when this value goes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
    /// Held as long as this value lives; the system gives it back whatever happens to the process.
    _lock: File,
}

/// What customers of the demo site need; kept, so that the same folder shows the same ones again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoCredentials {
    /// The site.
    pub site: String,
    /// The token's public name.
    pub token_id: String,
    /// The token.
    pub token: String,
    /// Its signing secret.
    pub secret: String,
}

impl Folder {
    /// The named folder (made if need be; other files in it are left alone), or a temporary one.
    pub fn open(named: Option<&Path>) -> Result<Self, Failure> {
        let (path, temporary) = match named {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(|e| broken(path, &e))?;
                // The programs' configuration names absolute paths, wherever they are started from.
                (path.canonicalize().map_err(|e| broken(path, &e))?, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("batoff-dev-").tempdir();
                let made = made.map_err(|e| {
                    Failure::Usage(format!("no temporary folder ({e}); name one with --data-dir"))
                })?;
                (made.path().to_owned(), Some(made))
            }
        };
        let lock = lock(&path)?;
        for part in ["certs", "config", "logs", "nodes"] {
            let part = path.join(part);
            std::fs::create_dir_all(&part).map_err(|e| broken(&part, &e))?;
        }
        match full(&path) {
            Some(failure) => Err(failure),
            None => Ok(Self { path, temporary, _lock: lock }),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when `dev` ends.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// The data of a replica of the control plane, counted from 1.
    pub fn control_data(&self, id: usize) -> PathBuf {
        self.path.join(if id == 1 { "control".to_owned() } else { format!("control-{id}") })
    }

    /// Gives another replica the secrets of the first: all that share a store have the same.
    pub fn share_secrets(&self, id: usize) -> Result<(), Failure> {
        let (from, to) = (self.control_data(1), self.control_data(id));
        std::fs::create_dir_all(&to).map_err(|e| broken(&to, &e))?;
        for name in SECRETS {
            let secret = std::fs::read(from.join(name)).map_err(|e| broken(&from.join(name), &e))?;
            private_file::replace(&to.join(name), &secret).map_err(|e| broken(&to.join(name), &e))?;
        }
        Ok(())
    }

    /// Whether `batoff-control init` has run here.
    pub fn is_initialized(&self) -> bool {
        SECRETS.iter().all(|name| self.control_data(1).join(name).exists())
    }

    /// The one-time password of the console's first operator: as `init` left it, or as it was before the first start, which
    /// takes it away. It is good until somebody changes it.
    pub fn console_password(&self) -> Option<String> {
        let kept = self.path.join("console.password");
        let text = std::fs::read_to_string(self.control_data(1).join("console.password"));
        if let Ok(text) = &text
            && private_file::replace(&kept, text.as_bytes()).is_err()
        {
            crate::output::note("the console's password cannot be kept for the next start");
        }
        let text = text.or_else(|_| std::fs::read_to_string(&kept)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The operator's token.
    pub fn admin_token(&self) -> Result<String, Failure> {
        let path = self.control_data(1).join("admin.token");
        let text = std::fs::read_to_string(&path).map_err(|e| broken(&path, &e))?;
        Ok(text.trim().to_owned())
    }

    /// A node's cursor and rules.
    pub fn node_state(&self, node: &NodeName) -> PathBuf {
        self.path.join("nodes").join(file_name(node))
    }

    /// Where a program's log goes.
    pub fn log(&self, program: &str) -> PathBuf {
        self.path.join("logs").join(format!("{program}.log"))
    }

    /// Writes a configuration file.
    pub fn write_config(&self, program: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join("config").join(format!("{program}.toml"));
        private_file::replace(&path, text.as_bytes()).map_err(|e| broken(&path, &e))?;
        Ok(path)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.path.join("certs/ca.pem")
    }

    /// The authority, made at the first start.
    pub fn authority(&self) -> Result<Authority, Failure> {
        let certs = self.path.join("certs");
        Ok(if self.ca().exists() { Authority::open(&certs)? } else { Authority::create(&certs)? })
    }

    /// A fresh certificate.
    pub fn issue(&self, authority: &Authority, holder: &Holder) -> Result<CertFiles, Failure> {
        Ok(authority.issue(holder, CERT_DAYS)?.save_over(&self.path.join("certs"))?)
    }

    /// The credentials of an earlier start, if there was one.
    pub fn credentials(&self) -> Option<DemoCredentials> {
        serde_json::from_slice(&std::fs::read(self.credentials_path()).ok()?).ok()
    }

    /// Keeps the credentials for the next start.
    pub fn keep_credentials(&self, credentials: &DemoCredentials) -> Result<(), Failure> {
        let path = self.credentials_path();
        let text = serde_json::to_vec_pretty(credentials).map_err(|e| Failure::Internal(e.to_string()))?;
        private_file::replace(&path, &text).map_err(|e| broken(&path, &e))
    }

    fn credentials_path(&self) -> PathBuf {
        self.path.join("credentials.json")
    }
}

/// Two systems in one folder would write each other's configuration.
fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("dev.lock");
    let file = File::create(&path).map_err(|e| broken(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Temporary(format!(
            "another `batoff dev` is running in {}; end it, or choose another folder with --data-dir",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(broken(&path, &error)),
    }
}

/// A node's name as one file name.
pub fn file_name(node: &NodeName) -> String {
    format!("{}-{}", node.pop(), node.node())
}

/// A full disk, if that is what is in the way: as an error of ours, or of a program that could not even say so, because
/// its log is on the same disk.
pub fn full(folder: &Path) -> Option<Failure> {
    let probe = folder.join("dev.room");
    let written = std::fs::write(&probe, [0; ROOM_BYTES]).and_then(|()| File::open(&probe)?.sync_all());
    // Left behind it would be in the way of nothing but the same probe, which overwrites it.
    let _ = std::fs::remove_file(&probe);
    written.err().filter(is_full).map(|error| no_room(folder, &error))
}

/// What a program needs at least to begin: a store of its own and a few lines of log.
const ROOM_BYTES: usize = 256 * 1024;

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn no_room(path: &Path, error: &io::Error) -> Failure {
    Failure::Temporary(format!(
        "{}: {error}: make room on that disk, or choose another folder with --data-dir",
        path.display()
    ))
}

fn broken(path: &Path, error: &io::Error) -> Failure {
    if is_full(error) {
        return no_room(path, error);
    }
    Failure::Usage(format!("{}: {error}; choose another folder with --data-dir", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_serves_and_keeps_its_credentials() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("notes.txt"), "mine").unwrap();
        let credentials = DemoCredentials {
            site: "demo".into(),
            token_id: "1".into(),
            token: "bto_live_x".into(),
            secret: "bts_live_x".into(),
        };
        let folder = Folder::open(Some(outer.path())).unwrap();
        assert_eq!(folder.credentials(), None);
        folder.authority().unwrap();
        folder.keep_credentials(&credentials).unwrap();
        assert!(matches!(Folder::open(Some(outer.path())), Err(Failure::Temporary(_))), "it is in use");
        drop(folder);

        let again = Folder::open(Some(outer.path())).unwrap();
        again.authority().unwrap();
        assert_eq!(again.credentials(), Some(credentials));
        assert_eq!(std::fs::read_to_string(outer.path().join("notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn a_full_disk_is_named_and_temporary() {
        let failure = broken(Path::new("/data"), &io::ErrorKind::StorageFull.into());
        assert!(matches!(&failure, Failure::Temporary(text) if text.contains("/data")), "{failure}");
        assert!(matches!(
            broken(Path::new("/data"), &io::ErrorKind::PermissionDenied.into()),
            Failure::Usage(_)
        ));
    }

    #[test]
    fn a_temporary_folder_goes() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        assert!(folder.is_temporary() && path.exists());
        drop(folder);
        assert!(!path.exists());
    }
}
