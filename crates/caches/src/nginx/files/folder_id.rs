//! Which folder stands at a path.

use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxFlags, statx};

/// A folder, told from any other that may come to stand at its path: by file system, number, and mount, as the same folder
/// mounted anew is watched no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nginx) struct FolderId {
    device: (u32, u32),
    number: u64,
    mount: u64,
}

impl FolderId {
    /// What stands at a name below a folder; no link is followed at its end. With an empty name the folder itself.
    pub(super) fn at(folder: impl AsFd, name: &str) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let about = statx(folder, name, flags, StatxFlags::INO | StatxFlags::MNT_ID)?;
        let told = StatxFlags::from_bits_retain(about.stx_mask);
        Ok(Self {
            device: (about.stx_dev_major, about.stx_dev_minor),
            number: about.stx_ino,
            // Told since Linux 5.8.
            mount: if told.contains(StatxFlags::MNT_ID) { about.stx_mnt_id } else { 0 },
        })
    }

    /// Which folder was opened.
    pub(in crate::nginx) fn of(folder: impl AsFd) -> io::Result<Self> {
        Self::at(folder, "")
    }
}
