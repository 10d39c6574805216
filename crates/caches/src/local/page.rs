//! The file that a cache maps. Its layout is [`batoff_wire::local::page`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use batoff_types::{Cursor, FillToken, Generation, InstanceId};
use batoff_wire::local::page::{self as layout, BLOCK_BYTES, PAGE_BYTES, Page, SEQUENCE_AT};

use super::socket::{restrict, setup};
use crate::CacheOpenError;

const MODE: u32 = 0o640;

const DIR_MODE: u32 = 0o755;

/// The page of one cache, as the daemon writes it.
///
/// By writes into the file and not by a mapping of our own: a file that somebody cuts short must not end the daemon. On
/// tmpfs and on disks alike they change the memory that readers have mapped, before they return.
#[derive(Debug)]
pub struct PageFile {
    path: PathBuf,
    /// Locked against a second daemon for as long as it is open.
    file: File,
    page: Page,
    /// Whether the file is known to say what `page` says.
    written: bool,
}

impl PageFile {
    /// Opens the page of a cache, in place: a cache that has mapped it since before goes on reading this one. From here
    /// on it says that nothing may be served.
    pub fn open(
        dir: &Path,
        cache: &str,
        instance: InstanceId,
        group: Option<u32>,
    ) -> Result<Self, CacheOpenError> {
        let path = dir.join(format!("{cache}.page"));
        Self::try_open(dir, &path, instance, group).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => setup(format!(
                "{} is written by another daemon; give each its own [caches.local] pages",
                path.display()
            )),
            _ => setup(format!("cannot make the page {}: {error} ([caches.local] pages)", path.display())),
        })
    }

    fn try_open(dir: &Path, path: &Path, instance: InstanceId, group: Option<u32>) -> io::Result<Self> {
        if !dir.exists() {
            fs::create_dir_all(dir)?;
            // Whatever the daemon's umask is: the pages have a mode of their own.
            fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        if file.metadata()?.len() != PAGE_BYTES as u64 {
            file.set_len(PAGE_BYTES as u64)?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let mut before = [0; BLOCK_BYTES];
        file.read_exact_at(&mut before, 0)?;
        // The number goes on, so that nobody takes what was there before for what is there now.
        let sequence = before[SEQUENCE_AT..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let page = Page {
            boot_id: layout::boot_id(&boot)
                .ok_or_else(|| io::Error::other("the kernel's boot_id is no UUID"))?,
            sequence: (sequence | 1).wrapping_add(1),
            instance,
            token: FillToken { generation: Generation(0), applied: Cursor::START },
            floor: Cursor::START,
            session: 0,
            serve_until: 0,
        };
        let mut opened = Self { path: path.to_owned(), file, page, written: false };
        opened.write()?;
        restrict(path, MODE, group)?;
        Ok(opened)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says this from when it returns. After an error nothing is known of what readers see.
    pub fn show(
        &mut self,
        token: FillToken,
        floor: Cursor,
        session: u64,
        serve_until: u64,
    ) -> io::Result<()> {
        let next = Page { token, floor, session, serve_until, ..self.page };
        if next == self.page && self.written {
            return Ok(());
        }
        self.page = Page { sequence: self.page.sequence.wrapping_add(2), ..next };
        self.write()
    }

    /// The sequence is odd while the rest is written; whoever cannot see that in time is told by the checksum.
    fn write(&mut self) -> io::Result<()> {
        self.written = false;
        let odd = self.page.sequence.wrapping_sub(1);
        self.file.write_all_at(&odd.to_le_bytes(), SEQUENCE_AT as u64)?;
        let bytes = self.page.encode();
        let after = SEQUENCE_AT + 8;
        self.file.write_all_at(&bytes[..SEQUENCE_AT], 0)?;
        self.file.write_all_at(&bytes[after..], after as u64)?;
        self.file.write_all_at(&bytes[SEQUENCE_AT..after], SEQUENCE_AT as u64)?;
        self.written = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

    use super::*;

    fn read(path: &Path) -> Page {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes.len(), PAGE_BYTES);
        Page::decode(bytes.first_chunk().unwrap()).unwrap()
    }

    fn token(applied: u64) -> FillToken {
        FillToken { generation: Generation(2), applied: Cursor::new(applied) }
    }

    #[test]
    fn a_daemon_that_takes_over_closes_the_page_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let first = InstanceId::from_bytes([1; 16]);
        let mut page = PageFile::open(dir.path(), "web", first, None).unwrap();
        page.show(token(9), Cursor::new(4), 77, layout::NO_LIMIT).unwrap();
        let before = read(page.path());
        assert_eq!((before.token, before.session, before.serve_until), (token(9), 77, layout::NO_LIMIT));
        let refused = PageFile::open(dir.path(), "web", first, None).unwrap_err().to_string();
        assert!(refused.contains("another daemon"), "{refused}");

        let mapped = File::open(page.path()).unwrap();
        drop(page);
        drop(PageFile::open(dir.path(), "web", InstanceId::from_bytes([2; 16]), None).unwrap());
        let mut bytes = [0; BLOCK_BYTES];
        mapped.read_exact_at(&mut bytes, 0).unwrap();
        let after = Page::decode(&bytes).expect("the same file, for whoever has it open");
        assert_eq!((after.session, after.serve_until), (0, 0));
        assert!(after.sequence > before.sequence);
        assert_ne!(after.instance, before.instance);
    }

    #[test]
    fn a_page_that_was_left_half_written_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let page = PageFile::open(dir.path(), "web", InstanceId::from_bytes([1; 16]), None).unwrap();
        let path = page.path().to_owned();
        drop(page);
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[7; 50], 30).unwrap();
        drop(PageFile::open(dir.path(), "web", InstanceId::from_bytes([2; 16]), None).unwrap());
        assert_eq!(read(&path).session, 0);
    }
}
