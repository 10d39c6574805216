//! A file that is read and never written: what is written to it is kept in memory and lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;

/// What is written is kept in pieces of so many bytes, the database's own page.
const BLOCK: u64 = 4_096;

/// A file that can only be read. What the database writes to it, such as its own repair, stays in memory and ends with
/// it, so nothing may be acknowledged on its strength.
///
/// The file is opened for each read and closed again: whoever wants to unmount the disk and repair it can.
#[derive(Debug)]
pub(super) struct Overlay {
    path: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Bytes of the file itself that still count; beyond, there is nothing until it is written.
    kept: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let len = File::open(path)?.metadata()?.len();
        let written = Written { len, kept: len, blocks: BTreeMap::new() };
        Ok(Self { path: path.to_owned(), written: Mutex::new(written) })
    }

    /// The block as the file has it; zeros where it has nothing.
    fn block_of_file(&self, block: u64, kept: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; BLOCK as usize].into_boxed_slice();
        let from = block * BLOCK;
        let there = usize::try_from(kept.saturating_sub(from).min(BLOCK)).unwrap_or(0);
        File::open(&self.path)?.read_exact_at(&mut bytes[..there], from)?;
        Ok(bytes)
    }
}

/// The parts of `offset..offset + len`, block by block: the block, where in it, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let next = len.min(done + BLOCK as usize - within);
        let part = (at / BLOCK, within, done..next);
        done = next;
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        if offset + out.len() as u64 > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if offset + out.len() as u64 <= written.kept
            && parts(offset, out.len()).all(|(block, ..)| !written.blocks.contains_key(&block))
        {
            drop(written);
            return File::open(&self.path)?.read_exact_at(out, offset);
        }
        for (block, within, range) in parts(offset, out.len()) {
            let of_file;
            let bytes = match written.blocks.get(&block) {
                Some(bytes) => bytes,
                None => {
                    of_file = self.block_of_file(block, written.kept)?;
                    &of_file
                }
            };
            let part = range.len();
            out[range].copy_from_slice(&bytes[within..within + part]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        if len < written.len {
            written.blocks.retain(|block, _| block * BLOCK < len);
            if let Some(bytes) = written.blocks.get_mut(&(len / BLOCK)) {
                bytes[(len % BLOCK) as usize..].fill(0);
            }
        }
        written.kept = written.kept.min(len);
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        let kept = written.kept;
        for (block, within, range) in parts(offset, data.len()) {
            let bytes = match written.blocks.entry(block) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(self.block_of_file(block, kept)?)
                }
            };
            let part = range.len();
            bytes[within..within + part].copy_from_slice(&data[range]);
        }
        written.len = written.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        std::fs::write(&path, &before).unwrap();
        let overlay = Overlay::open(&path).unwrap();
        let mut model = before.clone();
        let mut write = |offset: usize, data: &[u8]| {
            overlay.write(offset as u64, data).unwrap();
            model.resize(model.len().max(offset + data.len()), 0);
            model[offset..offset + data.len()].copy_from_slice(data);
            let mut read = vec![1; model.len()];
            overlay.read(0, &mut read).unwrap();
            assert!(read == model, "after a write at {offset}");
        };
        write(10, b"in a block");
        write(4_090, b"over the end of one");
        write(8_000, &[7; 9_000]);
        write(25_000, b"beyond the end");
        overlay.set_len(9_000).unwrap();
        overlay.set_len(12_000).unwrap();
        let mut read = vec![1; 12_000];
        overlay.read(0, &mut read).unwrap();
        model.truncate(9_000);
        model.resize(12_000, 0);
        assert!(read == model, "what was cut off does not come back");
        assert!(overlay.read(11_999, &mut [0; 2]).is_err());
        assert!(std::fs::read(&path).unwrap() == before);
    }
}
