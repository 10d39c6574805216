//! The hostnames that some site owns, as files for `batoff.vcl` to look for before it stores an answer: a page of a host
//! that nobody owns could be purged by nobody.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use batoff_types::SiteTable;

/// Inside the folder of the lease.
const FOLDER: &str = "sites";

/// In the folder of the lease: this node fetches through others.
const PARENTS: &str = "parents";

/// The folder with a file for each hostname, `*.` in front of one for all names under it.
pub(super) struct Owned {
    dir: PathBuf,
    /// When its entries were last changed, by this daemon.
    changed: Option<SystemTime>,
}

impl Owned {
    /// Makes the folder; what is in it stays for now.
    pub(super) fn open(lease_dir: &Path) -> io::Result<Self> {
        let owned = Self { dir: lease_dir.join(FOLDER), changed: None };
        owned.make()?;
        Ok(owned)
    }

    /// Whether `batoff.vcl` stores nothing while no daemon has told it how far the parents are: its guards, which say so, go
    /// with a varnishd that is restarted, and this does not.
    pub(super) fn say_parents(&self, has_parents: bool) -> io::Result<()> {
        let path = self.dir.with_file_name(PARENTS);
        if has_parents {
            return File::create(path).map(drop);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // The cache runs as another user.
        for dir in self.dir.parent().into_iter().chain([self.dir.as_path()]) {
            fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Takes away the hostnames that `sites` does not have.
    pub(super) fn withdraw(&mut self, sites: &SiteTable) -> io::Result<()> {
        let wanted = names(sites);
        for name in self.present()?.difference(&wanted) {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.note();
        Ok(())
    }

    /// Those of `sites` and no others.
    pub(super) fn bring_in_line(&mut self, sites: &SiteTable) -> io::Result<()> {
        self.make()?;
        self.withdraw(sites)?;
        for name in names(sites).difference(&self.present()?) {
            File::create(self.dir.join(name))?;
        }
        self.note();
        Ok(())
    }

    /// Makes anew what somebody has removed.
    pub(super) fn repair(&mut self, sites: &SiteTable) {
        if self.changed.is_some() && self.changed == self.modified() {
            return;
        }
        match self.bring_in_line(sites) {
            Ok(()) => {
                tracing::warn!(folder = %self.dir.display(), "the hostnames' files were touched; they are as they were")
            }
            Err(error) => {
                tracing::warn!(folder = %self.dir.display(), %error, "varnish does not store what it does not find here");
            }
        }
    }

    fn present(&self) -> io::Result<BTreeSet<String>> {
        let names =
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn note(&mut self) {
        self.changed = self.modified();
    }

    fn modified(&self) -> Option<SystemTime> {
        fs::metadata(&self.dir).and_then(|metadata| metadata.modified()).ok()
    }
}

/// Hostnames have neither slashes nor dots in front: a name is a name in the folder and nowhere else.
fn names(sites: &SiteTable) -> BTreeSet<String> {
    let patterns = sites.iter().flat_map(|(_, patterns)| patterns.iter());
    patterns.map(ToString::to_string).filter(|name| !name.contains('/')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(names: &[&str]) -> SiteTable {
        let mut sites = SiteTable::default();
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        sites.set(&"mine".parse().unwrap(), Some(&names));
        sites
    }

    #[test]
    fn there_is_a_file_for_each_hostname_and_for_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut owned = Owned::open(&dir.path().join("lease")).unwrap();
        owned.bring_in_line(&sites(&["a.test", "*.b.test"])).unwrap();
        let all = |owned: &Owned| owned.present().unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(all(&owned), ["*.b.test", "a.test"]);
        owned.withdraw(&sites(&["a.test", "c.test"])).unwrap();
        assert_eq!(all(&owned), ["a.test"], "what comes, comes when what was there is banned");
        owned.bring_in_line(&sites(&["a.test", "c.test"])).unwrap();
        assert_eq!(all(&owned), ["a.test", "c.test"]);
        fs::remove_dir_all(dir.path().join("lease")).unwrap();
        owned.repair(&sites(&["a.test", "c.test"]));
        assert_eq!(all(&owned), ["a.test", "c.test"]);
    }
}
