//! What the daemon tells nginx: files in a folder on a tmpfs that nginx's configuration asks for.
//!
//! ```text
//!  slots/<slot>     there: in these 100 ms nginx may serve from its cache       (strict nodes)
//!  slots/open       there: it may, until further notice                         (available nodes)
//!  lease/<share>    a link to slots; not there: it must not, for hosts of this share
//!  gen/cur          a link to a folder whose name is the fill token of what is fetched now
//! ```
//! So nginx asks one question, `lease/<share>/<slot>` or `lease/<share>/open`.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::header::Stamp;
use super::share::Share;

/// Folders of tokens that are kept after the link has moved on: a worker may be resolving it.
const TOKENS_KEPT: usize = 64;

/// Where a share's link leads.
const SLOTS_FROM_LEASE: &str = "../slots";

/// A folder without slots, for a check.
const EMPTY: &str = "check";

/// The folder that both sides know.
#[derive(Debug)]
pub(super) struct RunDir {
    path: PathBuf,
    tokens: Mutex<VecDeque<String>>,
}

impl RunDir {
    /// Makes what is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make_visible(path)?;
        make_visible(&path.join("gen"))?;
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
    pub(super) fn slots(&self) -> PathBuf {
        self.path.join("slots")
    }

    /// Makes what nginx asks about hosts, unless a daemon before this one did: then what it held back stays held. Before
    /// there are slots.
    pub(super) fn make_shares(&self) -> io::Result<()> {
        if self.slots().is_dir() && self.has_shares() {
            return Ok(());
        }
        self.remake_shares(|_| true)
    }

    pub(super) fn has_shares(&self) -> bool {
        self.path.join("lease").is_dir()
    }

    /// Makes it anew, with those shares that are not held.
    pub(super) fn remake_shares(&self, is_free: impl Fn(Share) -> bool) -> io::Result<()> {
        let (lease, new) = (self.path.join("lease"), self.path.join("lease.new"));
        make_visible(&self.path)?;
        // What an earlier version left there would be found by a configuration of that version, which knows of no shares.
        for folder in [&lease, &new] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::create_dir(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        for share in Share::all().filter(|share| is_free(*share)) {
            symlink(SLOTS_FROM_LEASE, new.join(share.to_string()))?;
        }
        fs::rename(&new, &lease)
    }

    /// The link that nginx follows for what it fetches.
    pub(super) fn stamp_link(&self) -> PathBuf {
        self.path.join("gen").join("cur")
    }

    /// Whether there is a stamp for what is fetched now.
    pub(super) fn has_stamp(&self) -> bool {
        self.stamp_link().is_dir()
    }

    /// What is fetched from now on carries this stamp.
    pub(super) fn set_stamp(&self, stamp: impl FnOnce() -> Stamp) -> io::Result<()> {
        let mut tokens = self.tokens.lock();
        // Asked for here, so that of two callers the later one sets the later stamp.
        let (folder, name) = (self.path.join("gen"), stamp().folder());
        if tokens.back() == Some(&name)
            && fs::read_link(folder.join("cur")).is_ok_and(|to| to == Path::new(&name))
            && folder.join(&name).is_dir()
        {
            return Ok(());
        }
        if !folder.is_dir() {
            make_visible(&folder)?;
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

    /// Objects of these hosts are not served.
    pub(super) fn hold(&self, share: Share) -> io::Result<()> {
        remove(&self.path.join("lease").join(share.to_string()))
    }

    pub(super) fn let_go(&self, share: Share) -> io::Result<()> {
        match symlink(SLOTS_FROM_LEASE, self.path.join("lease").join(share.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// For a check: whoever looks for slots of these hosts finds an empty folder.
    pub(super) fn empty(&self, share: Share) -> io::Result<()> {
        fs::create_dir_all(self.path.join(EMPTY))?;
        self.point(share, Path::new("..").join(EMPTY).as_path())
    }

    /// Undoes [`RunDir::empty`].
    pub(super) fn refill(&self, share: Share) -> io::Result<()> {
        self.point(share, Path::new(SLOTS_FROM_LEASE))?;
        fs::remove_dir(self.path.join(EMPTY))
    }

    fn point(&self, share: Share, to: &Path) -> io::Result<()> {
        let next = self.path.join(format!("{EMPTY}.next"));
        remove(&next)?;
        symlink(to, &next)?;
        fs::rename(next, self.path.join("lease").join(share.to_string()))
    }

    pub(super) fn held(&self) -> io::Result<Vec<Share>> {
        let mut there = HashSet::new();
        for entry in fs::read_dir(self.path.join("lease"))? {
            there.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(Share::all().filter(|share| !there.contains(&share.to_string())).collect())
    }
}

/// Nothing in it is secret, and nginx's workers must see it whatever the umask is.
fn make_visible(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if fs::metadata(folder)?.permissions().mode() & 0o055 != 0o055 {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
