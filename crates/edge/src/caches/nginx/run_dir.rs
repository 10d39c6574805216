//! What the daemon tells nginx: files in a folder on a tmpfs that nginx's configuration asks for.
//!
//! ```text
//!  lease/<slot>   there: in these 100 ms nginx may serve from its cache       (strict nodes)
//!  lease/open     there: it may, until further notice                         (available nodes)
//!  held/<host>    there: it must not, for this host
//!  gen/cur        a link to a folder whose name is the fill token of what is fetched now
//! ```

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::header::Stamp;

/// Folders of tokens that are kept after the link has moved on: a worker may be resolving it.
const TOKENS_KEPT: usize = 64;

/// The folder that both sides know.
#[derive(Debug)]
pub(super) struct RunDir {
    path: PathBuf,
    tokens: Mutex<VecDeque<String>>,
}

impl RunDir {
    /// Makes what is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        for folder in [path.to_owned(), path.join("held"), path.join("gen")] {
            fs::create_dir_all(&folder)?;
            // Nothing in it is secret, and nginx's workers must see it whatever the umask is.
            if fs::metadata(&folder)?.permissions().mode() & 0o055 != 0o055 {
                fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            }
        }
        let mut tokens = VecDeque::new();
        for entry in fs::read_dir(path.join("gen"))? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if !name.starts_with("cur") {
                tokens.push_back(name);
            }
        }
        Ok(Self { path: path.to_owned(), tokens: Mutex::new(tokens) })
    }

    /// Where the lease's files are.
    pub(super) fn lease(&self) -> PathBuf {
        self.path.join("lease")
    }

    /// The link that nginx follows for what it fetches.
    pub(super) fn stamp_link(&self) -> PathBuf {
        self.path.join("gen").join("cur")
    }

    /// What is fetched from now on carries this stamp.
    pub(super) fn set_stamp(&self, stamp: impl FnOnce() -> Stamp) -> io::Result<()> {
        let mut tokens = self.tokens.lock();
        // Asked for here, so that of two callers the later one sets the later stamp.
        let (folder, name) = (self.path.join("gen"), stamp().folder());
        if tokens.back() == Some(&name)
            && fs::read_link(folder.join("cur")).is_ok_and(|to| to == Path::new(&name))
        {
            return Ok(());
        }
        match fs::create_dir(folder.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(folder.join(&name), Permissions::from_mode(0o755))?,
        }
        let next = folder.join("cur.next");
        remove(&next)?;
        symlink(&name, &next)?;
        fs::rename(&next, folder.join("cur"))?;
        tokens.retain(|kept| *kept != name);
        tokens.push_back(name);
        while tokens.len() > TOKENS_KEPT {
            let Some(old) = tokens.pop_front() else { break };
            // It is only litter.
            let _ = fs::remove_dir(folder.join(old));
        }
        Ok(())
    }

    /// Objects of this host are not served.
    pub(super) fn hold(&self, host: &str) -> io::Result<()> {
        File::create(self.path.join("held").join(host)).map(drop)
    }

    pub(super) fn let_go(&self, host: &str) -> io::Result<()> {
        remove(&self.path.join("held").join(host))
    }

    pub(super) fn held(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.path.join("held"))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// Whether files there cost no disk.
pub(super) fn is_on_tmpfs(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == TMPFS_MAGIC)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
