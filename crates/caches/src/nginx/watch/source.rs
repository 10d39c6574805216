//! Where the news comes from: the kernel's inotify or its fanotify.

use rustix::fd::{AsFd, BorrowedFd};

use super::fanotify::Fanotify;
use super::inotify::Inotify;
use super::news::{Interest, Reading, WatchError};
use crate::nginx::config::WatchBy;
use crate::nginx::files::{Files, FolderId};

/// The kernel's queue of what happens in the directory.
pub(super) enum Source {
    Inotify(Inotify),
    Fanotify(Fanotify),
}

impl Source {
    /// Opens a queue that nothing is told to yet.
    pub(super) fn open(by: WatchBy) -> Result<Self, WatchError> {
        match by {
            WatchBy::Inotify => Inotify::open().map(Self::Inotify),
            WatchBy::Fanotify => Fanotify::open().map(Self::Fanotify),
        }
    }

    /// Adds every folder, and says which ones those are.
    pub(super) fn add(&self, files: &Files) -> Result<Vec<(String, FolderId)>, WatchError> {
        let (folders, holders) = (files.folders(), files.folders_above());
        let needed = folders.len() + holders.len();
        let all = holders.into_iter().map(|folder| (folder, Interest::Folders));
        let all = all.chain(folders.into_iter().map(|folder| (folder, Interest::Files)));
        all.map(|(folder, told)| Ok((folder.clone(), self.add_folder(files, &folder, told, needed)?)))
            .collect()
    }

    fn add_folder(
        &self,
        files: &Files,
        folder: &str,
        told: Interest,
        needed: usize,
    ) -> Result<FolderId, WatchError> {
        let path = files.root().join(folder);
        let failed = |error| WatchError::Io(path.clone(), error);
        let opened = files.folder(folder).map_err(failed)?;
        match self {
            Self::Inotify(inotify) => inotify.add(&opened, told, (&path, needed))?,
            Self::Fanotify(fanotify) => fanotify.add(&opened, told, &path)?,
        }
        FolderId::of(&opened).map_err(failed)
    }

    /// No fewer events than are in the queue now: when so many have been read, what was there has been read.
    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Inotify(inotify) => inotify.pending(),
            Self::Fanotify(fanotify) => fanotify.pending(),
        }
    }

    /// Reads what is there, without waiting.
    pub(super) fn read(&self) -> Reading {
        match self {
            Self::Inotify(inotify) => inotify.read(),
            Self::Fanotify(fanotify) => fanotify.read(),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Inotify(inotify) => inotify.as_fd(),
            Self::Fanotify(fanotify) => fanotify.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::news::End;
    use super::*;
    use crate::nginx::config::Levels;
    use crate::nginx::name::Named;

    #[test]
    fn when_as_much_as_is_pending_was_read_all_that_had_happened_was_read() {
        const FILES: usize = 5_000;
        for by in [WatchBy::Inotify, WatchBy::Fanotify] {
            let source = match Source::open(by) {
                Err(WatchError::NotAllowed) => continue,
                opened => opened.unwrap(),
            };
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("0")).unwrap();
            let files = Files::new(dir.path().to_owned(), Levels::try_from("1".to_owned()).unwrap());
            crate::nginx::setup::make_folders(&files).unwrap();
            source.add(&files).unwrap();
            for n in 0..FILES {
                std::fs::write(dir.path().join(format!("0/{n:031x}0")), b"").unwrap();
            }
            let mut left = source.pending();
            let mut names = std::collections::HashSet::new();
            while left > 0 {
                let batch = source.read();
                left = left.saturating_sub(batch.events.len());
                names.extend(batch.events.into_iter().filter_map(|event| match event.named {
                    Named::Object(name) => Some(name),
                    _ => None,
                }));
                if !matches!(batch.end, End::Full) {
                    break;
                }
            }
            assert_eq!(names.len(), FILES, "{by:?}");
        }
    }
}
