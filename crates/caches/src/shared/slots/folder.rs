//! One folder with slots: makes and removes files until those are there that are wanted.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::like::{DueSlots, SlotNames, SlotsConfig};
use crate::shared::OwnFolder;

/// The file of a node that serves without a lease.
const OPEN: &str = "open";

/// One folder with slots; it belongs to the daemon alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Keeps other daemons out of it.
    own: OwnFolder,
    config: SlotsConfig,
    /// What a slot's file is a link to, if it is one.
    process: Option<PathBuf>,
    made: BTreeSet<u64>,
    open: bool,
    withheld: bool,
}

impl Folder {
    /// Makes the folder, or takes over what is there: every slot in it goes, `open` stays until it is known whether it
    /// may.
    pub(super) fn open(path: &Path, config: &SlotsConfig) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        // The cache runs as another user.
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        // Before anything is removed that may be another daemon's.
        let own = OwnFolder::take(path)?;
        let mut open = false;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name == OPEN {
                open = true;
            } else if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                remove(&entry.path())?;
            }
        }
        let process = config.follows_process.then(|| format!("/proc/{}/status", std::process::id()).into());
        let (path, config) = (path.to_owned(), *config);
        Ok(Self { path, own, config, process, made: BTreeSet::new(), open, withheld: false })
    }

    /// Looks whether the folder and the files that stay are still there, and makes anew what somebody has removed. Whether
    /// the folder had to be made.
    pub(super) fn repair(&mut self) -> io::Result<bool> {
        if self.own.is_in_place()? {
            self.open = self.path.join(OPEN).try_exists()?;
            return Ok(false);
        }
        let anew = Self::open(&self.path, &self.config)?;
        *self = Self { withheld: self.withheld, ..anew };
        Ok(true)
    }

    /// Makes and removes files until what is wanted is there.
    pub(super) fn bring_in_line(&mut self, wanted: &DueSlots) -> io::Result<()> {
        if self.withheld {
            return Ok(());
        }
        // The one just over stays a little: a cache's own clock may be some milliseconds behind. The guard covers it.
        while let Some(&slot) = self.made.first().filter(|&&slot| slot + 1 < wanted.slots.start) {
            self.remove_slot(slot)?;
        }
        while let Some(&slot) = self.made.last().filter(|&&slot| slot >= wanted.slots.end) {
            self.remove_slot(slot)?;
        }
        for slot in wanted.slots.clone() {
            if !self.made.contains(&slot) {
                self.make_slot(slot)?;
                self.made.insert(slot);
            }
        }
        if wanted.open != self.open {
            let path = self.path.join(OPEN);
            if wanted.open {
                File::create(path).map(drop)?
            } else {
                remove(&path)?
            }
            self.open = wanted.open;
        }
        Ok(())
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        while let Some(&slot) = self.made.first() {
            self.remove_slot(slot)?;
        }
        if self.open {
            remove(&self.path.join(OPEN))?;
            self.open = false;
        }
        Ok(())
    }

    pub(super) fn withhold(&mut self) -> io::Result<()> {
        self.withheld = true;
        self.clear()
    }

    pub(super) const fn restore(&mut self) {
        self.withheld = false;
    }

    fn make_slot(&self, slot: u64) -> io::Result<()> {
        let path = self.path.join(self.name(slot));
        match &self.process {
            Some(process) => match symlink(process, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            },
            None => File::create(path).map(drop),
        }
    }

    fn remove_slot(&mut self, slot: u64) -> io::Result<()> {
        remove(&self.path.join(self.name(slot)))?;
        self.made.remove(&slot);
        Ok(())
    }

    fn name(&self, slot: u64) -> String {
        match self.config.names {
            SlotNames::Decimal => format!("{}.{}", slot / 10, slot % 10),
            SlotNames::Plain => slot.to_string(),
        }
    }
}

/// Somebody else may have removed it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
